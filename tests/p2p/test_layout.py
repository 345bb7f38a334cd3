"""Figures however much they hold: nothing overlaps, nothing is cut off, and colours are told apart by every eye."""

import math
from itertools import combinations

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
import torch

from ldm.attention import Site
from ldm.schedule import Prediction
from ldm.states import State
from p2p.alpha import Alpha
from p2p.cli import gallery
from p2p.edits import Refine
from p2p.experiments.sweeps import TAUS, WINDOWS, Preservation, Sweep
from p2p.figures import edit_matrices, sheets, sweep_plots
from p2p.maps import MapHistory

PICTURE = np.zeros((32, 32, 3), np.uint8)
LONG = "a photo of a big striped red car next to a small blue house on the grass in fog with snowflakes"  # 20 words
SHORT = "cat"


def overlaps(figure) -> list[tuple[str, str]]:
    """What lies over something else or beyond the edge: texts by what they say, and images."""
    figure.draw_without_rendering()
    texts, near = list(figure.texts), 1  # pixel
    for axes in figure.axes:
        texts.append(axes.title)
        texts += axes.get_legend().get_texts() if axes.get_legend() else []
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label]
            for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim()))):
                ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
                texts += [label for place, label in ticks if low <= place <= high]
    texts = [text for text in texts if text.get_text().strip()]
    found, turned = [], [text for text in texts if text.get_rotation() % 90]
    for text, other in combinations(turned, 2):  # tick labels side by side, whose boxes overlap where they do not
        (x, y), (x2, y2) = (label.get_transform().transform(label.get_position()) for label in (text, other))
        apart = abs(x2 - x) * math.sin(math.radians(text.get_rotation()))
        if abs(y2 - y) < near and apart < text.get_fontsize() * figure.dpi / 72:
            found.append((text.get_text(), other.get_text()))
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text not in turned]
    boxes += [(f"image {i}", axis.get_window_extent()) for i, axis in enumerate(figure.axes) if axis.images]
    right, top = figure.bbox.max
    edged = [*boxes, *((text.get_text(), text.get_window_extent()) for text in turned)]
    found += [
        (name, "the edge")
        for name, box in edged
        if box.x0 < -near or box.y0 < -near or box.x1 > right + near or box.y1 > top + near
    ]
    for (name, a), (other, b) in combinations(boxes, 2):
        if min(a.x1, b.x1) - max(a.x0, b.x0) > near and min(a.y1, b.y1) - max(a.y0, b.y0) > near:
            found.append((name, other))
    return found


def maps_of(prompt: str) -> dict:
    words = [f"{word}#{i}" for i, word in enumerate(prompt.split())]
    return {word: torch.full((4, 4), 1 / (len(words) + 1)) for word in [*words, "BOS EOS PAD"]}


def compared(prompt: str, targets: int):
    panels = [(f"{role}\n{prompt}", PICTURE, maps_of(prompt)) for role in ("source", "same seed, new prompt", "edit")]
    return sheets.attention(panels * targets)


def recorded(tokenizer, prompt: str, steps: int) -> MapHistory:
    """A run whose attention is the same everywhere."""
    history, nothing = MapHistory(tokenizer.encode(prompt)), torch.zeros(1, 1, 1, 1)
    times = [1000 - 10 * i for i in range(steps + 1)]

    def states():
        for t in times[1:]:
            for layer, (place, side) in enumerate([("down", 4), ("mid", 2), ("up", 4)]):
                history(Site("cross", place, layer, side, side), torch.full((1, 1, side**2, 32), 1 / 32))
            yield State(t, nothing, Prediction(nothing, nothing))

    list(history.along(states(), times))
    return history


def by_step(tokenizer, prompt: str, steps: int):
    history = recorded(tokenizer, prompt, steps)
    return sheets.by_step(history, PICTURE, 4, history.times)


def swept(prompt: str, taus, targets: int, draw, given=None):
    k = len(taus)
    measured = torch.arange(2.0 * k).reshape(2, k)
    images = np.zeros((2, k, 32, 32, 3), np.uint8)
    one = Sweep(
        "a cat", prompt, 1000, tuple(taus), images[:, 0], images, *[measured] * 3, torch.zeros(2), (0, 1), given
    )
    return draw([one] * targets)


def preserved(prompt: str, targets: int, given=None):
    images = np.stack([PICTURE] * targets)
    found = Preservation(prompt, (prompt,) * targets, "grass", PICTURE, *[images] * 3, given)
    return sweep_plots.preservation(found)


def matrices(tokenizer, prompt: str):
    tokens, edit = tokenizer.encode(prompt), Refine(Alpha(0.5))
    at = {t: edit.compile(tokens, tokens, 1000)(t) for t in (1000, 800, 600, 400)}
    return edit_matrices.matrices(tokens, tokens, torch.eye(32, dtype=torch.float64), at)


