"""The report of the benchmark: tables with 95% intervals over scenes, in JSON and Markdown, and a figure."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ldm.helpers.files import save_atomically
from ldm.helpers.machine import processor
from p2p.benchmark.answers import Answer
from p2p.benchmark.measures import interval
from p2p.benchmark.methods import INJECTED, MERGES, PUBLISHED, ROWS, STARTS, STEPS, TAUS, Row, Setting, on_track
from p2p.benchmark.scenes import KINDS, BenchmarkScene, Kind
from p2p.figures import sheets

FILES = JSON, PAGE, FIGURE = "benchmark.json", "benchmark.md", "benchmark.png"
GROUPS: dict[str, tuple[Kind, ...]] = {
    "noun, colour and place": ("noun", "colour", "place"),
    "noun and colour": ("noun", "colour"),
    **{kind: (kind,) for kind in KINDS},
}
MEASURES = Answer._fields
Entries = dict[int, dict]  # by scene


class Measured:
    """The entries of all edits, by track, method, setting and scene."""

    def __init__(self, entries: Iterable[dict]):
        self.edits: dict[tuple[str, str, Setting], Entries] = defaultdict(dict)
        self.overlaps: list[tuple[str, list[dict]]] = []
        for entry in entries:
            if "overlaps" in entry:
                self.overlaps.append((entry["split"], entry["overlaps"]))
            else:
                of = (entry["track"], entry["method"], Setting(**entry["setting"]))
                self.edits[of][entry["scene"]] = entry

    def of(
        self, track: str, method: str, split: str, kinds: Sequence[Kind], setting: Callable[[Kind], Setting]
    ) -> Entries:
        """The entries of scenes of these kinds, at a setting for each kind."""
        found: Entries = {}
        for kind in kinds:
            edits = self.edits.get((track, method, setting(kind)), {})
            found |= {i: e for i, e in edits.items() if e["kind"] == kind and e["split"] == split}
        return found


def group_key(track: str, method: str, kind: Kind) -> str:
    """Settings are chosen for each of these: apart for nouns, as `Edit.between` can tell them."""
    return f"{track} / {method} / {'noun' if kind == 'noun' else 'other'}"


def chosen(entries: Iterable[dict]) -> dict[str, Setting]:
    """The setting of each method that comes nearest to the right answers of `dev`, by the mean PSNR of the whole image:
    what should stay and what should change count by their pixels. Mergers are not chosen among."""
    measured, scores = Measured(entries), defaultdict(lambda: defaultdict(list))
    for (track, method, setting), edits in measured.edits.items():
        if (setting.merge, setting.renormalise) == (PUBLISHED.merge, PUBLISHED.renormalise):
            for entry in edits.values():
                if entry["split"] == "dev":
                    scores[group_key(track, method, entry["kind"])][setting].append(entry["whole"])
    best = {}
    for key, by_setting in scores.items():
        most = max(map(len, by_setting.values()))
        whole = {setting: np.mean(values) for setting, values in by_setting.items() if len(values) == most}
        best[key] = max(whole, key=whole.get)
    return best


def values(entries: Entries, measure: str) -> list[float]:
    return [float("nan") if (x := entries[i][measure]) is None else x for i in sorted(entries)]


def summary(entries: Entries) -> dict:
    """The number of scenes, and the mean of each measure with its interval; null where no scene has a value."""
    found: dict = {"scenes": len(entries)}
    for measure in (*MEASURES, "returned"):
        numbers = values(entries, measure)
        found[measure] = None if np.isnan(numbers).all() else interval(numbers)
    return found


def difference(ours: Entries, theirs: Entries) -> dict:
    """Of the scenes that both have: the first minus the second, with its interval."""
    common = sorted(ours.keys() & theirs.keys())
    found: dict = {"scenes": len(common)}
    for measure in ("kept", "edited", "whole", "right"):
        pair = [np.array(values({i: entries[i] for i in common}, measure)) for entries in (ours, theirs)]
        numbers = (pair[0] - pair[1]).tolist()
        found[measure] = None if not numbers or np.isnan(numbers).all() else interval(numbers)
    return found


def collected(entries: Iterable[dict], best: dict[str, Setting]) -> dict:
    """All tables, as they are written to JSON."""
    measured = Measured(entries)
    tracks = tuple(STEPS)
    pick = lambda track, method: lambda kind: best.get(group_key(track, method, kind), on_track(PUBLISHED, track))
    found: dict = {"tables": {}, "published": {}, "differences": {}, "dev": {}, "mergers": {}, "frontier": {}}
    for track in tracks:
        published = lambda kind, track=track: on_track(PUBLISHED, track)
        for name, kinds in GROUPS.items():
            for table, setting in (("tables", pick), ("published", lambda *_: published)):
                found[table].setdefault(track, {})[name] = {
                    row.name: summary(at)
                    for row in ROWS
                    if set(kinds) <= set(row.kinds)
                    and (at := measured.of(track, row.name, "test", kinds, setting(track, row.name)))
                }
        changes = ("noun", "colour", "place", "insertion")
        of = lambda method, track=track, kinds=changes: measured.of(track, method, "test", kinds, pick(track, method))
        found["differences"][track] = {row.name: difference(of("ours"), of(row.name)) for row in ROWS if of(row.name)}
        found["dev"][track] = {
            f"{name}: tau {tau}, until {until}": summary(
                measured.of(track, "ours", "dev", kinds, lambda kind: Setting(guidance, tau, until))
            )
            for name, kinds in (("noun", ("noun",)), ("other", KINDS[1:]), *((k, (k,)) for k in KINDS[1:]))
            for guidance in [PUBLISHED.guidance]
            for tau, until in INJECTED
        }
        found["mergers"][track] = {
            f"{kind}: {setting.merge}{', renormalised' * setting.renormalise}": summary(
                measured.of(track, "ours", "dev", (kind,), lambda kind, setting=setting: setting)
            )
            for kind in ("noun", "colour")
            for setting in MERGES
        }
        things = GROUPS["noun and colour"]
        found["frontier"][track] = {
            row.name: [
                [str(at), summary(measured.of(track, row.name, "test", things, moved))]
                for at, moved in _swept(row, pick(track, row.name))
            ]
            for row in ROWS
            if set(things) <= set(row.kinds)
        }
    direct, plain = (
        measured.of("real image", m, "test", GROUPS["noun, colour and place"], lambda kind: PUBLISHED)
        for m in ("ours", "ours, DDIM inversion")
    )
    found["direct minus DDIM, published"] = difference(direct, plain)
    found["reconstruction"] = _reconstruction(measured)
    found["attention"] = _attention(measured)
    found["chosen"] = {key: asdict(setting) for key, setting in sorted(best.items())}
    return found


def _swept(row: Row, setting: Callable[[Kind], Setting]) -> list[tuple[object, Callable[[Kind], Setting]]]:
    """The points of a method's frontier: over tau, of SDEdit over t_0, or the chosen setting alone."""
    name, values = ("t_0", STARTS) if row.name == "SDEdit" else ("tau", TAUS if row.swept else ())
    moved = lambda value: lambda kind: replace(setting(kind), **{name: value})
    return [(value, moved(value)) for value in values] or [("chosen", setting)]


