"""The methods of inversion, by name."""

from collections.abc import Callable
from functools import partial

import numpy as np
from jaxtyping import UInt8

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.call import Sampling
from p2p.inversion.ddim import FIXED_POINT, ddim
from p2p.inversion.direct import direct
from p2p.inversion.edit_friendly import edit_friendly
from p2p.inversion.inverted import Inverted, Method
from p2p.inversion.negative_prompt import negative_prompt
from p2p.inversion.null_text import null_text

METHODS: dict[Method, Callable[..., Inverted]] = {
    "direct": direct,
    "ddim": ddim,
    "fixed-point": partial(ddim, iterations=FIXED_POINT),
    "null-text": null_text,
    "negative-prompt": negative_prompt,
    "edit-friendly": edit_friendly,
}


def invert(
    model: LatentDiffusion,
    image: UInt8[np.ndarray, "H W 3"],
    prompt: Tokens,
    method: Method,
    sampling: Sampling,
) -> Inverted:
    """Invert an image of the model's size.

    Args:
        prompt: that describes the image.
        sampling: the settings of the run that is to return to it.
    """
    return METHODS[method](model, model.encode_images(image[None]), model.encode_tokens([prompt]), sampling)