FIGURES = {
    "one image and its maps": lambda tokenizer, prompt: sheets.attention([(prompt, PICTURE, maps_of(prompt))]),
    "compare, 1 target": lambda tokenizer, prompt: compared(prompt, 1),
    "compare, 2 targets": lambda tokenizer, prompt: compared(prompt, 2),
    "compare, 8 targets": lambda tokenizer, prompt: compared(prompt, 8),
    "1 step": lambda tokenizer, prompt: by_step(tokenizer, prompt, 1),
    "8 steps": lambda tokenizer, prompt: by_step(tokenizer, prompt, 8),
    "layers": lambda tokenizer, prompt: sheets.by_layer(recorded(tokenizer, prompt, 2), PICTURE),
    "seeds, 1 target": lambda tokenizer, prompt: sheets.by_seed({s: [(prompt, PICTURE)] * 2 for s in (7, 2**63 - 1)}),
    "seeds, 8 targets": lambda tokenizer, prompt: sheets.by_seed({s: [(prompt, PICTURE)] * 9 for s in (7, 8)}),
    "grid": lambda tokenizer, prompt: sheets.grid([[(prompt, PICTURE)] * 3] * 2, prompt),
    "taus, 1 target": lambda tokenizer, prompt: swept(prompt, TAUS, 1, sweep_plots.tau_sweep),
    "taus, 8 targets": lambda tokenizer, prompt: swept(prompt, TAUS, 8, sweep_plots.tau_sweep),
    "windows, 2 targets": lambda tokenizer, prompt: swept(prompt, WINDOWS, 2, sweep_plots.window_sweep),
    "preserve, 2 targets": lambda tokenizer, prompt: preserved(prompt, 2),
    "taus, an image": lambda tokenizer, prompt: swept(prompt, TAUS, 1, sweep_plots.tau_sweep, PICTURE),
    "windows, an image": lambda tokenizer, prompt: swept(prompt, WINDOWS, 2, sweep_plots.window_sweep, PICTURE),
    "preserve, an image": lambda tokenizer, prompt: preserved(prompt, 2, PICTURE),
    "matrices": matrices,
    "timeline": lambda tokenizer, prompt: edit_matrices.timeline(
        *[tokenizer.encode(prompt)] * 2, Refine(), 0.5, range(1000, -1, -100), T=1000
    ),
}
COSTLY = {"compare, 2 targets", "compare, 8 targets", "8 steps", "taus, 8 targets"}  # of short prompts only


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_overlaps_or_is_cut_off(tokenizer, name):
    for prompt in (SHORT,) if name in COSTLY else (SHORT, LONG):
        assert not overlaps(FIGURES[name](tokenizer, prompt)), prompt


def test_many_steps_are_broken_into_several_tables(tokenizer):
    figure = by_step(tokenizer, SHORT, 20)
    assert not overlaps(figure) and figure.get_figwidth() < 9


def test_the_gallery_has_no_overlaps_and_no_empty_corner():
    three, eleven = np.stack([PICTURE] * 3), np.stack([PICTURE] * 11)
    assert not overlaps(gallery.draw_examples([(example, three) for example in gallery.EXAMPLES]))
    assert len(gallery.EXAMPLES) % 2 == 0
    assert not overlaps(gallery.draw_houses(eleven))
    assert len(gallery.HOUSES) == 10


def test_what_overlaps_is_found():
    """The check itself: captions too wide for their images, that run into each other and beyond the edge."""
    figure = sheets.grid([[("a cat", PICTURE)] * 2])
    assert not overlaps(figure)
    wide = "a caption that is far too wide for its image"
    for axis in figure.axes:
        axis.set_title(wide, fontsize=10)
    assert set(overlaps(figure)) == {(wide, "the edge"), (wide, wide)}


# What eyes without one kind of cone see (Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1).
DICHROMATS = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB


def lab(colours, eyes: str) -> torch.Tensor:
    """Colours in CIE Lab, as these eyes see them."""
    rgb = torch.tensor([matplotlib.colors.to_rgb(colour) for colour in colours])
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = (linear @ torch.tensor(DICHROMATS[eyes]).T).clamp(0, 1) @ TO_XYZ.T / TO_XYZ.sum(dim=1)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).T
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@pytest.mark.parametrize("eyes", DICHROMATS)
def test_colours_are_told_apart_by_every_kind_of_eyes(eyes):
    """2.3 units of CIE Lab are what can just be told apart; thin lines need several times that."""
    assert torch.pdist(lab(sheets.COLOURS, eyes)).min() > 9
    ramp = matplotlib.colormaps[sheets.MAP](np.linspace(0, 1, 33))[:, :3]
    assert (lab(ramp, eyes)[:, 0].diff() > 0).all()  # the more attention, the lighter


def test_the_colour_measure_knows_red_green_blindness():
    red, green = "#c06030", "#808030"
    assert torch.pdist(lab((red, green), "green")).min() < 9 < torch.pdist(lab((red, green), "blue")).min()
