"""The report of the benchmark, in JSON and Markdown, with a figure."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ldm.helpers.files import save_atomically
from ldm.helpers.machine import processor
from p2p.benchmark.methods import PUBLISHED, STEPS, Setting
from p2p.benchmark.scenes import BenchmarkScene, Kind
from p2p.benchmark.tables import COMPARED, GROUPS, MEASURES, collected, group_key
from p2p.figures import sheets
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS

FILES = JSON, PAGE, FIGURE = "benchmark.json", "benchmark.md", "benchmark.png"


def write(
    folder: Path,
    entries: Iterable[dict],
    best: dict[str, Setting],
    test: Sequence[BenchmarkScene],
    commit: str,
    command: str,
) -> list[Path]:
    """Write the report of these test scenes; return the paths of its files."""
    shown = {scene.index for scene in test}
    entries = [entry for entry in entries if entry["split"] == "dev" or entry["scene"] in shown]
    made = {"commit": commit, "processor": processor(), "command": command, "steps": STEPS, "scenes": len(test)}
    found = made | collected(entries, best)
    text, figure = json.dumps(found, indent=1), sheets.as_image(draw_frontier(found))
    folder.mkdir(exist_ok=True)
    save_atomically(lambda part: part.write_text(text + "\n", encoding="utf-8"), folder / JSON)
    save_atomically(lambda part: part.write_text(page(found), encoding="utf-8"), folder / PAGE)
    save_atomically(lambda part: figure.save(part, format="PNG"), folder / FIGURE)
    return [folder / name for name in FILES]


def draw_frontier(found: dict):
    """What is kept against what is edited, of nouns and colours: a line over tau, from always to never, or over t_0, or
    a point."""
    figure = sheets.new_figure(12.0, 4.2)
    for axis, (track, methods) in zip(figure.subplots(1, 2), found["frontier"].items()):
        for i, (name, points) in enumerate(methods.items()):
            at = [(p["kept"][0], p["edited"][0]) for p in points if p["scenes"] and p["kept"] and p["edited"]]
            if at and name not in ("ceiling", "no edit"):
                style = {"marker": "os^vDP*X"[i // 7], "color": sheets.COLOURS[i % 7], "label": name}
                axis.plot(*zip(*at), markersize=5, **style)
                axis.plot(*at[0], style["marker"], color=style["color"], markersize=9, markerfacecolor="white")
        axis.set_title(f"{track}: edits of nouns and colours", fontsize=9)
        axis.set_xlabel("kept, dB", fontsize=8)
        axis.set_ylabel("edited, dB", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=6, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # beside the points
    return figure


def cell(number: Sequence[float] | None, measure: str = "kept") -> str:
    """A mean and its interval."""
    if number is None:
        return ""
    if measure.startswith("right"):
        return "{:.0%} [{:.0%}, {:.0%}]".format(*number)
    return ("{:.2f} [{:.2f}, {:.2f}]" if measure == "structure" else "{:.1f} [{:.1f}, {:.1f}]").format(*number)


def table(rows: dict[str, dict], first: str, measures: Sequence[str], extra: Callable[[str], str] | None = None) -> str:
    """In Markdown."""
    heads = [first, *(["guidance, tau / until"] if extra else []), "scenes", *(m.replace("_", " ") for m in measures)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in rows.items():
        cells = [name, *([extra(name)] if extra else []), str(row["scenes"]), *(cell(row[m], m) for m in measures)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(found: dict) -> str:
    """The report in Markdown."""
    parts = [HEAD.format(**found, real=STEPS["real image"], generated=STEPS["generated"])]
    for track, groups in found["tables"].items():
        parts.append(f"## {track.capitalize()}")
        for name, rows in groups.items():
            measures = [m for m in MEASURES if any(row[m] for row in rows.values())]
            setting = lambda method, track=track, name=name: _short(found["chosen"], track, method, GROUPS[name])
            parts += [f"### {name.capitalize()}", table(rows, "method", measures, setting)]
        parts.append(f"### {track.capitalize()}: `ours` minus each method, scene by scene")
        parts.append(table(found["differences"][track], "method", COMPARED))
    if any(row["scenes"] for row in found["dev"]["real image"].values()):
        for name, what, shown in (
            ("dev", DEV, ("kept", "edited", "whole", "right", "shift")),
            ("defaults", DEFAULTS, COMPARED),
            ("mergers", MERGERS, COMPARED),
            ("renormalised", RENORMALISED, COMPARED),
        ):
            parts.append(what.format(objects=FOR_OBJECTS, others=FOR_OTHERS))
            for track, rows in found[name].items():
                parts += [f"{track.capitalize()}:", table(rows, "edits", shown)]
    rows = {"direct minus DDIM": found["direct minus DDIM, published"]}
    parts += [DIRECT, table(rows, "published settings", COMPARED)]
    parts += [RECONSTRUCTION, table(found["reconstruction"], "inversion", ("dB",))]
    lines = [
        f"| {side} | {t} | {cell(n, 'structure')} |" for side, of in found["attention"].items() for t, n in of.items()
    ]
    parts += [ATTENTION, "\n".join(["| resolution | region | IoU |", "|---|---|---|", *lines])]
    return "\n\n".join(parts) + "\n"


def _short(chosen: dict[str, dict], track: str, method: str, kinds: Sequence[Kind]) -> str:
    """The settings of a method; of nouns, then of the others."""
    keys = dict.fromkeys(group_key(track, method, kind) for kind in kinds)
    settings = [Setting(**chosen[key]) for key in keys if key in chosen] or [PUBLISHED]
    if method in ("ceiling", "no edit"):
        return ""
    if method == "SDEdit":
        return "; ".join(dict.fromkeys(f"{s.guidance:g}, t_0 {s.t_0}" for s in settings))
    if not method.startswith(("ours", "reference")):
        return "; ".join(dict.fromkeys(f"{s.guidance:g}" for s in settings))
    return "; ".join(dict.fromkeys(f"{s.guidance:g}, {s.tau} / {s.until}" for s in settings))


HEAD = """\
# Edits whose right answer is known

