"""Our samplers equal diffusers' schedulers: the time steps, the single steps, and whole runs.

Their t counts from 0 and is ours less one: their alphas_cumprod[t - 1] is our alpha_bar[t], and where their previous
time step is negative ours is 0, or 1 where they have set_alpha_to_one = False. Theirs is float32, so single steps are
compared twice: with their numbers as they come, and, to see more than their rounding, with ours put in their place.
"""

import sys
from types import ModuleType

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.samplers import DDIM, SAMPLERS, Sampler, ddim_step, ddpm_step
from ldm.schedule import Schedule
from ldm.states import Noise, State

# theirs, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

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


@pytest.mark.parametrize("beta_schedule", ["scaled_linear", "linear"])
@pytest.mark.parametrize("ends", [(0.00085, 0.012), (0.0015, 0.0195)])
def test_alpha_bar_equals_diffusers(beta_schedule, ends):
    ours = Schedule(ScheduleConfig(beta_start=ends[0], beta_end=ends[1], beta_schedule=beta_schedule)).alpha_bar
    theirs = DDIMScheduler(beta_start=ends[0], beta_end=ends[1], beta_schedule=beta_schedule).alphas_cumprod
    # float32's 6e-8 for each of the 1000 factors of the last product, growing like the root of their number
    assert_close(ours[1:], theirs.double(), rtol=2e-6, atol=0)
    assert ours[0] == 1


