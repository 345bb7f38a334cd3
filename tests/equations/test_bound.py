"""The two chains as densities [D1, D3], and the terms of the variational bound [D4, D11], on Gaussian data.

The ideal denoiser of a Gaussian is affine, so both chains are Gaussian in all their variables at once, and every
expectation here is of a polynomial of second degree: a few nodes give it exactly.
"""

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, gaussian
from ldm.equations.slips import SLIPS
from ldm.equations.variational_bound import last_term, log_p, log_q, prior_term, reverse_step, step_term
from ldm.samplers import ddpm_step
from ldm.schedule import Prediction, Schedule
from tests.support.normal import normal

MEAN, S2 = 1.5, 0.25
DATA = gaussian(torch.tensor([MEAN], dtype=torch.float64), torch.tensor([[S2]], dtype=torch.float64))
SHORT = Schedule(ScheduleConfig(T=4, beta_start=0.1, beta_end=0.4))
FULL = Schedule(ScheduleConfig())

# float64 keeps 16 digits; a few hundred roundings, of numbers up to a few hundred
EXACT = dict(rtol=1e-11, atol=1e-11)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


def log_data(z_0: torch.Tensor) -> torch.Tensor:
    return Normal(MEAN + 0 * z_0, S2**0.5).log_prob(z_0).sum(dim=(1, 2, 3))


