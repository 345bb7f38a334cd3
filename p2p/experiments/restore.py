"""Inpainting, uncropping, colourisation and super-resolution of an image file: what `p2p.restore` returns.

Restoration is by one formula with any model, but a model that was trained to enlarge images is given the image itself.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ldm.config import ModelConfig
from ldm.helpers.checks import checked
from ldm.helpers.images import to_bytes, to_tensor
from ldm.pipeline import LatentDiffusion
from ldm.restoration import Degradation, cropped, grey, masked, pooled, project, restoring
from ldm.states import State
from p2p.call import Sampling
from p2p.masks import Box, box_pixels, drawn_mask, read_mask
from p2p.result import png

Task = Literal["inpaint", "uncrop", "colour", "super"]
LONGEST = 512  # pixels a side that are enlarged, which takes memory and time
NEEDS = {"inpaint": "mask", "uncrop": "box", "colour": None, "super": "factor"}


class Given(NamedTuple):
    """The known part of an image: y = A x."""

    y: Float[Tensor, "1 ..."]
    degradation: Degradation


def check_settings(task: object, **settings: object) -> None:
    """Raises ValueError for a task that there is not, or a setting of another task, of another type, or missing."""
    checked("task", task, Task)
    for name, kind in (("box", tuple[int, int, int, int] | None), ("factor", int | None)):
        checked(name, settings[name], kind)
    if idle := [name for name, value in settings.items() if value is not None and name != NEEDS[task]]:
        raise ValueError(f"--{idle[0]} is not for --task {task}: leave it out")
    needed = NEEDS[task]
    if needed in ("mask", "box") and settings[needed] is None:
        what = {"mask": "white where to paint", "box": "where in the larger image this one is"}[needed]
        raise ValueError(f"--task {task} needs --{needed}, {what}")


def given_by(
    task: Task,
    image: UInt8[np.ndarray, "H W 3"],
    side: int,
    *,
    mask: Path | np.ndarray | Tensor | None = None,
    box: tuple[int, int, int, int] | None = None,
    factor: int | None = None,
) -> Given:
    """The known part of an image of `side` pixels a side, from the given image.

    Args:
        task: "inpaint": the image outside the mask. "uncrop": the image, as the box of a larger one. "colour": its
            grey levels. "super": the image, as one whose every factor x factor pixels were averaged.
        mask: a file or an array as for `p2p.edit`, white or 1 where the image is to be painted.
        box: left, top, right, bottom in pixels of the larger image; right and bottom are exclusive.
        factor: that divides `side`; by default 4.

    Raises:
        ValueError: the image does not have the size that the task asks for, a setting is of another task, or missing,
            or does not fit.
    """
    check_settings(task, mask=mask, box=box, factor=factor)
    width, height, why = side, side, "the model's size"
    if task == "uncrop":
        box_pixels(Box(*box), (side, side))  # refuses one that is not inside
        width, height, why = box[2] - box[0], box[3] - box[1], "the size of the box"
        degradation = cropped(box, (side, side))
    elif task == "super":
        factor = 4 if factor is None else factor
        if factor < 2 or side % factor:
            raise ValueError(f"--factor must be at least 2 and divide the model's {side} pixels, got {factor}")
        width, height, why = side // factor, side // factor, f"the model's {side} divided by {factor}"
        degradation = pooled(factor)
    elif task == "inpaint":
        read = read_mask if isinstance(mask, Path) else drawn_mask
        degradation = masked(read(mask, (side, side), 1))
    else:
        degradation = grey()
    if image.shape[:2] != (height, width):
        raise ValueError(
            f"the image is {image.shape[1]}x{image.shape[0]} pixels, for --task {task} it must have {why}, "
            f"{width}x{height}: resize it"
        )
    x = to_tensor(image[None])
    return Given(x if task in ("uncrop", "super") else degradation.A(x), degradation)


def given_to_enlarge(config: ModelConfig, task: Task, image: UInt8[np.ndarray, "H W 3"], factor: int | None) -> Given:
    """The image that a model of super-resolution enlarges, of any size that its UNet can halve.

    Raises:
        ValueError: another task or factor than the model's, or an image that does not fit.
    """
    name, times = config.name, config.autoencoder.factor
    if task != "super":
        raise ValueError(f"{name} enlarges images and does nothing else: give another --model for --task {task}")
    if factor not in (None, times):
        raise ValueError(f"{name} enlarges {times} times, got --factor {factor}: leave it out")
    (height, width, _), least = image.shape, 2 ** (len(config.unet.channels) - 1)
    if height % least or width % least or max(height, width) > LONGEST:
        raise ValueError(
            f"the image is {width}x{height} pixels, for {name} both sides must be multiples of {least} and at most "
            f"{LONGEST}: crop or resize it"
        )
    return Given(to_tensor(image[None]), pooled(times))


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image. A notebook displays it beside the given one.

    Args:
        model: what made it.
        prompt: of the image.
        given: what was known of it.
        states: after each step; the last is its latent.
    """

    model: LatentDiffusion
    prompt: str
    given: Given
    states: Sequence[State]

    @property
    def degraded(self) -> Image.Image:
        """The given image at the size of the result: A^+ y, grey where nothing is known."""
        return _image(self.given.degradation.A_plus(self.given.y))

    @property
    def decoded(self) -> Image.Image:
        """The sampler's z_0, decoded: consistent as far as the autoencoder allows, or as a model of super-resolution
        makes it."""
        return _image(self._x_0)

    @property
    def restored(self) -> Image.Image:
        """The same, projected once more, in pixels: what was given is there to the grey level. By a model of
        super-resolution not projected, since it was trained to remove what noise and compression left in the given."""
        if self.model.config.unet.condition_channels:
            return self.decoded
        return _image(project(self._x_0, *self.given))

    @property
    def _x_0(self) -> Float[Tensor, "1 3 H W"]:
        with torch.no_grad():
            return self.model.autoencoder.decode(self.states[-1].z_t.to(self.model.dtype)).float().cpu()

    @property
    def image(self) -> Image.Image:
        """The displayed image."""
        return Image.fromarray(np.concatenate([self.degraded, self.restored], axis=1))

    def _repr_png_(self) -> bytes:
        return png(self.image)

    def __repr__(self) -> str:
        return f"<image restored with {self.prompt!r}: degraded, decoded, restored, states>"


def _image(x: Float[Tensor, "1 3 H W"]) -> Image.Image:
    return Image.fromarray(to_bytes(x)[0])


def restored(
    model: LatentDiffusion,
    given: Given,
    prompt: str,
    context: Float[Tensor, "1 m e"],
    sampling: Sampling,
    visits: int,
    length: int,
) -> Restored:
    """An image of the prompt that is consistent with what is given; by a model of super-resolution, of what is given.

    Args:
        context: tau_theta(y) of the prompt.
        sampling: seed, steps, guidance and eta.
        visits, length: time travel, as for `restoring`.

    Raises:
        ValueError: too many steps, or time travel that does not fit; raised before the first step.
    """
    how = sampling.options()
    if model.config.unet.condition_channels:
        how["condition"] = given.y
    else:
        how["sampler"] = restoring(model.autoencoder, given.y, given.degradation, sampling.eta, length, visits)
    calls = len(how["sampler"].visit(model.schedule, sampling.steps, None)) - 1
    run = model.denoise(context, [sampling.seed], **how)
    return Restored(model, prompt, given, list(tqdm(run, total=calls, unit="step", file=sys.stderr)))
