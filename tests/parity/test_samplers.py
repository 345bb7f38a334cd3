"""Our steps equal those of diffusers' schedulers.

Their t counts from 0 and is ours less one: their alphas_cumprod[t - 1] is our alpha_bar[t], and where their previous
time step is negative ours is 0. Theirs is float32, so every step is compared twice: with their numbers as they come,
and, to see more than their rounding, with ours put in their place.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.samplers import ddim_step, ddpm_step, times
from ldm.schedule import Schedule

T = 1000
SHAPE = (2, 4, 3, 5)
STABLE_DIFFUSION = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=T)
PREDICTION_TYPE = {"eps": "epsilon", "v": "v_prediction"}

# As they come: the smallest coefficients, 1 - alphas_cumprod[0] = 8.5e-4 and the betas, are differences of numbers near
# 1 that float32 knows to 6e-8, so they carry a relative 1e-4 and half as much under the root.
ROUNDED = dict(rtol=0, atol=1e-4)

# With ours in their place: the same, for float64's 1e-16.
EXACT = dict(rtol=0, atol=1e-12)

spacings = pytest.mark.parametrize(
    "spacing",
    [
        dict(timestep_spacing="trailing", steps=4),
        dict(timestep_spacing="trailing", steps=50),
        dict(timestep_spacing="leading", steps=50, steps_offset=1),  # Stable Diffusion's own
        dict(timestep_spacing="leading", steps=30),  # 30 does not divide T
        dict(timestep_spacing="leading", steps=T),
    ],
    ids=lambda s: " ".join(map(str, s.values())),
)
parameterisations = pytest.mark.parametrize("parameterisation", ["eps", "v"])
alphas = pytest.mark.parametrize("alphas", ["theirs", "ours"])


def randn(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(scheduler_class: type, parameterisation: str, alphas: str, spacing: dict):
    """Our schedule, and theirs set to the same steps."""
    schedule = Schedule(ScheduleConfig(parameterisation=parameterisation))
    spacing = dict(spacing)
    steps = spacing.pop("steps")
    scheduler = scheduler_class(
        **STABLE_DIFFUSION, **spacing, clip_sample=False, prediction_type=PREDICTION_TYPE[parameterisation]
    )
    scheduler.set_timesteps(steps)
    if alphas == "ours":
        scheduler.alphas_cumprod = schedule.alpha_bar[1:]
    pairs = [(t, max(t + 1 - T // steps, 0)) for t in scheduler.timesteps.tolist()]  # their t, our t_prev
    return schedule, scheduler, pairs


def test_alpha_bar_equals_diffusers():
    ours, theirs = Schedule(ScheduleConfig()).alpha_bar, DDIMScheduler(**STABLE_DIFFUSION).alphas_cumprod
    # float32's 6e-8 for each of the 1000 factors of the last product, growing like the root of their number
    assert_close(ours[1:], theirs.double(), rtol=2e-6, atol=0)
    assert ours[0] == 1


@pytest.mark.parametrize("steps", [1, 4, 20, 50, T])
def test_times_equal_trailing_spacing(steps):
    scheduler = DDIMScheduler(**STABLE_DIFFUSION, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert [t - 1 for t in times(T, steps)] == [*scheduler.timesteps.tolist(), -1]


@spacings
@parameterisations
@alphas
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_step_equals_diffusers(eta, alphas, parameterisation, spacing):
    schedule, scheduler, pairs = build(DDIMScheduler, parameterisation, alphas, spacing)
    z_t, output, noise = randn(0), randn(1), randn(2)
    step = ddim_step(eta)
    for t, t_prev in pairs:
        z_prev = step(schedule, schedule.predict(output, z_t, t + 1), z_t, t + 1, t_prev, noise)
        expected = scheduler.step(output, t, z_t, eta=eta, variance_noise=noise).prev_sample
        assert_close(z_prev, expected, **(EXACT if alphas == "ours" else ROUNDED))


@spacings
@parameterisations
@alphas
def test_ddpm_step_equals_diffusers(alphas, parameterisation, spacing):
    schedule, scheduler, pairs = build(DDPMScheduler, parameterisation, alphas, spacing)
    z_t, output = randn(0), randn(1)
    for t, t_prev in pairs:
        noise = randn(t)
        z_prev = ddpm_step(schedule, schedule.predict(output, z_t, t + 1), z_t, t + 1, t_prev, noise)
        expected = scheduler.step(output, t, z_t, generator=torch.Generator().manual_seed(t)).prev_sample
        # where the step ends at 0 theirs still adds noise, of standard deviation 1e-10
        tolerance = (EXACT if t_prev else dict(rtol=0, atol=1e-9)) if alphas == "ours" else ROUNDED
        assert_close(z_prev, expected, **tolerance)
