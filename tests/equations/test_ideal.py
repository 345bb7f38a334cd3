"""The ideal denoiser [D14]: against conditioning, a softmax by hand, and the score by autograd; and what it shows."""

import re

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, Mixture, data_set, gaussian
from ldm.schedule import Schedule, guided
from p2p.experiments import two_dimensions
from p2p.experiments.two_dimensions import edited, nearest, walk
from tests.support.normal import normal

SCHEDULE = Schedule(ScheduleConfig())
ABAR = SCHEDULE.alpha_bar
STEPS = (1, 2, 100, 500, 999, 1000)
# float64, with divisions by 1 - alpha_bar_t of at least 8.5e-4
EXACT = dict(rtol=1e-10, atol=1e-10)


def covariances(k: int) -> torch.Tensor:
    B = normal(k, 3, 3, seed=5)
    return B @ B.mT + 0.1 * torch.eye(3, dtype=torch.float64)


MIXTURE = Mixture(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), 2 * normal(3, 3, seed=4), covariances(3))


def test_of_a_gaussian_it_is_the_conditional_mean():
    """E[z_0 given z_t] by precisions: (S^-1 + abar / (1 - abar) I)^-1 (S^-1 m + sqrt(abar) / (1 - abar) z_t)."""
    m, S = normal(3, seed=1), covariances(1)[0]
    denoiser, z_t = IdealDenoiser(SCHEDULE, gaussian(m, S)), normal(7, 3, 1, 1)
    for t in STEPS:
        precision = S.inverse() + ABAR[t] / (1 - ABAR[t]) * torch.eye(3, dtype=torch.float64)
        pull = S.inverse() @ m + ABAR[t].sqrt() / (1 - ABAR[t]) * z_t.flatten(1)
        assert_close(denoiser.predict(z_t, t).z_0.flatten(1), torch.linalg.solve(precision, pull.T).T, **EXACT)


def test_a_mixture_of_equal_components_is_the_gaussian():
    m, S = normal(3, seed=1), covariances(1)[0]
    two = Mixture(torch.tensor([0.3, 0.7], dtype=torch.float64), m.expand(2, 3), S.expand(2, 3, 3))
    z_t = normal(7, 3, 1, 1)
    for t in STEPS:
        one = IdealDenoiser(SCHEDULE, gaussian(m, S)).predict(z_t, t)
        assert_close(IdealDenoiser(SCHEDULE, two).predict(z_t, t), one, **EXACT)


def test_of_a_data_set_it_is_attention_over_the_data():
    """E[z_0 given z_t] = softmax(-|z_t - sqrt(abar) x_j|^2 / (2 (1 - abar))) X, by hand."""
    X, z_t = normal(5, 3, seed=2), normal(7, 3, 1, 1)
    denoiser = IdealDenoiser(SCHEDULE, data_set(X))
    for t in STEPS:
        distances = (z_t.flatten(1)[:, None] - ABAR[t].sqrt() * X).square().sum(-1)
        A = (-distances / (2 * (1 - ABAR[t]))).softmax(-1)
        assert_close(denoiser.attention(z_t, t), A, **EXACT)
        assert_close(denoiser.predict(z_t, t).z_0.flatten(1), A @ X, **EXACT)


def test_a_data_set_is_the_limit_of_a_mixture_without_spread():
    X, z_t = normal(5, 3, seed=2), normal(7, 3, 1, 1)
    exact = IdealDenoiser(SCHEDULE, data_set(X)).predict(z_t, 500).eps
    for spread in (1e-3, 1e-5, 1e-7):
        narrow = Mixture(
            torch.full((5,), 0.2, dtype=torch.float64), X, spread * torch.eye(3, dtype=torch.float64).expand(5, 3, 3)
        )
        off = (IdealDenoiser(SCHEDULE, narrow).predict(z_t, 500).eps - exact).abs().max().item()
        assert 1e-3 * spread < off < 10 * spread  # it falls as the spread does


@pytest.mark.equation("D14")
@pytest.mark.parametrize("t", STEPS)
def test_eps_is_the_score(t):
    """[D14] eps = -sqrt(1 - alpha_bar_t) grad log q(z_t), with torch's mixture and torch's gradient."""
    components = MultivariateNormal(
        ABAR[t].sqrt() * MIXTURE.means,
        ABAR[t] * MIXTURE.covariances + (1 - ABAR[t]) * torch.eye(3, dtype=torch.float64),
    )
    z_t = normal(7, 3).requires_grad_()
    MixtureSameFamily(Categorical(MIXTURE.weights), components).log_prob(z_t).sum().backward()
    eps = IdealDenoiser(SCHEDULE, MIXTURE).predict(z_t.detach()[..., None, None], t).eps
    assert_close(eps.flatten(1), -(1 - ABAR[t]).sqrt() * z_t.grad, **EXACT)


