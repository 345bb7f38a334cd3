"""The slips of the slides of the model: what is printed and what holds, as two functions of the same arguments.

    slip = SLIPS["D6"]
    slip.printed(schedule, z_0, eps, t), slip.corrected(schedule, z_0, eps, t)

t may be a tensor, with one latent for each: both forms over all t are one call each. The corrected forms are the
functions that the model uses. `p2p.equations.errata` lists every slip by slide, also those that change no number.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.equations.variational_bound import Denoiser, log_normal, log_p, log_q, reverse_step
from ldm.schedule import Schedule, Time


class Slip(NamedTuple):
    """A formula as printed and as corrected."""

    printed: Callable
    corrected: Callable


def log_q_without_z_0(
    schedule: Schedule, z: Float[Tensor, "T1 b c h w"], mean: float, variance: float
) -> Float[Tensor, " b"]:
    """log q(z_{1:T}) for z_0 ~ N(mean, variance), which the printed left side is: z_0 plays no part."""
    a, nothing = schedule.alpha[1].item(), torch.zeros(z.shape[1], dtype=z.dtype)
    given_z_0 = log_normal(z[1], a**0.5 * z[0], 1 - a)
    marginal = log_normal(z[1], torch.full_like(z[1], a**0.5 * mean), a * variance + 1 - a)
    return log_q(schedule, z, nothing) + (marginal - given_z_0).sum(dim=(1, 2, 3))


def log_q_of_data(
    schedule: Schedule, z: Float[Tensor, "T1 b c h w"], mean: float, variance: float
) -> Float[Tensor, " b"]:
    """log q(z_{0:T}) for z_0 ~ N(mean, variance), which the product is."""
    log_q_0 = log_normal(z[0], torch.full_like(z[0], mean), variance).sum(dim=(1, 2, 3))
    return log_q(schedule, z, log_q_0)


def log_p_without_z_0(schedule: Schedule, z: Float[Tensor, "T1 b c h w"], denoiser: Denoiser) -> Float[Tensor, " b"]:
    """log p_theta(z_{1:T}): the product without its last factor."""
    last = log_normal(z[0], *reverse_step(schedule, z[1], denoiser(z[1], 1).z_0, 1))
    return log_p(schedule, z, denoiser) - last.sum(dim=(1, 2, 3))


def end_is_noise(schedule: Schedule, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of z_T, whatever those of z_0."""
    return 0.0, 1.0


def end(schedule: Schedule, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of z_T from those of z_0; a variance of 0 is a given z_0."""
    abar = schedule.alpha_bar[schedule.T].item()
    return abar**0.5 * mean, abar * variance + 1 - abar


def add_noise(
    schedule: Schedule, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
) -> Float[Tensor, "b c h w"]:
    """The noise scaled by its variance."""
    return schedule.signal(t, z_0) * z_0 + schedule.noise(t, z_0) ** 2 * eps


def posterior_mean(
    schedule: Schedule, z_t: Float[Tensor, "b c h w"], z_0: Float[Tensor, "b c h w"], t: Time
) -> Float[Tensor, "b c h w"]:
    """alpha_bar_t for alpha_bar_{t-1}, twice: the second leaves sqrt(alpha_t) alone as the factor of z_t."""
    of_z_0 = schedule.alpha_bar.sqrt() * (1 - schedule.alpha) / (1 - schedule.alpha_bar)
    return schedule.at(of_z_0, t, z_0) * z_0 + schedule.at(schedule.alpha.sqrt(), t, z_t) * z_t


def clean_latent(
    schedule: Schedule,
    z_t: Float[Tensor, "b c h w"],
    z_0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    t: Time,
) -> Float[Tensor, "b c h w"]:
    """z_0 for z_t, plus for minus, and no root: z_t plays no part, z_0 is asked for."""
    return (z_0 + schedule.noise(t, z_0) ** 2 * eps) / schedule.signal(t, z_0)


def option_c(
    schedule: Schedule,
    z_t: Float[Tensor, "b c h w"],
    z_0: Float[Tensor, "b c h w"],
    eps: Float[Tensor, "b c h w"],
    t: Time,
) -> Float[Tensor, "b c h w"]:
    """mu_theta from the printed z_0."""
    return schedule.posterior(z_t, clean_latent(schedule, z_t, z_0, eps, t), t, t - 1)[0]


def projections(
    phi: Float[Tensor, "n d_eps"],
    tau: Float[Tensor, "m d_tau"],
    W_Q: Float[Tensor, "d d_q"],
    W_K: Float[Tensor, "d d_tau"],
    W_V: Float[Tensor, "d d_v"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, K and V as the printed products; raises RuntimeError where the shapes do not fit."""
    return W_Q @ phi, W_K @ tau, W_V @ tau


def projections_of_rows(
    phi: Float[Tensor, "n d_eps"],
    tau: Float[Tensor, "m d_tau"],
    W_Q: Float[Tensor, "d d_eps"],
    W_K: Float[Tensor, "d d_tau"],
    W_V: Float[Tensor, "d d_tau"],
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"], Float[Tensor, "m d"]]:
    """Q, K and V of positions and tokens that are rows."""
    return phi @ W_Q.mT, tau @ W_K.mT, tau @ W_V.mT


SECONDS_PER_DAY = 86400

SLIPS = {
    "D1": Slip(log_q_without_z_0, log_q_of_data),
    "D3": Slip(log_p_without_z_0, log_p),
    "D4": Slip(end_is_noise, end),
    "D6": Slip(add_noise, Schedule.add_noise),
    "D7": Slip(posterior_mean, lambda schedule, z_t, z_0, t: schedule.posterior(z_t, z_0, t, t - 1)[0]),
    "D9": Slip(clean_latent, lambda schedule, z_t, z_0, eps, t: schedule.z_0_from_eps(z_t, eps, t)),
    "D12": Slip(option_c, lambda schedule, z_t, z_0, eps, t: schedule.mean_from_eps(z_t, eps, t)),
    # mu_theta where the network predicts eps
    "D13": Slip(lambda schedule, z_t, eps, t: eps, Schedule.mean_from_eps),
    "D15": Slip(lambda theta, gradient, eta: theta - gradient, lambda theta, gradient, eta: theta - eta * gradient),
    "C4": Slip(projections, projections_of_rows),
    # n, from the latent's shape and the UNet's level: 0 is the top one
    "C5": Slip(lambda c, h, w, level: c * h * w, lambda c, h, w, level: h * w // 4**level),
    "cost": Slip(lambda samples, days: 15.0, lambda samples, days: days * SECONDS_PER_DAY / samples),
}
