"""The methods of inversion, by name: the steps of a sampler backwards, and what corrects their guided run."""

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.call import Sampling
from p2p.inversion.ddim import FIXED_POINT, ddim
from p2p.inversion.direct import direct
from p2p.inversion.edit_friendly import edit_friendly
from p2p.inversion.inverted import Inverted, Method
from p2p.inversion.negative_prompt import negative_prompt
from p2p.inversion.null_text import null_text


def corrected(
    model: LatentDiffusion, inverted: Inverted, context: Float[Tensor, "1 m e"], method: Method, w: float
) -> Inverted:
    """A DDIM inversion with the correction of a method; the same, if it has none."""
    match method:
        case "direct":
            return direct(inverted)
        case "negative-prompt":
            return negative_prompt(inverted, context)
        case "null-text":
            return null_text(model, inverted, context, w)
    return inverted


def invert_latent(
    model: LatentDiffusion,
    z_0: Float[Tensor, "1 c h w"],
    context: Float[Tensor, "1 m e"],
    method: Method,
    sampling: Sampling,
) -> Inverted:
    """Invert an image's latent.

    Args:
        model: the latent diffusion model.
        z_0: of the image.
        context: tau_theta(y) of the prompt that describes it.
        method: its name.
        sampling: the settings of the run that is to return to the image.

    Raises:
        ValueError: as `LatentDiffusion.denoise`.
    """
    if method == "edit-friendly":
        return edit_friendly(model, z_0, context, sampling)
    inverted = ddim(model, z_0, context, sampling, iterations=0 if method == "ddim" else FIXED_POINT)
    return corrected(model, inverted, context, method, sampling.guidance)


def invert(
    model: LatentDiffusion, image: UInt8[np.ndarray, "H W 3"], prompt: Tokens, method: Method, sampling: Sampling
) -> Inverted:
    """`invert_latent` of an image of the model's size."""
    return invert_latent(model, model.encode_images(image[None]), model.encode_tokens([prompt]), method, sampling)
