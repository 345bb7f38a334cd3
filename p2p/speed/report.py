"""The report of speed, in JSON and Markdown, with a figure."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from ldm.helpers.files import save_atomically
from p2p.figures import sheets
from p2p.speed.draw import draw
from p2p.speed.growth import fitted
from p2p.speed.verdict import DIFFUSERS, faster, ratio, verdicts

FILES = JSON, PAGE, FIGURE = "speed.json", "speed.md", "speed.png"


def write(folder: Path, found: dict) -> list[Path]:
    """Write the report of what `run.measure` returned, and of where; return the paths of its files."""
    text, markdown, figure = json.dumps(found, indent=1), page(found), sheets.as_image(draw(found))
    save_atomically(lambda part: part.write_text(text + "\n", encoding="utf-8"), folder / JSON)
    save_atomically(lambda part: part.write_text(markdown, encoding="utf-8"), folder / PAGE)
    save_atomically(lambda part: figure.save(part, format="PNG"), folder / FIGURE)
    return [folder / name for name in FILES]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def duration(seconds: Sequence[float]) -> str:
    """The median and the range, in seconds, or in milliseconds if they are short."""
    unit, scale = ("s", 1) if median(seconds) >= 1 else ("ms", 1000)
    middle, least, most = (scale * of(seconds) for of in (median, min, max))
    digits = 1 if middle < 100 else 0
    return f"{middle:.{digits}f} {unit} ({least:.{digits}f} to {most:.{digits}f})"


def contest_table(found: dict[str, dict], over: str) -> str:
    """The contestants, each beside one of them."""
    rows = []
    for name, each in found.items():
        above = "" if each["above"] is None else f"{each['above'] / 1e9:.2f} GB"
        times = str(ratio(each["seconds"], found[over]["seconds"]))
        rows.append([name, each["case"], duration(each["seconds"]), times, above, f"{each['difference']:.0e}"])
    return table(["contestant", "case", "time", f"over {over}", "memory", "difference"], rows)


def verdict_table(found: dict) -> str:
    rows = []
    for claim, bound, measured, least in verdicts(found):
        holds = "not measured" if measured is None else "yes" if measured.median <= bound else "no"
        rows.append([claim, f"{bound:g}", str(measured or ""), holds, f"{least:.2f}" if least else ""])
    return table(["claim", "at most", "measured", "holds", "at the machine's rates"], rows)


def roofline_table(found: dict) -> str:
    """Of one precision: the rate of each group, and its part of the machine's."""
    rows, rest = [], found["whole"] - sum(found["seconds"].values())
    for group, seconds in found["seconds"].items():
        rate = found["operations"][group] / seconds
        large = found["convolution" if group == "convolutions" else "product"]
        share = f"{seconds / found['whole']:.0%}"
        needed = found["operations"][group] / 1e9
        count = f"{needed:.0f}" if needed >= 10 else f"{needed:.1f}"
        rows.append([group, share, count, f"{rate / 1e9:.0f}", f"{rate / large:.0%}"])
    rows.append(["the rest", f"{rest / found['whole']:.0%}", "", "", ""])
    rows.append(["*latents of one position*", f"{found['smallest'] / found['whole']:.0%}", "", "", ""])
    return table(["layers", "share of the step", "GFLOP", "GFLOP/s", "of the machine's rate"], rows)


def forms_table(found: dict) -> str:
    """Of one precision."""
    rows = [
        [
            name,
            duration(each["usual"]),
            duration(each["other"]),
            str(ratio(each["other"], each["usual"])),
            "yes" if each["used"] else "",
        ]
        for name, each in found.items()
    ]
    return table(["product", "PyTorch's form", "the other", "ratio", "used here"], rows)


def programs_table(found: dict[str, list[float]]) -> str:
    return table(["program", "time"], [[f"`{name}`", duration(seconds)] for name, seconds in found.items()])


def growth_table(found: dict[str, dict]) -> str:
    rows = []
    for name, each in found.items():
        p = fitted(each)
        points = ", ".join(f"{x}: {median(seconds):.3g}" for x, seconds in zip(each["x"], each["seconds"]))
        rows.append([name, points, f"{p['all']:.2f}", f"{p['last two']:.2f}"])
    return table(["over", "seconds", "exponent", "of the last two"], rows)


