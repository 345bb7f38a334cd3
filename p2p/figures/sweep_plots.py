"""Figures of the experiments in `p2p.experiments.sweeps`: the images, and the measurements below them."""

from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ldm.helpers.likeness import psnr
from p2p.alpha import Step, Time, Window, switch_time
from p2p.experiments.sweeps import Preservation, Sweep
from p2p.figures.fonts import CAPTION, LABEL, height_of, wrap
from p2p.figures.sheets import COLOURS, GAP, INK, MARGIN, Sheet, broken, grid

MARKERS = "os^vDP*X"  # with the colours, enough for 56 targets
PRESERVATION = "preservation: PSNR\nagainst the {}, dB"  # the source, or the real image
STRUCTURE = "structure: correlation of\nedges with the {}'s"
INJECTED = "sampling in which A is used"
FIDELITY = "fidelity: ln(L_source / L_target)"  # losses of an image under the two prompts


def name(tau: Time | Window) -> str:
    """The label of a tau."""
    text = lambda time: str(time) if isinstance(time, (Step, str)) else f"{time:g} T"
    if isinstance(tau, Window):
        return f"{text(tau.start)} to {text(tau.end)}"
    if tau in ("never", 0):
        return tau or "always"
    return f"tau: {text(tau)}" if isinstance(tau, Step) else f"tau = {text(tau)}"


def injected(tau: Time | Window) -> str:
    """The share of the sampling in which a tau injects, 0% to 100%; of a window or a timestep its name."""
    if tau == "never":
        return "0%"
    return name(tau) if isinstance(tau, Window | Step) else f"{1 - tau:.0%}"


def tau_sweep(sweeps: Sequence[Sweep]) -> Figure:
    """[P12] The paper's Fig. 6: a row per target, injection from never to always; below it preservation and fidelity
    for each tau, and their trade-off.

    The images are of the first seed, the values means over all seeds. All sweeps have the same settings.
    """
    sheet = _images(sweeps, "The source's attention while t ≥ tau, the target's own once t < tau")
    keeps, follows, trade = _plots(sheet, 3)
    preserved = PRESERVATION.format(_reference(sweeps))
    captions = list(map(injected, sweeps[0].settings))
    for sweep, colour, marker in zip(sweeps, cycle(COLOURS), cycle(MARKERS)):
        kept, fits = sweep.preservation.mean(dim=0), sweep.fidelity.mean(dim=0)
        line = dict(color=colour, marker=marker, markersize=4)
        keeps.plot(captions, kept, **line, label=sweep.target)
        follows.plot(captions, fits, **line)
        follows.axhline(sweep.fidelity_of_originals.mean().item(), color=colour, linestyle=":", linewidth=1)
        trade.plot(kept, fits, **line)
        trade.plot(kept[:1], fits[:1], marker, color=colour, markersize=7, markerfacecolor="white")
    _label(keeps, "what is kept", INJECTED, preserved)
    keeps.plot([], [], ":", color=INK, linewidth=1, label="the source's image")
    _label(follows, "what is followed:\nabove 0 the target's prompt", INJECTED, FIDELITY)
    _label(trade, f"the trade-off\n(hollow: {captions[0]})", preserved, FIDELITY)
    for axis in (keeps, follows):
        axis.set_xticks(range(len(captions)), captions, rotation=35, ha="right", rotation_mode="anchor")
    return _with_legend(sheet, keeps, sweeps)


def window_sweep(sweeps: Sequence[Sweep]) -> Figure:
    """[P13] Which steps determine the image's structure: a row per target, injection in one window of the steps at a
    time; below it, how much of the source's structure and pixels each window preserves, between never and always.

    The images are of the first seed, the values means over all seeds. All sweeps have the same settings.
    """
    sheet = _images(sweeps, "The source's attention in one window of the steps only")
    axes = _plots(sheet, 2)
    steady = [tau for tau in sweeps[0].settings if not isinstance(tau, Window)]
    styles = dict(zip(steady, cycle((":", "--", "-."))))
    measures = (("structure", STRUCTURE), ("preservation", PRESERVATION))
    for axis, (measure, label) in zip(axes, measures):
        for tau, style in styles.items():
            axis.plot([], [], style, color=INK, linewidth=1, label=name(tau))
        for sweep, colour, marker in zip(sweeps, cycle(COLOURS), cycle(MARKERS)):
            for tau, kept in zip(sweep.settings, getattr(sweep, measure).mean(dim=0).tolist()):
                if isinstance(tau, Window):
                    start, end = (switch_time(time, sweep.T) for time in (tau.start, tau.end))
                    axis.hlines(kept, start, end, color=colour, linewidth=3)
                    axis.plot((start + end) / 2, kept, marker, color=colour, markersize=6)
                else:
                    axis.axhline(kept, color=colour, linestyle=styles[tau], linewidth=1)
            axis.plot([], [], color=colour, linewidth=3, marker=marker, markersize=6, label=sweep.target)
        axis.set_xlim(sweeps[0].T, 0)
        title = "a bar spans the steps that inject:\nthe higher, the more they keep"
        _label(axis, title, "timestep t: sampling starts at T on the left", label.format(_reference(sweeps)))
    return _with_legend(sheet, axes[0], sweeps)


