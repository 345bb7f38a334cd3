"""Conversion between images as bytes, (b, H, W, 3), and as tensors for the networks, (b, 3, H, W) in [-1, 1]."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

BYTES = "must be an array of bytes (uint8)"


def check_images(name: str, images: Any) -> None:
    """Raises ValueError unless `images` are images as bytes, (b, H, W, 3)."""
    if isinstance(images, list | tuple):
        each = "np.asarray(image.convert('RGB'))" if any(hasattr(p, "convert") for p in images) else "image"
        raise ValueError(f"{name} {BYTES}, got a list: write np.stack([{each} for image in {name}])")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        _refuse(name, images)
    if images.ndim == 3 and images.shape[2] == 3:
        raise ValueError(f"{name} {BYTES}, (b, H, W, 3), got one image {images.shape}: write {name}[None]")
    if images.ndim == 4 and images.shape[3] != 3 and images.shape[1] == 3:
        raise ValueError(f"{name} {BYTES}, (b, H, W, 3), got {images.shape}: write {name}.transpose(0, 2, 3, 1)")
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"{name} {BYTES}, (b, H, W, 3), got {images.shape}: of a PIL image take np.asarray(image.convert('RGB'))"
        )


def check_image(name: str, image: Any) -> None:
    """Raises ValueError unless `image` is one image as bytes, (H, W, 3)."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        _refuse(name, image)
    if image.ndim != 3 or image.shape[2] != 3:
        how = f": write {name}[0]" if image.ndim == 4 and len(image) == 1 else ""
        raise ValueError(f"{name} {BYTES} of one image, (H, W, 3), got {image.shape}{how}")


def _refuse(name: str, given: Any) -> None:
    """Raises ValueError for anything but an array of bytes."""
    if isinstance(given, Tensor):
        got, how = "a tensor", f"{name}.numpy() of one of bytes, or ldm.helpers.images.to_bytes of one in [-1, 1]"
    elif isinstance(given, np.ndarray):
        got, how = given.dtype, f"for numbers from 0 to 1 write (255 * {name}).round().astype(np.uint8)"
    elif hasattr(given, "convert"):
        got, how = "a PIL image", f"write np.asarray({name}.convert('RGB'))"
    else:
        got, how = type(given).__name__, "np.asarray of a PIL image is one"
    raise ValueError(f"{name} {BYTES}, got {got}: {how}")


def to_tensor(images: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b 3 H W"]:
    """Convert bytes to float32 in [-1, 1].

    Raises:
        ValueError: not bytes, or of another shape.
    """
    check_images("images", images)
    return torch.from_numpy(np.array(images, order="C")).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x: Float[Tensor, "b 3 H W"]) -> UInt8[np.ndarray, "b H W 3"]:
    """Convert [-1, 1] to bytes; values outside are clipped.

    Raises:
        ValueError: x has another shape, or an integer dtype.
    """
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(f"x must be images in [-1, 1], (b, 3, H, W), got {x.dtype} of shape {tuple(x.shape)}")
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