Made by `make benchmark`: `{command}`, commit `{commit}`, on {processor}.

The world of the included model is rendered, so that the right answer of an edit is known to the pixel. {scenes} scenes
are edited by every method, by captions. Settings were chosen on 60 other scenes, apart for edits of a noun and for all
others, by the PSNR of the whole image; without such a choice (`--quick`) they are those that were published. Means have
95% intervals, by a bootstrap over scenes. Snowflakes and sprinkles, which nobody can guess or see, are left out.

- *real image*: the rendering is encoded and inverted, in {real} steps of DDIM; `ours` and `reference` by direct
  inversion.
- *generated*: the model makes the source from the caption, in {generated} steps of DPM-Solver++ at guidance 4. The
  right answer is known in parts: the true sticker where it fits best, what is outside it, empty places, fog, styles.

*Kept*: PSNR in dB where the two renderings agree; *edited*: where they differ, against the true target; *whole*: both
together. *Structure*: SSIM. *Right*: the nearest rendering among all values of the edited attribute is the target; *by
clip*: to the small CLIP, by captions. *Shift*: distance in pixels of the thing from its place.

`Ceiling` is the true target through the autoencoder; `no edit` is the source. `Reference` is Prompt-to-Prompt with the
mapper of google/prompt-to-prompt. Null-text inversion takes 12 s of one core an image: two scenes of each kind.

![What each method keeps of an image against how well it edits, of real and of generated images](benchmark.png)

Lines run over tau, from injection at all steps (hollow) to none, that of SDEdit over t_0 from 0.3 (hollow) to 0.7;
other methods are points. `Ceiling` and `no edit`, far beyond the others on one axis, are left out."""
DEV = """## When to inject (`dev`, guidance 4)

The defaults of `p2p edit` were chosen by these tables: tau {objects.tau} and until {objects.until}
where an object becomes another, {others.tau} and {others.until} for all other edits."""
DEFAULTS = """### The defaults minus tau 0.2, until 0.6, on `test`"""
MERGERS = """## How tokens are merged

Scenes of both halves in which words of different numbers of tokens are swapped, by the default times."""
RENORMALISED = """### Renormalised rows minus rows as they are, on both halves"""
DIRECT = "## Direct against plain inversion"
RECONSTRUCTION = """## Reconstruction

PSNR of the source's run to the image that was inverted. Direct inversion (`ours`, `reference`) reaches the limit of the
autoencoder at any guidance."""
ATTENTION = """## Attention against the truth

Intersection over union of a noun's region, where its map exceeds a fraction of its maximum, and its thing: at local
blend's fraction, and at the best on `dev`."""