@spacings
@parameterisations
@alphas
@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_ddim_step_equals_diffusers(eta, alphas, parameterisation, spacing):
    schedule, scheduler, pairs = build(DDIMScheduler, parameterisation, alphas, spacing)
    z_t, output, noise = randn(0), randn(1), randn(2)
    step = ddim_step(eta)
    for t, t_prev in pairs:
        z_prev = step(schedule, z_t, schedule.predict(z_t, output, t + 1), t + 1, t_prev, noise)
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
        z_prev = ddpm_step(schedule, z_t, schedule.predict(z_t, output, t + 1), t + 1, t_prev, noise)
        expected = scheduler.step(output, t, z_t, generator=torch.Generator().manual_seed(t)).prev_sample
        # where the step ends at 0 theirs still adds noise, of standard deviation 1e-10
        tolerance = (EXACT if t_prev else dict(rtol=0, atol=1e-9)) if alphas == "ours" else ROUNDED
        assert_close(z_prev, expected, **tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# whole runs, as public scheduler files have them

CONVENTIONS = {  # ours, and theirs
    "stickers": ({}, dict(timestep_spacing="trailing", set_alpha_to_one=True)),
    "stable diffusion": (
        dict(spacing="leading", offset=1, last=1),
        dict(timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False),
    ),
    "text2im": (
        dict(beta_schedule="linear", spacing="leading"),
        dict(timestep_spacing="leading", steps_offset=0, set_alpha_to_one=True, beta_schedule="linear"),
    ),
}
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "plms": "PNDMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
CASES = [
    (name, convention, steps)
    for name in SCHEDULERS
    for convention in CONVENTIONS
    for steps in (3, 20, 30, 50)
    # their DDIM and PLMS step by T // steps, off their own trailing time steps where steps do not divide T
    if not (convention == "stickers" and name in ("ddim", "plms") and T % steps)
]


def scheduler_of(name: str, convention: str, steps: int, parameterisation: str = "eps"):
    """Theirs, from a scheduler file as it would be: what a class does not know of it, it leaves."""
    file = {**STABLE_DIFFUSION, "clip_sample": False, "skip_prk_steps": True, **CONVENTIONS[convention][1]}
    file["prediction_type"] = PREDICTION_TYPE[parameterisation]
    scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(file)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize(("name", "convention"), [(n, c) for n in SCHEDULERS for c in CONVENTIONS])
@pytest.mark.parametrize("steps", [1, 3, 16, 20, 30, 50, 400])
def test_times_are_theirs(name, convention, steps):
    schedule = Schedule(ScheduleConfig(**CONVENTIONS[convention][0]))
    visited = SAMPLERS[name].visit(schedule, steps, None)
    assert [t - 1 for t in visited[:-1]] == scheduler_of(name, convention, steps).timesteps.tolist()


class Torch64(ModuleType):
    """torch for a module that casts to float32, which of float64 would lose half the digits."""

    float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


def network(z_t: torch.Tensor, t: int) -> torch.Tensor:
    """An output about as large as a network's, bent so that no two calls agree."""
    return 0.8 * (t / T) ** 0.5 * z_t + 0.2 * torch.sin(3 * z_t + t / 100)


def run_of(scheduler, schedule: Schedule, output, z: torch.Tensor, draw, **options) -> list[torch.Tensor]:
    """The latents after each of their network calls, with our alpha_bar; Euler's scaled back from theirs."""
    abar = schedule.alpha_bar[1:]
    scheduler.alphas_cumprod = abar
    if hasattr(scheduler, "final_alpha_cumprod"):
        scheduler.final_alpha_cumprod = abar.new_tensor(1.0) if scheduler.config.set_alpha_to_one else abar[0]
    if hasattr(scheduler, "sigmas"):
        sigmas = ((1 - abar) / abar).sqrt()[scheduler.timesteps.long()]
        scheduler.sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    euler = isinstance(scheduler, diffusers.EulerDiscreteScheduler)
    scales = (scheduler.sigmas**2 + 1).sqrt().tolist() if euler else [1] * (len(scheduler.timesteps) + 1)
    x, found = z * scales[0], []
    for t, scale in zip(scheduler.timesteps, scales[1:]):
        if isinstance(scheduler, DDIMScheduler):
            options["variance_noise"] = draw()
        now = t if euler else int(t)
        x = scheduler.step(output(scheduler.scale_model_input(x, now), int(t) + 1), now, x, **options).prev_sample
        found.append(x / scale)
    return found


def states_of(tiny, monkeypatch, schedule: Schedule, sampler: Sampler, steps: int, z: torch.Tensor) -> list[State]:
    """Our run from z, of the fake network."""
    monkeypatch.setattr(tiny, "schedule", schedule)
    monkeypatch.setattr(tiny, "predict", lambda z_t, t, *_: schedule.predict(z_t, network(z_t, t), t))
    context = torch.zeros(len(z), 1, 1)
    return list(tiny.denoise(context, [5, 6], steps=steps, sampler=sampler, start=State(T, z)))


@parameterisations
@pytest.mark.parametrize(("name", "convention", "steps"), CASES)
def test_runs_equal_diffusers(tiny, monkeypatch, name, convention, steps, parameterisation):
    """Among them: Euler's method in sigma is DDIM's step; and each sampler's own end."""
    schedule = Schedule(ScheduleConfig(parameterisation=parameterisation, **CONVENTIONS[convention][0]))
    noise = Noise([5, 6], SHAPE[1:])
    noise()  # z_T's, not used here
    draw = lambda *_, **__: noise().double()
    ours = states_of(tiny, monkeypatch, schedule, SAMPLERS[name], steps, z := randn(0))

    # their PLMS extrapolates v where that is predicted; ours always eps, so theirs is given eps
    given = "eps" if name == "plms" else parameterisation
    output = (lambda z_t, t: schedule.predict(z_t, network(z_t, t), t).eps) if name == "plms" else network
    scheduler = scheduler_of(name, convention, steps, given)
    module = sys.modules[type(scheduler).__module__]
    monkeypatch.setattr(module, "torch", Torch64("torch"))
    if name == "ddpm":
        monkeypatch.setattr(module, "randn_tensor", draw)
    theirs = run_of(scheduler, schedule, output, z, draw)
    assert len(ours) == len(theirs) == steps + (name == "plms")
    for state, z_t in zip(ours, theirs):
        # float64, up to 51 steps of a few roundings each; as above for where DDPM ends
        limit = 1e-9 if name == "ddpm" and state.t == 0 else 1e-12
        assert_close(state.z_t, z_t, rtol=limit, atol=limit)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_runs_with_eta_equal_diffusers(tiny, monkeypatch, convention):
    """The noise of each step, and that with eta DDIM ends where the config says too."""
    schedule = Schedule(ScheduleConfig(**CONVENTIONS[convention][0]))
    noise = Noise([5, 6], SHAPE[1:])
    noise()
    ours = states_of(tiny, monkeypatch, schedule, Sampler(ddim_step(0.7)), 20, z := randn(0))
    theirs = run_of(scheduler_of("ddim", convention, 20), schedule, network, z, lambda: noise().double(), eta=0.7)
    for state, z_t in zip(ours, theirs, strict=True):
        assert_close(state.z_t, z_t, rtol=1e-12, atol=1e-12)  # as above
    assert DDIM.visit(schedule, 20, None)[-1] == ours[-1].t == schedule.config.last
