"""The optimal denoiser, which no training can beat, for data with a known distribution.

For z_0 ~ sum_k w_k N(m_k, S_k) the noisy latents are a mixture too, q(z_t) = sum_k w_k N(sqrt(alpha_bar_t) m_k, C_k)
with C_k = alpha_bar_t S_k + (1 - alpha_bar_t) I, and the minimiser of the loss [D14] is

    eps(z_t) = E[eps given z_t] = -sqrt(1 - alpha_bar_t) grad log q(z_t)
             = sqrt(1 - alpha_bar_t) sum_k A_k C_k^-1 (z_t - sqrt(alpha_bar_t) m_k),   A_k = p(k given z_t)

One component is a Gaussian; components without spread are a finite data set. In two dimensions everything can be
plotted: samplers, guidance (two denoisers and `guided`), and the effect of injection, since A is an attention map. Its
queries are the noisy latents, its keys and values the data; a source's A can be injected into a target's data.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ldm.schedule import Prediction, Schedule
from ldm.shapes import Times


@dataclass(frozen=True, eq=False)
class Mixture:
    """z_0 ~ sum_k weights_k N(means_k, covariances_k), for latents flattened to d values; float64."""

    weights: Float[Tensor, " k"]
    means: Float[Tensor, "k d"]
    covariances: Float[Tensor, "k d d"]


def gaussian(mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]) -> Mixture:
    """N(mean, covariance)."""
    return Mixture(torch.ones(1, dtype=torch.float64), mean[None], covariance[None])


def data_set(data: Float[Tensor, "k d"]) -> Mixture:
    """The uniform distribution over the rows."""
    k, d = data.shape
    zeros = torch.zeros(k, d, d, dtype=torch.float64)
    return Mixture(torch.full((k,), 1 / k, dtype=torch.float64), data, zeros)


class IdealDenoiser(nn.Module):
    """The optimal prediction for latents from a mixture; a drop-in replacement for a UNet.

    Args:
        schedule: the noise schedule.
        data: the distribution of z_0.
    """

    def __init__(self, schedule: Schedule, data: Mixture):
        super().__init__()
        self.schedule, self.data = schedule, data
        self.variances, self.axes = torch.linalg.eigh(data.covariances)  # (k, d), (k, d, d): diagonal at every t

    def _components(self, z_t: Tensor, t: Times) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k d"]]:
        """log (w_k N(z_t; sqrt(alpha_bar_t) m_k, C_k)) up to a constant, and C_k^-1 (z_t - sqrt(alpha_bar_t) m_k)."""
        abar = self.schedule.alpha_bar[self.schedule.index(t)].reshape(-1, 1, 1)
        off = z_t.double().flatten(1)[:, None] - abar.sqrt() * self.data.means  # (b, k, d)
        off = torch.einsum("bkd,kde->bke", off, self.axes)
        C = abar * self.variances + 1 - abar  # along the axes
        log_density = self.data.weights.log() - 0.5 * (off**2 / C + C.log()).sum(dim=-1)
        return log_density, torch.einsum("bke,kde->bkd", off / C, self.axes)

    def attention(self, z_t: Float[Tensor, "b c h w"], t: Times) -> Float[Tensor, "b k"]:
        """A: row i is the posterior distribution over the components, given noisy latent i."""
        return self._components(z_t, t)[0].softmax(dim=-1)

    def predict(self, z_t: Float[Tensor, "b c h w"], t: Times, A: Float[Tensor, "b k"] | None = None) -> Prediction:
        """The optimal prediction at t in 1..T; a given A replaces its own attention."""
        log_density, pulls = self._components(z_t, t)
        A = log_density.softmax(dim=-1) if A is None else A
        eps = self.schedule.noise(t, z_t) * torch.einsum("bk,bkd->bd", A, pulls).to(z_t.dtype).view_as(z_t)
        return Prediction(eps, self.schedule.z_0_from_eps(z_t, eps, t))

    def forward(self, z_t: Float[Tensor, "b c h w"], timestep: Tensor, context: Tensor) -> Float[Tensor, "b c h w"]:
        """The output of a UNet, by the schedule's parameterisation; the data is the prompt, so context is ignored.
        Networks count from 0: timestep is t - 1."""
        t = timestep + 1
        belief = self.predict(z_t, t)
        return self.schedule.target(belief.z_0, belief.eps, t)
