"""Baselines for Prompt-to-Prompt, and its reference implementation.

Every function takes the model, the prompts or their tokens (one row of the batch each), its own arguments, the seed,
and `sampling` as for `LatentDiffusion.denoise`, and yields the states of the run.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from ldm.helpers.checks import check_latents
from ldm.helpers.images import check_image
from ldm.pipeline import LatentDiffusion
from ldm.samplers import DDIM, Sampler
from ldm.states import Noise, State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step
from p2p.experiments.reference import Fraction, Mapper, Reference, cross_replace, self_replace
from p2p.inversion.inverted import Inverted
from p2p.masks import Box, box_pixels, check_mask, composite, share

Prompts = list[str] | list[Tokens]


def fixed_seed(model: LatentDiffusion, prompts: Prompts, seed: int, **sampling) -> Iterator[State]:
    """[P1] Sample every prompt from the same z_T, hoping that the noise alone preserves the composition.

    Args:
        model: the latent diffusion model.
        prompts: one row of the batch each.
        seed: of the shared noise.
        sampling: as for `LatentDiffusion.denoise`.
    """
    encode = model.encode_tokens if any(isinstance(y, Tokens) for y in prompts) else model.encode_prompts
    return model.denoise(encode(prompts), [seed] * len(prompts), **sampling)


def blended(
    model: LatentDiffusion,
    prompts: Prompts,
    mask: Bool[Tensor, "h w"],
    seed: int,
    *,
    inverted: Inverted | None = None,
    **sampling,
) -> Iterator[State]:
    """[P2] The mask-based baseline (Avrahami et al. 2022, arXiv 2206.02779): inside the mask every prompt is sampled
    freely, outside it the latent is replaced by the first prompt's after every step.

    Args:
        prompts: the source, then its targets.
        mask: where a target may differ from the source, at the latent's size; see `box_mask` and `read_mask`.
        inverted: a real image, which all prompts start from instead of noise.

    Raises:
        ValueError: the mask does not have the latent's size.
    """
    check_mask(mask, model.latent_shape[1:])
    blend = lambda s: composite(mask, s.z_t, s.z_t[:1])
    how = inverted.options(len(prompts), blend) if inverted else {"blend": blend}
    return fixed_seed(model, prompts, seed, **sampling | how)


def inpaint(
    model: LatentDiffusion,
    prompts: Prompts,
    z_0: Float[Tensor, "1 c h w"],
    mask: Bool[Tensor, "h2 w2"],
    seed: int,
    **sampling,
) -> Iterator[State]:
    """[P2] for a given image: inside the mask every prompt is sampled freely, outside it the latent is replaced by the
    image's z_t after every step, and at the end by its z_0, whether sampling ends at t = 0 or at 1.

    The image's z_t is [D6] of its z_0 with the same noise throughout, that of z_T. So it moves along one path, like the
    samples of a deterministic sampler inside the mask; with fresh noise it would jump at every step.

    Args:
        z_0: the image's latent, from `encode_images` or the end of a run.
        mask: where to paint, at the latent's size; see `box_mask` and `read_mask`.

    Raises:
        ValueError: the mask does not have the latent's size.
    """
    check_latents(z_0=z_0)
    check_mask(mask, z_0.shape[2:])
    eps, T = first_noise(model, z_0, seed), model.schedule.T
    image = lambda t: model.schedule.add_noise(z_0, eps, t)
    end = model.schedule.config.last  # the latent there is decoded as z_0, and the image's has no noise left
    return fixed_seed(
        model,
        prompts,
        seed,
        start=State(T, composite(mask, eps, image(T)).expand(len(prompts), -1, -1, -1)),
        blend=lambda state: composite(mask, state.z_t, image(state.t if state.t > end else 0)),
        **sampling,
    )


def uncrop(
    model: LatentDiffusion, prompts: Prompts, image: UInt8[np.ndarray, "H W 3"], box: Box, seed: int, **sampling
) -> Iterator[State]:
    """Place an image in a box of a larger canvas, and paint the rest by `inpaint`.

    Latent positions that are not entirely inside the box are painted. Beyond the edge of the box, which is within the
    encoder's receptive field, the image's border is repeated.

    Args:
        image: the image, which is scaled to the box.
        box: in pixels of the canvas, which has the model's image size.

    Raises:
        ValueError: the box is empty, extends beyond the canvas, or leaves nothing to paint.
    """
    check_image("image", image)
    side, size = model.config.image_size, model.latent_shape[1:]
    mask = share(box_pixels(box, (side, side)), size) < 1
    if not mask.any():
        raise ValueError(f"the box {tuple(box)} fills the canvas: nothing is left to paint")
    inner = Image.fromarray(image).resize((box.right - box.left, box.bottom - box.top), Image.Resampling.LANCZOS)
    around = ((box.top, side - box.bottom), (box.left, side - box.right), (0, 0))
    z_0 = model.encode_images(np.pad(np.asarray(inner), around, mode="edge")[None])
    return inpaint(model, prompts, z_0, mask, seed, **sampling)


def sdedit(
    model: LatentDiffusion,
    prompts: Prompts,
    z_0: Float[Tensor, "1 c h w"],
    t_0: float | int | Step,
    seed: int,
    **sampling,
) -> Iterator[State]:
    """SDEdit (Meng et al. 2021, arXiv 2108.01073): noise an image to t_0 [D6] and denoise it with other prompts.

    A small t_0 preserves the image and ignores the prompt; a large t_0 does the opposite.

    Args:
        z_0: the image's latent, from `encode_images` or the end of a run.
        t_0: a fraction of T, or a timestep. All the steps are taken between it and the sampler's last timestep, 0 or 1.

    Raises:
        ValueError: t_0 is neither a timestep above the schedule's last, up to T, nor a fraction of T that gives one.
    """
    check_latents(z_0=z_0)
    T, least = model.schedule.T, model.schedule.config.last + 1
    t = t_0.t if isinstance(t_0, Step) else round(t_0 * T)
    if not least <= t <= T:
        raise ValueError(f"t_0 must be a timestep in {least}..{T} or a fraction of T in [{least / T}, 1], got {t_0}")
    z_t = model.schedule.add_noise(z_0, first_noise(model, z_0, seed), t)
    return fixed_seed(model, prompts, seed, start=State(t, z_t.expand(len(prompts), -1, -1, -1)), **sampling)


def reference(
    model: LatentDiffusion,
    prompts: Prompts,
    mapper: Mapper,
    seed: int,
    *,
    steps: int,
    sampler: Sampler = DDIM,
    cross_replace_steps: Fraction = 0.8,
    self_replace_steps: Fraction = 0.4,
    **sampling,
) -> Iterator[State]:
    """Prompt-to-Prompt as in google/prompt-to-prompt, including its defects: see `p2p.experiments.reference`.

    Args:
        prompts: the source, then its targets.
        mapper: "replace" or "refine".
        steps, sampler: of the run; the windows are fractions of the steps, counted in network calls.
        cross_replace_steps: when cross-attention is injected: from the first step to this fraction, or (from, to).
        self_replace_steps: the same for self-attention.

    Raises:
        ValueError: the prompts do not fit the mapper, or a fraction lies outside [0, 1].
    """
    source, *targets = prompts
    visited = sampler.visit(model.schedule, steps, None)[:-1]
    edit = Reference(mapper, Alpha(cross_replace(cross_replace_steps, visited, steps)))
    window = SelfInjection(self_replace(self_replace_steps, visited, steps))
    p2p = PromptToPrompt(model, source, tuple(targets), (edit,) * len(targets), window)
    return p2p.denoise(seed, steps=steps, sampler=sampler, **sampling)


def first_noise(model: LatentDiffusion, z_0: Float[Tensor, "1 c h w"], seed: int) -> Float[Tensor, "1 c h w"]:
    """The z_T of a run with this seed, at the size of z_0."""
    return Noise([seed], z_0.shape[1:])().to(model.device, model.latent_dtype)
