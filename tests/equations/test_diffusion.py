"""The lecture's formulas of diffusion in latent space, [D2]-[D18], each against a closed form, for every t at once.

Where the slide has a slip, the test shows that the printed form fails, by how much, and that the corrected one holds.
"""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, gaussian
from ldm.equations.slips import SLIPS
from ldm.samplers import DDIM, ddim_step, ddpm_step, times
from ldm.schedule import Prediction, Schedule, guided

SCHEDULE = Schedule(ScheduleConfig())
T = SCHEDULE.T
ALL_T = torch.arange(1, T + 1)
ALPHA, ALPHA_BAR = SCHEDULE.alpha[1:], SCHEDULE.alpha_bar[1:]
ALPHA_BAR_PREV = SCHEDULE.alpha_bar[:-1]

# float64 keeps 16 digits; the formulas divide by 1 - alpha_bar, at least 8.5e-4, and by sqrt(alpha_bar), at least
# 0.068, so a few hundred roundings of 1e-16 stay below this
EXACT = dict(rtol=1e-11, atol=1e-12)


def draws(seed: int = 0, n: int = 3) -> list[torch.Tensor]:
    """Independent standard normal numbers, one per time step."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(T, 1, 1, 1, generator=generator, dtype=torch.float64) for _ in range(n)]


def column(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, 1, 1, 1)


@pytest.mark.equation("D2")
def test_d2_one_step_keeps_unit_variance():
    """[D2] The step is linear in two independent unit normals, so its variance is the sum of its squared factors."""
    one, zero = torch.ones(T, 1, 1, 1, dtype=torch.float64), torch.zeros(T, 1, 1, 1, dtype=torch.float64)
    of_z, of_eps = SCHEDULE.forward_step(one, zero, ALL_T), SCHEDULE.forward_step(zero, one, ALL_T)
    assert_close(of_z**2, column(ALPHA), **EXACT)
    assert_close(of_eps**2, column(1 - ALPHA), **EXACT)
    assert_close(of_z**2 + of_eps**2, one, **EXACT)
    assert (of_z > 0).all() and (of_eps > 0).all()


@pytest.mark.equation("D2")
def test_d2_monte_carlo_mean_and_variance():
    """[D2] 200,000 draws at t = 500 from z = 2: five standard errors, so a false alarm is below one in a million."""
    n, t = 200_000, 500
    eps = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z_t = SCHEDULE.forward_step(torch.full_like(eps, 2.0), eps, t)
    variance = (1 - SCHEDULE.alpha[t]).item()
    assert abs(z_t.mean() - 2 * SCHEDULE.alpha[t].sqrt()) < 5 * (variance / n) ** 0.5
    assert abs(z_t.var() - variance) < 5 * variance * (2 / n) ** 0.5


@pytest.mark.equation("D4")
def test_d4_the_last_latent_is_only_nearly_noise():
    """[D4] The aim is q(z_T) = N(0, I). The marginal of unit-variance Gaussian latents is that; given z_0 it is not,
    for 0.068 of the signal is left."""
    roots = SCHEDULE.beta.sqrt()  # evenly spaced, from the config's ends
    by_hand = [math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999 for i in range(1000)]
    assert_close(roots, torch.tensor(by_hand, dtype=torch.float64), **EXACT)
    linear = Schedule(ScheduleConfig(betas="linear", T=3, beta_start=0.1, beta_end=0.4)).beta
    assert_close(linear, torch.tensor([0.1, 0.25, 0.4], dtype=torch.float64), **EXACT)
    abar = ALPHA_BAR[-1].item()
    assert_close(abar, 0.00466, rtol=0, atol=5e-6)  # the value known to three digits
    end = SLIPS["D4"].corrected
    assert_close(end(SCHEDULE, 0.0, 1.0), (0.0, 1.0), **EXACT)  # the marginal of z_0 ~ N(0, 1)
    mean, variance = end(SCHEDULE, 1.0, 0.0)  # the conditional on z_0 = 1
    assert_close((mean, variance), (0.0683, 0.99534), rtol=0, atol=5e-5)
    kl = lambda mean, variance: kl_divergence(Normal(mean, variance**0.5), Normal(0.0, 1.0)).item()
    # half of mean^2 + variance - 1 - log variance: about alpha_bar z_0^2 / 2 for the conditional
    assert_close(kl(mean, variance), abar / 2, rtol=0.01, atol=0)
    assert abs(kl(*end(SCHEDULE, 0.0, 1.0))) < 1e-7  # float32 is what torch computes it in


@pytest.mark.equation("D5")
def test_d5_composing_the_steps_gives_the_closed_form():
    """[D5] Mean factor and variance of z_t given z_0, by recursion over the one-step Gaussians."""
    mean, variance = 1.0, 0.0
    for t in range(1, T + 1):
        a = SCHEDULE.alpha[t].item()
        mean, variance = a**0.5 * mean, a * variance + 1 - a
        # up to T roundings of 1e-16 each
        assert_close(mean, SCHEDULE.alpha_bar[t].sqrt().item(), rtol=1e-12, atol=0)
        assert_close(variance, (1 - SCHEDULE.alpha_bar[t]).item(), rtol=1e-12, atol=0)
    # the product, and the two factors that make z_t
    assert_close(SCHEDULE.alpha_bar, torch.cat([torch.ones(1), 1 - SCHEDULE.beta]).cumprod(0), **EXACT)
    one, zero = torch.ones(T, 1, 1, 1, dtype=torch.float64), torch.zeros(T, 1, 1, 1, dtype=torch.float64)
    assert_close(SCHEDULE.add_noise(one, zero, ALL_T), column(ALPHA_BAR).sqrt(), **EXACT)
    assert_close(SCHEDULE.add_noise(zero, one, ALL_T), column(1 - ALPHA_BAR).sqrt(), **EXACT)


@pytest.mark.equation("D6")
def test_d6_noise_is_scaled_by_the_standard_deviation():
    """[D6] Printed: (1 - alpha_bar) eps. The variance must be 1 - alpha_bar, so the factor is its square root."""
    z_0, eps, _ = draws()
    zero = torch.zeros_like(eps)
    assert_close(SCHEDULE.add_noise(zero, eps, ALL_T) ** 2, column(1 - ALPHA_BAR) * eps**2, **EXACT)
    corrected = SCHEDULE.add_noise(z_0, eps, ALL_T)
    printed = column(ALPHA_BAR.sqrt()) * z_0 + column(1 - ALPHA_BAR) * eps
    assert_close(SLIPS["D6"].printed(SCHEDULE, z_0, eps, ALL_T), printed, **EXACT)
    # the printed factor is short by up to 1/4, where sqrt(1 - alpha_bar) = 1/2
    short = (corrected - printed) / eps
    assert_close(short.max().item(), 0.25, rtol=0, atol=1e-3)  # no t hits the maximum exactly


def bayes(t: torch.Tensor, z_0: torch.Tensor, z_t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of z_{t-1} by Bayes' rule: the prior N(sqrt(abar_{t-1}) z_0, 1 - abar_{t-1}) times the
    likelihood N(z_t; sqrt(alpha_t) z_{t-1}, 1 - alpha_t), combined by precision. For t >= 2."""
    a, prev = column(SCHEDULE.alpha[t]), column(SCHEDULE.alpha_bar[t - 1])
    precision = 1 / (1 - prev) + a / (1 - a)
    mean = (prev.sqrt() * z_0 / (1 - prev) + a.sqrt() * z_t / (1 - a)) / precision
    return mean, 1 / precision


