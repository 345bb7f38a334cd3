"""What the network is for [D13], and how it is trained [D14, D15].

For Gaussian data the ideal denoiser and its loss are known. Both are of second degree in z_0 and in the noise, so two
equally likely nodes for each, one standard deviation to either side, give every expectation exactly: nothing is drawn.
"""

import itertools

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.ideal import IdealDenoiser, gaussian
from ldm.samplers import ddpm_step
from ldm.schedule import Schedule
from ldm.train import Recipe, Trainer, ldm_loss

MEAN, S2 = 1.5, 0.25
DATA = gaussian(torch.tensor([MEAN], dtype=torch.float64), torch.tensor([[S2]], dtype=torch.float64))
SCHEDULES = {name: Schedule(ScheduleConfig(parameterisation=name)) for name in ("eps", "v")}
ABAR = SCHEDULES["eps"].alpha_bar
# float64 keeps 16 digits; divisions by sqrt(alpha_bar) of at least 0.068
EXACT = dict(rtol=1e-11, atol=1e-12)


def nodes(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """z_0, context, t and eps: for each t the four nodes of z_0 ~ N(MEAN, S2) and eps ~ N(0, 1)."""
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=2)), dtype=torch.float64)
    z_0, eps = (x.repeat(len(t)).reshape(-1, 1, 1, 1) for x in signs.T)
    return MEAN + S2**0.5 * z_0, torch.zeros(len(z_0), 1, 1), t.repeat_interleave(4), eps


def minimum(parameterisation: str, t: torch.Tensor) -> torch.Tensor:
    """Var(eps given z_t), which no denoiser can go below; Var(v given z_t) = Var(eps given z_t) / alpha_bar_t."""
    variance = ABAR[t] * S2 / (ABAR[t] * S2 + 1 - ABAR[t])
    return variance / ABAR[t] if parameterisation == "v" else variance


class Changed(nn.Module):
    """factor * denoiser + constant."""

    def __init__(self, denoiser: nn.Module, factor: float, constant: float):
        super().__init__()
        self.denoiser, self.factor, self.constant = denoiser, factor, constant

    def forward(self, *args):
        return self.factor * self.denoiser(*args) + self.constant


@pytest.mark.equation("D14")
@pytest.mark.parametrize("parameterisation", ["eps", "v"])
@pytest.mark.parametrize("t", [[1], [2], [500], [1000], list(range(1, 1001))], ids=["1", "2", "500", "1000", "all"])
def test_d14_the_ideal_denoiser_has_the_least_loss_there_is(t, parameterisation):
    """[D14] Its loss is the conditional variance; any other's is more, by the mean square of the difference."""
    schedule, t = SCHEDULES[parameterisation], torch.tensor(t)
    ideal, draw = IdealDenoiser(schedule, DATA), nodes(t)
    least = ldm_loss(ideal, schedule, *draw)
    assert_close(least, minimum(parameterisation, t).mean(), **EXACT)

    z_t = schedule.add_noise(draw[0], draw[3], draw[2])
    output = ideal(z_t, draw[2] - 1, draw[1])
    for factor, constant in ((1.01, 0.0), (0.99, 0.0), (1.0, 0.01), (-1.0, 0.0)):
        raised = ldm_loss(Changed(ideal, factor, constant), schedule, *draw) - least
        assert_close(raised, ((factor - 1) * output + constant).square().mean(), **EXACT)
        assert raised > 0


@pytest.mark.equation("D13")
def test_d13_the_networks_noise_becomes_the_mean(tiny):
    """[D13] mu_theta(z_t, t, tau(y)) is option C of UNet(z_t, t, tau(y)); without f it would be the noise itself."""
    context = tiny.encode_prompts(["a photo of a cat"])
    z_t = torch.randn(1, *tiny.latent_shape, generator=torch.Generator().manual_seed(0))
    schedule = tiny.schedule
    for t in (1, 300, 1000):
        eps = tiny.unet(z_t, torch.tensor([t - 1]), context)
        a, abar = schedule.alpha[t].item(), schedule.alpha_bar[t].item()
        by_hand = (z_t - (1 - a) / (1 - abar) ** 0.5 * eps) / a**0.5
        mean = ddpm_step(schedule, z_t, tiny.predict(z_t, t, context), t, t - 1, torch.zeros_like(z_t))
        # float32, by way of z_0, which is up to 15 times as large at t = T
        assert_close(mean, by_hand, rtol=0, atol=1e-4)
        assert (mean - eps).abs().max() > 0.5
        drawn = ddpm_step(schedule, z_t, tiny.predict(z_t, t, context), t, t - 1, torch.ones_like(z_t))
        sigma = ((1 - schedule.alpha_bar[t - 1].item()) * (1 - a) / (1 - abar)) ** 0.5
        assert_close(drawn - mean, torch.full_like(z_t, sigma), rtol=0, atol=1e-5)  # float32, of numbers up to 10
    other = tiny.predict(z_t, 300, tiny.encode_prompts(["a photo of a dog"])).eps
    assert (other - tiny.predict(z_t, 300, context).eps).abs().max() > 1e-3  # the prompt takes part


class Affine(nn.Module):
    """eps_theta = slope z_t + offset, at one t."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1).double()
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, z_t, timestep, context):
        return self.line(z_t)


@pytest.mark.equation("D15")
def test_d15_algorithm_1_finds_the_ideal_denoiser(tmp_path):
    """[D15] From nothing, by gradient steps on the loss alone: E[eps given z_t] is affine, and theta gets there."""
    t = 500
    draw = nodes(torch.tensor([t]))
    recipe = Recipe(steps=400, batch=4, lr=0.05, warmup=1, decay=0.9, weight_decay=0.0)
    trainer = Trainer(Affine(), lambda model, _: ldm_loss(model, SCHEDULES["eps"], *draw), recipe, tmp_path)
    losses = [trainer.one_step() for _ in range(recipe.steps)]
    slope = ((1 - ABAR[t]).sqrt() / (ABAR[t] * S2 + 1 - ABAR[t])).item()
    offset = -slope * ABAR[t].sqrt().item() * MEAN
    # the last steps move by a hundredth of the rate
    assert_close(trainer.model.line.weight.item(), slope, rtol=0, atol=5e-3)
    assert_close(trainer.model.line.bias.item(), offset, rtol=0, atol=5e-3)
    assert_close(losses[0], 1.0, **EXACT)  # E[eps^2]
    assert_close(losses[-1], minimum("eps", torch.tensor(t)).item(), rtol=0, atol=1e-3)
