"""Masks: where an image may change. One boolean per latent position, from a mask image or a box."""

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

from ldm.shapes import Latent

Size = tuple[int, int]  # (height, width)


class Box(NamedTuple):
    """A rectangle in an image, in pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def share(pixels: Float[Tensor, "H W"], size: Size) -> Float[Tensor, "h w"]:
    """Average the pixels of each position of a latent of this size."""
    factors = [side // positions for side, positions in zip(pixels.shape, size)]
    return torch.nn.functional.avg_pool2d(pixels[None], factors)[0]


def box_pixels(box: Box, size: Size) -> Float[Tensor, "H W"]:
    """1 inside the box, 0 outside, for an image of this size.

    Raises:
        ValueError: the box is empty or extends beyond the image.
    """
    height, width = size
    if not (0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height):
        raise ValueError(
            f"the box {tuple(box)} does not lie in the image: left < right must lie in 0..{width} "
            f"and top < bottom in 0..{height}"
        )
    pixels = torch.zeros(size, dtype=torch.float64)
    pixels[box.top : box.bottom, box.left : box.right] = 1
    return pixels


def box_mask(box: Box, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """The latent positions that are at least half inside a box.

    Args:
        box: in pixels of the image.
        size: the latent's.
        factor: pixels per latent position, along one side.

    Raises:
        ValueError: the box is empty, extends beyond the image, or contains half of no position.
    """
    pixels = box_pixels(box, (factor * size[0], factor * size[1]))
    return _mask(share(pixels, size), f"the box {tuple(box)}")


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn PIL's errors on an untrusted file into a ValueError that names the file: damage, and decompression bombs."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Exception as e:  # decoders raise a dozen unrelated kinds
        raise ValueError(f"{name} can't be read as an image: {e}") from e


def read_mask(path: Path, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """Read a mask from an image file: white may change, black is kept.

    A file of the image's size is averaged over the pixels of each position; a file of the latent's size has one pixel
    per position. A brightness of half or more is white. Colours count by their brightness, transparent pixels as black.

    Args:
        path: an image file, of any mode.
        size: the latent's.
        factor: pixels per latent position, along one side.

    Raises:
        ValueError: the file is not an image, has another size, or is entirely black.
    """
    name, (h, w) = f"the mask {str(path)!r}", size
    H, W = factor * h, factor * w
    with decoding(name):
        image = Image.open(path)
    with image:
        width, height = image.size
        if (height, width) not in ((H, W), (h, w)):  # checked before any pixel is decoded
            raise ValueError(
                f"{name} is {width}x{height} pixels; it must have the image's size, {W}x{H}"
                + (f", or the latent's, {w}x{h}" if factor > 1 else "")
            )
        with decoding(name):
            white = torch.from_numpy(_brightness(image))
    return _mask(share(white, size), name)


def drawn_mask(white: np.ndarray | Tensor, size: Size, factor: int) -> Bool[Tensor, "h w"]:
    """Convert an array of booleans, or of numbers in [0, 1], to a mask, as `read_mask` does an image.

    Raises:
        ValueError: the array has another size or other numbers, or lets nothing change.
    """
    if not isinstance(white, np.ndarray | Tensor):
        raise ValueError(f"a mask is an image's path or an array, got {type(white).__name__}")
    if isinstance(white, np.ndarray):
        if white.dtype.kind not in "biuf":
            raise ValueError(f"a mask's numbers lie in [0, 1], black to white, got an array of {white.dtype}")
        white = torch.from_numpy(white.astype(np.float64, order="C"))  # torch refuses arrays that run backwards
    pixels = white.to("cpu", torch.float64)
    (h, w), (H, W) = size, (factor * side for side in size)
    if tuple(pixels.shape) not in ((H, W), (h, w)):
        raise ValueError(
            f"the mask is an array {tuple(pixels.shape)}; it must have the image's size, {(H, W)}"
            + (f", or the latent's, {(h, w)}" if factor > 1 else "")
        )
    if not ((pixels >= 0) & (pixels <= 1)).all():
        raise ValueError("a mask's numbers lie in [0, 1], black to white: divide one of bytes by 255")
    return _mask(share(pixels, size), "the mask")


def _brightness(image: Image.Image) -> Float[np.ndarray, "H W"]:
    """The brightness of each pixel, from 0 (black or transparent) to 1 (white)."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which PIL would clip to 8 instead of scaling
        return np.asarray(image).astype(np.float64) / 65535
    grey, opacity = (np.asarray(band) / 255 for band in image.convert("RGBA").convert("LA").split())
    return grey * opacity


def _mask(white: Float[Tensor, "h w"], name: str) -> Bool[Tensor, "h w"]:
    mask = white >= 0.5
    if not mask.any():
        raise ValueError(f"{name} lets nothing change: no position of the latent is white by half")
    return mask


def composite(mask: Bool[Tensor, "... h w"], z_star: Latent, z: Float[Tensor, "#b c h w"]) -> Latent:
    """[P2] mask * z* + (1 - mask) * z: the target's latents inside the mask, the source's outside, bit for bit.

    On the slide the mask marks what stays; here it marks what may change, so the slide's is `~mask`.

    Computed by selection: products would turn 0 into -0, and an infinite latent into NaN.

    Args:
        mask: one for all latents (h w), or one for each (b 1 h w).
    """
    return torch.where(mask.to(z.device), z_star, z)


def check_mask(mask: Bool[Tensor, "h w"], size: Size) -> None:
    """Raises ValueError unless the mask is a boolean tensor of the latent's size."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"a mask must be a tensor of bool, got {got}: write torch.as_tensor(mask) > 0.5")
    if tuple(mask.shape) != tuple(size):
        raise ValueError(f"the mask is {tuple(mask.shape)}, the latent {tuple(size)}")
