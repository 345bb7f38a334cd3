"""An edit is a pair of matrices for each step: A_used = A P_t + A* Q_t.

A (n x m) is the source's cross-attention, A* (n x m*) the target's own; P_t is m x m*, Q_t an m* x m* diagonal.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.alpha import Alpha
from p2p.mapper import Merge, mapper, swap_alignment


class Matrices(NamedTuple):
    """P_t, and the diagonal of Q_t."""

    P: Float[Tensor, "m m2"]
    Q: Float[Tensor, "m2"]

    @property
    def idle(self) -> bool:
        """Whether A_used is A* itself."""
        return not self.P.any() and bool((self.Q == 1).all())


@runtime_checkable
class Edit(Protocol):
    """What every edit can do."""

    def matrices(self, t: int, T: int, source: Tokens, target: Tokens) -> Matrices:
        """P_t and Q_t at step t of T for a pair of prompts.

        Raises:
            ValueError: the edit does not fit the prompts.
        """
        ...


@dataclass(frozen=True)
class Swap:
    """[P6-P9] Words of the source become words of the target: P_t = M diag(alpha_t), Q_t = diag(1 - alpha_t).

    The prompts have the same number of words; words of any numbers of tokens may face each other.
    """

    alpha: Alpha = Alpha()
    merge: Merge = "sum"

    def matrices(self, t: int, T: int, source: Tokens, target: Tokens) -> Matrices:
        M = mapper(swap_alignment(source, target), len(source.ids), self.merge)
        alpha = self.alpha.at(t, T, target)
        return Matrices(P=M * alpha, Q=1 - alpha)


def used(
    A: Float[Tensor, "... n m"],
    A_own: Float[Tensor, "... n m2"],
    P: Float[Tensor, "... m m2"],
    Q: Float[Tensor, "... m2"],
) -> Float[Tensor, "... n m2"]:
    """A_used = A P_t + A* Q_t, with Q_t given by its diagonal."""
    return A @ P + A_own * Q[..., None, :]


def stack(matrices: list[Matrices], like: Tensor) -> Matrices:
    """The matrices of several targets as one batch, in the device and dtype of what they multiply."""
    return Matrices(*(torch.stack(parts).to(like) for parts in zip(*matrices)))
