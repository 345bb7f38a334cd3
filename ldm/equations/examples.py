"""Each formula in numbers small enough to check by hand; `p2p equations ID` shows them.

An example takes no arguments and returns labelled values. Latents are single numbers, T is 1000 and the schedule is
Stable Diffusion's, unless stated otherwise.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldm.attention import Attention, Site, SpatialTransformer, attend, attention_map, element_wise
from ldm.autoencoder import Gaussian
from ldm.config import ScheduleConfig
from ldm.contrastive import contrastive_loss, zero_shot
from ldm.equations.ideal_denoiser import IdealDenoiser, gaussian
from ldm.equations.variational_bound import log_p, log_q, prior_term, reverse_step, step_term
from ldm.presets import PRESETS
from ldm.quantize import Codebook
from ldm.samplers import ddim_step, ddpm_step, times
from ldm.schedule import Prediction, Schedule, guided
from ldm.train import ldm_loss

Example = dict[str, float | int | list | Tensor]

SCHEDULE = Schedule(ScheduleConfig())
SHORT = Schedule(ScheduleConfig(T=2, beta_start=0.1, beta_end=0.4))
ABAR = SCHEDULE.alpha_bar
UNIT = gaussian(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))  # z_0 ~ N(0, 1)
SITE = Site("cross", "mid", 0, 2, 3)


def z(*values: float) -> Tensor:
    """Latents of one number each."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def d1() -> Example:
    def product(z_0: float) -> float:
        log_q_0 = torch.distributions.Normal(z(0.0), z(1.0)).log_prob(z(z_0)).flatten()
        return log_q(SHORT, torch.stack([z(z_0), z(0.9), z(0.7)]), log_q_0).item()

    return {
        "T = 2, z_0 ~ N(0, 1): log of the product at z_0 = 1, z_1 = 0.9, z_2 = 0.7": product(1.0),
        "... at z_0 = 2 and the same z_1, z_2: it is a density of z_0 too": product(2.0),
    }


def d2() -> Example:
    return {
        "mean of z_500 given z_499 = 2": SCHEDULE.forward_step(z(2.0), z(0.0), 500).item(),
        "its variance": SCHEDULE.forward_step(z(0.0), z(1.0), 500).item() ** 2,
    }


def d3() -> Example:
    ideal = IdealDenoiser(SHORT, UNIT).predict
    path = lambda z_0: torch.stack([z(z_0), z(0.9), z(0.7)])
    return {
        "T = 2, z_0 ~ N(0, 1): log of the product at z_0 = 1, z_1 = 0.9, z_2 = 0.7": log_p(
            SHORT, path(1.0), ideal
        ).item(),
        "... at z_0 = 2 and the same z_1, z_2": log_p(SHORT, path(2.0), ideal).item(),
    }


def d4() -> Example:
    return {
        "printed: KL(q(z_T given z_0 = 1) || N(0, 1))": 0.0,
        "corrected: in nats": prior_term(SCHEDULE, z(1.0)).item(),
        "sqrt(alpha_bar_T), the signal that is left": ABAR[-1].sqrt().item(),
    }


def d5() -> Example:
    variance = 0.0
    for t in range(1, 501):
        variance = SCHEDULE.alpha[t].item() * variance + 1 - SCHEDULE.alpha[t].item()
    return {"variance of z_500 given z_0, step by step": variance, "1 - alpha_bar_500": 1 - ABAR[500].item()}


def d6() -> Example:
    return {
        "printed: z_500 of z_0 = 1, eps = 1": (ABAR[500].sqrt() + (1 - ABAR[500])).item(),
        "corrected": SCHEDULE.add_noise(z(1.0), z(1.0), 500).item(),
    }


def d7() -> Example:
    a, abar, prev = SCHEDULE.alpha[2].item(), ABAR[2].item(), ABAR[1].item()
    precision = 1 / (1 - prev) + a / (1 - a)
    return {
        "printed: mean of z_1 given z_0 = 1, z_2 = 1": abar**0.5 * (1 - a) / (1 - abar) + a**0.5,
        "corrected": SCHEDULE.posterior(z(1.0), z(1.0), 2, 1)[0].item(),
        "Bayes' rule, by precisions": (prev**0.5 / (1 - prev) + a**0.5 / (1 - a)) / precision,
    }


def d8() -> Example:
    return {f"sigma_{t}": SCHEDULE.sigma(t, t - 1).item() for t in (1, 2, 500, 1000)}


