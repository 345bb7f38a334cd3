"""The variational bound: the densities of the two chains [D1, D3], and the terms between them [D4, D11].

In expectation over the forward process,

    -log p_theta(z_0) <= L_T + sum_{t = 2..T} L_{t-1} + L_0

with L_T the `prior_term`, L_{t-1} the `step_term` and L_0 the `last_term`; L_LDM [D14] is this sum in eps, with every
weight set to 1. sigma_1 is 0 [D8], which gives no density: here the last step has variance 1 - alpha_1.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from ldm.autoencoder import Gaussian
from ldm.helpers.checks import check_latents, checked
from ldm.schedule import Prediction, Schedule

Denoiser = Callable[[Tensor, int], Prediction]  # (z_t, t) -> the predicted eps and z_0


def log_normal(
    z: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c h w"], variance: float
) -> Float[Tensor, "b c h w"]:
    """log N(z; mean, variance), elementwise."""
    check_latents(z=z, mean=mean)
    return Normal(mean, variance**0.5).log_prob(z)


def log_q(schedule: Schedule, z: Float[Tensor, "T1 b c h w"], log_q_0: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """[D1] log q(z_{0:T}) = log q(z_0) + sum_t log q(z_t given z_{t-1}).

    Args:
        schedule: of T steps.
        z: z_0, z_1, ..., z_T.
        log_q_0: the data's log density at z_0.
    """
    total = log_q_0
    for t in range(1, schedule.T + 1):
        mean = schedule.forward_step(z[t - 1], torch.zeros_like(z[0]), t)
        total = total + log_normal(z[t], mean, 1 - schedule.alpha[t].item()).sum(dim=(1, 2, 3))
    return total


def log_p(schedule: Schedule, z: Float[Tensor, "T1 b c h w"], denoiser: Denoiser) -> Float[Tensor, " b"]:
    """[D3] log p_theta(z_{0:T}) = log N(z_T; 0, I) + sum_t log p_theta(z_{t-1} given z_t).

    Args:
        schedule: of T steps.
        z: z_0, z_1, ..., z_T.
        denoiser: conditioned on the prompt.
    """
    z_T = z[schedule.T]
    total = log_normal(z_T, torch.zeros_like(z_T), 1.0).sum(dim=(1, 2, 3))
    for t in range(schedule.T, 0, -1):
        step = reverse_step(schedule, z[t], denoiser(z[t], t).z_0, t)
        total = total + log_normal(z[t - 1], *step).sum(dim=(1, 2, 3))
    return total


def reverse_step(
    schedule: Schedule, z_t: Float[Tensor, "b c h w"], z_0: Float[Tensor, "b c h w"], t: int
) -> tuple[Float[Tensor, "b c h w"], float]:
    """[D11, D19] Mean and variance of p_theta(z_{t-1} given z_t): the posterior [D7, D8] of the predicted z_0."""
    t = checked("t", t, int)
    mean, _ = schedule.posterior(z_t, z_0, t, t - 1)
    return mean, schedule.sigma(t, t - 1).item() ** 2 if t > 1 else 1 - schedule.alpha[1].item()


def prior_term(schedule: Schedule, z_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """[D4] L_T = KL(q(z_T given z_0) || N(0, I)) elementwise, in nats: the signal left at t = T."""
    log_var = torch.log1p(-schedule.alpha_bar[-1]).to(z_0)
    return Gaussian(schedule.signal(schedule.T, z_0) * z_0, log_var.expand_as(z_0)).kl()


def step_term(
    schedule: Schedule,
    z_t: Float[Tensor, "b c h w"],
    z_0: Float[Tensor, "b c h w"],
    predicted: Float[Tensor, "b c h w"],
    t: int,
) -> Float[Tensor, "b c h w"]:
    """[D11] L_{t-1} = (mu~ - mu_theta)^2 / (2 sigma_t^2), elementwise, in nats.

    It is KL(q(z_{t-1} given z_t, z_0) || p_theta(z_{t-1} given z_t)), between two Gaussians of equal variance.

    Args:
        schedule: of T steps.
        z_t: the noisy latent.
        z_0: the clean latent.
        predicted: the network's prediction of z_0.
        t: 2..T.

    Raises:
        ValueError: t is outside 2..T.
    """
    if (t := checked("t", t, int)) < 2:
        raise ValueError(f"L_(t-1) is defined for t in 2..{schedule.T}, got {t}; at t = 1 it is the last term")
    mean, sigma = schedule.posterior(z_t, z_0, t, t - 1)
    believed, _ = reverse_step(schedule, z_t, predicted, t)
    return (mean - believed) ** 2 / (2 * sigma**2)


def last_term(
    schedule: Schedule,
    z_1: Float[Tensor, "b c h w"],
    z_0: Float[Tensor, "b c h w"],
    predicted: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h w"]:
    """L_0 = -log p_theta(z_0 given z_1), elementwise, in nats."""
    return -log_normal(z_0, *reverse_step(schedule, z_1, predicted, 1))