def test_each_latent_may_have_its_own_t():
    denoiser, z_t, t = IdealDenoiser(SCHEDULE, MIXTURE), normal(3, 3, 1, 1), torch.tensor([1, 500, 1000])
    alone = [denoiser.predict(z_t[i : i + 1], int(t[i])).eps for i in range(3)]
    assert_close(denoiser.predict(z_t, t).eps, torch.cat(alone), **EXACT)


@pytest.mark.parametrize("parameterisation", ["eps", "v"])
def test_called_as_a_network_it_answers_in_the_schedules_parameterisation(parameterisation):
    schedule = Schedule(ScheduleConfig(parameterisation=parameterisation))
    denoiser, z_t, t = IdealDenoiser(schedule, MIXTURE), normal(3, 3, 1, 1), torch.tensor([1, 500, 1000])
    output = denoiser(z_t, t - 1, torch.zeros(3, 0))
    assert_close(schedule.predict(z_t, output, t), denoiser.predict(z_t, t), **EXACT)


# ---------------------------------------------------------------------------------------------------------------------
# what can be watched in the plane


def test_ddim_ends_on_the_data():
    X = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    z_0 = walk(IdealDenoiser(SCHEDULE, data_set(X)).predict, normal(20, 2, 1, 1))[-1]
    found = torch.cdist(z_0, X).min(dim=1)
    # the last step is a belief, a softmax over points that are tens of standard deviations away
    assert found.values.max() < 1e-6 and len(found.indices.unique()) == 3


@pytest.mark.equation("D18")
def test_guidance_pushes_away_from_what_the_prompt_does_not_say():
    """[D18] Conditional and unconditional Gaussians one apart: w moves the mean w - 1 further, past the conditional."""
    eye = 0.25 * torch.eye(2, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    u, c = (IdealDenoiser(SCHEDULE, gaussian(zero + x, eye)) for x in (0.0, 1.0))
    ends = []
    for w in (0.0, 1.0, 3.0):

        def believe(z, t, w=w):
            eps = guided(u.predict(z, t).eps, c.predict(z, t).eps, w)
            return SCHEDULE.predict(z, eps, t)

        ends.append(walk(believe, torch.zeros(1, 2, 1, 1, dtype=torch.float64))[-1])
    # the belief is affine in w, and so is the path
    assert_close(ends[2] - ends[0], 3 * (ends[1] - ends[0]), **EXACT)
    assert (ends[2] > ends[1]).all() and (ends[1] > ends[0]).all()


@pytest.mark.parametrize(("tau", "kept"), [("never", False), (0.0, True), (0.3, True), (0.9, False)])
def test_injected_attention_early_decides_which_mode_late_it_does_not_matter(tau, kept):
    """Prompt-to-Prompt without a network. Source and target have two modes each, in the other order: from one z_T they
    end in modes that do not face each other, unless the source's A is used while the mode is still open."""
    source = IdealDenoiser(SCHEDULE, data_set(torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)))
    target = IdealDenoiser(SCHEDULE, data_set(torch.tensor([[2.0, 1.0], [-2.0, 1.0]], dtype=torch.float64)))
    z_T = torch.tensor([-0.7, 0.4], dtype=torch.float64).reshape(1, 2, 1, 1)
    assert nearest(walk(source.predict, z_T)[-1], source.data.means) == [0]  # to the left
    assert (nearest(edited(source, target, z_T, tau)[-1], target.data.means) == [0]) == kept


def test_an_edit_between_equal_worlds_changes_nothing():
    denoiser, z_T = IdealDenoiser(SCHEDULE, data_set(normal(4, 2, seed=3))), normal(5, 2, 1, 1)
    assert torch.equal(edited(denoiser, denoiser, z_T, 0), walk(denoiser.predict, z_T))


def test_the_figure_of_the_plane_is_drawn():
    drawn = two_dimensions.figure()
    titles = [axis.get_title() for axis in drawn.axes]
    assert [title.split()[0] for title in titles[:3]] == ["DDPM:", "DDIM:", "Guidance"]
    never, some, long = (int(re.search(r"(\d+) of 18", title)[1]) for title in titles[3:])
    assert never == 0 < some < long == 18