def d9() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    return {
        "printed: z_0 from z_500 of z_0 = 1, eps = 1": ((z_t + (1 - ABAR[500])) / ABAR[500].sqrt()).item(),
        "corrected": SCHEDULE.z_0_from_eps(z_t, z(1.0), 500).item(),
    }


def d10() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    return {
        "mean of z_499 from z_500 and eps = 1": SCHEDULE.mean_from_eps(z_t, z(1.0), 500).item(),
        "from z_500 and z_0 = 1 (D7)": SCHEDULE.posterior(z_t, z(1.0), 500, 499)[0].item(),
    }


def d11() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    mean, variance = reverse_step(SCHEDULE, z_t, z(0.9), 500)
    return {
        "mu~ of z_0 = 1": SCHEDULE.posterior(z_t, z(1.0), 500, 499)[0].item(),
        "mu_theta of a network that predicts z_0 = 0.9": mean.item(),
        "sigma_500^2": variance,
        "L_499, the cost of the error in nats": step_term(SCHEDULE, z_t, z(1.0), z(0.9), 500).item(),
    }


def d12() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    return {
        "printed: x_theta^(0) of x_0 = 1, eps_theta = 1": (1 + (1 - ABAR[500].item())) / ABAR[500].item() ** 0.5,
        "corrected": SCHEDULE.predict(z_t, z(1.0), 500).z_0.item(),
        "A, the mean": SCHEDULE.mean_from_eps(z_t, z(1.0), 500).item(),
        "C, the noise back from the mean": SCHEDULE.eps_from_mean(
            z_t, SCHEDULE.mean_from_eps(z_t, z(1.0), 500), 500
        ).item(),
        "v": SCHEDULE.v_from(z(1.0), z(1.0), 500).item(),
    }


def d13() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    mean = ddpm_step(SCHEDULE, z_t, SCHEDULE.predict(z_t, z(0.8), 500), 500, 499, z(0.0))
    return {"UNet(z_500, 500, tau(y)), a noise": 0.8, "f of it, the mean of z_499": mean.item()}


def _nodes() -> tuple[Tensor, Tensor]:
    """z_0 and eps at 1 and -1 each: with equal weights, the expectation of any square over N(0, 1)."""
    z_0, eps = zip(*itertools.product((1.0, -1.0), repeat=2))
    return z(*z_0), z(*eps)


def d14() -> Example:
    (z_0, eps), t = _nodes(), torch.full((4,), 500)
    loss = lambda unet: ldm_loss(unet, SCHEDULE, z_0, torch.zeros(4, 1, 1), t, eps).item()
    return {
        "z_0 ~ N(0, 1), t = 500: loss of the ideal eps_theta": loss(IdealDenoiser(SCHEDULE, UNIT)),
        "its closed form, alpha_bar_500": ABAR[500].item(),
        "loss of the ideal one for other data, N(1, 1)": loss(
            IdealDenoiser(SCHEDULE, gaussian(torch.ones(1, dtype=torch.float64), UNIT.covariances[0]))
        ),
    }


