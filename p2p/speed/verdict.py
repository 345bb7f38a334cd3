"""The claims about speed, as ratios within one run."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from p2p.speed.programs import EDIT, HELP, IMPORT

DIFFUSERS = ("diffusers", "diffusers, channels-last")


class Spread(NamedTuple):
    """Of ratios or seconds: the median over rounds, the least and the largest."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Of two contestants' seconds, round by round."""
    return over_rounds([a / b for a, b in zip(ours, theirs, strict=True)])


def over_rounds(each: Sequence[float]) -> Spread:
    return Spread(median(each), min(each), max(each))


def faster(found: dict[str, dict], names: Sequence[str] = DIFFUSERS) -> str:
    """The contestant with the smallest median."""
    return min(names, key=lambda name: median(found[name]["seconds"]))


class Verdict(NamedTuple):
    """A claim, its bound, and what was measured; None where it was not.

    `least` is that of steps that take `at_the_machines_rates`, where the claim is about time; for `p2p edit` with the
    import of PyTorch.
    """

    claim: str
    bound: float
    measured: Spread | None
    least: float | None = None


def at_the_machines_rates(rates: dict) -> float:
    """Seconds of a step whose layers all compute at the larger of the machine's rates, since a product can be made by a
    convolution and the other way round, and whose rest takes no time."""
    return sum(rates["operations"].values()) / max(rates["product"], rates["convolution"])


def other_forms(found: dict, precision: str) -> bool:
    """Whether this machine has attention or linear layers in another form; true if that was not measured."""
    forms = found["forms"].get(precision, {"": {"used": True}})
    return any(each["used"] for name, each in forms.items() if not name.startswith("feed-forward"))


def verdicts(found: dict) -> list[Verdict]:
    """All claims, for what was measured."""
    made = []
    for precision, pays in (("bfloat16", 0.75), ("float32", 0.88)):
        step = found["step"].get(precision)
        over = lambda name, step=step: step and ratio(step["ours"]["seconds"], step[name]["seconds"])
        floor = at_the_machines_rates(found["roofline"][precision]) if step else None
        least = lambda name, step=step, floor=floor: step and floor / median(step[name]["seconds"])
        best = faster(step) if step else ""
        plain = over(best)
        above = [step[name]["above"] for name in ("ours", "reference layout")] if step else [None]
        memory = ratio(above[:1], above[1:]) if all(above) else None
        bounds = {"where other forms of products are used": pays} if other_forms(found, precision) else {}
        for where, bound in (bounds | {"anywhere": 0.97}).items():
            made.append(
                Verdict(
                    f"{precision}: an edit's step over diffusers' faster plain one, {where}", bound, plain, least(best)
                )
            )
        made += [
            Verdict(
                f"{precision}: an edit's step over the reference layout's",
                0.35,
                over("reference layout"),
                least("reference layout"),
            ),
            Verdict(f"{precision}: its memory above the weights over the reference layout's", 0.1, memory),
        ]
    ten, step = found["ten edits"], found["included step"]
    separate = ratio(ten["recorded"]["seconds"], ten["separately"]["seconds"])
    graph = compiled = least_graph = least_compiled = None
    floor = at_the_machines_rates(found["roofline"]["included model, float32"])
    if "onnxruntime" in step:
        theirs = step["onnxruntime"]["seconds"]
        graph, least_graph = ratio(step["ours"]["seconds"], theirs), floor / median(theirs)
        if "ours, compiled" in step:
            compiled, least_compiled = ratio(step["ours, compiled"]["seconds"], theirs), least_graph
    of_help = of_edit = least_edit = None
    if programs := found.get("programs"):
        of_help, of_edit = over_rounds(programs[HELP]), over_rounds(programs[EDIT])
        least_edit = median(programs[IMPORT]) + found["steps"] * floor
    return [
        *made,
        Verdict("ten edits of a recorded source over ten separate ones", 0.58, separate),
        Verdict("the included model's step over onnxruntime's, for the same graph", 1.3, graph, least_graph),
        Verdict("the included model's step, compiled by PyTorch, over onnxruntime's", 1.3, compiled, least_compiled),
        Verdict("`p2p --help`, in seconds", 0.4, of_help),
        Verdict("`p2p edit`, in seconds", 1.5, of_edit, least_edit),
    ]
