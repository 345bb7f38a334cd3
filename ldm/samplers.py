"""Steps from z_t to z_{t_prev} [D16, D17], and which steps to take.

A step is a pure function of a prediction; it draws nothing. The noise that a stochastic step adds is handed to it.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ldm.schedule import Prediction, Schedule

# (schedule, prediction, z_t, t, t_prev, noise) -> z_{t_prev}
Step = Callable[[Schedule, Prediction, Tensor, int, int, Tensor], Tensor]


def times(T: int, steps: int) -> list[int]:
    """[D17] The time steps to visit, falling from T to 0: always `steps` distinct ones, evenly spread, T first, 0 last.

    Raises:
        ValueError: fewer than one step, or more than T.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"the number of steps must lie in 1..{T}, got {steps}")
    return [T - (T * i) // steps for i in range(steps)] + [0]


def ddpm_step(
    schedule: Schedule,
    prediction: Prediction,
    z_t: Float[Tensor, "b c h w"],
    t: int,
    t_prev: int,
    noise: Float[Tensor, "b c h w"],
) -> Float[Tensor, "b c h w"]:
    """[D13, D16] Ancestral sampling: a draw from the posterior [D7, D8] of the predicted z_0; its mean is mu_theta."""
    mean, sigma = schedule.posterior(prediction.z_0, z_t, t, t_prev)
    return mean + sigma * noise


def ddim_step(eta: float) -> Step:
    """[D17] The DDIM step for a given eta in [0, 1]: 0 is deterministic, 1 is ancestral sampling [D16].

    Raises:
        ValueError: eta is outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")

    def step(
        schedule: Schedule,
        prediction: Prediction,
        z_t: Float[Tensor, "b c h w"],
        t: int,
        t_prev: int,
        noise: Float[Tensor, "b c h w"],
    ) -> Float[Tensor, "b c h w"]:
        abar_prev = schedule.alpha_bar[t_prev].item()
        _, sigma = schedule.posterior(prediction.z_0, z_t, t, t_prev)
        sigma = eta * sigma
        direction = max(1 - abar_prev - sigma**2, 0.0) ** 0.5  # rounding may leave it a hair below 0
        return abar_prev**0.5 * prediction.z_0 + direction * prediction.eps + sigma * noise

    return step


DDIM = ddim_step(eta=0.0)  # deterministic: the picture is a function of z_T
