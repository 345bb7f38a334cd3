"""Prompt-to-Prompt beside the methods that it is compared with, in one figure: what `p2p.compare` returns."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from p2p.algorithm import PromptToPrompt
from p2p.call import Call
from p2p.experiments.baselines import blended, fixed_seed, inpaint, reference, sdedit
from p2p.inversion.methods import invert
from p2p.masks import check_mask
from p2p.photo import fitted
from p2p.result import edited, png, with_progress


@dataclass(frozen=True, eq=False)
class Comparison:
    """A source, and its targets by several methods. In a notebook it displays itself: a row of images for each target.

    Args:
        call: the edit by Prompt-to-Prompt.
        source: the source's image; of a real image as the model returns to it.
        images: of each method, by its name, an image for each target.
        given: the real image, at the model's size.
    """

    call: Call
    source: UInt8[np.ndarray, "H W 3"]
    images: dict[str, UInt8[np.ndarray, "b H W 3"]]
    given: UInt8[np.ndarray, "H W 3"] | None = None

    @property
    def image(self) -> Image.Image:
        from p2p.figures import sheets  # matplotlib takes a second to import

        rows = []
        for k, target in enumerate(self.call.targets):
            panels = [] if self.given is None else [("the image", self.given)]
            panels += [(f"the source\n{self.call.source}", self.source)]
            panels += [(f"{name}\n{target.prompt}", made[k]) for name, made in self.images.items()]
            rows += sheets.broken(panels, 4)
        return sheets.as_image(sheets.grid(rows))

    def _repr_png_(self) -> bytes:
        return png(self.image)

    def __repr__(self) -> str:
        return f"<{self.call.source!r} edited by {', '.join(self.images)}: source, images, call>"


def compared(
    p2p: PromptToPrompt,
    call: Call,
    mask: Bool[Tensor, "h w"] | None,
    t_0: float,
    image: UInt8[np.ndarray, "H W 3"] | None = None,
) -> Comparison:
    """The edit of a call by Prompt-to-Prompt, without regions and masks, and by the other methods.

    Of a real image SDEdit and inpainting start from the image itself, with the noise of the call's seed; all others
    start from its inversion.

    Args:
        p2p: of the call.
        mask: where targets may differ, at the latent's size, for the methods that need one; without it they are left
            out.
        t_0: of SDEdit, as a fraction of T.
        image: the call's, if it edits one.

    Raises:
        ValueError: something does not fit; nothing has been sampled.
    """
    model, sampling, prompts = p2p.model, call.sampling, p2p.tokens
    targets, seed, how = prompts[1:], sampling.seed, sampling.options()
    if not 0 < t_0 <= 1 or sampling.steps > round(t_0 * model.schedule.T):
        raise ValueError(f"t_0 must be a fraction of T in (0, 1], with room for {sampling.steps} steps, got {t_0}")
    how["sampler"].visit(model.schedule, sampling.steps, round(t_0 * model.schedule.T))  # of SDEdit
    if mask is not None:
        check_mask(mask, model.latent_shape[1:])
    call.run(p2p)  # raises if something does not fit, as does the next
    mapper = "replace" if len({len(prompt.split(" ")) for prompt in p2p.prompts}) == 1 else "refine"
    theirs = partial(reference, model, prompts, mapper, seed)
    theirs(**how)
    given, inverted, noise, start = None, None, "seed", how
    if image is not None:
        given = fitted(image, model.config.image_size, call.image.fit)
        inverted = invert(model, given, prompts[0], call.image.invert, sampling)
        noise, start = "noise", how | inverted.options(len(prompts))
    end = lambda states, name: with_progress(states, model, sampling, name)[-1].z_t

    plain = end(fixed_seed(model, prompts, seed, **start), f"same {noise}")
    z_0 = inverted.states[-1].z_t if inverted else plain[:1]
    latents = {f"same {noise}": plain[1:]}
    latents[f"SDEdit from {t_0:g} T"] = end(sdedit(model, targets, z_0, t_0, seed, **how), "SDEdit")
    if mask is not None:
        blending = blended(model, prompts, mask, seed, inverted=inverted, **how)
        latents["latents blended by the mask"] = end(blending, "blending")[1:]
        latents["inpainting inside the mask"] = end(inpaint(model, targets, z_0, mask, seed, **how), "inpainting")
    latents["google/prompt-to-prompt"] = end(theirs(**start), "google's")[1:]
    images = {name: model.decode(z) for name, z in latents.items()}
    images["Prompt-to-Prompt"] = edited(p2p, call, inverted=inverted).images[1:]
    return Comparison(call, model.decode(plain[:1])[0], images, given)
