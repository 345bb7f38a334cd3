"""Steps from z_t to z_{t_prev} [D16, D17], and the timesteps they visit.

A step is a pure function of a prediction and draws no random numbers: the noise of a stochastic step and the earlier
predictions of a multistep one are arguments. The multistep samplers take DDIM steps of an extrapolated prediction: PLMS
extrapolates eps, DPM-Solver++ z_0.

The sampler known as "Euler" is Euler's method for x = z_t / sqrt(alpha_bar_t) over sigma = sqrt((1 - alpha_bar_t) /
alpha_bar_t) (Karras et al. 2022, arXiv 2206.00364): x' = x + (sigma' - sigma) eps. That is the DDIM step without noise,
divided by sqrt(alpha_bar_{t_prev}). With trailing spacing diffusers starts it at x = sigma n, which is z_T = sqrt(1 -
alpha_bar_T) n; here, as with leading spacing there, z_T is n.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor

from ldm.helpers.checks import check_latents, checked
from ldm.schedule import Prediction, Schedule
from ldm.shapes import Latent, Times


class Visit(NamedTuple):
    """One network evaluation: its input and its prediction."""

    t: int
    z_t: Latent
    prediction: Prediction


Past = tuple[Visit, ...]  # the earlier evaluations, oldest first; one-step samplers do not use it
# (schedule, z_t, prediction, t, t_prev, noise, past) -> z_{t_prev}
StepFn = Callable[[Schedule, Tensor, Prediction, int, int, Tensor, Past], Tensor]
REMEMBERED = 4  # earlier evaluations that a step may use: PLMS uses three, one of them evaluated twice


def times(schedule: Schedule, steps: int, start: int | None = None) -> list[int]:
    """[D17] The timesteps to visit: `steps` distinct ones, decreasing, then the one at which sampling ends.

    diffusers' timesteps are one less; its `timestep_spacing` is the config's `spacing`.

    - trailing: evenly spaced from T down, T - i T / steps, rounded.
    - leading: (T // steps) i + offset + 1, for i from steps - 1 down to 0. The first latent is called z_T, although its
      t is below T.

    The last timestep is the config's `last`. A run that starts below T is evenly spaced from its start.

    Raises:
        ValueError: fewer than one step, or more than fit.
    """
    T, config, steps = schedule.T, schedule.config, checked("steps", steps, int)
    first = T if start is None else start
    if not 1 <= steps <= first:
        raise ValueError(f"the number of steps must lie in 1..{first}, got {steps}")
    if config.spacing == "leading" and first == T:
        visited = [(T // steps) * i + config.offset + 1 for i in reversed(range(steps))]
    else:
        visited = [round(first - first * i / steps) for i in range(steps)]
    if visited[0] > T or visited[-1] <= config.last:
        raise ValueError(
            f"{steps} steps of {config.spacing} spacing would run from t = {visited[0]} to t = {visited[-1]}, "
            f"which must lie in {config.last + 1}..{T}: take fewer"
        )
    return [*visited, config.last]


def times_to_zero(schedule: Schedule, steps: int, start: int | None = None) -> list[int]:
    """`times`, but always ending at 0, as in diffusers for all samplers except DDIM and PLMS."""
    return [*times(schedule, steps, start)[:-1], 0]


def plms_times(schedule: Schedule, steps: int, start: int | None = None) -> list[int]:
    """`times` with the second timestep repeated: one more network call than steps."""
    visited = times(schedule, steps, start)
    return visited[:2] + visited[1:] if steps > 1 else visited


def dpm_times(schedule: Schedule, steps: int, start: int | None = None) -> list[int]:
    """`times_to_zero`; but with leading spacing, as in diffusers, those for one more step, without the smallest."""
    if schedule.config.spacing == "leading" and start in (None, schedule.T):
        if steps >= schedule.T:
            raise ValueError(f"DPM-Solver++ with leading spacing takes fewer than {schedule.T} steps, got {steps}")
        return [*times(schedule, steps + 1)[:-2], 0]
    return times_to_zero(schedule, steps, start)


def ddpm_step(
    schedule: Schedule, z_t: Latent, prediction: Prediction, t: Times, t_prev: Times, noise: Latent, past: Past = ()
) -> Latent:
    """[D13, D16] Ancestral sampling: a draw from the posterior [D7, D8] of the predicted z_0; its mean is mu_theta."""
    check_latents(z_t=z_t, noise=noise)
    mean, sigma = schedule.posterior(z_t, prediction.z_0, t, t_prev)
    return mean + sigma * noise


def ddim_step(eta: float) -> StepFn:
    """[D17] The DDIM step for a given eta in [0, 1]: 0 is deterministic, 1 is ancestral sampling [D16].

    Raises:
        ValueError: eta is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")

    def step(
        schedule: Schedule, z_t: Latent, prediction: Prediction, t: Times, t_prev: Times, noise: Latent, past: Past = ()
    ) -> Latent:
        check_latents(z_t=z_t, noise=noise)
        abar_prev, sigma = schedule.alpha_bar[schedule.index(t_prev)], eta * schedule.sigma(t, t_prev)
        direction = (1 - abar_prev - sigma**2).clamp(min=0)  # rounding may make it slightly negative
        signal, noise_left, fresh = (schedule.fit(c, z_t) for c in (abar_prev.sqrt(), direction.sqrt(), sigma))
        return signal * prediction.z_0 + noise_left * prediction.eps + fresh * noise

    return step


deterministic_step = ddim_step(eta=0.0)

# weights of the last one to four predictions, newest first
ADAMS_BASHFORTH = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def plms_step(
    schedule: Schedule, z_t: Latent, prediction: Prediction, t: int, t_prev: int, noise: Latent, past: Past = ()
) -> Latent:
    """PLMS (Liu et al. 2022, arXiv 2202.09778): the DDIM step of the eps extrapolated from the last four predictions.

    The paper's Runge-Kutta start is omitted, as in Stable Diffusion: the first steps use fewer predictions, and the
    first step is taken twice. t = t_prev marks the second time, which starts again from the first evaluation's latents,
    with the mean of the eps at both ends.

    Always extrapolates eps, whatever the network predicts; diffusers extrapolates v for a v-model.
    """
    if checked("t", t, int) == t_prev:
        first = past[-1]
        z_t, t, eps = first.z_t, first.t, (first.prediction.eps + prediction.eps) / 2
    else:
        by_time = {visit.t: visit.prediction.eps for visit in past} | {t: prediction.eps}  # of two at one t, the later
        newest = list(by_time.values())[:-5:-1]  # at most four, newest first
        eps = sum(weight * eps for weight, eps in zip(ADAMS_BASHFORTH[len(newest) - 1], newest))
    better = Prediction(eps, schedule.z_0_from_eps(z_t, eps, t))
    return deterministic_step(schedule, z_t, better, t, t_prev, noise)


def dpm_step(
    schedule: Schedule, z_t: Latent, prediction: Prediction, t: int, t_prev: int, noise: Latent, past: Past = ()
) -> Latent:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Algorithm 2): the DDIM step of an extrapolated z_0.

    z_0 is extrapolated linearly in lambda_t = log(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)), from the last two
    predictions, to the middle of the step. The first step, which has no earlier prediction, and a step to t_prev = 0,
    where lambda is infinite, are plain DDIM steps.
    """
    t, z_0 = checked("t", t, int), prediction.z_0
    if past and t_prev > 0:
        before = past[-1]
        lambda_before, lambda_t, lambda_prev = (_half_log_snr(schedule, at) for at in (before.t, t, t_prev))
        r = (lambda_t - lambda_before) / (lambda_prev - lambda_t)
        z_0 = z_0 + (z_0 - before.prediction.z_0) / (2 * r)
    better = Prediction(schedule.eps_from_z_0(z_t, z_0, t), z_0)
    return deterministic_step(schedule, z_t, better, t, t_prev, noise)


def _half_log_snr(schedule: Schedule, t: int) -> float:
    abar = schedule.alpha_bar[t].item()
    return math.log(abar / (1 - abar)) / 2


class Sampler(NamedTuple):
    """A step function, and the timesteps it visits: (schedule, steps, start) -> decreasing times, as `times` gives."""

    step: StepFn
    visit: Callable[[Schedule, int, int | None], list[int]] = times


DDIM = Sampler(deterministic_step)  # the image is a function of z_T

Name = Literal["ddim", "ddpm", "plms", "dpm++", "euler"]
SAMPLERS: dict[Name, Sampler] = {
    "ddim": DDIM,
    "ddpm": Sampler(ddpm_step, times_to_zero),
    "plms": Sampler(plms_step, plms_times),
    "dpm++": Sampler(dpm_step, dpm_times),
    "euler": Sampler(deterministic_step, times_to_zero),
}
