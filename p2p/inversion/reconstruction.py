"""An image, and what a run from its inversion makes of it again: what `p2p.invert` returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldm.helpers.likeness import psnr
from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.call import Sampling
from p2p.inversion.inverted import Inverted, Method
from p2p.inversion.methods import invert
from p2p.result import png, with_progress


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """A notebook displays the image, the image through the autoencoder alone, and the image of the run.

    Args:
        inverted: the latents, and what the run needs.
        given: the image, at the model's size.
        limit: the image encoded and decoded: no run can come closer.
        reconstructed: the image of a run with the same prompt.
    """

    inverted: Inverted
    given: UInt8[np.ndarray, "H W 3"]
    limit: UInt8[np.ndarray, "H W 3"]
    reconstructed: UInt8[np.ndarray, "H W 3"]

    @property
    def image(self) -> Image.Image:
        """The displayed image."""
        return Image.fromarray(np.concatenate([self.given, self.limit, self.reconstructed], axis=1))

    def _repr_png_(self) -> bytes:
        return png(self.image)

    @property
    def summary(self) -> str:
        """The PSNR to the given image of the reconstructed one, and of the best that the autoencoder allows."""
        reached, limit = psnr(self.reconstructed, self.given), psnr(self.limit, self.given)
        how = ", as direct inversion always is" if self.inverted.pinned and reached == limit else ""
        return f"reconstructed to {reached:.1f} dB; through the autoencoder alone the image has {limit:.1f} dB{how}"

    def __repr__(self) -> str:
        return f"<{self.summary}: given, limit, reconstructed, inverted>"


def reconstructed(
    model: LatentDiffusion, image: UInt8[np.ndarray, "H W 3"], prompt: Tokens, method: Method, sampling: Sampling
) -> Reconstruction:
    """Invert an image of the model's size, and sample the same prompt from it.

    Raises:
        ValueError: a setting does not fit; nothing has been sampled.
    """
    inverted = invert(model, image, prompt, method, sampling)
    context, how = model.encode_tokens([prompt]), sampling.options() | inverted.options(1)
    states = with_progress(model.denoise(context, [sampling.seed], **how), model, sampling, "sampling")
    limit = model.decode(inverted.states[-1].z_t)[0]
    return Reconstruction(inverted, image, limit, model.decode(states[-1].z_t)[0])