def forward_joint() -> MultivariateNormal:
    """q(z_{0:T}) by its moments: z_t is sqrt(alpha_bar_t / alpha_bar_s) z_s and independent noise, for s <= t."""
    abar = SHORT.alpha_bar
    variance = abar * S2 + 1 - abar
    s = torch.minimum(*torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    t = torch.maximum(*torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij"))
    return MultivariateNormal(abar.sqrt() * MEAN, (abar[t] / abar[s]).sqrt() * variance[s])


@pytest.mark.equation("D1")
def test_d1_the_product_of_the_steps_is_the_joint_of_z_0_to_z_T():
    """[D1] Printed: the density of z_{1:T}. That one does not know z_0, the product does: it is the joint's density."""
    z = normal(5, 8, 1, 1, 1) + 0.5
    product, joint = log_q(SHORT, z, log_data(z[0])), forward_joint()
    assert_close(product, joint.log_prob(z.flatten(1).T), **EXACT)

    assert_close(SLIPS["D1"].corrected(SHORT, z, MEAN, S2), product, **EXACT)

    z = z[:, :1].repeat(1, 2, 1, 1, 1)
    z[0, 1] += 1  # the same z_{1:T} from another z_0
    product = log_q(SHORT, z, log_data(z[0]))
    printed = MultivariateNormal(joint.mean[1:], joint.covariance_matrix[1:, 1:]).log_prob(z[1:].flatten(1).T)
    assert printed[0] == printed[1]
    assert_close(SLIPS["D1"].printed(SHORT, z, MEAN, S2), printed, **EXACT)
    assert abs(product[0] - product[1]) > 1  # nats: one value cannot be both
    # what the printed left side lacks is q(z_0 given z_{1:T}), and q knows the past by z_1 alone
    a = SHORT.alpha[1]
    precision = 1 / S2 + a / (1 - a)
    given = Normal((MEAN / S2 + a.sqrt() * z[1].flatten() / (1 - a)) / precision, precision**-0.5)
    assert_close(product - printed, given.log_prob(z[0].flatten()), **EXACT)


def posterior_factors(schedule: Schedule, t: int) -> tuple[float, float, float]:
    """Factors of z_0 and z_t in the mean of z_{t-1}, and its variance, by Bayes' rule; t = 1 as the bound has it."""
    a, prev = schedule.alpha[t].item(), schedule.alpha_bar[t - 1].item()
    if t == 1:
        return 1.0, 0.0, 1 - a
    precision = 1 / (1 - prev) + a / (1 - a)
    return prev**0.5 / (1 - prev) / precision, a**0.5 / (1 - a) / precision, 1 / precision


def reverse_joint() -> MultivariateNormal:
    """p_theta(z_T, ..., z_0) of the ideal denoiser: z_{t-1} = slope z_t + offset + noise, from z_T ~ N(0, 1)."""
    mean, L = torch.zeros(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)
    for i, t in enumerate(range(4, 0, -1)):
        abar = SHORT.alpha_bar[t].item()
        gain = abar**0.5 * S2 / (abar * S2 + 1 - abar)  # E[z_0 given z_t] = MEAN + gain (z_t - sqrt(alpha_bar_t) MEAN)
        of_z_0, of_z_t, variance = posterior_factors(SHORT, t)
        slope, offset = of_z_0 * gain + of_z_t, of_z_0 * (MEAN - gain * abar**0.5 * MEAN)
        mean[i + 1] = slope * mean[i] + offset
        L[i + 1] = slope * L[i]
        L[i + 1, i + 1] = variance**0.5
    return MultivariateNormal(mean, scale_tril=L)


@pytest.mark.equation("D3")
def test_d3_the_product_of_the_reverse_steps_is_the_joint_of_z_0_to_z_T():
    """[D3] Printed: the density of z_{1:T}. The product depends on z_0 and is the joint's density."""
    z = normal(5, 8, 1, 1, 1, seed=1) + 0.5
    denoiser = IdealDenoiser(SHORT, DATA).predict
    product, joint = log_p(SHORT, z, denoiser), reverse_joint()
    downwards = z.flip(0).flatten(1).T
    assert_close(product, joint.log_prob(downwards), **EXACT)

    printed = MultivariateNormal(joint.mean[:4], joint.covariance_matrix[:4, :4]).log_prob(downwards[:, :4])
    assert_close(SLIPS["D3"].printed(SHORT, z, denoiser), printed, **EXACT)
    missing = torch.stack([Normal(*_last(z[1, i])).log_prob(z[0, i]).sum() for i in range(8)])
    assert_close(product - printed, missing, **EXACT)  # p_theta(z_0 given z_1)
    assert (product - printed).abs().max() > 1


def _last(z_1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of p_theta(z_0 given z_1)."""
    abar = SHORT.alpha_bar[1]
    return MEAN + abar.sqrt() * S2 / (abar * S2 + 1 - abar) * (z_1 - abar.sqrt() * MEAN), (1 - abar).sqrt()


@pytest.mark.equation("D4")
def test_d4_what_the_schedule_leaves_of_the_signal_in_nats():
    """[D4] KL(q(z_T given z_0) || N(0, I)) of each number: not 0, and that is by how much the printed form is off."""
    z_0 = numbers(0.0, 1.0, -2.0)
    abar = FULL.alpha_bar[-1]
    expected = kl_divergence(Normal(abar.sqrt() * z_0, (1 - abar).sqrt()), Normal(0.0 * z_0, 1.0 + 0 * z_0))
    assert_close(prior_term(FULL, z_0), expected, rtol=1e-9, atol=1e-14)  # the logarithm of nearly 1 costs digits
    # by hand, half of alpha_bar z_0^2 to first order: 2.3 thousandths of a nat per number of unit size
    assert_close(prior_term(FULL, z_0).flatten()[1].item(), 0.00466 / 2, rtol=0.01, atol=0)


@pytest.mark.equation("D11")
def test_d11_a_step_costs_the_squared_distance_of_the_means():
    """[D11] Two Gaussians of one variance: torch's KL, with Bayes' rule for the posterior, at every t."""
    z_0, predicted, z_t = numbers(0.3, -1.0, 2.0), numbers(0.5, -1.0, 0.0), numbers(-0.2, 0.7, 1.0)
    for t in range(2, FULL.T + 1):
        of_z_0, of_z_t, variance = posterior_factors(FULL, t)
        true, believed = (Normal(of_z_0 * z + of_z_t * z_t, variance**0.5) for z in (z_0, predicted))
        cost = step_term(FULL, z_t, z_0, predicted, t)
        # the means differ by as little as 1e-5 of numbers near 1, so eleven digits of the difference are left
        assert_close(cost, kl_divergence(true, believed), rtol=1e-8, atol=1e-16)
        assert cost[1] == 0  # idea 2: nothing is lost where mu_theta is mu~
        assert_close(reverse_step(FULL, z_t, predicted, t), (believed.mean, variance), rtol=1e-11, atol=1e-15)
    # the last step goes to the predicted z_0, with the spread of the first step of q
    assert_close(reverse_step(FULL, z_t, predicted, 1), (predicted, 0.00085), rtol=1e-11, atol=1e-15)


@pytest.mark.equation("D11", "D14")
def test_d11_in_eps_a_step_is_the_loss_with_a_weight():
    """[D11, D14] L_{t-1} = (1 - alpha_t)^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)) (eps - eps_theta)^2."""
    z_0, eps, off = numbers(0.3, -1.0), numbers(1.0, -0.5), numbers(0.1, -0.7)
    for t in (2, 3, 100, 500, 1000):
        z_t = FULL.add_noise(z_0, eps, t)
        cost = step_term(FULL, z_t, z_0, FULL.z_0_from_eps(z_t, eps + off, t), t)
        a, abar, (_, _, variance) = FULL.alpha[t], FULL.alpha_bar[t], posterior_factors(FULL, t)
        # the means differ by 1e-3 of numbers near 1
        assert_close(cost, (1 - a) ** 2 / (2 * variance * a * (1 - abar)) * off**2, rtol=1e-9, atol=0)


def test_at_t_1_there_is_no_step_term():
    z = numbers(1.0)
    with pytest.raises(ValueError, match=r"t in 2\.\.1000"):
        step_term(FULL, z, z, z, 1)


@pytest.mark.equation("D1", "D3", "D4", "D11")
def test_the_terms_add_up_to_the_bound():
    """[D1, D3] E log q(z_{1:T} given z_0) - log p_theta(z_{0:T}) is L_T + sum L_{t-1} + L_0, in expectation over q.

    The expectation is over z_0 and four noises, each on three Gauss-Hermite nodes: exact up to the fifth degree.
    """
    node, weight = (0.0, 3**0.5, -(3**0.5)), (2 / 3, 1 / 6, 1 / 6)
    nodes = torch.tensor(list(itertools.product(node, repeat=5)), dtype=torch.float64).T[..., None, None, None]
    weights = torch.tensor([math.prod(w) for w in itertools.product(weight, repeat=5)], dtype=torch.float64)
    path = [MEAN + S2**0.5 * nodes[0]]
    for t in range(1, 5):
        path.append(SHORT.forward_step(path[-1], nodes[t], t))
    z = torch.stack(path)
    denoiser = IdealDenoiser(SHORT, DATA).predict
    # the term of z_0's own density is left out of q's, so what remains is conditional on z_0
    whole = log_q(SHORT, z, torch.zeros(len(weights), dtype=torch.float64)) - log_p(SHORT, z, denoiser)
    terms = prior_term(SHORT, z[0]) + last_term(SHORT, z[1], z[0], denoiser(z[1], 1).z_0)
    terms = terms + sum(step_term(SHORT, z[t], z[0], denoiser(z[t], t).z_0, t) for t in range(2, 5))
    assert_close(weights @ whole, weights @ terms.flatten(), **EXACT)


def expected_bound(denoiser) -> float:
    """E[L_T + sum L_{t-1} + L_0] over all T steps: z_0 and the noise each on two nodes, exact for squares."""
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=2)), dtype=torch.float64).T[..., None, None, None]
    z_0, eps = MEAN + S2**0.5 * signs[0], signs[1]
    noisy = lambda t: FULL.add_noise(z_0, eps, t)
    total = prior_term(FULL, z_0) + last_term(FULL, noisy(1), z_0, denoiser(noisy(1), 1).z_0)
    for t in range(2, FULL.T + 1):
        total = total + step_term(FULL, noisy(t), z_0, denoiser(noisy(t), t).z_0, t)
    return total.mean().item()


@pytest.mark.equation("D3", "D11")
def test_the_bound_lies_above_the_exact_negative_log_likelihood():
    """On all 1000 steps with the ideal denoiser: entropy of the data < -log p_theta(z_0) < bound.

    The model is nearly the data. The bound is loose by 0.29 nats because sigma_t^2 [D8] is the spread for a known z_0,
    and so too small while z_0 is in doubt.
    """
    ideal = IdealDenoiser(FULL, DATA).predict
    mean, variance = 0.0, 1.0
    for t in range(FULL.T, 0, -1):  # p_theta(z_{t-1}) of affine steps, from N(0, 1)
        mu, of_noise = reverse_step(FULL, numbers(0.0, 1.0), ideal(numbers(0.0, 1.0), t).z_0, t)
        offset, slope = mu[0].item(), (mu[1] - mu[0]).item()
        mean, variance = offset + slope * mean, slope**2 * variance + of_noise
    entropy = 0.5 * math.log(2 * math.pi * math.e * S2)
    likelihood = 0.5 * (math.log(2 * math.pi * variance) + (S2 + (mean - MEAN) ** 2) / variance)
    bound = expected_bound(ideal)
    assert entropy < likelihood < entropy + 1e-3
    assert_close(bound - likelihood, 0.29, rtol=0, atol=0.005)

    def worse(z_t: torch.Tensor, t: int) -> Prediction:
        eps = 1.05 * ideal(z_t, t).eps
        return Prediction(eps, FULL.z_0_from_eps(z_t, eps, t))

    assert expected_bound(worse) > bound + 0.005


@pytest.mark.equation("D19")
def test_d19_an_ideal_networks_step_has_the_exact_mean():
    """[D19] For Gaussian data z_{t-1} given z_t is a Gaussian with a mean and a variance that follow from their joint
    density. The model's mean is that; its sigma_t^2 lacks what is unknown of z_0."""
    ideal, z_t = IdealDenoiser(FULL, DATA).predict, numbers(-0.7, 0.3, 2.0)
    for t in (2, 3, 100, 500, 1000):
        a, abar, prev = FULL.alpha[t].item(), FULL.alpha_bar[t].item(), FULL.alpha_bar[t - 1].item()
        var_t, var_prev = abar * S2 + 1 - abar, prev * S2 + 1 - prev
        slope = a**0.5 * var_prev / var_t  # covariance of z_{t-1} and z_t over the variance of z_t
        exact_mean = prev**0.5 * MEAN + slope * (z_t - abar**0.5 * MEAN)
        exact_variance = var_prev - slope**2 * var_t
        mean, variance = reverse_step(FULL, z_t, ideal(z_t, t).z_0, t)
        assert_close(mean, exact_mean, **EXACT)
        unknown = posterior_factors(FULL, t)[0] ** 2 * S2 * (1 - abar) / var_t  # (alpha_t^(0))^2 Var(z_0 given z_t)
        assert_close(variance + unknown, exact_variance, rtol=1e-9, atol=0)  # a difference of numbers near 1
        assert_close(FULL.alpha_of_z_0(t, t - 1).item(), posterior_factors(FULL, t)[0], **EXACT)
    # the last step goes to the predicted z_0; sigma_1 = 0 would give no density, so it has the spread of q's first
    assert_close(reverse_step(FULL, z_t, numbers(1.0, 2.0, 3.0), 1), (numbers(1.0, 2.0, 3.0), 0.00085), **EXACT)


@pytest.mark.equation("D19")
def test_the_reverse_step_is_the_samplers():
    """What the bound is of is what is sampled: same mean, same spread but at t = 1."""
    z_t, eps, noise = normal(3, 1, 1, 1), normal(3, 1, 1, 1, seed=1), normal(3, 1, 1, 1, seed=2)
    for t in (2, 500, 1000):
        belief = Prediction(eps, FULL.z_0_from_eps(z_t, eps, t))
        mean, variance = reverse_step(FULL, z_t, belief.z_0, t)
        assert_close(ddpm_step(FULL, z_t, belief, t, t - 1, noise), mean + variance**0.5 * noise, **EXACT)
