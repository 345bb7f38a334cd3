"""Something to train in no time, and what a run of it leaves."""

import csv

import torch
from torch import nn
from torch.testing import assert_close

from weights.training.trainer import Recipe, Trainer


class Regression:
    """Mean squared error on a noisy linear target; keeps what it returned, and may misbehave at a chosen call."""

    def __init__(self, at: int | None = None, misbehave=lambda loss: loss):
        self.at, self.misbehave, self.losses = at, misbehave, []

    def __call__(self, model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        x = torch.randn(16, 3, generator=generator)
        y = x.sum(-1, keepdim=True) + 0.1 * torch.randn(16, 1, generator=generator)
        loss = (model(x) - y).square().mean()
        if len(self.losses) == self.at:
            loss = self.misbehave(loss)
        self.losses.append(loss.item())
        return loss


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


def recipe(**changes) -> Recipe:
    return Recipe(**dict(steps=230, batch=16, lr=0.01, warmup=20, decay=0.5, ema=0.9, seed=3) | changes)


def train(folder, loss, model=None, every=100, **changes) -> Trainer:
    """Run to the end of the recipe."""
    trainer = Trainer(model or network(), loss, recipe(**changes), folder)
    for _ in trainer.run(every):
        pass
    return trainer


def log(folder) -> list[tuple[str, str, str]]:
    """(step, loss, learning rate) of every logged row; the speed is the clock's business."""
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [(row["step"], row["loss"], row["learning_rate"]) for row in rows]


def state(folder) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def assert_same(a, b) -> None:
    """Two states, nested or not, agree to the bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert_close(a, b, rtol=0, atol=0)  # nothing to tolerate: the same operations on the same numbers
    else:
        assert a == b