def _reconstruction(measured: Measured) -> dict:
    """The PSNR of the source to the image that was inverted, by method and guidance; that of `ours`, direct inversion,
    is the autoencoder's limit."""
    numbers = defaultdict(dict)
    for (_, method, setting), edits in measured.edits.items():
        for scene, entry in edits.items():
            if entry["returned"] is not None:
                numbers[f"{method}, guidance {setting.guidance:g}"][scene] = entry["returned"]
    return {name: {"scenes": len(of), "dB": interval(list(of.values()))} for name, of in sorted(numbers.items())}


def _attention(measured: Measured) -> dict:
    """The IoU of nouns and their things, by resolution: at local blend's threshold, and at the best on `dev`."""
    by = defaultdict(list)
    for split, overlaps in measured.overlaps:
        for o in overlaps:
            by[split, o["side"], o["threshold"]].append(o["iou"])
    found = {}
    for side in sorted({side for _, side, _ in by}, reverse=True):
        dev = {threshold: np.mean(of) for (split, s, threshold), of in by.items() if (split, s) == ("dev", side)}
        best = max(dev, key=dev.get) if dev else 0.3
        found[f"{side}x{side}"] = {
            f"threshold {threshold}": interval(by["test", side, threshold]) for threshold in sorted({0.3, best})
        }
    return found


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
    text, figure = json.dumps(found, indent=1), sheets.as_image(frontier(found))
    folder.mkdir(exist_ok=True)
    save_atomically(lambda part: part.write_text(text + "\n", encoding="utf-8"), folder / JSON)
    save_atomically(lambda part: part.write_text(page(found), encoding="utf-8"), folder / PAGE)
    save_atomically(lambda part: figure.save(part, format="PNG"), folder / FIGURE)
    return [folder / name for name in FILES]


