"""The forward process and everything that follows from it in closed form [D2, D4-D10, D12, D13, D18].

No network here. t is the lecture's: it runs 1..T, `alpha_bar[0] = 1` stands for the clean latent. (Stable Diffusion's
files call alpha_bar "alphas_cumprod" and count from 0: their index is t - 1.) Coefficients are computed in float64 and
cast once, to the dtype of the latents they multiply.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.config import ScheduleConfig

Time = int | Int[Tensor, " b"]  # one step for the whole batch, or one per latent


class Prediction(NamedTuple):
    """The same belief about a noisy latent, said as noise and as clean latent."""

    eps: Float[Tensor, "b c h w"]
    z_0: Float[Tensor, "b c h w"]


class Schedule:
    """alpha_t, alpha_bar_t and the Gaussians they define.

    Latents are (b, c, h, w); every method takes t in 0..T and raises ValueError outside. At t = 0 there is no noise to
    divide by: eps_from_z_0, mean_from_eps and eps_from_mean give no numbers there.
    """

    def __init__(self, config: ScheduleConfig):
        self.config = config

    @property
    def T(self) -> int:
        return self.config.T

    @cached_property
    def beta(self) -> Float[Tensor, " T"]:
        """[D4] The fixed schedule: "scaled linear", Stable Diffusion's, spaces the roots of beta evenly, "linear" beta.

        Names are diffusers'; CompVis' own files say "linear" for the former.
        """
        power = 2 if self.config.betas == "scaled_linear" else 1
        ends = (beta ** (1 / power) for beta in (self.config.beta_start, self.config.beta_end))
        return torch.linspace(*ends, self.T, dtype=torch.float64) ** power

    @cached_property
    def alpha(self) -> Float[Tensor, " T1"]:
        """[D2] alpha_t = 1 - beta_t, the per-step factor; alpha[0] = 1 is a placeholder."""
        return torch.cat([torch.ones(1, dtype=torch.float64), 1 - self.beta])

    @cached_property
    def alpha_bar(self) -> Float[Tensor, " T1"]:
        """[D5] alpha_bar_t = prod_{s <= t} alpha_s, from alpha_bar_0 = 1."""
        return self.alpha.cumprod(0)

    def at(self, coefficient: Float[Tensor, " T1"], t: Time, like: Float[Tensor, "b c h w"]) -> Tensor:
        """The coefficient at t, shaped and cast to multiply `like`.

        Raises:
            ValueError: t is outside 0..T.
        """
        t = torch.as_tensor(t, device="cpu")
        if t.min() < 0 or t.max() > self.T:
            raise ValueError(f"t must lie in 0..{self.T}, got {t.tolist()}")
        return coefficient[t].to(like.dtype).to(like.device).reshape(-1, 1, 1, 1)

    def signal(self, t: Time, like: Tensor) -> Tensor:
        """sqrt(alpha_bar_t)."""
        return self.at(self.alpha_bar.sqrt(), t, like)

    def noise(self, t: Time, like: Tensor) -> Tensor:
        """sqrt(1 - alpha_bar_t)."""
        return self.at((1 - self.alpha_bar).sqrt(), t, like)

    def forward_step(
        self, z_prev: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D2] z_t = sqrt(alpha_t) z_{t-1} + sqrt(1 - alpha_t) eps: one step of q."""
        return self.at(self.alpha.sqrt(), t, z_prev) * z_prev + self.at((1 - self.alpha).sqrt(), t, z_prev) * eps

    def add_noise(
        self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D6] z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps: t steps of q at once [D5]."""
        return self.signal(t, z_0) * z_0 + self.noise(t, z_0) * eps

    def z_0_from_eps(
        self, z_t: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D9] z_0 = (z_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)."""
        return (z_t - self.noise(t, z_t) * eps) / self.signal(t, z_t)

    def eps_from_z_0(
        self, z_t: Float[Tensor, "b c h w"], z_0: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D6] solved for eps."""
        return (z_t - self.signal(t, z_t) * z_0) / self.noise(t, z_t)

    def v_from(self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time) -> Float[Tensor, "b c h w"]:
        """[D12] v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) z_0."""
        return self.signal(t, z_0) * eps - self.noise(t, z_0) * z_0

    def mean_from_eps(
        self, z_t: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D10] mu = (z_t - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t)."""
        share = self.at((1 - self.alpha) / (1 - self.alpha_bar).sqrt(), t, z_t)
        return (z_t - share * eps) / self.at(self.alpha.sqrt(), t, z_t)

    def eps_from_mean(
        self, z_t: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D10] solved for eps."""
        share = self.at((1 - self.alpha) / (1 - self.alpha_bar).sqrt(), t, z_t)
        return (z_t - self.at(self.alpha.sqrt(), t, z_t) * mean) / share

    def posterior(
        self, z_0: Float[Tensor, "b c h w"], z_t: Float[Tensor, "b c h w"], t: int, t_prev: int
    ) -> tuple[Float[Tensor, "b c h w"], float]:
        """[D7, D8] Mean and standard deviation of q(z_{t_prev} given z_t, z_0), for 0 <= t_prev < t.

        For t_prev = t - 1 these are the lecture's; for a longer stride alpha_t is alpha_bar_t / alpha_bar_{t_prev}, the
        factor of all the steps between.
        """
        if not 0 <= t_prev < t <= self.T:
            raise ValueError(f"need 0 <= t_prev < t <= {self.T}, got t_prev = {t_prev}, t = {t}")
        abar, abar_prev = self.alpha_bar[t].item(), self.alpha_bar[t_prev].item()
        alpha = abar / abar_prev
        mean = abar_prev**0.5 * (1 - alpha) / (1 - abar) * z_0 + alpha**0.5 * (1 - abar_prev) / (1 - abar) * z_t
        sigma = ((1 - abar_prev) * (1 - alpha) / (1 - abar)) ** 0.5
        return mean, sigma

    def predict(self, output: Float[Tensor, "b c h w"], z_t: Float[Tensor, "b c h w"], t: Time) -> Prediction:
        """[D12, D13] What a network's output says of eps and z_0, by the config's parameterisation.

        A step takes its mean from there: the two together are the f of D13.
        """
        if self.config.parameterisation == "v":
            signal, noise = self.signal(t, z_t), self.noise(t, z_t)
            return Prediction(eps=signal * output + noise * z_t, z_0=signal * z_t - noise * output)
        return Prediction(eps=output, z_0=self.z_0_from_eps(z_t, output, t))

    def target(self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time) -> Float[Tensor, "b c h w"]:
        """[D12] What the network is trained to output, by the config's parameterisation."""
        return self.v_from(z_0, eps, t) if self.config.parameterisation == "v" else eps


def guided(
    eps_uncond: Float[Tensor, "b c h w"], eps_cond: Float[Tensor, "b c h w"], w: float
) -> Float[Tensor, "b c h w"]:
    """[D18] Classifier-free guidance: eps_u + w (eps_c - eps_u). w = 1 is no guidance, w = 0 ignores the prompt."""
    return eps_uncond + w * (eps_cond - eps_uncond)
