"""The training loss of the latent diffusion model [D14], which is lines 5 to 7 of Algorithm 1 [D15]."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ldm.schedule import Schedule
from ldm.shapes import Latent


def ldm_loss(
    unet: Callable[[Tensor, Tensor, Tensor], Tensor],
    schedule: Schedule,
    z_0: Latent,
    context: Float[Tensor, "b m e"],
    t: Int[Tensor, " b"],
    eps: Latent,
) -> Float[Tensor, ""]:
    """[D14, D15] L_LDM = E ||eps - eps_theta(z_t, t, tau_theta(y))||^2, as a mean over the values of a latent.

    Lines 5-7 of Algorithm 1; the caller draws z_0, t and eps (lines 2-4) and takes the gradient step (line 8). A
    v-model is trained on v instead of eps, which weights the same error by 1 / alpha_bar_t.
    """
    wide = lambda x: x.to(torch.promote_types(x.dtype, torch.float32))  # a half-precision mean has two digits
    z_t = schedule.add_noise(z_0, eps, t)
    return F.mse_loss(wide(unet(z_t, t - 1, context)), wide(schedule.target(z_0, eps, t)))