class _Slope(nn.Module):
    """eps_theta = theta z_t."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, z_t: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        return self.theta * z_t


def d15() -> Example:
    (z_0, eps), t, unet = _nodes(), torch.full((4,), 500), _Slope()
    losses = []
    for _ in range(3):
        loss = ldm_loss(unet, SCHEDULE, z_0, torch.zeros(4, 1, 1), t, eps)
        (gradient,) = torch.autograd.grad(loss, unet.theta)
        unet.theta.data -= 0.25 * gradient
        losses.append(loss.item())
    return {
        "eps_theta = theta z_t: losses of three gradient steps from theta = 0": losses,
        "theta then": unet.theta.item(),
        "its limit, sqrt(1 - alpha_bar_500)": (1 - ABAR[500]).sqrt().item(),
    }


def d16() -> Example:
    z_t = z(0.5)
    belief = Prediction(z(0.8), SCHEDULE.z_0_from_eps(z_t, z(0.8), 500))
    return {
        "z_499 from z_500 = 0.5, eps = 0.8, n = 0": ddpm_step(SCHEDULE, z_t, belief, 500, 499, z(0.0)).item(),
        "... n = 1": ddpm_step(SCHEDULE, z_t, belief, 500, 499, z(1.0)).item(),
    }


def d17() -> Example:
    z_t = z(0.5)
    belief = Prediction(z(0.8), SCHEDULE.z_0_from_eps(z_t, z(0.8), 500))
    step = lambda eta: ddim_step(eta)(SCHEDULE, z_t, belief, 500, 250, z(1.0)).item()
    return {
        "z_250 from z_500 = 0.5, eps = 0.8, n = 1, eta = 0": step(0.0),
        "... eta = 1": step(1.0),
        "7 steps of 1000": times(SCHEDULE, 7),
    }


def d18() -> Example:
    return {f"eps_u = 1, eps_c = 2, w = {w}": guided(z(1.0), z(2.0), w).item() for w in (0.0, 1.0, 7.5)}


def b1() -> Example:
    config = PRESETS["sd15"].autoencoder
    return {
        "values in a 512 x 512 image": 3 * 512**2,
        "values in its latent, 4 x 64 x 64": config.latent_channels * (512 // config.factor) ** 2,
        "compression": config.compression,
    }


def b2() -> Example:
    kl = lambda mean, log_var: Gaussian(z(mean), z(log_var)).kl().item()
    return {"KL(N(0, 1) || N(0, 1))": kl(0.0, 0.0), "KL(N(1, 1) || N(0, 1)) = 1/2": kl(1.0, 0.0)}


def b3() -> Example:
    codebook = Codebook(2, 2)
    codebook.embedding.weight.data = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    vector = torch.tensor([0.8, 0.4]).reshape(1, 2, 1, 1)
    return {
        "entries (0, 0) and (1, 1), z = (0.8, 0.4): k": codebook.indices(vector).item(),
        "z_q": codebook(vector).detach().flatten(),
    }


# two tokens, scores 0 and ln 3
Q = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
K = torch.tensor([[0.0, 0, 0, 0], [2.1972245773362196, 0, 0, 0]], dtype=torch.float64)  # 2 ln 3, over sqrt(4)
V = torch.tensor([[8.0], [4.0]], dtype=torch.float64)


def c1() -> Example:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    return {"x' of x = (1, 0), (0, 1), (1, 1), with W_q = W_k = W_v = I": element_wise(x, x, x)}


def c2() -> Example:
    return {"one query, scores 0 and ln 3, values 8 and 4: 8/4 + 4 * 3/4": element_wise(Q, K, V).item()}


def c3() -> Example:
    A = attention_map(Q[None, None], K[None, None])
    return {
        "A of scores 0 and ln 3": A.flatten(),
        "Y = A V": attend(Q[None, None], K[None, None], V[None, None]).item(),
    }


def c4() -> Example:
    layer = Attention(width=8, context_width=5, heads=2)
    return {
        "d = 8, d_eps = 8, d_tau = 5: W_Q": list(layer.to_q.weight.shape),
        "W_K": list(layer.to_k.weight.shape),
        "W_V": list(layer.to_v.weight.shape),
    }


def c5() -> Example:
    return {
        "latent of 16 x 2 x 3: n = h w": SITE.height * SITE.width,
        "not c h w": 16 * SITE.height * SITE.width,
    }


def c6() -> Example:
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0)
    inside = []
    layer.transformer_blocks[0].register_forward_hook(lambda _, args, out: inside.append(list(out.shape)))
    x = torch.zeros(1, 16, 2, 3)
    out = layer(x, torch.zeros(1, 7, 5))
    return {
        "phi_i(z_t), (b, c, h, w)": list(x.shape),
        "in the block, (b, h w, c)": inside[0],
        "out, (b, c, h, w)": list(out.shape),
    }


def c7() -> Example:
    q = torch.eye(4, dtype=torch.float64).reshape(1, 2, 2, 4)[..., :2]
    return {"two heads, a map each": attention_map(q, q)[0]}


def c8() -> Example:
    maps = []

    def look(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        maps.append(attention_map(Q, K))
        return attend(Q, K, V)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = Attention(width=8, context_width=6, heads=1)
        layer(torch.randn(1, 3, 8), torch.randn(1, 5, 6), SITE, look)
    return {"3 target words, 5 source words: A": maps[0][0, 0].detach(), "its rows' sums": maps[0].sum(-1).detach()}


def c9() -> Example:
    pairs = torch.eye(2, dtype=torch.float64)
    scale = 1.0986122886681098  # ln 3
    return {
        "two perfect pairs, scale ln 3: loss = ln 4/3": contrastive_loss(pairs, pairs, scale).item(),
        "zero-shot, labels in the images' order": zero_shot(pairs, pairs, scale),
    }


ROWS = (
    *(d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18),
    *(b1, b2, b3),
    *(c1, c2, c3, c4, c5, c6, c7, c8, c9),
)
EXAMPLES: dict[str, Callable[[], Example]] = {example.__name__.upper(): example for example in ROWS}
