"""Each formula of diffusion in numbers small enough to check by hand; `p2p equations ID` shows them.

An example takes no arguments and returns labelled values. Latents are single numbers, T is 1000 and the schedule is
Stable Diffusion's, unless stated otherwise.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, gaussian
from ldm.equations.slips import SLIPS
from ldm.equations.variational_bound import log_p, log_q, prior_term, reverse_step, step_term
from ldm.samplers import ddim_step, ddpm_step, times
from ldm.schedule import Prediction, Schedule, guided
from ldm.train import ldm_loss

Example = dict[str, float | int | list | Tensor]

SCHEDULE = Schedule(ScheduleConfig())
SHORT = Schedule(ScheduleConfig(T=2, beta_start=0.1, beta_end=0.4))
ABAR = SCHEDULE.alpha_bar
UNIT = gaussian(torch.zeros(1, dtype=torch.float64), torch.eye(1, dtype=torch.float64))  # z_0 ~ N(0, 1)


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
    printed, corrected = SLIPS["D4"]
    return {
        "printed: variance of z_T": printed(SCHEDULE, 0.0, 1.0)[1],
        "corrected: z_0 ~ N(0, 1), the marginal": corrected(SCHEDULE, 0.0, 1.0)[1],
        "... z_0 ~ N(0, 4)": corrected(SCHEDULE, 0.0, 4.0)[1],
        "... z_0 = 1, the conditional": corrected(SCHEDULE, 1.0, 0.0)[1],
        "mean of z_T given z_0 = 1, sqrt(alpha_bar_T)": corrected(SCHEDULE, 1.0, 0.0)[0],
        "KL(q(z_T given z_0 = 1) || N(0, 1)), in nats": prior_term(SCHEDULE, z(1.0)).item(),
    }


def d5() -> Example:
    variance = 0.0
    for t in range(1, 501):
        variance = SCHEDULE.alpha[t].item() * variance + 1 - SCHEDULE.alpha[t].item()
    return {"variance of z_500 given z_0, step by step": variance, "1 - alpha_bar_500": 1 - ABAR[500].item()}


def d6() -> Example:
    return {
        "printed: z_500 of z_0 = 1, eps = 1": SLIPS["D6"].printed(SCHEDULE, z(1.0), z(1.0), 500).item(),
        "corrected": SCHEDULE.add_noise(z(1.0), z(1.0), 500).item(),
    }


def d7() -> Example:
    a, prev = SCHEDULE.alpha[2].item(), ABAR[1].item()
    precision = 1 / (1 - prev) + a / (1 - a)
    return {
        "printed: mean of z_1 given z_0 = 1, z_2 = 1": SLIPS["D7"].printed(SCHEDULE, z(1.0), z(1.0), 2).item(),
        "corrected": SCHEDULE.posterior(z(1.0), z(1.0), 2, 1)[0].item(),
        "Bayes' rule, by precisions": (prev**0.5 / (1 - prev) + a**0.5 / (1 - a)) / precision,
        "alpha_2^(0), the factor of z_0": SCHEDULE.alpha_of_z_0(2, 1).item(),
        "alpha_2^(2), the factor of z_2": SCHEDULE.alpha_of_z_t(2, 1).item(),
    }


def d8() -> Example:
    return {f"sigma_{t}": SCHEDULE.sigma(t, t - 1).item() for t in (1, 2, 500, 1000)}


def d9() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    return {
        "printed: z_0 from z_0 = 1, eps = 1, t = 500": SLIPS["D9"].printed(SCHEDULE, z_t, z(1.0), z(1.0), 500).item(),
        "corrected: from z_500": SCHEDULE.z_0_from_eps(z_t, z(1.0), 500).item(),
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
        "printed: C, the mean of z_499 for x_0 = 1, eps_theta = 1": (
            SLIPS["D12"].printed(SCHEDULE, z_t, z(1.0), z(1.0), 500).item()
        ),
        "corrected": SCHEDULE.mean_from_eps(z_t, z(1.0), 500).item(),
        "B, z_0": SCHEDULE.predict(z_t, z(1.0), 500).z_0.item(),
        "A, the noise back from the mean": SCHEDULE.eps_from_mean(
            z_t, SCHEDULE.mean_from_eps(z_t, z(1.0), 500), 500
        ).item(),
        "v": SCHEDULE.v_from(z(1.0), z(1.0), 500).item(),
    }


def d13() -> Example:
    z_t = SCHEDULE.add_noise(z(1.0), z(1.0), 500)
    predicts_v = Schedule(ScheduleConfig(parameterisation="v"))
    f = lambda schedule, output: schedule.mean_from_eps(z_t, schedule.predict(z_t, output, 500).eps, 500).item()
    return {
        "printed on one slide: the output 0.8 is the mean": SLIPS["D13"].printed(SCHEDULE, z_t, z(0.8), 500).item(),
        "corrected: a network of eps, f of its output 0.8": f(SCHEDULE, z(0.8)),
        "... a network of v": f(predicts_v, z(0.8)),
    }


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
    def losses(step: Callable) -> list[float]:
        (z_0, eps), t, unet, found = _nodes(), torch.full((4,), 500), _Slope(), []
        for _ in range(4):
            loss = ldm_loss(unet, SCHEDULE, z_0, torch.zeros(4, 1, 1), t, eps)
            unet.theta.data = step(unet.theta, torch.autograd.grad(loss, unet.theta)[0], 0.25).data
            found.append(loss.item())
        return found

    return {
        "printed, without a step size: losses of eps_theta = theta z_t from theta = 0": losses(SLIPS["D15"].printed),
        "corrected, eta = 1/4": losses(SLIPS["D15"].corrected),
        "their limit, alpha_bar_500": ABAR[500].item(),
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


def d19() -> Example:
    z_t = z(0.5)
    mean, variance = reverse_step(SCHEDULE, z_t, IdealDenoiser(SCHEDULE, UNIT).predict(z_t, 500).z_0, 500)
    return {
        "ideal network, z_0 ~ N(0, 1), z_500 = 0.5: mean of z_499": mean.item(),
        "exactly, sqrt(alpha_500) z_500": SCHEDULE.alpha[500].sqrt().item() * 0.5,
        "its variance, sigma_500^2": variance,
        "exactly, 1 - alpha_500": 1 - SCHEDULE.alpha[500].item(),
    }


ROWS = (d1, d2, d3, d4, d5, d6, d7, d8, d9, d10, d11, d12, d13, d14, d15, d16, d17, d18, d19)
EXAMPLES: dict[str, Callable[[], Example]] = {example.__name__.upper(): example for example in ROWS}
