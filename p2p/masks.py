"""Masks: where a picture may change. One truth value per latent position, from a picture that a user drew or a box."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

Size = tuple[int, int]  # (height, width)


class Box(NamedTuple):
    """A rectangle of a picture, in pixels; right and bottom are the first that it does not hold."""

    left: int
    top: int
    right: int
    bottom: int


def share(pixels: Float[Tensor, "H W"], size: Size) -> Float[Tensor, "h w"]:
    """The average of the pixels that each position of a latent of this size stands for."""
    factors = [side // positions for side, positions in zip(pixels.shape, size)]
    return torch.nn.functional.avg_pool2d(pixels[None], factors)[0]


def box_pixels(box: Box, size: Size) -> Float[Tensor, "H W"]:
    """1 inside the box, 0 outside, for a picture of this size.

    Raises:
        ValueError: the box is empty or reaches beyond the picture.
    """
    height, width = size
    if not (0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height):
        raise ValueError(
            f"the box {tuple(box)} does not lie in the picture: left < right must lie in 0..{width} "
            f"and top < bottom in 0..{height}"
        )
    pixels = torch.zeros(size, dtype=torch.float64)
    pixels[box.top : box.bottom, box.left : box.right] = 1
    return pixels


def box_mask(box: Box, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """The positions that lie in a box of the picture by half or more.

    Args:
        box: in pixels of the picture.
        size: the latent's.
        factor: pixels per latent position, along one side.

    Raises:
        ValueError: the box is empty, reaches beyond the picture, or holds no position by half.
    """
    pixels = box_pixels(box, (factor * size[0], factor * size[1]))
    return _mask(share(pixels, size), f"the box {tuple(box)}")


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Around what PIL does to a file from elsewhere: what it finds wrong, whether damage or a small file that would
    unpack to more pixels or text than PIL holds safe, is a ValueError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Exception as e:  # decoders raise a dozen kinds, with nothing in common
        raise ValueError(f"{name} can't be read as a picture: {e}") from e


def read_mask(path: Path, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """The mask that a picture file draws: white may change, black stays.

    A file of the picture's size is averaged over the pixels of each position, and half or more is white; so is a pixel
    of a file of the latent's size. Colours count by their brightness, transparent pixels as black.

    Args:
        path: a picture file, of any mode.
        size: the latent's.
        factor: pixels per latent position, along one side.

    Raises:
        ValueError: the file is no picture, has another size, or lets nothing change.
    """
    name, (h, w) = f"the mask {str(path)!r}", size
    H, W = factor * h, factor * w
    with decoding(name):
        image = Image.open(path)
    with image:
        width, height = image.size
        if (height, width) not in ((H, W), (h, w)):  # known before a pixel is decoded
            raise ValueError(
                f"{name} is {width}x{height} pixels; it must have the picture's size, {W}x{H}, or the latent's, {w}x{h}"
            )
        with decoding(name):
            white = torch.from_numpy(_brightness(image))
    return _mask(share(white, size), name)


def drawn_mask(white: np.ndarray | Tensor, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """The mask that an array draws, of truth values or of numbers from 0 to 1, read as `read_mask` reads a picture.

    Raises:
        ValueError: the array has another size or other numbers, or lets nothing change.
    """
    if not isinstance(white, np.ndarray | Tensor):
        raise ValueError(f"a mask is a picture's path or an array, got {type(white).__name__}")
    pixels = torch.as_tensor(white).to("cpu", torch.float64)
    (h, w), (H, W) = size, (factor * side for side in size)
    if tuple(pixels.shape) not in ((H, W), (h, w)):
        raise ValueError(
            f"the mask is an array {tuple(pixels.shape)}; it must have the picture's size, {(H, W)}, or the latent's, "
            f"{(h, w)}"
        )
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise ValueError("a mask's numbers lie in [0, 1], black to white: divide one of bytes by 255")
    return _mask(share(pixels, size), "the mask")


def _brightness(image: Image.Image) -> Float[np.ndarray, "H W"]:
    """From 0, black or transparent, to 1, white."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which PIL would not scale to 8 but cut off
        return np.asarray(image).astype(np.float64) / 65535
    grey, opacity = (np.asarray(band) / 255 for band in image.convert("RGBA").convert("LA").split())
    return grey * opacity


def _mask(white: Float[Tensor, "h w"], name: str) -> Bool[Tensor, "h w"]:
    mask = white >= 0.5
    if not mask.any():
        raise ValueError(f"{name} lets nothing change: no position of the latent is white by half")
    return mask


def composite(
    mask: Bool[Tensor, "... h w"], z_star: Float[Tensor, "b c h w"], z: Float[Tensor, "#b c h w"]
) -> Float[Tensor, "b c h w"]:
    """[P2] mask * z* + (1 - mask) * z: the target's latents inside the mask, the source's outside, bit for bit.

    A choice, not a sum: a product would make -0 of 0 and NaN of an infinite latent.

    Args:
        mask: one for all latents (h w), or one for each (b 1 h w).
    """
    return torch.where(mask.to(z.device), z_star, z)


def check_mask(mask: Bool[Tensor, "h w"], size: Size) -> None:
    """Raises ValueError unless the mask has truth values, and the latent's size."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"a mask must be a tensor of bool, got {got}: write torch.as_tensor(mask) > 0.5")
    if tuple(mask.shape) != tuple(size):
        raise ValueError(f"the mask is {tuple(mask.shape)}, the latent {tuple(size)}")