def preservation(found: Preservation) -> Figure:
    """[P11] The paper's Fig. 5: a row per target, with the attention of all words, of one word, and of none."""
    image, noise = ([], "seed") if found.given is None else ([("the image", found.given)], "noise")
    rows = [
        [
            *image,
            (f"the source:\n{found.source}", found.original),
            (f"the source's attention for all words:\n{target}", injected),
            (f"for {found.word!r} alone:\n{target}", preserved),
            (f"for none (same {noise}):\n{target}", same_seed),
        ]
        for target, injected, preserved, same_seed in zip(
            found.targets, found.injected, found.preserved, found.same_seed
        )
    ]
    return grid(rows, f"What is preserved by the source's attention for {found.word!r}")


def _images(sweeps: Sequence[Sweep], title: str) -> Sheet:
    """Draw the source and its edits, a row per sweep, broken into several if it has more than seven images. Before them
    the real image, if it is one's; the source's caption then tells how near its inversion returns to it."""
    side = 1.15
    sheet = Sheet(9.0, title)
    for sweep in sweeps:
        heading = wrap(f"{sweep.source}  →  {sweep.target}", sheet.width - 2 * MARGIN)
        sheet.text(sheet.width / 2, sheet.bottom, heading, CAPTION, "center")
        sheet.bottom += GAP / 2
        source = sweep.originals[0]
        panels = [("source", source)]
        if sweep.given is not None:
            panels = [("the image", sweep.given), (f"source, {psnr(source, sweep.given):.1f} dB", source)]
        rows = broken([*panels, *zip(map(name, sweep.settings), sweep.images[0])], 7)
        left = (sheet.width - len(rows[0]) * (side + GAP) + GAP) / 2
        sheet.grid(rows, side, side + GAP, left, LABEL)
    return sheet


def _reference(sweeps: Sequence[Sweep]) -> str:
    """What preservation and structure are measured against."""
    return "source" if sweeps[0].given is None else "image"


def _plots(sheet: Sheet, count: int) -> list[Axes]:
    """Add axes side by side at the bottom, with room for their labels."""
    label, width = 0.8, sheet.width / count
    top = sheet.bottom + height_of("title\n", CAPTION) + GAP
    axes = [sheet.axes(k * width + label, top, width - label - MARGIN, 2.0) for k in range(count)]
    sheet.bottom += 0.6  # ticks, rotated where they are words, and the label
    return axes


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=CAPTION, color=INK)
    axis.set_xlabel(x, fontsize=LABEL, color=INK)
    axis.set_ylabel(y, fontsize=LABEL, color=INK)
    axis.tick_params(labelsize=LABEL, color=INK, labelcolor=INK)
    axis.spines[["top", "right"]].set_visible(False)


def _with_legend(sheet: Sheet, axis: Axes, sweeps: Sequence[Sweep]) -> Figure:
    """Return the figure, with a legend at the bottom."""
    seeds = len(sweeps[0].originals)
    title = "one seed" if seeds == 1 else f"means over {seeds} seeds"
    if sweeps[0].given is not None:
        title = "one image"
    handles, labels = axis.get_legend_handles_labels()
    labels = [wrap(label, sheet.width / 2 - 0.7, LABEL) for label in labels]
    below = sheet.axes(MARGIN, sheet.bottom + GAP, sheet.width - 2 * MARGIN, _legend_height(labels))
    below.axis("off")
    legend = below.legend(
        handles, labels, title=title, loc="upper center", ncols=2, fontsize=LABEL, title_fontsize=LABEL, frameon=False
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_color(INK)
    return sheet.done()


def _legend_height(labels: Sequence[str]) -> float:
    """The height of a legend with a title and two columns, filled one after the other."""
    half = -(-len(labels) // 2)
    columns = (labels[:half], labels[half:])
    return max(sum(height_of(label, LABEL) + 0.06 for label in column) for column in columns) + 0.35
