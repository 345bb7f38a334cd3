"""Fidelity of an image to a prompt, measured by the model itself: a diffusion classifier (Li et al., arXiv 2303.16203).

The training loss [D14] of an image under a prompt is, up to constants, a bound on its negative log-likelihood given the
prompt. Of two prompts, the one with the smaller loss describes the image better.

Limits: this is the judgement of the model that made the image, not of a person or another model, so it can rank the
edits of one model, but not one model against another. A weak model's fidelity is weak too. And it is a difference of
nearly equal values: average over images before trusting a second digit.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from ldm.train import ldm_loss


@torch.no_grad()
def fidelity(
    model: LatentDiffusion,
    images: UInt8[np.ndarray, "b H W 3"],
    source: str | Tokens,
    target: str | Tokens,
    draws: int = 16,
) -> Float[Tensor, " b"]:
    """ln(L_source / L_target), of the losses of each image under the two prompts: above 0 it fits the target better.

    The draws are fixed: t at the midpoints of `draws` equal intervals of 1..T, each with its own noise. They are the
    same for both prompts and all images, so that only the fit of the prompt differs.

    Args:
        model: computes the losses.
        images: bytes.
        source, target: the two prompts, or their tokens.
        draws: the number of pairs of t and noise to average over; each costs one network call per prompt.
    """
    T = model.schedule.T
    t = torch.tensor([round(T * (i + 0.5) / draws) for i in range(draws)]).clamp(1, T).to(model.device)
    latents = model.encode_images(images)
    eps = torch.randn((draws, *latents.shape[1:]), generator=torch.Generator().manual_seed(0)).to(latents)
    tokens = [y if isinstance(y, Tokens) else model.tokenizer.encode(y) for y in (source, target)]
    contexts = model.encode_tokens(tokens)[:, None].expand(-1, draws, -1, -1)
    network = lambda z_t, timestep, context: model.unet(z_t.to(model.dtype), timestep, context)
    losses = [
        [ldm_loss(network, model.schedule, z_0.expand(draws, -1, -1, -1), context, t, eps) for context in contexts]
        for z_0 in latents.split(1)
    ]
    of_source, of_target = torch.tensor(losses).log().T
    return of_source - of_target
