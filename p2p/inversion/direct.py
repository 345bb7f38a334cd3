"""Direct inversion (Ju et al. 2023, arXiv 2310.01506): the source follows its inverted latents, whatever guidance does.

DDIM inversion gives z_T, ..., z_0. A guided run from z_T leaves them; after every step what it lost, z_t - z_t^source,
is added to the source again, so that the source is the image to the bit and its attention is that of the image. The
targets are not corrected: they are free to differ.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from p2p.call import Sampling
from p2p.inversion.ddim import FIXED_POINT, ddim
from p2p.inversion.inverted import Inverted


def direct(
    model: LatentDiffusion, z_0: Float[Tensor, "1 c h w"], context: Float[Tensor, "1 m e"], sampling: Sampling
) -> Inverted:
    """Arguments and errors as for `ddim`."""
    return replace(ddim(model, z_0, context, sampling, FIXED_POINT), pinned=True)
