"""How well a picture fits a prompt by the model's own account: a diffusion classifier (Li et al., arXiv 2303.16203).

The training loss [D14] of one picture under a prompt is, up to constants, a bound on how unlikely the model finds the
picture under it. Of two prompts, the one with the smaller loss describes the picture better.

Limits: it is the judgement of the model that made the picture, not of a person or of another model, so it can rank
edits of one model and not one model against another. It sees what the model was taught to see: a weak model's fidelity
is weak too. And it is a difference of nearly equal numbers; average over pictures before believing a second digit.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from ldm.train import ldm_loss


@torch.no_grad()
def fidelity(
    model: LatentDiffusion,
    pictures: UInt8[np.ndarray, "b H W 3"],
    source: str,
    target: str,
    draws: int = 16,
) -> Float[Tensor, " b"]:
    """ln(L_source / L_target), the losses of each picture under the two prompts: above 0 it fits the target better.

    The draws are fixed: t at the middles of `draws` equal stretches of 1..T, each with its own noise. Both prompts and
    all pictures get the same ones, so that what is left to differ is how the prompt fits.

    Args:
        model: whose judgement it is.
        pictures: to judge.
        source, target: the two prompts.
        draws: pairs of t and noise to average over; each costs one network call per prompt.
    """
    T = model.schedule.T
    t = torch.tensor([round(T * (i + 0.5) / draws) for i in range(draws)]).clamp(1, T).to(model.device)
    latents = model.encode_pictures(pictures)
    eps = torch.randn((draws, *latents.shape[1:]), generator=torch.Generator().manual_seed(0)).to(latents)
    contexts = model.encode_prompts([source, target])[:, None].expand(-1, draws, -1, -1)
    network = lambda z_t, timestep, context: model.unet(z_t.to(model.dtype), timestep, context)
    losses = [
        [ldm_loss(network, model.schedule, z_0.expand(draws, -1, -1, -1), context, t, eps) for context in contexts]
        for z_0 in latents.split(1)
    ]
    of_source, of_target = torch.tensor(losses).log().T
    return of_source - of_target
