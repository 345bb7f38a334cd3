"""The tables of the benchmark: means with 95% intervals over scenes, and the settings that `dev` chooses."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import numpy as np

from p2p.benchmark.answers import Answer
from p2p.benchmark.measures import interval
from p2p.benchmark.methods import (
    INJECTED,
    MERGES,
    PUBLISHED,
    ROWS,
    STEPS,
    SWEPT,
    Row,
    Setting,
    default,
    frontier,
    on_track,
)
from p2p.benchmark.scenes import KINDS, Kind

GROUPS: dict[str, tuple[Kind, ...]] = {
    "noun, colour and place": ("noun", "colour", "place"),
    "noun and colour": SWEPT,
    **{kind: (kind,) for kind in KINDS},
}
MEASURES = Answer._fields
COMPARED = ("kept", "edited", "whole", "right")  # of two methods
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
        self, track: str, method: str, split: str | None, kinds: Sequence[Kind], setting: Callable[[Kind], Setting]
    ) -> Entries:
        """The entries of scenes of these kinds, of a split or of both, at a setting for each kind."""
        found: Entries = {}
        for kind in kinds:
            edits = self.edits.get((track, method, setting(kind)), {})
            found |= {i: e for i, e in edits.items() if e["kind"] == kind and split in (None, e["split"])}
        return found


def group_key(track: str, method: str, kind: Kind) -> str:
    """Settings are chosen for each of these: apart for objects that become others, as `switch_times` tells them."""
    return f"{track} / {method} / {'noun' if kind == 'noun' else 'other'}"


def choose(entries: Iterable[dict]) -> dict[str, Setting]:
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
    for measure in COMPARED:
        pair = [np.array(values({i: entries[i] for i in common}, measure)) for entries in (ours, theirs)]
        numbers = (pair[0] - pair[1]).tolist()
        found[measure] = None if not numbers or np.isnan(numbers).all() else interval(numbers)
    return found


def collected(entries: Iterable[dict], best: dict[str, Setting]) -> dict:
    """All tables, as they are written to JSON."""
    measured = Measured(entries)
    tracks = tuple(STEPS)
    pick = lambda track, method: lambda kind: best.get(group_key(track, method, kind), on_track(PUBLISHED, track))
    found: dict = {"tables": {}, "published": {}, "differences": {}, "dev": {}, "frontier": {}}
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
        found["dev"][track] = _when(measured, track)
        found |= {name: found.get(name, {}) | {track: of} for name, of in _defaults(measured, track).items()}
        found["frontier"][track] = {
            row.name: _points(measured, track, row, pick(track, row.name))
            for row in ROWS
            if set(SWEPT) <= set(row.kinds)
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


def _points(measured: Measured, track: str, row: Row, setting: Callable[[Kind], Setting]) -> list[dict]:
    """A method's frontier, or its chosen setting alone."""
    number = len(frontier(row, PUBLISHED))
    at = [lambda kind, i=i: frontier(row, setting(kind))[i] for i in range(number)] or [setting]
    return [summary(measured.of(track, row.name, "test", SWEPT, each)) for each in at]


def _when(measured: Measured, track: str) -> dict[str, dict]:
    """How every tau and until does on `dev`, at one guidance, by kind of edit."""
    kinds = {"noun": KINDS[:1], "other": KINDS[1:]} | {kind: (kind,) for kind in KINDS[1:]}
    return {
        f"{name}: tau {tau}, until {until}": summary(
            measured.of(track, "ours", "dev", of, lambda kind: Setting(PUBLISHED.guidance, tau, until))
        )
        for name, of in kinds.items()
        for tau, until in INJECTED
    }


def _defaults(measured: Measured, track: str) -> dict[str, dict]:
    """The default times against the published ones on `test`; the mergers, and renormalised rows, on both halves."""
    at = lambda split, kinds, *how: measured.of(track, "ours", split, kinds, lambda kind: default(kind, *how))
    published = lambda kind: measured.of(track, "ours", "test", (kind,), lambda kind: on_track(PUBLISHED, track))
    merged = at(None, KINDS, "mean").keys()  # the scenes in which mergers differ
    return {
        "defaults": {kind: difference(at("test", (kind,)), published(kind)) for kind in KINDS},
        "mergers": {
            f"{merge}{', renormalised' * rows}": summary({i: of for i, of in found.items() if i in merged})
            for merge, rows in MERGES
            if (found := at(None, KINDS, merge, rows))
        },
        "renormalised": {kind: difference(at(None, (kind,), "sum", True), at(None, (kind,))) for kind in KINDS},
    }


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
