"""Figures of the experiments in `p2p.sweeps`: the pictures, and under them what was measured."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from p2p.alpha import Time, Window
from p2p.show import INK, draw_grid, grid
from p2p.sweeps import ALWAYS, NEVER, Preservation, Sweep

COLOURS = ("#2166ac", "#d95f0e", "#1b7837", "#762a83", "#555555")
PRESERVATION = "preservation: PSNR\nagainst the source, dB"
STRUCTURE = "structure: correlation of\nedges with the source's"
FIDELITY = "fidelity: ln(L_source / L_target)"  # losses of a picture under the two prompts


def name(tau: Time | Window) -> str:
    """When a tau injects, in words."""
    said = lambda time: str(time) if isinstance(time, int) else f"{time:g} T"
    if isinstance(tau, Window):
        return f"{said(tau.start)} to {said(tau.end)}"
    if isinstance(tau, float) and tau in (NEVER, ALWAYS):
        return "never" if tau == NEVER else "always"
    return f"tau = {said(tau)}"


def tau_sweep(sweeps: Sequence[Sweep]) -> Figure:
    """[P12] The paper's Fig. 6: a row per target, injection from never to always; under it what each tau keeps of the
    source and makes of the target's prompt, and the one against the other.

    The pictures are of the first seed, the numbers means over all seeds. All sweeps have the same settings.
    """
    figure, below = _pictures(sweeps, "The source's attention while t ≥ tau, the target's own once t < tau")
    keeps, follows, trade = below.subplots(1, 3)
    captions = list(map(name, sweeps[0].settings))
    for sweep, colour in zip(sweeps, cycle(COLOURS)):
        kept, fits = sweep.preservation.mean(dim=0), sweep.fidelity.mean(dim=0)
        keeps.plot(captions, kept, "o-", color=colour, markersize=4, label=sweep.target)
        follows.plot(captions, fits, "o-", color=colour, markersize=4)
        follows.axhline(sweep.fidelity_of_originals.mean().item(), color=colour, linestyle=":", linewidth=1)
        trade.plot(kept, fits, "o-", color=colour, markersize=4)
        trade.plot(kept[:1], fits[:1], "o", color=colour, markersize=7, markerfacecolor="white")
    _label(keeps, "what is kept", "", PRESERVATION)
    keeps.plot([], [], ":", color=INK, linewidth=1, label="the source's picture")
    _label(follows, "what is followed: above 0 the target's prompt", "", FIDELITY)
    _label(trade, f"the trade-off (hollow: {captions[0]})", PRESERVATION, FIDELITY)
    for axis in (keeps, follows):
        axis.tick_params(axis="x", rotation=35)
    _legend(below, keeps, sweeps)
    return figure


def window_sweep(sweeps: Sequence[Sweep]) -> Figure:
    """[P13] Which steps fix the picture's structure: a row per target, injection in one window of the steps at a time;
    under it, how much of the source's structure and pixels each window keeps, between injecting never and always.

    The pictures are of the first seed, the numbers means over all seeds. All sweeps have the same settings.
    """
    figure, below = _pictures(sweeps, "The source's attention in one window of the steps only")
    axes = below.subplots(1, 2)
    steady = [tau for tau in sweeps[0].settings if not isinstance(tau, Window)]
    styles = dict(zip(steady, cycle((":", "--", "-."))))
    at = lambda time, T: time if isinstance(time, int) else time * T
    measures = (("structure", STRUCTURE), ("preservation", PRESERVATION))
    for axis, (measure, label) in zip(axes, measures):
        for tau, style in styles.items():
            axis.plot([], [], style, color=INK, linewidth=1, label=name(tau))
        for sweep, colour in zip(sweeps, cycle(COLOURS)):
            for tau, kept in zip(sweep.settings, getattr(sweep, measure).mean(dim=0).tolist()):
                if isinstance(tau, Window):
                    axis.hlines(kept, at(tau.start, sweep.T), at(tau.end, sweep.T), color=colour, linewidth=3)
                else:
                    axis.axhline(kept, color=colour, linestyle=styles[tau], linewidth=1)
            axis.plot([], [], color=colour, linewidth=3, label=sweep.target)
        axis.set_xlim(sweeps[0].T, 0)
        title = "a bar spans the steps that inject: the higher, the more they keep"
        _label(axis, title, "time step t: sampling starts at T on the left", label)
    _legend(below, axes[0], sweeps)
    return figure


def preservation(found: Preservation) -> Figure:
    """[P11] The paper's Fig. 5: a row per target, with the attention of all words, of one word, and of none."""
    rows = [
        [
            (f"the source:\n{found.source}", found.original),
            (f"injecting all words:\n{target}", injected),
            (f"injecting {found.word!r} alone:\n{target}", preserved),
            (f"injecting none (same seed):\n{target}", same_seed),
        ]
        for target, injected, preserved, same_seed in zip(
            found.targets, found.injected, found.preserved, found.same_seed
        )
    ]
    return grid(rows, f"What the attention of {found.word!r} preserves")


def _pictures(sweeps: Sequence[Sweep], title: str) -> tuple[Figure, SubFigure]:
    """The source and its edits in a row per sweep, and an empty part under them."""
    columns = 1 + max(len(sweep.settings) for sweep in sweeps)
    heights = [1.95] * len(sweeps) + [3.2]
    figure = plt.figure(figsize=(1.4 * columns + 0.2, sum(heights) + 0.4), layout="constrained")
    *rows, below = figure.subfigures(len(heights), 1, height_ratios=heights)
    for row, sweep in zip(rows, sweeps):
        row.suptitle(f"{sweep.source}  →  {sweep.target}", fontsize=10, color=INK)
        captions = ["source", *map(name, sweep.settings)]
        draw_grid(row, [list(zip(captions, [sweep.originals[0], *sweep.pictures[0]]))])
    figure.suptitle(title, fontsize=12, color=INK)
    return figure, below


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=9, color=INK)
    axis.set_xlabel(x, fontsize=8, color=INK)
    axis.set_ylabel(y, fontsize=8, color=INK)
    axis.tick_params(labelsize=7, color=INK)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(below: SubFigure, axis: Axes, sweeps: Sequence[Sweep]) -> None:
    seeds = len(sweeps[0].originals)
    title = "one seed" if seeds == 1 else f"means over {seeds} seeds"
    handles, labels = axis.get_legend_handles_labels()
    below.legend(
        handles, labels, title=title, loc="outside lower center", ncols=2, fontsize=8, title_fontsize=8, frameon=False
    )
