"""Figures: pictures side by side, the attention map of each word under them, by step and by layer, and what
self-attention sees."""

import io
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("agg")  # figures are files here; no display is needed

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from p2p.maps import MapHistory, upsample
from p2p.principal import Components

MAP = "magma"
INK = "#333333"


def grid(rows: Sequence[Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]]], title: str = "") -> Figure:
    """Pictures in rows, each with its caption above it."""
    columns = max(map(len, rows))
    figure = plt.figure(figsize=(2.6 * columns, 2.9 * len(rows)), layout="constrained")
    draw_grid(figure, rows)
    if title:
        figure.suptitle(title, fontsize=12, color=INK)
    return figure


def draw_grid(
    figure: FigureBase, rows: Sequence[Sequence[tuple[str, UInt8[np.ndarray, "H W 3"]]]], width: int = 34
) -> None:
    """The pictures of `grid` on a figure or a part of one; captions are broken into lines of `width` characters."""
    axes = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, line in zip(axes, rows):
        for axis, (caption, picture) in zip(row, line):
            axis.imshow(picture)
            axis.set_title(wrap(caption, width), fontsize=9, color=INK)


def attention(panels: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"], dict[str, Float[Tensor, "h w"]]]]) -> Figure:
    """Pictures side by side; under each, where every word of its prompt was looked at.

    All maps share one colour scale, so that a dark map is a word that little of the picture looked at.

    Args:
        panels: caption, picture and word maps of each column.
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
        axis.set_title(wrap(caption), fontsize=10, color=INK)
        axis.axis("off")
        named = list(maps.items())
        for i in range(lines * across):  # places that stay empty too: the colour bar is under all of them
            axis = figure.add_subplot(cells[1 + i // across, left + i % across])
            axis.axis("off")
            axes.append(axis)
            if i < len(named):
                word, word_map = named[i]
                image = axis.imshow(upsample(word_map, picture.shape[0]).numpy(), cmap=MAP, vmin=0, vmax=top)
                axis.set_title(word, fontsize=8, color=INK, pad=2)
    colour_bar(figure, image, axes, "share of attention")
    return figure


def by_step(
    history: MapHistory, picture: UInt8[np.ndarray, "H W 3"], side: int = 16, times: Sequence[int] | None = None
) -> Figure:
    """Where each word was looked at as the picture came to be: words in rows, steps in columns, on one colour scale.

    Args:
        history: of the picture's run.
        picture: what the run led to.
        side: positions on the shorter side of the layers that are averaged.
        times: the steps to show; by default eight, evenly spread over those recorded.

    Raises:
        ValueError: no layer has this resolution, a step was not recorded, or none was.
    """
    if times is None:
        last = len(history.times) - 1
        times = [t for i, t in enumerate(history.times) if i in {round(k * last / 7) for k in range(8)}]
    groups = history.at_side(side)
    maps = {f"t = {t}": history.mean(groups, [t]) for t in times}
    title = f"Where each word looks at each step, from the first on (layers of {side} a side)"
    return _map_table(history, picture, maps, title)


def by_layer(history: MapHistory, picture: UInt8[np.ndarray, "H W 3"]) -> Figure:
    """Where each word was looked at, averaged over the steps: words in rows, and in columns the layers of each part and
    resolution of the UNet, in the order they run.

    Raises:
        ValueError: no step was recorded.
    """
    maps = {}
    for group in history.groups:
        mean = history.mean([group])
        height, width = next(iter(mean.values())).shape
        maps[f"{group.place}\n{height}×{width}"] = mean
    return _map_table(history, picture, maps, "Where each word looks in each part of the UNet (mean over the steps)")


def _map_table(
    history: MapHistory,
    picture: UInt8[np.ndarray, "H W 3"],
    maps: Mapping[str, Mapping[str, Float[Tensor, "h w"]]],
    title: str,
) -> Figure:
    """The picture, and beside it word maps: a row per word, a captioned column per entry of `maps`."""
    if not maps:
        raise ValueError("no step was recorded: take the run's states through the history's `along`")
    rows, columns = len(history.words), len(maps)
    top = max(float(m.max()) for column in maps.values() for m in column.values())
    width = 3.4 + 0.95 * columns
    figure = plt.figure(figsize=(width, max(0.95 * rows, 2.6) + 1.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    left, right = figure.subfigures(1, 2, width_ratios=(2.6, 0.8 + 0.95 * columns))
    axis = left.subplots()
    axis.imshow(picture)
    axis.set_title(wrap(history.tokens.prompt, 28), fontsize=10, color=INK)
    axis.axis("off")
    axes = right.subplots(rows, columns, squeeze=False)
    for j, (caption, column) in enumerate(maps.items()):
        axes[0, j].set_title(caption, fontsize=8, color=INK, pad=3)
        for i, (word, word_map) in enumerate(column.items()):
            image = axes[i, j].imshow(upsample(word_map, 64).numpy(), cmap=MAP, vmin=0, vmax=top)
            axes[i, j].set(xticks=[], yticks=[], frame_on=False)
            if j == 0:
                axes[i, j].set_ylabel(word, fontsize=9, color=INK, rotation=0, ha="right", va="center")
    colour_bar(right, image, axes, "share of attention", shrink=min(1.0, 3.2 / columns))
    figure.suptitle(wrap(title, int(11 * width)) + "\n", fontsize=12, color=INK)  # 11 letters an inch
    return figure


def components(picture: UInt8[np.ndarray, "H W 3"], found: Components) -> Figure:
    """A picture beside the first three principal components of its self-attention: together as red, green and blue,
    each stretched over its range, and each by itself, on one colour scale."""
    low, high = found.maps.amin(dim=(1, 2), keepdim=True), found.maps.amax(dim=(1, 2), keepdim=True)
    together = ((found.maps - low) / (high - low).clamp(min=1e-12))[:3].permute(1, 2, 0)
    top = float(found.maps.abs().max())
    side = found.maps.shape[-1]
    figure, axes = plt.subplots(1, 5, figsize=(13, 3.4), layout="constrained")
    for axis in axes:
        axis.axis("off")
    titles = ["the picture", "components 1, 2, 3\nas red, green, blue"]
    titles += [f"component {k + 1}\n({share:.0%} of the variance)" for k, share in enumerate(found.share.tolist())]
    axes[0].imshow(picture)
    axes[1].imshow(together.numpy())
    for axis, component in zip(axes[2:], found.maps):
        image = axis.imshow(component.numpy(), cmap="RdBu_r", vmin=-top, vmax=top)
    for axis, caption in zip(axes, titles):
        axis.set_title(caption, fontsize=9, color=INK)
    colour_bar(figure, image, axes[2:], "coordinate along the component")
    figure.suptitle(
        f"Self-attention at {side}×{side}: positions of one colour look at the same places", fontsize=12, color=INK
    )
    return figure


def colour_bar(figure: FigureBase, image: AxesImage, axes, label: str, shrink: float = 0.4) -> Colorbar:
    """One colour bar below the axes that share its scale; `shrink` is its share of their width."""
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=shrink, aspect=40, pad=0.02)
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, color=INK)
    bar.ax.locator_params(axis="x", nbins=4)
    return bar


def wrap(text: str, width: int = 34) -> str:
    """Text broken into lines of at most so many characters; lines that it has stay apart."""
    return "\n".join(textwrap.fill(line, width, break_long_words=False) for line in text.splitlines())


def as_image(figure: Figure, dpi: int = 150) -> Image.Image:
    """The figure as a picture, at so many pixels per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    plt.close(figure)
    return Image.open(buffer)
