"""The forward process and everything that follows from it in closed form [D2, D4-D10, D12, D13, D18].

No network is involved. t is the lecture's: it runs over 1..T, and `alpha_bar[0] = 1` belongs to the clean latent.
(Stable Diffusion's files call alpha_bar "alphas_cumprod" and count from 0: their index is t - 1.) Coefficients are
computed in float64 and cast once, to the dtype of the latents they multiply.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ldm.config import ScheduleConfig
from ldm.helpers.checks import check_latents, check_rows, checked, plain

CONFIG = ScheduleConfig()
Time = int | Int[Tensor, " b"]  # one timestep for the whole batch, or one per latent


class Prediction(NamedTuple):
    """The network's prediction, as eps and as z_0."""

    eps: Float[Tensor, "b c h w"]
    z_0: Float[Tensor, "b c h w"]


class Schedule:
    """alpha_t, alpha_bar_t and the Gaussians they define.

    All latents of a call have the same shape (b, c, h, w). Every method takes them first, z_t before the others, then t
    in 0..T, and raises ValueError for other shapes and times. At t = 0, eps_from_z_0, mean_from_eps and eps_from_mean
    divide by zero: their results are not finite.
    """

    def __init__(self, config: ScheduleConfig = CONFIG):
        self.config = checked("a schedule's config", config, ScheduleConfig)

    @property
    def T(self) -> int:
        return self.config.T

    @cached_property
    def beta(self) -> Float[Tensor, " T"]:
        """[D4] The fixed schedule: "scaled_linear" (Stable Diffusion's) is linear in sqrt(beta), "linear" in beta.

        The names are diffusers'; CompVis' own files call the former "linear".
        """
        power = 2 if self.config.betas == "scaled_linear" else 1
        ends = (beta ** (1 / power) for beta in (self.config.beta_start, self.config.beta_end))
        return torch.linspace(*ends, self.T, dtype=torch.float64) ** power

    @cached_property
    def alpha(self) -> Float[Tensor, " T1"]:
        """[D2] alpha_t = 1 - beta_t, the factor of one step; alpha[0] = 1 is a placeholder."""
        return torch.cat([torch.ones(1, dtype=torch.float64), 1 - self.beta])

    @cached_property
    def alpha_bar(self) -> Float[Tensor, " T1"]:
        """[D5] alpha_bar_t = prod_{s <= t} alpha_s, from alpha_bar_0 = 1."""
        return self.alpha.cumprod(0)

    def index(self, t: Time) -> Time:
        """t as an index into alpha and alpha_bar; a tensor is moved to the CPU.

        Raises:
            ValueError: t is not an integer, or outside 0..T.
        """
        t = plain(t)
        if type(t) is int:
            least = most = t
        else:
            t = torch.as_tensor(t, device="cpu")
            if t.is_floating_point() or t.dtype == torch.bool or t.ndim != 1:
                raise ValueError(f"t must be a whole number in 0..{self.T}, or a tensor (b,) of them, got {t.tolist()}")
            least, most = t.min(), t.max()
        if least < 0 or most > self.T:
            raise ValueError(f"t must lie in 0..{self.T}, got {t if type(t) is int else t.tolist()}")
        return t

    def fit(self, coefficient: Float[Tensor, " *b"], like: Float[Tensor, "b c h w"]) -> Tensor:
        """Shape and cast a coefficient, or one per latent, to multiply `like`. A single one stays on the CPU: a scalar
        multiplies latents on any device without a copy.

        Raises:
            ValueError: the number of coefficients is neither one nor that of the latents.
        """
        check_latents(z=like)
        if coefficient.ndim == 0:
            return coefficient.to(like.dtype)
        check_rows(like, "times t", len(coefficient))
        return coefficient.to(like.dtype).to(like.device).reshape(-1, 1, 1, 1)

    def at(self, coefficient: Float[Tensor, " T1"], t: Time, like: Float[Tensor, "b c h w"]) -> Tensor:
        """The coefficient at t, to multiply `like`."""
        return self.fit(coefficient[self.index(t)], like)

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
        check_latents(z_prev=z_prev, eps=eps)
        return self.at(self.alpha.sqrt(), t, z_prev) * z_prev + self.at((1 - self.alpha).sqrt(), t, z_prev) * eps

    def add_noise(
        self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D6] z_t = sqrt(alpha_bar_t) z_0 + sqrt(1 - alpha_bar_t) eps: t steps of q at once [D5]."""
        check_latents(z_0=z_0, eps=eps)
        return self.signal(t, z_0) * z_0 + self.noise(t, z_0) * eps

    def z_0_from_eps(
        self, z_t: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D9] z_0 = (z_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)."""
        check_latents(z_t=z_t, eps=eps)
        return (z_t - self.noise(t, z_t) * eps) / self.signal(t, z_t)

    def eps_from_z_0(
        self, z_t: Float[Tensor, "b c h w"], z_0: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D6], solved for eps."""
        check_latents(z_t=z_t, z_0=z_0)
        return (z_t - self.signal(t, z_t) * z_0) / self.noise(t, z_t)

    def v_from(self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time) -> Float[Tensor, "b c h w"]:
        """[D12] v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) z_0."""
        check_latents(z_0=z_0, eps=eps)
        return self.signal(t, z_0) * eps - self.noise(t, z_0) * z_0

    def mean_from_eps(
        self, z_t: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D10] mu = (z_t - (1 - alpha_t) / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t).

        eps is the noise, not necessarily the UNet's output: the included model predicts v, and its timestep is t - 1.
        `LatentDiffusion.predict(z_t, t, context).eps` is the noise for any model.
        """
        check_latents(z_t=z_t, eps=eps)
        share = self.at((1 - self.alpha) / (1 - self.alpha_bar).sqrt(), t, z_t)
        return (z_t - share * eps) / self.at(self.alpha.sqrt(), t, z_t)

    def eps_from_mean(
        self, z_t: Float[Tensor, "b c h w"], mean: Float[Tensor, "b c h w"], t: Time
    ) -> Float[Tensor, "b c h w"]:
        """[D10], solved for eps."""
        check_latents(z_t=z_t, mean=mean)
        share = self.at((1 - self.alpha) / (1 - self.alpha_bar).sqrt(), t, z_t)
        return (z_t - self.at(self.alpha.sqrt(), t, z_t) * mean) / share

    def _stride(self, t: Time, t_prev: Time) -> tuple[Float[Tensor, " *b"], Float[Tensor, " *b"]]:
        """alpha_bar_t and alpha_bar_{t_prev}; raises ValueError unless t_prev < t."""
        t, t_prev = self.index(t), self.index(t_prev)
        abar, abar_prev = self.alpha_bar[t], self.alpha_bar[t_prev]
        if abar.shape != abar_prev.shape or torch.as_tensor(t_prev >= t).any():
            raise ValueError(f"need 0 <= t_prev < t <= {self.T}, a t_prev for each t, got t_prev = {t_prev}, t = {t}")
        return abar, abar_prev

    def sigma(self, t: Time, t_prev: Time) -> Float[Tensor, " *b"]:
        """[D8] Standard deviation of q(z_{t_prev} given z_t, z_0), for 0 <= t_prev < t; in float64.

        t_prev = t - 1 is the lecture's case; for a longer stride alpha_t becomes alpha_bar_t / alpha_bar_{t_prev}, the
        product of all the steps between.
        """
        abar, abar_prev = self._stride(t, t_prev)
        return ((1 - abar_prev) * (1 - abar / abar_prev) / (1 - abar)).sqrt()

    def alpha_of_z_0(self, t: Time, t_prev: Time) -> Float[Tensor, " *b"]:
        """[D7] alpha_t^(0) = sqrt(alpha_bar_{t_prev}) (1 - alpha_t) / (1 - alpha_bar_t), the factor of z_0 in the
        posterior's mean; strides as for `sigma`, in float64."""
        abar, abar_prev = self._stride(t, t_prev)
        return abar_prev.sqrt() * (1 - abar / abar_prev) / (1 - abar)

    def alpha_of_z_t(self, t: Time, t_prev: Time) -> Float[Tensor, " *b"]:
        """[D7] alpha_t^(t) = sqrt(alpha_t) (1 - alpha_bar_{t_prev}) / (1 - alpha_bar_t), the factor of z_t."""
        abar, abar_prev = self._stride(t, t_prev)
        return (abar / abar_prev).sqrt() * (1 - abar_prev) / (1 - abar)

    def posterior(
        self, z_t: Float[Tensor, "b c h w"], z_0: Float[Tensor, "b c h w"], t: Time, t_prev: Time
    ) -> tuple[Float[Tensor, "b c h w"], Tensor]:
        """[D7, D8] Mean and standard deviation of q(z_{t_prev} given z_t, z_0); strides as for `sigma`."""
        check_latents(z_t=z_t, z_0=z_0)
        of_z_0, of_z_t = self.alpha_of_z_0(t, t_prev), self.alpha_of_z_t(t, t_prev)
        return self.fit(of_z_0, z_0) * z_0 + self.fit(of_z_t, z_t) * z_t, self.fit(self.sigma(t, t_prev), z_t)

    def predict(self, z_t: Float[Tensor, "b c h w"], output: Float[Tensor, "b c h w"], t: Time) -> Prediction:
        """[D12, D13] Convert a network's output to eps and z_0, by the config's parameterisation.

        A sampler's step computes its mean from these: both together are the f of D13.
        """
        check_latents(z_t=z_t, output=output)
        if self.config.parameterisation == "v":
            signal, noise = self.signal(t, z_t), self.noise(t, z_t)
            return Prediction(eps=signal * output + noise * z_t, z_0=signal * z_t - noise * output)
        return Prediction(eps=output, z_0=self.z_0_from_eps(z_t, output, t))

    def target(self, z_0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"], t: Time) -> Float[Tensor, "b c h w"]:
        """[D12] The network's training target, by the config's parameterisation."""
        return self.v_from(z_0, eps, t) if self.config.parameterisation == "v" else eps


def guided(
    eps_uncond: Float[Tensor, "b c h w"], eps_cond: Float[Tensor, "b c h w"], w: float
) -> Float[Tensor, "b c h w"]:
    """[D18] Classifier-free guidance: eps_u + w (eps_c - eps_u). w = 1 is no guidance, w = 0 ignores the prompt."""
    check_latents(eps_uncond=eps_uncond, eps_cond=eps_cond)
    return eps_uncond + w * (eps_cond - eps_uncond)