def posterior_at_all_t(z_0: torch.Tensor, z_t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [SCHEDULE.posterior(z_t[t - 1 : t], z_0[t - 1 : t], t, t - 1) for t in range(1, T + 1)]
    means, sigmas = zip(*parts)
    return torch.cat(means), torch.tensor(sigmas, dtype=torch.float64)


@pytest.mark.equation("D7", "D8")
def test_d7_d8_posterior_is_bayes_rule():
    """[D7, D8] Printed with alpha_bar_t where alpha_bar_{t-1} belongs, twice: that is off by more than half of z."""
    z_0, z_t, _ = draws(1)
    mean, sigma = posterior_at_all_t(z_0, z_t)
    expected, variance = bayes(ALL_T[1:], z_0[1:], z_t[1:])
    assert_close(mean[1:], expected, **EXACT)
    assert_close(column(sigma[1:] ** 2), variance, **EXACT)
    assert sigma[0] == 0 and torch.equal(mean[0], z_0[0])  # at t = 1 nothing is left to draw

    abar, a = column(ALPHA_BAR), column(ALPHA)
    printed = abar.sqrt() * (1 - a) / (1 - abar) * z_0 + a.sqrt() * (1 - abar) / (1 - abar) * z_t
    assert_close(SLIPS["D7"].printed(SCHEDULE, z_t, z_0, ALL_T), printed, **EXACT)
    assert (printed[1:] - expected).abs().max() > 0.5
    # Without noise, z_0 = 1 and z_t = sqrt(alpha_bar_t), the mean must be sqrt(alpha_bar_{t-1}). The printed factor of
    # z_t is sqrt(alpha_t), all of the weight, and z_0 comes on top: 1.5 for 1 at t = 2.
    one = torch.ones_like(z_0)
    assert_close(posterior_at_all_t(one, one * abar.sqrt())[0], column(ALPHA_BAR_PREV).sqrt(), **EXACT)
    printed = abar.sqrt() * (1 - a) / (1 - abar) + a.sqrt() * abar.sqrt()
    assert_close((printed[1] / ALPHA_BAR_PREV[1].sqrt()).item(), 1.5, rtol=0, atol=2e-3)


@pytest.mark.equation("D7", "D8")
def test_d7_strided_posterior_composes():
    """[D7, D8] A stride of two steps: by Bayes' rule with the product of the two factors."""
    z_0, z_t, _ = draws(2)
    for t, t_prev in ((1000, 998), (500, 250), (3, 1), (20, 0)):
        a, prev = SCHEDULE.alpha[t_prev + 1 : t + 1].prod(), SCHEDULE.alpha_bar[t_prev]
        mean, sigma = SCHEDULE.posterior(z_t[:1], z_0[:1], t, t_prev)
        if t_prev == 0:
            assert sigma == 0
            assert_close(mean, z_0[:1], **EXACT)
            continue
        precision = 1 / (1 - prev) + a / (1 - a)
        assert_close(mean, (prev.sqrt() * z_0[:1] / (1 - prev) + a.sqrt() * z_t[:1] / (1 - a)) / precision, **EXACT)
        assert_close(sigma**2, 1 / precision, rtol=1e-11, atol=0)


@pytest.mark.equation("D7", "D8", "D16", "D17")
def test_a_batch_of_times_is_each_time_by_itself():
    """[D7, D8, D16, D17] Another t, and another stride, in each row."""
    z_0, eps, noise = draws(7)
    t, t_prev = torch.tensor([1000, 500, 3, 20]), torch.tensor([999, 250, 1, 0])
    z_0, eps, noise = z_0[:4], eps[:4], noise[:4]
    z_t, belief = SCHEDULE.add_noise(z_0, eps, t), Prediction(eps, z_0)
    row = lambda x, i: x[i : i + 1]
    for step in (ddpm_step, ddim_step(0.0), ddim_step(0.7)):
        alone = [
            step(SCHEDULE, row(z_t, i), Prediction(row(eps, i), row(z_0, i)), int(t[i]), int(t_prev[i]), row(noise, i))
            for i in range(4)
        ]
        assert_close(step(SCHEDULE, z_t, belief, t, t_prev, noise), torch.cat(alone), rtol=0, atol=0)  # the same sums
    one_by_one = [SCHEDULE.posterior(row(z_t, i), row(z_0, i), int(t[i]), int(t_prev[i])) for i in range(4)]
    mean, sigma = SCHEDULE.posterior(z_t, z_0, t, t_prev)
    assert_close(mean, torch.cat([m for m, _ in one_by_one]), rtol=0, atol=0)
    assert_close(sigma, column(torch.stack([s for _, s in one_by_one])), rtol=0, atol=0)


@pytest.mark.equation("D6", "D9")
def test_d9_clean_latent_is_recovered():
    """[D9] Round trip with D6. Printed: (z_0 + (1 - alpha_bar) eps) / sqrt(alpha_bar), which needs z_0 to give z_0, and
    gives another: off by (1 / sqrt(alpha_bar) - 1) z_0 + (1 - alpha_bar) / sqrt(alpha_bar) eps."""
    z_0, eps, _ = draws(3)
    z_t = SCHEDULE.add_noise(z_0, eps, ALL_T)
    assert_close(SCHEDULE.z_0_from_eps(z_t, eps, ALL_T), z_0, **EXACT)
    assert_close(SCHEDULE.eps_from_z_0(z_t, z_0, ALL_T), eps, **EXACT)
    signal = column(ALPHA_BAR.sqrt())
    off = (1 / signal - 1) * z_0 + column(1 - ALPHA_BAR) / signal * eps
    assert_close(SLIPS["D9"].printed(SCHEDULE, z_t, z_0, eps, ALL_T) - z_0, off, **EXACT)
    assert off[0].abs() < 0.01 and off.abs().max() > 10  # nothing to see at t = 1, everything near T


@pytest.mark.equation("D10")
def test_d10_mean_from_noise_is_the_posterior_mean():
    """[D10] D7 with D9 substituted, for all t; with either as printed it is not."""
    z_0, eps, _ = draws(4)
    z_t = SCHEDULE.add_noise(z_0, eps, ALL_T)
    mean, _ = posterior_at_all_t(z_0, z_t)
    assert_close(SCHEDULE.mean_from_eps(z_t, eps, ALL_T), mean, **EXACT)
    assert_close(SCHEDULE.eps_from_mean(z_t, mean, ALL_T), eps, rtol=1e-9, atol=1e-9)  # divides by 1 - alpha_t
    wrong, _ = posterior_at_all_t(SLIPS["D9"].printed(SCHEDULE, z_t, z_0, eps, ALL_T), z_t)
    assert (wrong - mean).abs().max() > 0.02
    printed_d7 = SLIPS["D7"].printed(SCHEDULE, z_t, z_0, ALL_T)
    assert (printed_d7 - mean).abs().max() > 0.5


@pytest.mark.equation("D12", "D13")
@pytest.mark.parametrize("parameterisation", ["eps", "v"])
def test_d12_parameterisations_convert_into_each_other(parameterisation):
    """[D12] From what the network should output, all of eps, z_0 and the mean come back, and are one belief."""
    schedule = Schedule(ScheduleConfig(parameterisation=parameterisation))
    z_0, eps, _ = draws(5)
    z_t = schedule.add_noise(z_0, eps, ALL_T)
    prediction = schedule.predict(z_t, schedule.target(z_0, eps, ALL_T), ALL_T)
    assert_close(prediction.eps, eps, **EXACT)
    assert_close(prediction.z_0, z_0, **EXACT)
    by_hand = column(ALPHA_BAR.sqrt()) * eps - column((1 - ALPHA_BAR).sqrt()) * z_0
    assert_close(schedule.v_from(z_0, eps, ALL_T), by_hand, **EXACT)
    means = schedule.mean_from_eps(z_t, prediction.eps, ALL_T), posterior_at_all_t(prediction.z_0, z_t)[0]
    assert_close(*means, **EXACT)
    # A and B: the network says the mean, or z_0; both become the same eps
    assert_close(schedule.eps_from_mean(z_t, means[0], ALL_T), eps, rtol=1e-9, atol=1e-9)  # divides by 1 - alpha_t
    assert_close(schedule.eps_from_z_0(z_t, z_0, ALL_T), eps, **EXACT)


@pytest.mark.equation("D12")
def test_d12_printed_option_c_gives_another_mean():
    """[D12] mu_theta = alpha^(0) x_theta^(0) + alpha^(t) x_t, with D9's slips in x_theta^(0), is off by alpha^(0) times
    what D9 is off by."""
    z_0, eps, _ = draws(9)
    z_t = SCHEDULE.add_noise(z_0, eps, ALL_T)
    of_z_0, of_z_t = SCHEDULE.alpha_of_z_0(ALL_T, ALL_T - 1), SCHEDULE.alpha_of_z_t(ALL_T, ALL_T - 1)
    corrected = SLIPS["D12"].corrected(SCHEDULE, z_t, z_0, eps, ALL_T)
    assert_close(column(of_z_0) * z_0 + column(of_z_t) * z_t, corrected, **EXACT)
    signal = column(ALPHA_BAR.sqrt())
    off = (1 / signal - 1) * z_0 + column(1 - ALPHA_BAR) / signal * eps
    printed = SLIPS["D12"].printed(SCHEDULE, z_t, z_0, eps, ALL_T)
    assert_close(printed - corrected, column(of_z_0) * off, **EXACT)
    assert (printed - corrected).abs().max() > 0.02


# Gaussian data whose covariance is no multiple of I: its best eps is affine in z_t, and known
MEAN = torch.tensor([1.5, 0.0, -2.0], dtype=torch.float64)
S2 = torch.tensor([0.25, 1.0, 2.25], dtype=torch.float64)  # along the axes
AXES = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.0], [0.5, -1.0, 1.0], [0.0, 1.0, 3.0]], dtype=torch.float64)).Q
IDEAL = IdealDenoiser(SCHEDULE, gaussian(MEAN, AXES * S2 @ AXES.mT))


