"""When the source's attention is used: tau [P4] and its per-word form alpha_t [P9].

t counts down from T, so injection comes first: the source's attention while t >= tau, the target's own once t < tau.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.words import columns


def switch_time(tau: float | int, T: int) -> int:
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
    return int(tau * T) + 1


@dataclass(frozen=True)
class Alpha:
    """[P9] alpha_t: for each token of the target, 1 while the source's attention is used and 0 after.

    `tau` is the switch time of all tokens [P4]; `words` gives single words of the target their own.
    """

    tau: float | int = 0.2
    words: Mapping[str, float | int] = field(default_factory=dict)

    def at(self, t: int, T: int, target: Tokens) -> Float[Tensor, " m"]:
        """alpha_t over the target's tokens.

        Raises:
            ValueError: a switch time is out of range, or a word is not in the target.
        """
        alpha = torch.full((len(target.ids),), float(t >= switch_time(self.tau, T)), dtype=torch.float64)
        for word, tau in self.words.items():
            alpha[list(columns(target, word))] = float(t >= switch_time(tau, T))
        return alpha
