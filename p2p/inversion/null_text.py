"""Null-text inversion (Mokady et al. 2022, arXiv 2211.09794): the empty prompt is optimised until guidance returns.

DDIM inversion gives z_T, ..., z_0. From the noisiest step on, an embedding e_t in the place of that of the empty prompt
is optimised for each step t:

    e_t = argmin_e || z_t' - step(z^_t, eps_u + w (eps_c - eps_u)) ||^2
    eps_u = eps_theta(z^_t, t, e),  eps_c = eps_theta(z^_t, t, tau_theta(y))

where z^_t is what the run with the embeddings so far has reached. e_t starts from the one of the step before. As in the
authors' code there are at most ten steps of Adam, whose rate falls during the run, and fewer once the error is small.
"""

import sys
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss
from tqdm import tqdm

from ldm.pipeline import LatentDiffusion
from ldm.samplers import DDIM
from ldm.schedule import guided
from p2p.inversion.inverted import Inverted

STEPS = 10  # of Adam, for each step of the sampler
RATE = 1e-2
SMALL = 1e-5  # mean squared error at which to stop; a little more at each step


def null_text(model: LatentDiffusion, inverted: Inverted, context: Float[Tensor, "1 m e"], w: float) -> Inverted:
    """Optimise what guidance leads away from, so that a run with this w follows the states of an inversion.

    Args:
        model: the latent diffusion model.
        inverted: by DDIM inversion.
        context: tau_theta(y) of the source's prompt.
        w: guidance [D18].
    """
    if w == 1:  # nothing to correct
        return inverted
    schedule, z_t = model.schedule, inverted.states[0].z_t
    e, found = model.encode_prompts([""]).to(z_t.dtype), {}  # Adam needs more than half precision
    run = list(pairwise(inverted.states))
    for i, (now, wanted) in enumerate(tqdm(run, "null text", unit="step", file=sys.stderr)):
        t, x, timestep = now.t, z_t.to(model.dtype), torch.tensor([now.t - 1], device=z_t.device)

        def stepped(e: Tensor, cond: Tensor) -> Tensor:
            uncond = model.unet(x, timestep, e.to(model.dtype)).to(z_t.dtype)
            prediction = schedule.predict(z_t, guided(uncond, cond, w), t)
            return DDIM.step(schedule, z_t, prediction, t, wanted.t, torch.zeros_like(z_t), ())

        with torch.no_grad():
            cond = model.unet(x, timestep, context).to(z_t.dtype)
        with torch.enable_grad():
            e = e.clone().requires_grad_()
            optimiser = torch.optim.Adam([e], lr=RATE * (1 - i / (2 * len(run))))
            for _ in range(STEPS):
                loss = mse_loss(stepped(e, cond), wanted.z_t)
                if loss.item() < SMALL * (1 + 2 * i):
                    break
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        e = e.detach()
        found[t] = e.to(model.dtype)
        with torch.no_grad():
            z_t = stepped(e, cond)
    return replace(inverted, empty=found.__getitem__)