def marginal(step, visited: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of z_0 after the sampler, by recursion: every step is affine in z_t and in its noise."""
    # the start is q(z_T) of the data, not N(0, I), so that the recursion's only error would be the sampler's
    mean, covariance = SCHEDULE.alpha_bar[visited[0]].sqrt() * MEAN, AXES * spread(visited[0]) @ AXES.mT
    zero, unit = torch.zeros(4, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    inputs = torch.cat([zero[:1], unit]).reshape(4, 3, 1, 1)
    noises = torch.cat([zero[:1], unit]).reshape(4, 3, 1, 1)
    for t, t_prev in itertools.pairwise(visited):
        beliefs = IDEAL.predict(inputs, t)
        offset, *columns = step(SCHEDULE, inputs, beliefs, t, t_prev, torch.zeros_like(noises)).flatten(1)
        J = torch.stack(columns, dim=1) - offset[:, None]
        at_zero = Prediction(*(x[:1].expand(4, -1, -1, -1) for x in beliefs))
        still, *moved = step(SCHEDULE, torch.zeros_like(inputs), at_zero, t, t_prev, noises).flatten(1)
        of_noise = torch.stack(moved, dim=1) - still[:, None]
        mean, covariance = J @ mean + offset, J @ covariance @ J.mT + of_noise @ of_noise.mT
    return mean, covariance


def spread(t: int) -> torch.Tensor:
    """Variances of z_t along the data's axes."""
    return SCHEDULE.alpha_bar[t] * S2 + 1 - SCHEDULE.alpha_bar[t]


@pytest.mark.equation("D16")
@pytest.mark.parametrize("steps", [T, 50])
def test_d16_ancestral_sampling_reaches_the_data(steps):
    """[D16] The sampler's marginals are those of the true reverse chain, but for the variance that D8 leaves out.

    z_{t'} given z_t is Gaussian with slope cov(z_{t'}, z_t) / var(z_t), by conditioning. D8 is its variance for a known
    z_0; the share of z_0's own uncertainty is missing at every step, and adding it back gives the data to the digit.
    """
    visited = times(SCHEDULE, steps)
    by_hand = exact = spread(T)
    for t, t_prev in itertools.pairwise(visited):
        abar, prev = SCHEDULE.alpha_bar[t].item(), SCHEDULE.alpha_bar[t_prev].item()
        slope = (abar / prev) ** 0.5 * spread(t_prev) / spread(t)
        sigma2 = (1 - prev) * (1 - abar / prev) / (1 - abar)
        uncertain = S2 * (1 - abar) / spread(t)  # var(z_0 given z_t)
        missing = prev * ((1 - abar / prev) / (1 - abar)) ** 2 * uncertain
        by_hand = slope**2 * by_hand + sigma2
        exact = slope**2 * exact + sigma2 + missing
    mean, covariance = marginal(ddpm_step, visited)
    # up to 1000 affine steps in float64, each a few roundings of 1e-16
    assert_close(mean, MEAN, rtol=0, atol=1e-10)
    assert_close(covariance, AXES * by_hand @ AXES.mT, rtol=0, atol=1e-10)
    assert_close(exact, S2, rtol=0, atol=1e-10)
    assert (by_hand < S2).all()


@pytest.mark.equation("D17")
@pytest.mark.parametrize("steps", [T, 50, 1])
def test_d17_deterministic_steps_reach_the_data(steps):
    """[D17] eta = 0: the product of the steps' slopes, each E[z_0 given z_t] put back along E[eps given z_t]."""
    visited = times(SCHEDULE, steps)
    slope = torch.ones(3, dtype=torch.float64)
    for t, t_prev in itertools.pairwise(visited):
        abar, prev = SCHEDULE.alpha_bar[t].item(), SCHEDULE.alpha_bar[t_prev].item()
        slope = slope * ((prev * abar) ** 0.5 * S2 + ((1 - prev) * (1 - abar)) ** 0.5) / spread(t)
    mean, covariance = marginal(DDIM.step, visited)
    # as above
    assert_close(mean, MEAN, rtol=0, atol=1e-10)
    assert_close(covariance, AXES * (slope**2 * spread(T)) @ AXES.mT, rtol=0, atol=1e-10)
    if steps == T:
        assert_close(slope**2 * spread(T), S2, rtol=0.02, atol=0)  # what 1000 Euler steps leave


@pytest.mark.equation("D16", "D17")
def test_d17_eta_one_is_ancestral_sampling():
    """[D17] eta = 1 equals D16, for adjacent steps and for any stride."""
    z_t, eps, noise = (a[:1] for a in draws(6))
    for t, t_prev in ((1000, 999), (500, 499), (2, 1), (1, 0), (1000, 500), (40, 0)):
        prediction = Prediction(eps, SCHEDULE.z_0_from_eps(z_t, eps, t))
        step = [s(SCHEDULE, z_t, prediction, t, t_prev, noise) for s in (ddim_step(1.0), ddpm_step)]
        assert_close(*step, **EXACT)


@pytest.mark.equation("D17")
def test_d17_without_noise_the_step_moves_along_the_prediction():
    """[D17] eta = 0: z_{t'} is the forward process of the predicted z_0 and eps, and noise plays no part."""
    z_t, eps, noise = (a[:1] for a in draws(7))
    for t, t_prev in ((1000, 900), (7, 3)):
        prediction = Prediction(eps, SCHEDULE.z_0_from_eps(z_t, eps, t))
        z_prev = DDIM.step(SCHEDULE, z_t, prediction, t, t_prev, noise)
        assert_close(z_prev, SCHEDULE.add_noise(prediction.z_0, eps, t_prev), **EXACT)


@pytest.mark.equation("D17")
def test_d17_every_number_of_steps_gives_that_many_distinct_steps():
    """[D17] S from 1 to T, from T down to 0, as even as whole numbers allow."""
    for steps in range(1, T + 1):
        visited = times(SCHEDULE, steps)
        strides = {a - b for a, b in itertools.pairwise(visited)}
        assert len(visited) == steps + 1 and visited[0] == T and visited[-1] == 0
        assert min(strides) >= 1 and max(strides) - min(strides) <= 1
    # Stable Diffusion's own: leading, one later, and the last step stops at alpha_bar_1
    leading = Schedule(ScheduleConfig(spacing="leading", offset=1, last=1))
    for steps in range(1, T):
        assert times(leading, steps) == [1, *(2 + T // steps * i for i in range(steps))][::-1]
    assert times(leading, 3, T) == [668, 335, 2, 1] and times(leading, 3, 600) == [600, 400, 200, 1]
    for schedule, steps, start in ((SCHEDULE, 0, T), (SCHEDULE, 7, 6), (leading, T, T), (leading, 6, 6)):
        with pytest.raises(ValueError, match="steps"):
            times(schedule, steps, start)


@pytest.mark.equation("D18")
def test_d18_guidance_limits():
    """[D18] w = 0 is the unconditional prediction, w = 1 the conditional one; beyond, it extrapolates."""
    eps_u, eps_c, _ = draws(8)
    assert torch.equal(guided(eps_u, eps_c, 0.0), eps_u)
    assert_close(guided(eps_u, eps_c, 1.0), eps_c, **EXACT)
    assert_close(guided(eps_u, eps_c, 3.0), 3 * eps_c - 2 * eps_u, **EXACT)


@pytest.mark.parametrize("t", [-1, 1001])
def test_times_out_of_range_are_refused(t):
    z = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"t must lie in 0\.\.1000"):
        SCHEDULE.add_noise(z, z, t)


def test_coefficients_are_cast_once():
    """float32 latents get float64 coefficients rounded once: within half a unit in the last place."""
    one = torch.ones(T, 1, 1, 1)
    factors = SCHEDULE.add_noise(one, torch.zeros_like(one), ALL_T).flatten()
    assert factors.dtype == torch.float32
    assert torch.equal(factors, ALPHA_BAR.sqrt().float())
