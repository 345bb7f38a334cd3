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

FOR = (512, 30)  # pixels and steps that the claims are about


def files(page: Path) -> tuple[Path, Path, Path]:
    """The page's numbers, itself and its figure."""
    return page.with_suffix(".json"), page, page.with_suffix(".png")


def write(to: Path, found: dict) -> tuple[Path, Path, Path]:
    """Write the page of what `run.measure` returned, and of where, with what belongs to it; return the files."""
    numbers, _, drawing = files(to)
    text, markdown, figure = json.dumps(found, indent=1), page(found, drawing.name), sheets.as_image(draw(found))
    save_atomically(lambda part: part.write_text(text + "\n", encoding="utf-8"), numbers)
    save_atomically(lambda part: part.write_text(markdown, encoding="utf-8"), to)
    save_atomically(lambda part: figure.save(part, format="PNG"), drawing)
    return files(to)


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
    if "of one position" in found:
        rows.append(["*latents of one position*", f"{found['of one position']:.0%}", "", "", ""])
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
    return table(["product", "usual", "other", "ratio", "the other is used"], rows)


def programs_table(found: dict[str, list[float]]) -> str:
    return table(["program", "time"], [[f"`{name}`", duration(seconds)] for name, seconds in found.items()])


def growth_table(found: dict[str, dict]) -> str:
    rows = []
    for name, each in found.items():
        p = fitted(each)
        points = ", ".join(f"{x}: {median(seconds):.3g}" for x, seconds in zip(each["x"], each["seconds"]))
        rows.append([name, points, f"{p['all']:.2f}", f"{p['last two']:.2f}"])
    return table(["over", "seconds", "exponent", "of the last two"], rows)


def page(found: dict, figure: str) -> str:
    """The report in Markdown, with a link to its figure."""
    libraries = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    parts = [HEAD.format(**found, libraries=libraries)]
    parts += [f"Left out: {what}, since {reason}." for what, reason in found["left out"].items()]
    parts.append(VERDICT)
    if (found["pixels"], found["steps"]) != FOR:
        parts.append(ANOTHER_SIZE.format(*FOR, **found))
    parts += [
        verdict_table(found),
        f"![Bars of the time by contestant, of the rates of layers beside the machine's, and of growth]({figure})",
        STEP.format(**found),
    ]
    for precision, contestants in found["step"].items():
        parts += [f"### {precision}", contest_table(contestants, faster(contestants, DIFFUSERS))]
    step = found["included step"]
    parts += [INCLUDED.format(**found), contest_table(step, "onnxruntime" if "onnxruntime" in step else "ours")]
    parts += [TEN.format(**found), contest_table(found["ten edits"], "separately")]
    if "programs" in found:
        parts += [PROGRAMS.format(**found), programs_table(found["programs"])]
    parts.append(ROOFLINE)
    for precision, rates in found["roofline"].items():
        machine = f"{precision}: {rates['product'] / 1e9:.0f} GFLOP/s in the product, {rates['convolution'] / 1e9:.0f}"
        parts += [f"{machine} in the convolution.", roofline_table(rates)]
    parts.append(FORMS)
    for precision, products in found["forms"].items():
        parts += [f"{precision}:", forms_table(products)]
    parts += [GROWTH, growth_table(found["growth"])]
    return "\n\n".join(parts) + "\n"


HEAD = """\
# The speed of an edit on {processor}

Made by `make bench`: `{command}`, commit `{commit}`, {threads} threads; {libraries}.

Every contestant has a process of its own. All are loaded, their results are compared (this first call is also the
warm-up), and then they take turns, in another order in each round. Times are medians over the rounds, with the least
and the largest; ratios are those of two times of one round, likewise. They hold for this machine alone."""
VERDICT = """## Verdict

The bounds are aims, set beforehand by trials on an AMD processor with AVX-512 BF16. The last column is a lower limit:
steps that do nothing but their products and convolutions, at the larger of [the machine's rates](#rates); `p2p edit`
also imports PyTorch. Where an aim is missed, those rates show which layers fall short.

An edit takes as long as plain generation does here (*ours, outside*). Where that is less than diffusers needs for plain
generation, it comes from [other forms of products](#forms-of-products)."""
ANOTHER_SIZE = "**The bounds are for {} pixels and edits of {} steps; here it was {pixels} and {steps}.**"
STEP = """## One step of an edit

Stable Diffusion 1.5's UNet with random weights, at {pixels} pixels: source and target, each with and without its
prompt, so four rows. *Inside* the window the target uses the source's cross-attention, and its self-attention at up to
16 positions a side; *outside* it generation is plain; with *soft* alpha it uses half of either. `Ours` folds the edit
into the values; `explicit` builds the maps of cross-attention.

`Diffusers` generates the two images without an edit. The `reference layout` is google/prompt-to-prompt's, in diffusers,
channels-last: every map is built, and those of up to 32x32 positions are stored.

*Memory* is the peak above what was resident once the weights were. *Difference* is the norm of a result's difference
from the first of its case, over that one's norm; those of the *soft* case are compared with each other alone. In
bfloat16 every layer rounds to eight binary digits, and any two contestants differ by a few hundredths."""
INCLUDED = """## The included model's step

The same with the included model, at 128 pixels; a time is the mean over {steps} steps, one after the other.
`Onnxruntime` runs the graph of [the page that edits in the browser](live.md), in which attention is made of products
and a softmax, and its maps are built. [*Compiled*](editing.md#many-edits) is our UNet, compiled by
PyTorch: the minutes that compiling takes are not counted, nor what it leaves in memory."""
TEN = """## Ten edits

The ten edits of one source in [targets.png](targets.png), {steps} steps each, without decoding, by the included model:
in ten calls, in one, and from a recorded source (recording it is part of the time). By rows of the batch the ratios
would be 22 of 40 in both; large batches cost less per row."""
PROGRAMS = """## From the shell

From the start of the interpreter to its end: the import of PyTorch by itself, the help, and an edit of {steps} steps by
the included model, written to a file."""
ROOFLINE = """## Rates

What each group of layers computes in a plain step of four rows, over its time, beside what the processor does in a
large product or convolution on the same threads. A linear layer that is computed as a convolution can exceed the rate
of products. Linear layers include the gates of the feed-forward. The rest are norms, activations, additions, copies.

The last row of the included model's table is a step on latents of one position, over a whole one. It needs next to no
operations: what remains is reading the weights, and calling the layers from Python."""
FORMS = """\
## Forms of products

Attention by PyTorch's fused kernel, and a block of queries at a time; linear layers by `F.linear`, and as convolutions;
feed-forward layers that are cut, for all rows at once, and a piece of a row at a time. The shapes are those of the step
above and of its decoder. [fastest.py](../ldm/helpers/fastest.py) has the rule: the first two are used on one kind of
processor, from sizes at which they mostly were at least as fast on both of its generations, Zen 4 and Zen 5; the third
on every CPU, to save memory.

In bfloat16 a block's scores are rounded to bfloat16, which the fused kernel keeps in float32; keys are taken relative
to their mean, which keeps scores small ([products.py](../ldm/helpers/products.py) has the bound)."""
GROWTH = """## Growth

The time of an edit's step (of whole edits, for the steps), fitted by c x^p: p by least squares of the logarithms over
all points, and between the last two. For n pixels a side convolutions and linear layers need n^2 operations, and
self-attention n^4, so that p tends to 4 as images grow; targets and steps tend to 1. A call of more than 5 s is made
once, without a warm-up."""
