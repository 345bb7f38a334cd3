"""The training loop of all models here [D15].

Step k depends only on the recipe and on k, so a run that was interrupted and resumed gives the same losses as an
uninterrupted one.
"""

import csv
import math
import signal
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ldm.helpers.files import save_atomically
from weights.training.muon import Muon

Loss = Callable[[nn.Module, torch.Generator], Tensor]  # draws all its randomness, and the batch, from the generator


@dataclass(frozen=True)
class Recipe:
    """Training hyperparameters."""

    steps: int
    batch: int
    lr: float
    warmup: int = 200  # steps of linear warm-up
    decay: float = 0.3  # the last part of the run, over which the learning rate falls to a hundredth along a cosine
    ema: float = 0.999  # decay of the averaged weights, which are the result
    clip: float = 1.0  # largest norm of the gradient
    weight_decay: float = 0.01
    seed: int = 0

    def lr_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        tail = max(self.decay * self.steps, 1)
        left = min(1.0, (self.steps - step) / tail)
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.lr * rise * (0.01 + 0.99 * 0.5 * (1 - math.cos(math.pi * left)))


def hidden_matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable weights that map features to features: no biases, norms or embeddings, no conv_in or conv_out."""
    tables = {id(table.weight) for table in model.modules() if isinstance(table, nn.Embedding)}
    return {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim > 1 and id(p) not in tables and not {"conv_in", "conv_out"} & {*name.split(".")}
    }


class Trainer:
    """Training by Muon and AdamW with warm-up, decay, gradient clipping, weight averaging, a log and exact resumption.

    Muon updates the hidden matrices, AdamW the rest, at one learning rate.

    Args:
        model: to train; parameters that require no gradient are not changed.
        loss: (model, generator) -> scalar. Draws all its randomness, including the batch, from the generator.
        recipe: the hyperparameters.
        folder: holds `state.pt` and `log.csv`; training resumes from an existing state.
    """

    def __init__(self, model: nn.Module, loss: Loss, recipe: Recipe, folder: Path):
        self.model, self.loss, self.recipe, self.folder = model, loss, recipe, folder
        self.averaged = deepcopy(model).requires_grad_(False)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        hidden = hidden_matrices(model)
        rest = [p for name, p in model.named_parameters() if p.requires_grad and name not in hidden]
        self.optimizers = {"adamw": torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)}
        if hidden:
            self.optimizers["muon"] = Muon(hidden.values(), recipe.lr, recipe.weight_decay)
        self.step = 0
        self.losses: list[float] = []  # of the steps since the log's last row
        folder.mkdir(parents=True, exist_ok=True)
        self.state_file, self.log_file = folder / "state.pt", folder / "log.csv"
        if self.state_file.exists():
            self._load()
        else:  # a run that stopped before its first state starts over, and so does its log
            self.log_file.unlink(missing_ok=True)

    def _load(self) -> None:
        state = torch.load(self.state_file, weights_only=True)
        self.step, self.losses = state["step"], state["losses"]
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            for group in optimizer.param_groups:  # from the recipe, which may have changed
                group["weight_decay"] = self.recipe.weight_decay
        if self.log_file.exists():  # rows later than the state will be written again
            header, *rows = self.log_file.read_text().splitlines()
            kept = [row for row in rows if int(row.split(",")[0]) <= self.step]
            save_atomically(lambda part: part.write_text("\n".join([header, *kept]) + "\n"), self.log_file)

    def save(self) -> None:
        """Save the state, whole or not at all."""
        state = {
            "step": self.step,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        save_atomically(lambda part: torch.save(state, part), self.state_file)

    def one_step(self) -> float:
        """Take one gradient step, line 8 of Algorithm 1 [D15], and return its loss."""
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        loss = self.loss(self.model, generator)
        for p in self.parameters:
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.lr_at(self.step)
            optimizer.step()
        # EMA warm-up
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - keep)
        self.step += 1
        return loss.item()

    def run(self, every: int = 500) -> Iterator[int]:
        """Train to the recipe's last step, with a progress bar. Saves and yields the step every `every` steps and at
        the end; after Ctrl-C or a termination signal, finishes the step in progress, saves, and stops.

        Raises:
            FloatingPointError: the loss is not finite; the last saved state is kept.
        """
        stop = []
        handlers = {s: signal.signal(s, lambda *_: stop.append(True)) for s in (signal.SIGINT, signal.SIGTERM)}
        bar = tqdm(total=self.recipe.steps, initial=self.step, unit="step", mininterval=2, smoothing=0.05)
        began, since = time.monotonic(), self.step
        try:
            while self.step < self.recipe.steps and not stop:
                self.losses.append(self.one_step())
                if not math.isfinite(self.losses[-1]):
                    raise FloatingPointError(f"loss is {self.losses[-1]} at step {self.step}; try a lower rate")
                bar.update()
                if self.step % 50 == 0:
                    rate = (self.step - since) * self.recipe.batch / (time.monotonic() - began)
                    mean = sum(self.losses) / len(self.losses)
                    self._log(mean, rate)
                    bar.set_postfix(loss=f"{mean:.4f}", images_per_s=f"{rate:.0f}")
                    self.losses, began, since = [], time.monotonic(), self.step
                if self.step % every == 0 or self.step == self.recipe.steps:
                    self.save()
                    yield self.step
                    began, since = time.monotonic(), self.step  # without the caller's time
            if stop:
                self.save()
                print(f"stopped at step {self.step}, saved in {self.folder}; the same command resumes from there")
        finally:
            bar.close()
            for s, handler in handlers.items():
                signal.signal(s, handler)

    def _log(self, loss: float, rate: float) -> None:
        new = not self.log_file.exists()
        with self.log_file.open("a", newline="") as f:
            writer = csv.writer(f)
            if new:
                writer.writerow(["step", "loss", "images_per_second", "learning_rate"])
            writer.writerow([self.step, f"{loss:.6f}", f"{rate:.1f}", f"{self.recipe.lr_at(self.step):.3g}"])
