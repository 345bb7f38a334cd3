"""What one would try without Prompt-to-Prompt."""

from collections.abc import Iterator

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
