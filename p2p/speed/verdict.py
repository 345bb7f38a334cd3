"""The claims about speed, as ratios within one run."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

DIFFUSERS = ("diffusers", "diffusers, channels-last")


class Ratio(NamedTuple):
    """The median over rounds, the least and the largest."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of two contestants' seconds, round by round."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(each), min(each), max(each))


def faster(found: dict[str, dict], names: Sequence[str] = DIFFUSERS) -> str:
    """The contestant with the smallest median."""
    return min(names, key=lambda name: median(found[name]["seconds"]))


class Verdict(NamedTuple):
    """A claim, its bound, and what was measured; None where it was not."""

    claim: str
    bound: float
    measured: Ratio | None


def verdicts(found: dict) -> list[Verdict]:
    """All claims, for what was measured."""
    made = []
    for precision, pays in (("bfloat16", 0.75), ("float32", 0.88)):
        step = found["step"].get(precision)
        over = lambda name, step=step: step and ratio(step["ours"]["seconds"], step[name]["seconds"])
        plain = over(faster(step)) if step else None
        above = [step[name]["above"] for name in ("ours", "reference layout")] if step else [None]
        memory = ratio(above[:1], above[1:]) if all(above) else None
        made += [
            Verdict(
                f"{precision}: an edit's step over diffusers' faster plain one, where block forms pay", pays, plain
            ),
            Verdict(f"{precision}: the same, anywhere", 0.97, plain),
            Verdict(f"{precision}: an edit's step over the reference layout's", 0.35, over("reference layout")),
            Verdict(f"{precision}: its memory above the weights over the reference layout's", 0.1, memory),
        ]
    ten, step = found["ten edits"], found["included step"]
    separate = ratio(ten["recorded"]["seconds"], ten["separately"]["seconds"])
    graph = ratio(step["ours"]["seconds"], step["onnxruntime"]["seconds"]) if "onnxruntime" in step else None
    return [
        *made,
        Verdict("ten edits of a recorded source over ten separate ones", 0.58, separate),
        Verdict("the included model's step over onnxruntime's, for the same graph", 1.3, graph),
    ]
