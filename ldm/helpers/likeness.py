"""Image similarity: pixel by pixel, and in structure only."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldm.helpers.images import check_image


def psnr(image: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """10 log10(255^2 / mean squared difference), in dB; inf if the images are equal.

    Raises:
        ValueError: not bytes, or of different sizes.
    """
    check_image("image", image)
    check_image("other", other)
    if image.shape != other.shape:
        raise ValueError(f"the images must have one size, got {image.shape} and {other.shape}: resize one")
    error = np.square(image.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def structure(image: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """The correlation of the two images' edge maps, at 32 x 32: 1 for the same layout, whatever the colours.

    Edges are the gradients of the grey levels, after averaging has removed finer detail. An image without edges
    correlates with none: 0.

    Raises:
        ValueError: not bytes.
    """
    check_image("image", image)
    check_image("other", other)
    edges = []
    for pixels in (image, other):
        grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
        edges.append(np.hypot(*np.gradient(np.asarray(grey, dtype=float))).ravel())
    if not all(e.std() for e in edges):
        return 0.0
    return float(np.corrcoef(*edges)[0, 1])