def frontier(found: dict):
    """What is kept against what is edited, of nouns and colours: a line over tau, from always to never, or over t_0, or
    a point."""
    figure = sheets.new_figure(9.0, 4.2)
    for axis, (track, methods) in zip(figure.subplots(1, 2), found["frontier"].items()):
        for i, (name, points) in enumerate(methods.items()):
            at = [(p["kept"][0], p["edited"][0]) for _, p in points if p["scenes"] and p["kept"] and p["edited"]]
            if at and name not in ("ceiling", "no edit"):
                style = {"marker": "os^vDP*X"[i // 7], "color": sheets.COLOURS[i % 7], "label": name}
                axis.plot(*zip(*at), markersize=5, **style)
                axis.plot(*at[0], style["marker"], color=style["color"], markersize=9, markerfacecolor="white")
        axis.set_title(f"{track}: edits of nouns and colours", fontsize=9)
        axis.set_xlabel("kept, dB", fontsize=8)
        axis.set_ylabel("edited, dB", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=6, frameon=False)
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
        parts.append(table(found["differences"][track], "method", ("kept", "edited", "whole", "right")))
    if any(row["scenes"] for row in found["dev"]["real image"].values()):
        for name, what in (("dev", DEV), ("mergers", MERGERS)):
            parts.append(what)
            for track, rows in found[name].items():
                shown = ("kept", "edited", "whole", "right", "shift")
                parts += [f"{track.capitalize()}:", table(rows, "edits of `dev`", shown)]
    rows = {"direct minus DDIM": found["direct minus DDIM, published"]}
    parts += [DIRECT, table(rows, "published settings", ("kept", "edited", "whole", "right"))]
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

![What is kept against what is edited](benchmark.png)

Lines run over tau, from injection at all steps (hollow) to none, that of SDEdit over t_0 from 0.3 (hollow) to 0.7;
other methods are points. `Ceiling` and `no edit`, far beyond the others on one axis, are left out."""
DEV = "## When to inject (`dev`, guidance 4)"
MERGERS = """## How tokens are merged (`dev`, tau 0.5, until 0.8)

Swaps of words of different numbers of tokens: `--merge`, with `--renormalise` or without."""
DIRECT = "## Direct against plain inversion"
RECONSTRUCTION = """## Reconstruction

PSNR of the source's run to the image that was inverted. Direct inversion (`ours`, `reference`) reaches the limit of the
autoencoder at any guidance."""
ATTENTION = """## Attention against the truth

Intersection over union of a noun's region, where its map exceeds a fraction of its maximum, and its thing: at local
blend's fraction, and at the best on `dev`."""
