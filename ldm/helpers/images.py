"""Conversion between images as bytes, (b, H, W, 3), and as tensors for the networks, (b, 3, H, W) in [-1, 1]."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

BYTES = "must be an array of bytes (uint8)"


def check_pictures(name: str, pictures: Any) -> None:
    """Raises ValueError unless `pictures` are images as bytes, (b, H, W, 3)."""
    if isinstance(pictures, list | tuple):
        each = "np.asarray(picture.convert('RGB'))" if any(hasattr(p, "convert") for p in pictures) else "picture"
        raise ValueError(f"{name} {BYTES}, got a list: write np.stack([{each} for picture in {name}])")
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8:
        _refuse(name, pictures)
    if pictures.ndim == 3 and pictures.shape[2] == 3:
        raise ValueError(f"{name} {BYTES}, (b, H, W, 3), got one picture {pictures.shape}: write {name}[None]")
    if pictures.ndim == 4 and pictures.shape[3] != 3 and pictures.shape[1] == 3:
        raise ValueError(f"{name} {BYTES}, (b, H, W, 3), got {pictures.shape}: write {name}.transpose(0, 2, 3, 1)")
    if pictures.ndim != 4 or pictures.shape[3] != 3:
        raise ValueError(
            f"{name} {BYTES}, (b, H, W, 3), got {pictures.shape}: of a PIL image take np.asarray(image.convert('RGB'))"
        )


def check_picture(name: str, picture: Any) -> None:
    """Raises ValueError unless `picture` is one image as bytes, (H, W, 3)."""
    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
        _refuse(name, picture)
    if picture.ndim != 3 or picture.shape[2] != 3:
        how = f": write {name}[0]" if picture.ndim == 4 and len(picture) == 1 else ""
        raise ValueError(f"{name} {BYTES} of one picture, (H, W, 3), got {picture.shape}{how}")


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


def to_tensor(pictures: UInt8[np.ndarray, "b H W 3"]) -> Float[Tensor, "b 3 H W"]:
    """Convert bytes to float32 in [-1, 1].

    Raises:
        ValueError: not bytes, or of another shape.
    """
    check_pictures("pictures", pictures)
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(x: Float[Tensor, "b 3 H W"]) -> UInt8[np.ndarray, "b H W 3"]:
    """Convert [-1, 1] to bytes; values outside are clipped.

    Raises:
        ValueError: x has another shape, or an integer dtype.
    """
    if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(f"x must be images in [-1, 1], (b, 3, H, W), got {x.dtype} of shape {tuple(x.shape)}")
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
