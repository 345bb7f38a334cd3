"""Figures of the edit itself: its mapper and matrices with the tokens on the axes, its schedule as a timeline.

Nothing here needs a model: the figures depend on the two prompts only.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.alpha import Time, Window
from p2p.edits import Edit, Matrices
from p2p.figures.sheets import CAPTION, COLOURS, GAP, INK, LABEL, MARGIN, Sheet, broken, height_of, length, wrap
from p2p.summary import shares

FEW = 16  # the largest number of tokens for which values are written into the cells
WIDE = 17.0  # largest width of a row of panels, in inches


def matrices(source: Tokens, target: Tokens, M: Float[Tensor, "m m2"], at: Mapping[int, Matrices]) -> Figure:
    """Draw the mapper M, and for each step of `at` its P_t with the diagonal of Q_t in a strip below, on one colour
    scale.

    Rows are the source's tokens, columns the target's: the value at (i, j) is the share of source token i's attention
    that target token j takes. Padding after the longer prompt's first is omitted: there each matrix continues as in its
    last row and column.
    """
    shown = min(max(source.count, target.count) + 1, len(source.ids))
    rows, columns = source.pieces[:shown], target.pieces[:shown]
    panels = [("M: the mapper", M, None)]
    for t, (P, Q, renormalised) in at.items():
        panels.append((f"P_t at t = {t}{', rows renormalised' * renormalised}", P, Q))
    numbers = [part[..., :shown][:shown] for _, P, Q in panels for part in (P, Q) if part is not None]
    low, high = min(0.0, *(float(n.min()) for n in numbers)), max(1.0, *(float(n.max()) for n in numbers))
    cell = 0.34 if shown <= FEW else 0.2
    size, label = cell * shown, max(length(piece, LABEL) for piece in (*rows, *columns))
    own = wrap("diagonal of Q_t: the target's own attention", size + label, LABEL)
    # room for the labels, rotated by 60 degrees below, and for the axes' names
    left, below = label + 0.35, 0.87 * label + 0.25 + height_of(own, LABEL)
    tables = broken(panels, max(1, int(WIDE / (left + size))))
    title = f"A_used = A P_t + A* Q_t\n{source.prompt}  →  {target.prompt}"
    sheet = Sheet(max(5.0, 2 * MARGIN + len(tables[0]) * (left + size) + GAP), title)
    for table in tables:
        start = sheet.bottom + height_of("M", CAPTION) + GAP
        for j, (caption, P, Q) in enumerate(table):
            x = MARGIN + left + j * (left + size)
            axis = sheet.axes(x, start, size, size)
            heat_map(axis, P[:shown, :shown], rows, columns, max(-low, high))
            axis.set_title(caption, fontsize=CAPTION, color=INK, pad=8)
            axis.set_xlabel("target's tokens", fontsize=LABEL, color=INK)
            if j == 0:
                axis.set_ylabel("source's tokens", fontsize=LABEL, color=INK)
            if Q is not None:
                strip = sheet.axes(x, start + size + below, size, cell)
                heat_map(strip, Q[None, :shown], ["Q_t"], columns, max(-low, high))
                strip.set_xlabel(own, fontsize=LABEL, color=INK)
        sheet.bottom += below
    width = min(3.2, sheet.width - 2 * MARGIN)
    colours = ScalarMappable(Normalize(-max(-low, high), max(-low, high)), "RdBu")
    sheet.colour_bar(colours, "share of attention", (sheet.width - width) / 2, width).ax.set_xlim(low, high)
    return sheet.done()


def heat_map(
    axis: Axes, numbers: Float[Tensor, "m m2"], rows: Sequence[str], columns: Sequence[str], top: float
) -> None:
    """Draw values as colours, 0 in white, with tokens on both axes, and the values themselves if they are few."""
    axis.imshow(numbers.numpy(), cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", rotation_mode="anchor", fontsize=LABEL)
    axis.set_yticks(range(len(rows)), rows, fontsize=LABEL)
    axis.tick_params(length=0, labelcolor=INK)
    axis.set_xticks([i - 0.5 for i in range(1, len(columns))], minor=True)
    axis.set_yticks([i - 0.5 for i in range(1, len(rows))], minor=True)
    axis.grid(which="minor", color="#dddddd", linewidth=0.5)
    axis.tick_params(which="minor", length=0)
    if len(columns) <= FEW:
        for i, j in numbers.nonzero().tolist():
            number = float(numbers[i, j])
            colour = "white" if abs(number) > 0.6 * top else INK
            axis.text(j, i, f"{number:.2g}", fontsize=7, ha="center", va="center", color=colour)


def timeline(
    source: Tokens, target: Tokens, edit: Edit, self_until: Time | Window, times: Sequence[int], T: int
) -> Figure:
    """Draw when the source's attention is used: a row per token of the target, and one for self-attention; t decreases
    from left to right. Arguments and errors as for `shares`."""
    names, numbers = shares(source, target, edit, self_until, times, T)
    title = "When each token uses the source's attention: height is its share, 1 - Q_t"
    sheet = Sheet(9.0, f"{title}\n{source.prompt}  →  {target.prompt}")
    left = MARGIN + GAP + max(length(piece, CAPTION) for piece in names)
    axis = sheet.axes(left, sheet.bottom, sheet.width - left - 2 * MARGIN, 0.3 * len(names))
    for i, row in enumerate(numbers.tolist()):
        i = i + 0.4 * (i == len(names) - 1)  # a gap before self-attention
        axis.hlines([i + 0.4], times[-1], times[0], color="#cccccc", linewidth=0.5)
        for (t, t_prev), share in zip(pairwise(times), row):
            axis.fill_between([t_prev, t], i + 0.4, i + 0.4 - 0.8 * share, color=COLOURS[0], linewidth=0)
    ticks = [*range(len(names) - 1), len(names) - 0.6]
    axis.set_yticks(ticks, names, fontsize=CAPTION)
    axis.tick_params(length=0, labelcolor=INK)
    axis.set(xlim=(times[0], times[-1]), ylim=(ticks[-1] + 0.6, -0.6))
    caption = f"timestep t, of T = {T}: sampling starts at t = {times[0]} on the left and ends at {times[-1]}"
    axis.set_xlabel(caption, fontsize=CAPTION, color=INK)
    axis.spines[["top", "right", "left"]].set_visible(False)
    sheet.bottom += 0.5
    return sheet.done()
