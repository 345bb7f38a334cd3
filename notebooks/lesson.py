"""Helpers of the lessons: source code, figures with a description, and numbers checked against the text."""

import inspect
import io
import textwrap
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Code, Image, display
from matplotlib.figure import Figure

STYLE = {  # legible in print, beside dark text and light, and to the colour-blind (Okabe and Ito's colours)
    "axes.prop_cycle": plt.cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "font.size": 10,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "viridis",
}
plt.rcParams.update(STYLE)


def source(function: Callable) -> Code:
    """The function's own source, as it stands in the package."""
    return Code(textwrap.dedent(inspect.getsource(function)), language="python")


def show(figure: Figure, alt: str) -> None:
    """Display a figure with a description for those who cannot see it."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    plt.close(figure)
    display(Image(file.getvalue(), alt=alt))


def side_by_side(images: dict[str, np.ndarray], alt: str) -> None:
    """Display images (H, W, 3) in a row, each under its title; `alt` describes the row."""
    figure, axes = plt.subplots(1, len(images), figsize=(2.2 * len(images), 2.5))
    for axis, (title, image) in zip(axes, images.items()):
        axis.imshow(image)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    show(figure, alt)


def claim(what: str, value: float, stated: float, within: float) -> None:
    """Print a measured number that the text relies on.

    Raises:
        ValueError: it is further from what the text states than it may be.
    """
    value = float(value)
    if not abs(value - stated) <= within:
        raise ValueError(f"{what} is {value:.4g}; the text says {stated:.4g}, within {within:.2g}")
    print(f"{what}: {value:.4g}")
