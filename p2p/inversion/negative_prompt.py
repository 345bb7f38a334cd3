"""Negative-prompt inversion (Miyake et al. 2023, arXiv 2305.16807): guidance leads away from the source's prompt.

In place of the empty prompt [D18] takes tau_theta(y) of the source. For the source both predictions are then the same,
whatever w is: it is sampled without guidance, and returns as far as the inversion is exact. The targets are led from y
to y*.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from p2p.inversion.inverted import Inverted


def negative_prompt(inverted: Inverted, context: Float[Tensor, "1 m e"]) -> Inverted:
    """Let guidance lead away from `context`, tau_theta(y) of the source's prompt."""
    return replace(inverted, empty=lambda t: context)
