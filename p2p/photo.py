"""An image of one's own, as viewers show it, at the size of a model."""

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps

from ldm.helpers.images import check_image
from p2p.masks import decoding

Fit = Literal["crop", "pad"]
SMALLEST = 16  # pixels a side; fewer are a mistake, such as an icon
DEEP = ("I", "I;16", "I;16B", "I;16L")  # PIL's modes of grey images with 16 bits a pixel


def as_pixels(image: Path | Image.Image | np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """An image as bytes: from a file of any kind, an image of PIL, or bytes.

    As viewers show it: turned as its EXIF data says, in sRGB, transparent parts on white, of an animation the first
    frame.

    Raises:
        ValueError: it is none of these, it is damaged, or so large that decoding it would exhaust the memory.
    """
    if isinstance(image, Path):
        with decoding(f"the image {str(image)!r}"), Image.open(image) as opened:
            opened.load()
            return _shown(opened)
    if isinstance(image, Image.Image):
        return _shown(image)
    check_image("image", image)
    return image


def _shown(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode == "F":
        raise ValueError("its pixels are numbers without a range: save it with 8 or 16 bits a pixel")
    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode in DEEP:  # which PIL would clip to 8 bits instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.float64).clip(0, 65535) / 257).round().astype(np.uint8))
    elif image.mode not in ("CMYK", "L"):
        image = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(BytesIO(profile))
            image = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (OSError, ImageCms.PyCMSError):  # a damaged profile, or one of another mode: viewers ignore it
            pass
    image = image.convert("RGB")
    if alpha:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image)  # a copy, which torch can write to


def fitted(pixels: UInt8[np.ndarray, "H W 3"], side: int, fit: Fit = "crop") -> UInt8[np.ndarray, "side side 3"]:
    """An image at the size of a model: scaled, and cut to the middle square ("crop") or set on white ("pad").

    Raises:
        ValueError: an image of fewer than 16 pixels a side.
    """
    image = Image.fromarray(pixels)
    if min(image.size) < SMALLEST:
        raise ValueError(f"the image is {image.width}x{image.height} pixels: it must have {SMALLEST} a side at least")
    if image.size == (side, side):
        return pixels
    if fit == "crop":
        return np.array(ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS))
    return np.array(ImageOps.pad(image, (side, side), Image.Resampling.LANCZOS, color="white"))


def digest(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """The sha256 of an image's pixels, whatever file they came from."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
