"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2023, arXiv 2304.06140): the image as a sequence of noises.

The z_t of an image are drawn independently for each t [D6], not as one forward process. The noise of each step of
ancestral sampling [D16] is then the one that leads from one to the next:

    n_t = (z_t' - mu_theta(z_t, t)) / sigma_t

With these noises the run returns to the image for any w, which is the same in both. Independent draws make the n_t
larger than standard normal ones and correlated, so that they hold the image's layout, and another prompt that uses them
keeps it. The step to t = 0 adds no noise: it returns the prediction from the smallest t that is visited.
"""

import sys
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ldm.pipeline import LatentDiffusion
from ldm.states import Noise, State
from p2p.call import Sampling
from p2p.inversion.inverted import Inverted


def edit_friendly(
    model: LatentDiffusion, z_0: Float[Tensor, "1 c h w"], context: Float[Tensor, "1 m e"], sampling: Sampling
) -> Inverted:
    """As `ddim`, but guidance is used, and the seed is that of the independent draws."""
    schedule, z_0 = model.schedule, z_0.to(model.latent_dtype)
    draw = Noise([sampling.seed], z_0.shape[1:])
    visited = sampling.times(schedule)
    states = [State(t, schedule.add_noise(z_0, draw().to(z_0), t)) for t in visited[:-1]] + [State(visited[-1], z_0)]
    noises = {}
    for now, then in tqdm(list(pairwise(states)), "inversion", unit="step", file=sys.stderr):
        prediction = model.predict(now.z_t, now.t, context, sampling.guidance)
        mean, sigma = schedule.posterior(now.z_t, prediction.z_0, now.t, then.t)
        noises[now.t] = (then.z_t - mean) / sigma if then.t > 0 else torch.zeros_like(mean)
    return Inverted(tuple(states), noises)
