"""A sampling run as a sequence of states, and the noise that it draws."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ldm.helpers.checks import checked
from ldm.schedule import Prediction
from ldm.shapes import Latent


class State(NamedTuple):
    """Sampler state: after a step, or at the start."""

    t: int  # the timestep reached; at the end 0, or the sampler's last
    z_t: Latent
    prediction: Prediction | None = None  # the guided prediction of the step; None at the start


class States(Iterator[State]):
    """Iterator over the states of a run, one per network call, computed on demand."""

    def __init__(self, states: Iterator[State]):
        self._states = states

    def __next__(self) -> State:
        return next(self._states)

    def __getattr__(self, name: str):
        raise AttributeError(
            f"these are the states of a run, one per step, without {name!r}: write `*_, last = run`, then `last.z_t`"
        )


class Noise:
    """Standard normal latents, one random stream per image: rows with the same seed get the same noise, whatever the
    rest of the batch. Drawn on the CPU, so that every device gets the same noise."""

    def __init__(self, seeds: list[int], shape: tuple[int, ...]):
        self.shape = shape
        seeds = [checked("a seed", seed, int) for seed in seeds]
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self) -> Latent:
        return torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])