def page(found: dict) -> str:
    """The report in Markdown."""
    libraries = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    parts = [HEAD.format(**found, libraries=libraries)]
    parts += [f"Left out: {what}, since {reason}." for what, reason in found["left out"].items()]
    parts += [
        VERDICT.format(**found),
        verdict_table(found),
        "![Bars of the time by contestant, of the rates of layers beside the machine's, and of growth](speed.png)",
        STEP.format(**found),
    ]
    for precision, contestants in found["step"].items():
        parts += [f"### {precision}", contest_table(contestants, faster(contestants, DIFFUSERS))]
    step = found["included step"]
    parts += [INCLUDED.format(**found), contest_table(step, "onnxruntime" if "onnxruntime" in step else "ours")]
    parts += [TEN.format(**found), contest_table(found["ten edits"], "separately")]
    parts += [PROGRAMS.format(**found), programs_table(found["programs"]), ROOFLINE]
    for precision, rates in found["roofline"].items():
        machine = f"{precision}: {rates['product'] / 1e9:.0f} GFLOP/s in the product, {rates['convolution'] / 1e9:.0f}"
        parts += [f"{machine} in the convolution.", roofline_table(rates)]
    parts.append(FORMS)
    for precision, products in found["forms"].items():
        parts += [f"{precision}:", forms_table(products)]
    parts += [GROWTH, growth_table(found["growth"])]
    return "\n\n".join(parts) + "\n"


HEAD = """\
# The speed of an edit, beside others

Made by `make bench`: `{command}`, commit `{commit}`, on {processor}, {threads} threads; {libraries}.

Every contestant has a process of its own. All are loaded, their results are compared (this first call is also the
warm-up), and then they take turns, in another order in each round. Times are medians over the rounds, with the least
and the largest; ratios are those of two times of one round, likewise. They hold for this machine alone."""
VERDICT = """## Verdict

A bound of a step is for Stable Diffusion's 512 pixels; here it was measured at {pixels}. The last column is for steps
that do nothing but their products and convolutions, at the larger of [the machine's rates](#rates); `p2p edit` also
imports PyTorch."""
STEP = """## One step of an edit

Stable Diffusion 1.5's UNet with random weights, at {pixels} pixels: source and target, each with and without its
prompt, so four rows. *Inside* the window the target uses the source's cross-attention, and its self-attention at up to
16 positions a side; *outside* it generation is plain; with *soft* alpha it uses half of either. `Ours` folds the edit
into the values; `explicit` builds the maps of cross-attention.

`Diffusers` generates the two images without an edit. The `reference layout` is google/prompt-to-prompt's, in diffusers,
channels-last: every map is built, and those of up to 32x32 positions are stored.

*Memory* is the peak above what was resident once the weights were. *Difference* is the norm of a result's difference
from the first of its case, over that one's norm."""
INCLUDED = """## The included model's step

The same with the included model, at 128 pixels; a time is the mean over {steps} steps, one after the other."""
TEN = """## Ten edits

The ten edits of one source in [targets.png](targets.png), {steps} steps each, without decoding, by the included model:
in ten calls, in one, and from a recorded source (recording it is part of the time). By rows of the batch the ratios
would be 22 of 40 in both."""
PROGRAMS = """## From the shell

From the start of the interpreter to its end: the import of PyTorch by itself, the help, and an edit of {steps} steps by
the included model, written to a file."""
ROOFLINE = """## Rates

What each group of layers computes in a plain step of four rows, over its time, beside what the processor does in a
large product or convolution on the same threads. A linear layer that is computed as a convolution can exceed the rate
of products. Linear layers include the gates of the feed-forward. The rest are norms, activations, additions, copies.

The last row is a step on latents of one position, which needs next to no operations: what is left of a step is to read
the weights and to call its layers from Python."""
FORMS = """\
## Forms of products

Attention by PyTorch's fused kernel, and a block of queries at a time; linear layers by `F.linear`, and as convolutions;
feed-forward layers for all rows at once, and a piece of a row at a time.
The shapes are those of the step above and of its decoder. [fastest.py](../ldm/helpers/fastest.py) says where the
other form is used: pieces on every CPU, the other two on one kind of processor. The ratios are those of the machine
named above."""
GROWTH = """## Growth

The time of an edit's step (of whole edits, for the steps), fitted by c x^p: p by least squares of the logarithms over
all points, and between the last two. For n pixels a side convolutions and linear layers need n^2 operations, and
self-attention n^4, so that p tends to 4 as images grow; targets and steps tend to 1. A call of more than 5 s is made
once."""
