"""What one would try without Prompt-to-Prompt."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool
from torch import Tensor

from ldm.pipeline import LatentDiffusion, State


def fixed_seed(model: LatentDiffusion, prompts: list[str], seed: int, **sampling) -> Iterator[State]:
    """[P1] Every prompt from the same z_T: keeps the noise and hopes that it keeps the composition.

    Args:
        model: the latent diffusion model.
        prompts: one row of the batch each.
        seed: of the shared noise.
        sampling: as for `LatentDiffusion.denoise`.
    """
    return model.denoise(model.encode_prompts(prompts), [seed] * len(prompts), **sampling)


def blended(
    model: LatentDiffusion, prompts: list[str], mask: Bool[Tensor, "h w"], seed: int, **sampling
) -> Iterator[State]:
    """[P2] The mask-based baseline (Avrahami et al. 2022, arXiv 2206.02779): inside the mask every prompt has its way,
    outside it the first prompt's latent is put back after every step.

    Args:
        model: the latent diffusion model.
        prompts: the source, then its targets.
        mask: where a target may differ from the source, at the latent's size.
        seed: of the shared noise.
        sampling: as for `LatentDiffusion.denoise`.

    Raises:
        ValueError: the mask does not have the latent's size.
    """
    if mask.shape != model.latent_shape[1:]:
        raise ValueError(f"the mask is {tuple(mask.shape)}, the latent {model.latent_shape[1:]}")
    blend = lambda state: torch.where(mask.to(model.device), state.z_t, state.z_t[:1])
    return fixed_seed(model, prompts, seed, blend=blend, **sampling)
