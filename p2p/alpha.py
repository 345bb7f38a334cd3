"""When the source's attention is used: tau [P4] and its per-word form alpha_t [P9].

t counts down from T, so injection comes first: the source's attention while t >= tau, the target's own once t < tau.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.config import STRICT
from ldm.tokenizer import Tokens
from p2p.words import columns

Time = float | int  # a time step if a whole number, else a fraction of T


def switch_time(tau: Time, T: int) -> int:
    """tau as a time step.

    An integer is a time step already, 0 (the source's attention always) to T + 1 (never). A float is a fraction of T:
    0.2 means that the steps above 0.2 T, the first 80% of them, use the source's attention.

    Raises:
        ValueError: an integer outside 0..T+1, or a fraction outside [0, 1].
    """
    if isinstance(tau, int):
        if not 0 <= tau <= T + 1:
            raise ValueError(f"tau as a time step must lie in 0..{T + 1}, got {tau}; write 0.8 for 80% of T")
        return tau
    if not 0 <= tau <= 1:
        raise ValueError(f"tau as a fraction of T must lie in [0, 1], got {tau}; write a whole number for a time step")
    return math.floor(Fraction(str(tau)) * T) + 1  # of tau as it is written: in floats 0.29 * 100 is below 29


@dataclass(frozen=True)
class Window:
    """A stretch of the sampling, and how strongly something holds in it.

    Args:
        end: where it stops, as tau is: it holds while t >= end.
        start: where it begins. As a fraction it holds from t <= start * T on, so that one window's end is where the
            next one may start; as a whole number, from that time step on.
        ramp: the fraction of T over which it fades out, in a straight line, before its end; 0 is a switch.
        level: its strength before that, in [0, 1].
    """

    __pydantic_config__ = STRICT

    end: Time = 0.2
    start: Time = 1.0
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
        start = switch_time(self.start, T) - (1 if isinstance(self.start, float) else 0)
        if start < end - 1:
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
