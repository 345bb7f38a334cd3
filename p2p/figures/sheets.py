"""Figures: images side by side, the attention map of each word under them, by step and by layer, and components of
self-attention.

A `Sheet` lays them out, in inches: rows that would be too wide are broken into several, captions into lines, so that
nothing overlaps and nothing is cropped.
"""

import io
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from p2p.experiments.self_attention_pca import Components
from p2p.figures.fonts import CAPTION, LABEL, TITLE, fitted, height_of, prepare, wrap
from p2p.maps import MapHistory, Scale, upsample

MAP = "magma"  # monotonic in lightness: readable in greyscale and with any colour vision
INK = "#333333"
# Okabe and Ito's, distinguishable with any colour vision; without the yellow, which is too light for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARGIN, GAP = 0.15, 0.12
TILE = 0.62  # a word's map
ACROSS = 4  # maps in a line under an image

Panel = tuple[str, UInt8[np.ndarray, "H W 3"]]  # a caption and an image
Maps = Mapping[str, Float[Tensor, "h w"]]


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of this size in inches, drawn in memory: no display or backend is needed."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class Sheet:
    """A figure that is filled from the top, with coordinates in inches from its top left corner, and grows with its
    content."""

    def __init__(self, width: float, title: str = ""):
        self.figure, self.width, self.bottom = new_figure(width, 1.0), width, MARGIN
        self.figure.set_layout_engine("none")
        self._axes: list[tuple[Axes, float, float, float, float]] = []
        self._texts: list[tuple[str, float, float, dict]] = []
        if title:
            self.text(width / 2, MARGIN, wrap(title, width - 2 * MARGIN, TITLE), TITLE, "center")
            self.bottom += GAP

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes that fill this rectangle; their labels and title need room around it."""
        axis = self.figure.add_axes((0, 0, 1, 1))
        self._axes.append((axis, left, top, width, height))
        self.bottom = max(self.bottom, top + height)
        return axis

    def text(self, left: float, top: float, text: str, size: float = LABEL, align: str = "left") -> None:
        """Add lines of text from `top` down."""
        how = dict(fontsize=size, color=INK, ha=align, va="top", linespacing=1.2)
        self._texts.append((text, left, top, how))
        self.bottom = max(self.bottom, top + height_of(text, size))

    def image(self, left: float, top: float, side: float, panel: Panel, size: float = CAPTION) -> None:
        """Add an image at `top`, below its caption."""
        caption, image = panel
        axis = self.axes(left, top, side, side * image.shape[0] / image.shape[1])
        axis.axis("off")
        axis.imshow(image, interpolation="bicubic")
        axis.set_title(wrap(caption, side, size), fontsize=size, color=INK, pad=4, linespacing=1.2)

    def grid(
        self, rows: Sequence[Sequence[Panel]], side: float, step: float, left: float = MARGIN, size: float = CAPTION
    ) -> None:
        """Add images in rows at the bottom, each under its caption; `step` is from one left edge to the next."""
        for row in rows:
            heads = [height_of(wrap(caption, side, size), size) for caption, _ in row if caption]
            top = self.bottom + max(heads, default=0)
            for k, panel in enumerate(row):
                self.image(left + k * step, top, side, panel, size)
            self.bottom += GAP

    def colour_bar(self, colours: ScalarMappable, label: str, left: float, width: float) -> Colorbar:
        """Add a colour bar at the bottom."""
        bar = self.figure.colorbar(
            colours, cax=self.axes(left, self.bottom + GAP, width, 0.09), orientation="horizontal"
        )
        bar.set_label(label, fontsize=LABEL, color=INK)
        bar.ax.tick_params(labelsize=LABEL, color=INK, labelcolor=INK)
        bar.ax.locator_params(axis="x", nbins=4)
        self.bottom += 0.4
        return bar

    def done(self) -> Figure:
        """Return the figure, at its final height."""
        height = self.bottom + MARGIN
        self.figure.set_size_inches(self.width, height)
        for axis, left, top, wide, high in self._axes:
            axis.set_position((left / self.width, 1 - (top + high) / height, wide / self.width, high / height))
        for text, left, top, how in self._texts:
            self.figure.text(left / self.width, 1 - top / height, text, **how)
        return self.figure


def grid(rows: Sequence[Sequence[Panel]], title: str = "", side: float = 2.0, size: float = CAPTION) -> Figure:
    """Draw images in rows, each with its caption above it."""
    sheet = Sheet(2 * MARGIN + max(map(len, rows)) * (side + GAP) - GAP, title)
    sheet.grid(rows, side, side + GAP, size=size)
    return sheet.done()


def by_seed(rows: Mapping[int, Sequence[Panel]], title: str = "") -> Figure:
    """Draw a row of images per seed, broken into several if it has more than five; unbroken rows are captioned once."""
    count, label = len(next(iter(rows.values()))), 0.75
    length_of_row = len(broken(range(count), 5)[0])
    side = min(2.0, 8.0 / length_of_row - GAP)
    sheet = Sheet(2 * MARGIN + label + length_of_row * (side + GAP) - GAP, title)
    for i, (seed, panels) in enumerate(rows.items()):
        captioned = i == 0 or count > length_of_row
        shown = [(caption if captioned else "", image) for caption, image in panels]
        for k, line in enumerate(broken(shown, 5)):
            sheet.grid([line], side, side + GAP, MARGIN + label)
            if k == 0:
                name = f"seed {seed}"
                sheet.text(MARGIN, sheet.bottom - GAP - side / 2, name, fitted(name, label - 0.05, CAPTION))
    return sheet.done()


def broken(row: Sequence, across: int) -> list[Sequence]:
    """Break a row into as few rows of at most `across` as possible, all but the last of equal length."""
    length = -(-len(row) // -(-len(row) // across))
    return [row[i : i + length] for i in range(0, len(row), length)]


def percent(share: float) -> str:
    """Format a share of attention with two digits: 24%, 2.8%, 0.3%."""
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


def attention(
    panels: Sequence[tuple[str, UInt8[np.ndarray, "H W 3"], Maps]],
    title: str = "",
    scale: Scale = "word",
    across: int = 3,
) -> Figure:
    """Draw images side by side; under each, the attention map of every word of its prompt, and its share of all
    attention.

    Args:
        panels: caption, image and maps of each, as returned by `MapHistory.mean`.
        title: of the figure.
        scale: "word", each map from 0 to its own maximum, so that every word's region is visible, with its share beside
            it; or "shared", one colour scale for all maps, so that a dark map is a word with little attention.
        across: panels in a row.
    """
    rows = broken(panels, across)
    side = ACROSS * (TILE + 0.08) - 0.08
    step, label = side + 2.5 * GAP, height_of("word\n%", LABEL) + 0.04
    sheet = Sheet(2 * MARGIN + len(rows[0]) * step - 2.5 * GAP, title)
    top_value = max(float(m.max()) for _, _, maps in panels for m in maps.values())
    for row in rows:
        sheet.grid([[(caption, image) for caption, image, _ in row]], side, step)
        below = sheet.bottom - GAP + 0.03
        for k, (_, _, maps) in enumerate(row):
            for i, (word, word_map) in enumerate(maps.items()):
                left = MARGIN + k * step + i % ACROSS * (TILE + 0.08)
                axis = sheet.axes(left, below + label + i // ACROSS * (TILE + label), TILE, TILE)
                _draw_map(axis, word_map, float(word_map.max()) if scale == "word" else top_value)
                share = percent(float(word_map.mean()))
                axis.set_title(f"{word}\n{share}", fontsize=fitted(word, TILE + 0.06), color=INK, pad=2)
        sheet.bottom += 1.5 * GAP
    _scale_bar(sheet, top_value, scale, MARGIN, sheet.width - 2 * MARGIN)
    return sheet.done()


def by_step(
    history: MapHistory,
    image: UInt8[np.ndarray, "H W 3"],
    side: int = 16,
    times: Sequence[int] | None = None,
    scale: Scale = "word",
) -> Figure:
    """Draw the attention map of each word step by step: words in rows, steps in columns.

    Args:
        history: of the image's run.
        image: the final image of the run.
        side: positions on the shorter side of the averaged layers.
        times: the steps to show; by default eight, evenly spaced over those recorded.
        scale: as for `attention`; the maps of a word share a scale.

    Raises:
        ValueError: no layer has this resolution, a step was not recorded, or none was.
    """
    if times is None:
        last = len(history.times) - 1
        times = [t for i, t in enumerate(history.times) if i in {round(k * last / 7) for k in range(8)}]
    groups = history.at_side(side)
    maps = {f"t = {t}": history.mean(groups, [t]) for t in times}
    title = f"The attention map of each word, step by step from the first (attention layers of {side} positions a side)"
    return _map_table(history, image, maps, title, scale)


def by_layer(history: MapHistory, image: UInt8[np.ndarray, "H W 3"], scale: Scale = "word") -> Figure:
    """Draw the attention map of each word, averaged over the steps: words in rows, and in columns the layers of each
    part and resolution of the UNet, in execution order. `scale` is that of `by_step`.

    Raises:
        ValueError: no step was recorded.
    """
    maps = {}
    for group in history.groups:
        mean = history.mean([group])
        height, width = next(iter(mean.values())).shape
        maps[f"{group.place}\n{height}×{width}"] = mean
    return _map_table(history, image, maps, "The attention map of each word in each part of the UNet", scale)


def _map_table(
    history: MapHistory,
    image: UInt8[np.ndarray, "H W 3"],
    maps: Mapping[str, Maps],
    title: str,
    scale: Scale,
) -> Figure:
    """Draw the image, and beside it word maps: a row per word with its mean share, a captioned column per entry of
    `maps`; more than eight columns are broken into several tables."""
    if not maps:
        raise ValueError("no step was recorded: take the run's states through the history's `along`")
    tile, gap, words = 0.66, 0.06, 0.8
    tables = broken(list(maps.items()), 8)
    side = 2.0
    left = MARGIN + side + GAP + words
    sheet = Sheet(left + max(4, len(tables[0])) * (tile + gap) - gap + MARGIN, title)
    prompt = wrap(history.tokens.prompt, side, CAPTION)
    start = sheet.bottom + max(height_of(prompt, CAPTION), height_of("up\n8", LABEL))
    sheet.image(MARGIN, start, side, (prompt, image))
    tops = {word: max(float(column[word].max()) for column in maps.values()) for word in history.words}
    shares = {word: sum(float(column[word].mean()) for column in maps.values()) / len(maps) for word in history.words}
    top_value = max(tops.values())
    for table in tables:
        for i, word in enumerate(history.words):
            for j, (caption, column) in enumerate(table):
                axis = sheet.axes(left + j * (tile + gap), start + i * (tile + gap), tile, tile)
                _draw_map(axis, column[word], tops[word] if scale == "word" else top_value)
                if i == 0:
                    axis.set_title(caption, fontsize=LABEL, color=INK, pad=3)
                if j == 0:
                    how = dict(rotation=0, ha="right", va="center", labelpad=4)
                    size = fitted(word, words)
                    axis.set_ylabel(f"{word}\n{percent(shares[word])}", fontsize=size, color=INK, **how)
        start = sheet.bottom + GAP + height_of("up\n8", LABEL)
    _scale_bar(sheet, top_value, scale, left, sheet.width - MARGIN - left)
    return sheet.done()


def _draw_map(axis: Axes, word_map: Float[Tensor, "h w"], top: float) -> None:
    """Draw a word map with bicubic interpolation, on a scale from 0 to `top`."""
    axis.imshow(upsample(word_map, 64).numpy(), cmap=MAP, vmin=0, vmax=max(top, 1e-12))
    axis.set(xticks=[], yticks=[], frame_on=False)


def _scale_bar(sheet: Sheet, top: float, scale: Scale, left: float, room: float) -> None:
    """Draw the colour bar of word maps."""
    width = min(room, 3.2)
    label = "share of a position's attention" if scale == "shared" else "share, relative to the word's largest"
    colours = ScalarMappable(Normalize(0, top if scale == "shared" else 1), MAP)
    sheet.colour_bar(colours, label, left + (room - width) / 2, width)


def components(image: UInt8[np.ndarray, "H W 3"], found: Components) -> Figure:
    """Draw an image beside the first three principal components of its self-attention: together as red, green and blue,
    each stretched over its range, and separately, on one colour scale."""
    low, high = found.maps.amin(dim=(1, 2), keepdim=True), found.maps.amax(dim=(1, 2), keepdim=True)
    together = ((found.maps - low) / (high - low).clamp(min=1e-12))[:3].permute(1, 2, 0)
    top = float(found.maps.abs().max())
    side, places = 1.7, found.maps.shape[-1]
    title = f"Self-attention at {places}×{places}: positions of one colour attend to the same positions"
    sheet = Sheet(2 * MARGIN + 5 * (side + GAP) - GAP, title)
    captions = ["the image", "components 1, 2, 3\nas red, green, blue"]
    captions += [f"component {k + 1}\n({share:.0%} of the variance)" for k, share in enumerate(found.share.tolist())]
    start = sheet.bottom + max(height_of(caption, CAPTION) for caption in captions)
    sheet.image(MARGIN, start, side, (captions[0], image), LABEL)
    for k, (caption, shown) in enumerate(zip(captions[1:], [together, *found.maps]), start=1):
        axis = sheet.axes(MARGIN + k * (side + GAP), start, side, side)
        axis.axis("off")
        axis.imshow(shown.numpy(), cmap="RdBu_r", vmin=-top, vmax=top)
        axis.set_title(caption, fontsize=LABEL, color=INK, pad=4)
    scale = ScalarMappable(Normalize(-top, top), "RdBu_r")
    sheet.colour_bar(scale, "coordinate along the component", MARGIN + 2 * (side + GAP), 3 * (side + GAP) - GAP)
    return sheet.done()


def as_image(figure: Figure, dpi: int = 150) -> Image.Image:
    """Render the figure to an image, at `dpi` pixels per inch."""
    buffer = io.BytesIO()
    prepare(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # a letter that no installed font has is drawn as a box
        figure.savefig(buffer, dpi=dpi, format="png", pil_kwargs={"compress_level": 0})  # for it is read at once
    buffer.seek(0)
    return PngImageFile(buffer)  # of any size, for it is no file from elsewhere
