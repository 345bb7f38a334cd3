"""Negative-prompt inversion (Miyake et al. 2023, arXiv 2305.16807): guidance leads away from the source's prompt.

In place of the empty prompt [D18] takes tau_theta(y) of the source. For the source both predictions are then the same,
whatever w is: it is sampled without guidance, and returns as far as the inversion is exact. The targets are led from y
to y*.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from p2p.call import Sampling
from p2p.inversion.ddim import FIXED_POINT, ddim
from p2p.inversion.inverted import Inverted


def negative_prompt(
    model: LatentDiffusion, z_0: Float[Tensor, "1 c h w"], context: Float[Tensor, "1 m e"], sampling: Sampling
) -> Inverted:
    """Arguments and errors as for `ddim`."""
    return replace(ddim(model, z_0, context, sampling, FIXED_POINT), empty=lambda t: context)
