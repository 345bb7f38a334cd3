"""Figures: pictures side by side, and the attention map of each word under them."""

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("agg")  # figures are files here; no display is needed

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from p2p.maps import upsample

MAP = "magma"
INK = "#333333"


def grid(rows: Sequence[Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]]], title: str = "") -> Figure:
    """Pictures in rows, each with its caption above it."""
    columns = max(map(len, rows))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(2.6 * columns, 2.9 * len(rows)), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for row, line in zip(axes, rows):
        for axis, (caption, picture) in zip(row, line):
            axis.imshow(picture)
            axis.set_title(_wrap(caption), fontsize=9, color=INK)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


def attention(
    panels: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"], dict[str, Float[Tensor, "h w"]]]], title: str = ""
) -> Figure:
    """Pictures side by side; under each, where every word of its prompt was looked at.

    All maps share one colour scale, so that a dark map is a word that little of the picture looked at.

    Args:
        panels: caption, picture and word maps of each column.
        title: of the figure.
    """
    across = 4  # maps in a line under a picture
    lines = max(-(-len(maps) // across) for _, _, maps in panels)
    top = max(float(m.max()) for _, _, maps in panels for m in maps.values())
    figure = plt.figure(figsize=(3.4 * len(panels) + 0.6, 3.9 + 1.05 * lines), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    cells = figure.add_gridspec(
        1 + lines,
        len(panels) * (across + 1) - 1,  # a narrow column between panels
        height_ratios=[across] + [1] * lines,
        width_ratios=([1] * across + [0.35]) * (len(panels) - 1) + [1] * across,
    )
    axes, image = [], None
    for k, (caption, picture, maps) in enumerate(panels):
        left = k * (across + 1)
        axis = figure.add_subplot(cells[0, left : left + across])
        axis.imshow(picture)
        axis.set_title(_wrap(caption), fontsize=10, color=INK)
        axis.axis("off")
        for i, (word, word_map) in enumerate(maps.items()):
            axis = figure.add_subplot(cells[1 + i // across, left + i % across])
            image = axis.imshow(upsample(word_map, picture.shape[0]).numpy(), cmap=MAP, vmin=0, vmax=top)
            axis.set_title(word, fontsize=8, color=INK, pad=2)
            axis.axis("off")
            axes.append(axis)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.02)
    bar.set_label("share of attention", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, color=INK)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


def _wrap(text: str, width: int = 34) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def as_image(figure: Figure, dpi: int = 150) -> Image.Image:
    """The figure as a picture, at so many pixels per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    plt.close(figure)
    return Image.open(buffer)
