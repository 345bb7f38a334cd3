"""Injection schedules: tau [P4] and its per-word form alpha_t [P9].

t counts down from T, so injection comes first: the source's attention is used while t >= tau, the target's own once
t < tau.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.config import STRICT
from ldm.helpers.checks import check_fields, plain
from ldm.tokenizer import Tokens
from p2p.words import columns


@dataclass(frozen=True)
class Step:
    """A timestep of the schedule, 0..T+1: `Step(200)` is t = 200, whereas the number 0.2 is a fraction of T."""

    __pydantic_config__ = STRICT

    t: int

    def __post_init__(self):
        check_fields(self)

    def __str__(self) -> str:
        return f"t = {self.t}"


Time = float | int | Step | Literal["never"]  # a fraction of T, a timestep, or above every timestep


def switch_time(tau: Time, T: int) -> int:
    """The smallest timestep that is at least tau: a fraction 0.2 of T = 1000 is t = 200, "never" is T + 1.

    Raises:
        ValueError: a fraction outside [0, 1], or a timestep outside 0..T+1.
    """
    if tau == "never":
        return T + 1
    if isinstance(tau, Step):
        if not 0 <= tau.t <= T + 1:
            raise ValueError(f"tau as a timestep must lie in 0..{T + 1}, got {tau.t}")
        return tau.t
    if not isinstance(tau, Real):
        raise ValueError(f"a time is a fraction of T, Step(t) or 'never', got {tau!r}")
    if not 0 <= tau <= 1:
        raise ValueError(f"tau as a fraction of T must lie in [0, 1], got {tau}; a timestep is Step(t)")
    return math.ceil(Fraction(str(tau)) * T)  # from tau's decimal form: in floats 0.07 * 100 is above 7


@dataclass(frozen=True)
class Window:
    """A window of timesteps, start >= t >= end, and the strength of the edit in it.

    Args:
        end: the last timestep, in the same form as tau.
        start: the first timestep.
        ramp: the fraction of T over which the strength falls linearly to 0 before the end; 0 is a switch.
        level: the strength before that, in [0, 1].
    """

    __pydantic_config__ = STRICT

    end: Time = 0.2
    start: float | int | Step = 1.0
    ramp: float = 0.0
    level: float = 1.0

    def __post_init__(self):
        check_fields(self)

    def compile(self, T: int) -> Callable[[int], float]:
        """Return t -> the strength at step t, in [0, 1].

        Raises:
            ValueError: a time is out of range, the window starts after its end, or ramp or level lie outside [0, 1].
        """
        for name in ("ramp", "level"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"the {name} of a window must lie in [0, 1], got {getattr(self, name)}")
        end = switch_time(self.end, T)
        start = self.start.t if isinstance(self.start, Step) else math.floor(Fraction(str(self.start)) * T)
        switch_time(self.start, T)  # raises if out of range
        if start < end - 1 and end <= T:
            raise ValueError(
                f"the window {self.start}:{self.end} starts at t = {start}, after its end at t = {end}; t counts down, "
                "so the start is the larger of the two"
            )

        def at(t: int) -> float:
            if not end <= t <= start:
                return 0.0
            return self.level * min(1.0, (t - end + 1) / (self.ramp * T)) if self.ramp else self.level

        return at


def window(time: Time | Window) -> Window:
    """Convert a time to a window from the first step to that time; a window stays as it is."""
    return time if isinstance(time, Window) else Window(end=time)


@dataclass(frozen=True)
class Alpha:
    """[P9] alpha_t: for each token of the target, the share of the source's attention in A_used.

    `tau` is the switch time of all tokens [P4], or their window; `words` overrides it for single words of the target.
    """

    __pydantic_config__ = STRICT

    tau: Time | Window = 0.2
    words: Mapping[str, Time | Window] = field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        object.__setattr__(self, "words", {word: plain(time) for word, time in self.words.items()})  # it is frozen

    def compile(self, target: Tokens, T: int) -> Callable[[int], Float[Tensor, " m"]]:
        """Return t -> alpha_t over the target's tokens, in [0, 1].

        Raises:
            ValueError: a time is out of range, or a word is not in the target.
        """
        usual = window(self.tau).compile(T)
        words = [(window(time).compile(T), list(columns(target, word))) for word, time in self.words.items()]

        def at(t: int) -> Float[Tensor, " m"]:
            alpha = torch.full((len(target.ids),), usual(t), dtype=torch.float64)
            for own, tokens in words:
                alpha[tokens] = own(t)
            return alpha

        return at
