"""When the source's attention is used: tau [P4] and its per-word form alpha_t [P9].

t counts down from T, so injection comes first: the source's attention while t >= tau, the target's own once t < tau.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.config import STRICT
from ldm.tokenizer import Tokens
from p2p.words import columns


@dataclass(frozen=True)
class Step:
    """A time step of the schedule, 0..T+1: `Step(200)` is t = 200, where the number 0.2 is a fraction of T."""

    __pydantic_config__ = STRICT

    t: int

    def __str__(self) -> str:
        return f"t = {self.t}"


Time = float | int | Step | Literal["never"]  # a fraction of T, a time step, or above every time step


def switch_time(tau: Time, T: int) -> int:
    """The smallest time step that is at least tau: a fraction 0.2 of T = 1000 is t = 200, "never" is T + 1.

    Raises:
        ValueError: a fraction outside [0, 1], or a time step outside 0..T+1.
    """
    if tau == "never":
        return T + 1
    if isinstance(tau, Step):
        if not 0 <= tau.t <= T + 1:
            raise ValueError(f"tau as a time step must lie in 0..{T + 1}, got {tau.t}")
        return tau.t
    if not isinstance(tau, Real):
        raise ValueError(f"a time is a fraction of T, Step(t) or 'never', got {tau!r}")
    if not 0 <= tau <= 1:
        raise ValueError(f"tau as a fraction of T must lie in [0, 1], got {tau}; a time step is Step(t)")
    return math.ceil(Fraction(str(tau)) * T)  # of tau as it is written: in floats 0.07 * 100 is above 7


@dataclass(frozen=True)
class Window:
    """A stretch of the sampling, and how strongly something holds in it: while start >= t >= end.

    Args:
        end: the last time step, as tau is.
        start: the first time step.
        ramp: the fraction of T over which it fades out, in a straight line, before its end; 0 is a switch.
        level: its strength before that, in [0, 1].
    """

    __pydantic_config__ = STRICT

    end: Time = 0.2
    start: float | int | Step = 1.0
    ramp: float = 0.0
    level: float = 1.0

    def at(self, t: int, T: int) -> float:
        """The strength at step t, in [0, 1].

        Raises:
            ValueError: a time is out of range, the window starts after its end, or ramp or level lie outside [0, 1].
        """
        for name in ("ramp", "level"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"the {name} of a window must lie in [0, 1], got {getattr(self, name)}")
        end = switch_time(self.end, T)
        start = self.start.t if isinstance(self.start, Step) else math.floor(Fraction(str(self.start)) * T)
        switch_time(self.start, T)  # refuses one out of range
        if start < end - 1 and end <= T:
            raise ValueError(
                f"the window {self.start}:{self.end} starts at t = {start}, after its end at t = {end}; t counts down, "
                "so the start is the larger of the two"
            )
        if not end <= t <= start:
            return 0.0
        return self.level * min(1.0, (t - end + 1) / (self.ramp * T)) if self.ramp else self.level


def window(time: Time | Window) -> Window:
    """A single time is a window from the first step to then."""
    return time if isinstance(time, Window) else Window(end=time)


@dataclass(frozen=True)
class Alpha:
    """[P9] alpha_t: for each token of the target, the share of the source's attention in what is used.

    `tau` is the switch time of all tokens [P4], or their window; `words` gives single words of the target their own.
    """

    __pydantic_config__ = STRICT

    tau: Time | Window = 0.2
    words: Mapping[str, Time | Window] = field(default_factory=dict)

    def at(self, t: int, T: int, target: Tokens) -> Float[Tensor, " m"]:
        """alpha_t over the target's tokens, in [0, 1].

        Raises:
            ValueError: a time is out of range, or a word is not in the target.
        """
        alpha = torch.full((len(target.ids),), window(self.tau).at(t, T), dtype=torch.float64)
        for word, time in self.words.items():
            alpha[list(columns(target, word))] = window(time).at(t, T)
        return alpha
