"""Restoration by one formula: DDNM (Wang et al. 2022, arXiv 2212.00490), here through the autoencoder.

Given is y = A x of an unknown image x, for a linear A. With a generalised inverse A^+, any x_0 splits into what y
determines and what it leaves open, x_0 = A^+ A x_0 + (I - A^+ A) x_0, and

    x_0 <- A^+ y + (I - A^+ A) x_0

puts the given in the place of the first and leaves the second to the model. Done to the predicted z_0 of every step,
it makes any sampler of any model inpaint, uncrop, colourise or enlarge, by the choice of A and without training.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.autoencoder import Autoencoder
from ldm.samplers import Sampler, Visit, ddim_step, times_to_zero
from ldm.schedule import Prediction, Schedule

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in ITU-R BT.601, by which images are made grey


class Degradation(NamedTuple):
    """A linear map of images that loses something, and a generalised inverse: A A^+ A = A and A^+ A A^+ = A^+."""

    A: Callable[[Float[Tensor, "b 3 H W"]], Float[Tensor, "b ..."]]
    A_plus: Callable[[Float[Tensor, "b ..."]], Float[Tensor, "b 3 H W"]]


def masked(mask: Bool[Tensor, "H W"]) -> Degradation:
    """Inpainting: the pixels inside the mask are lost, and 0. A is its own inverse."""
    A = lambda x: x.masked_fill(mask.to(x.device), 0)
    return Degradation(A, A)


def cropped(box: tuple[int, int, int, int], size: tuple[int, int]) -> Degradation:
    """Uncropping: all but the box (left, top, right, bottom) of an image of this size (height, width) is lost.

    A^+ puts the box back, with 0 around it.
    """
    (left, top, right, bottom), (height, width) = box, size
    return Degradation(
        A=lambda x: x[..., top:bottom, left:right],
        A_plus=lambda y: F.pad(y, (left, width - right, top, height - bottom)),
    )


def grey() -> Degradation:
    """Colourisation: the luma of each pixel is left; A^+ is the grey image of it.

    This A^+ is not the Moore-Penrose inverse, (0.67, 1.31, 0.26) of the luma, which is tinted: a correction by it would
    change the colour too.
    """
    return Degradation(
        A=lambda x: (x * x.new_tensor(LUMA).reshape(3, 1, 1)).sum(dim=1, keepdim=True),
        A_plus=lambda y: y.expand(-1, 3, -1, -1),
    )


def pooled(factor: int) -> Degradation:
    """Super-resolution: every factor x factor pixels are averaged; A^+ repeats the average."""
    return Degradation(
        A=lambda x: F.avg_pool2d(x, factor),
        A_plus=lambda y: repeat(y, "b c h w -> b c (h i) (w j)", i=factor, j=factor),
    )


def project(
    x_0: Float[Tensor, "b 3 H W"], y: Float[Tensor, "#b ..."], degradation: Degradation
) -> Float[Tensor, "b 3 H W"]:
    """A^+ y + (I - A^+ A) x_0: the image nearest to x_0, in the directions of A^+, of which A leaves y."""
    A, A_plus = degradation
    return A_plus(y) + (x_0 - A_plus(A(x_0)))


def project_latent(
    autoencoder: Autoencoder, z_0: Float[Tensor, "b c h w"], y: Float[Tensor, "#b ..."], degradation: Degradation
) -> Float[Tensor, "b c h w"]:
    """`project` of the decoded z_0, as a change of z_0: z_0 + E(project(D(z_0))) - E(D(z_0)).

    E(D(z_0)) is not quite z_0. As a difference, what is already consistent with y does not move, and repeated
    projections do not wear the image away.
    """
    dtype = next(autoencoder.parameters()).dtype
    # one at a time, as for `LatentDiffusion.decode`
    x_0 = torch.cat([autoencoder.decode(z) for z in z_0.to(dtype).split(1)])
    after, before = (
        torch.cat([autoencoder.encode(x) for x in images.to(dtype).split(1)])
        for images in (project(x_0, y.to(x_0), degradation), x_0)
    )
    return z_0 + (after - before).to(z_0.dtype)


def restoring(
    autoencoder: Autoencoder,
    y: Float[Tensor, "#b ..."],
    degradation: Degradation,
    eta: float = 1.0,
    length: int = 1,
    visits: int = 2,
) -> Sampler:
    """A sampler of images that are consistent with y: DDIM steps of the projected z_0, to t = 0.

    Any run takes it, `model.denoise(context, seeds, sampler=restoring(...))`, with an edit of attention too.

    Args:
        autoencoder: of the model that is sampled.
        y: what is given, one for all rows or one for each: of images in [-1, 1].
        degradation: what y is of them.
        eta: of the steps [D17]. Fresh noise lets what is left open fit what is given.
        length, visits: time travel (Lugmayr et al. 2022, arXiv 2201.09865): every so many steps are taken so many
            times. To go back, the projected z_0 is noised again [D6].

    Raises:
        ValueError: eta is outside [0, 1], or length or visits is below 1.
    """
    if length < 1 or visits < 1:
        raise ValueError(f"time travel needs a length and visits of at least 1, got {length} and {visits}")
    ddim = ddim_step(eta)

    def step(
        schedule: Schedule,
        z_t: Float[Tensor, "b c h w"],
        prediction: Prediction,
        t: int,
        t_prev: int,
        noise: Float[Tensor, "b c h w"],
        past: tuple[Visit, ...] = (),
    ) -> Float[Tensor, "b c h w"]:
        z_0 = project_latent(autoencoder, prediction.z_0, y, degradation)
        if t_prev >= t:
            return schedule.add_noise(z_0, noise, t_prev)
        return ddim(schedule, z_t, Prediction(schedule.eps_from_z_0(z_t, z_0, t), z_0), t, t_prev, noise)

    def visit(schedule: Schedule, steps: int, start: int | None = None) -> list[int]:
        *visited, end = times_to_zero(schedule, steps, start)
        blocks = (visited[i : i + length] for i in range(0, steps, length))
        return [*chain.from_iterable(visits * block for block in blocks), end]

    return Sampler(step, visit)
