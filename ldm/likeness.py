"""How alike two pictures are: in every pixel, and in their structure alone."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldm.pictures import check_picture


def psnr(picture: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """10 log10(255^2 / mean squared difference), in dB; inf if the pictures are equal.

    Raises:
        ValueError: they are not bytes, or of two sizes.
    """
    check_picture("picture", picture)
    check_picture("other", other)
    if picture.shape != other.shape:
        raise ValueError(f"the pictures must have one size, got {picture.shape} and {other.shape}: resize one")
    error = np.square(picture.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def structure(picture: UInt8[np.ndarray, "H W 3"], other: UInt8[np.ndarray, "H W 3"]) -> float:
    """The correlation of where the two pictures have edges, at 32 x 32: 1 is one layout, whatever its colours.

    Edges are the slopes of the grey levels, after averaging has removed what is finer. A picture without edges
    correlates with none: 0.

    Raises:
        ValueError: they are not bytes.
    """
    check_picture("picture", picture)
    check_picture("other", other)
    edges = []
    for pixels in (picture, other):
        grey = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
        edges.append(np.hypot(*np.gradient(np.asarray(grey, dtype=float))).ravel())
    if not all(e.std() for e in edges):
        return 0.0
    return float(np.corrcoef(*edges)[0, 1])
