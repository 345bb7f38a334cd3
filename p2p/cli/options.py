"""The options of every command: the name, type, default and help of each, and how its text is parsed.

The parser of the command line and the keywords of `p2p.edit` and its like are derived from the fields here, and a
command receives an instance of its class. Nothing here imports torch, so that help is fast; a field that holds a value
of the method, such as a `Window`, is `Any`.
"""

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from weights.checkpoints import CHECKPOINTS

PLACES = ("down", "mid", "up")
SCALES = ("word", "shared")
SAMPLERS = ("ddim", "ddpm", "plms", "dpm++", "euler")  # as in ldm.samplers
DTYPES = ("float32", "bfloat16", "float16")  # as in weights.load
BY = ("word", "step", "layer", "component")


def finite(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def time(text: str):
    """Parse a time: a fraction of T, `t=200`, or `never`."""
    text = text.strip()
    if text == "never":
        return text
    if (step := text.removeprefix("t=")) != text and step.isdecimal():
        from p2p.alpha import Step

        return Step(int(step))
    value = finite(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1: a number is a fraction of T; a timestep is t={text}")
    return value


def pair(text: str, right: str = "OTHER") -> tuple[str, str]:
    """Parse `A=B`; `right` is the name of B in the error."""
    word, equals, other = (part.strip() for part in text.partition("="))
    if not (word and equals and other):
        raise argparse.ArgumentTypeError(f"{text!r} is not WORD={right}: give {word or 'WORD'}={other or right}")
    return word, other


def window(text: str):
    """Parse `END` or `START:END`."""
    start, colon, end = text.partition(":")
    if not colon:
        return time(text)
    from p2p.alpha import Window

    return Window(time(end), time(start))


def word_window(text: str) -> tuple:
    """Parse `WORD=END` or `WORD=START:END`."""
    word, when = pair(text, "[START:]END")
    return word, window(when)


def weight(text: str):
    """Parse `WORD=C` or `WORD=C@START:END`."""
    from p2p.edits import Reweight

    word, rest = pair(text, "C")
    factor, at, when = rest.partition("@")
    return Reweight(word, finite(factor), window(when) if at else 0.0)


def places(text: str) -> tuple[str, ...]:
    """Parse a list of places in the UNet."""
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(PLACES):
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {','.join(PLACES)}")
    return chosen


def scale_factor(text: str) -> int:
    """Parse a whole number from 1 to 16."""
    if not (text.isdecimal() and 1 <= int(text) <= 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 16")
    return int(text)


def option(default: Any, help: str, *flags: str, view: bool = False, writes: tuple[str, ...] = (), **how) -> Any:
    """An option of the command line, `--name`, and a keyword in Python.

    Args:
        default: its value if it is not given.
        help: its explanation, in argparse's format.
        flags: further spellings.
        view: at most one of these options may be given.
        writes: the endings of the file that it names, which is written.
        how: passed to argparse.
    """
    metadata = {"help": help, "flags": flags, "view": view, "writes": writes, "how": how}
    return field(default=default, metadata=metadata)


def required(help: str, *flags: str, **how) -> Any:
    """An argument that must be given: by position, or by its flag."""
    return field(metadata={"help": help, "flags": flags, "how": how})


@dataclass(frozen=True, kw_only=True)
class Output:
    """The file of the image."""

    output: Path | None = option(
        None, "where to write the image", "-o", writes=(".png",), type=Path, required=True, metavar="FILE.png"
    )


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Loading of the model."""

    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto: a GPU if there is one (default %(default)s)")
    dtype: str = option("float32", "float16 halves memory and time on a GPU (default %(default)s)", choices=DTYPES)
    no_ema: bool = option(False, "where a file has both, load the weights without averaging")
    parameterisation: str | None = option(
        None,
        "what the UNet predicts, where a file does not state it (default: as the model's files state, else eps)",
        choices=("eps", "v"),
    )


@dataclass(frozen=True, kw_only=True)
class Visited(Loading):
    """The model, and the timesteps that sampling visits."""

    model: str | Path = option(
        "stickers",
        "stickers, which is included; a public checkpoint by name, downloaded on first use (see `p2p download "
        "--help`); a diffusers folder; a CompVis file (.safetensors or .ckpt); or PRESET=FILE for a file that could be "
        "of several models. Recommended: 50 steps and guidance 7.5 for Stable Diffusion, 4 steps and guidance 1 for "
        "sd-turbo. Default %(default)s",
    )
    steps: int = option(30, "number of timesteps to visit, at most T (default %(default)s)", type=int)
    sampler: str = option(
        "ddim",
        "ddim is deterministic; plms (Stable Diffusion's own, with one network call more than steps) and dpm++ also "
        "use earlier predictions and need fewer steps; ddpm adds noise at every step and needs more of them; euler is "
        "ddim, but always ends at t = 0, where some models' settings end ddim at t = 1. Default %(default)s",
        choices=SAMPLERS,
    )


@dataclass(frozen=True, kw_only=True)
class Sampled(Visited):
    """Sampling settings."""

    seed: int = option(0, "of the noise; the same seed gives the same image (default %(default)s)", type=int)
    guidance: float = option(4.0, "guidance scale w; 1 is no guidance (default %(default)s)", type=finite, metavar="W")
    eta: float = option(
        0.0, "noise that ddim adds at each step, from 0 (none, the default) to 1 (as ddpm)", type=finite
    )


@dataclass(frozen=True, kw_only=True)
class Times:
    """The switch times of cross-attention."""

    tau: Any = option(
        None,
        "switch time: the source's attention is used while t >= TAU, the target's own once t < TAU (t counts down, so "
        "injection comes first). A number is a fraction of T: 0.2 injects in the first 80%% of the sampling, 0 in all "
        "of it. t=200 is a timestep, and never injects nothing. Default 0.2",
        type=time,
    )
    alpha: tuple = option(
        (),
        "a switch time for one word of the target, or a window: 1:0.5 is the first half of the steps",
        type=word_window,
        action="append",
        metavar="WORD=[START:]END",
    )


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The words that take the source's attention; applied in this order."""

    refine: bool = option(False, "keep the words that both prompts share, and swap none")
    swap: tuple = option((), "A of the source becomes B of the target", type=pair, action="append", metavar="A=B")
    preserve: tuple = option(
        (),
        "inject the source's attention for this word: at every step, unless --alpha or the sweep sets its time. Used "
        "alone, for no other word",
        action="append",
        metavar="WORD",
    )


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Factors of words' attention; applied after all claims, in this order."""

    reweight: tuple = option(
        (),
        "multiply the word's attention by C: 0 removes it (stripes and snowflakes disappear and fog thins; a colour, "
        "a size or an object stays), above 1 strengthens, below 0 pushes away; at every step, or in a window as for "
        "--alpha",
        type=weight,
        action="append",
        metavar="WORD=C[@START:END]",
    )
    renormalise: bool = option(
        False,
        "divide each row of the edited attention by its sum; a weight C is then log C added before the softmax",
    )


@dataclass(frozen=True, kw_only=True)
class SelfTimes:
    """The switch time of self-attention."""

    self_until: Any = option(
        0.6, "tau of self-attention, or its window (default %(default)s)", type=window, metavar="[START:]END"
    )


@dataclass(frozen=True, kw_only=True)
class Where:
    """The layers in which attention is edited, and the region in which targets may differ."""

    self_side: int | None = option(
        None,
        "inject self-attention in layers of at most N positions a side (default: that of the model's level nearest "
        "16: 16 for most models, 24 for sd21)",
        type=int,
        metavar="N",
    )
    layers: tuple[str, ...] = option(
        PLACES,
        "edit attention in these parts of the UNet only: some of down,mid,up (default all)",
        type=places,
        metavar="PLACE,...",
    )
    blend: str | None = option(
        None,
        "keep the source outside the region that these words attend to; -WORD after them excludes a word's region",
        metavar="WORD,...",
    )
    mask: Any = option(
        None,
        "keep the source outside the white area of this image, which has the image's size or the latent's",
        type=Path,
        metavar="FILE",
    )
    blend_from: Any = option(None, "regions and masks apply once t < TAU (default 0.8)", type=time, metavar="TAU")


@dataclass(frozen=True, kw_only=True)
class Views:
    """Views of the images."""

    seeds: int | None = option(None, "draw a figure of N seeds, from --seed on", view=True, type=int, metavar="N")
    upscale: int = option(
        1,
        "enlarge the image N times for viewing, 1 to 16 (default %(default)s)",
        view=True,
        type=scale_factor,
        metavar="N",
    )


@dataclass(frozen=True, kw_only=True)
class ComparedViews(Views):
    """Views of an edit."""

    compare: bool = option(
        False,
        "draw a figure: for each target the source, the same seed with the new prompt, and the edit, with the "
        "attention map of every word",
        view=True,
    )


@dataclass(frozen=True, kw_only=True)
class WordMaps:
    """The drawing and saving of word maps."""

    scale: str | None = option(
        None,
        "colour scale of the maps: word (the default) scales each word's map to its own maximum, with its share of "
        "all attention beside it; shared is one scale for all, on which words with little attention are dark",
        choices=SCALES,
    )
    save_maps: Path | None = option(
        None,
        "write the attention map of every word at every step, and the latents, as arrays for numpy.load",
        writes=(".npz",),
        type=Path,
        metavar="FILE.npz",
    )


# The commands; their docstrings are the help of `p2p --help`. The fields of the last base come first.


@dataclass(frozen=True, kw_only=True)
class Generate(Views, Sampled, Output):
    """An image of a prompt."""

    command: ClassVar[str] = "generate"
    prompt: str = required("the prompt of the image")


@dataclass(frozen=True, kw_only=True)
class Edit(WordMaps, ComparedViews, Where, SelfTimes, Weights, Claims, Times, Sampled, Output):
    """An image and its edits, side by side."""

    command: ClassVar[str] = "edit"
    source: str = required("the prompt of the image")
    targets: tuple[str, ...] = required("the edited prompt, or several", nargs="+", metavar="target")
    save: Path | None = option(
        None, "write the call to a file, for `p2p replay`", writes=(".json",), type=Path, metavar="FILE.json"
    )
    gif: Path | None = option(
        None,
        "write the steps as an animation, the source beside its targets",
        writes=(".gif",),
        type=Path,
        metavar="FILE.gif",
    )
    edits: Any = field(  # in Python only
        default=None,
        metadata={
            "help": 'p2p.Swap("cat", "dog") + p2p.Reweight("grass", 2): one edit for all targets, or a list with one '
            "for each; replaces tau, alpha, refine, swap, preserve, reweight and renormalise"
        },
    )


@dataclass(frozen=True, kw_only=True)
class Replay(WordMaps, ComparedViews, Loading, Output):
    """Repeat an edit from its saved call or its image."""

    command: ClassVar[str] = "replay"
    file: Any = required("a .json file that --save wrote, or a .png that `p2p edit` made", type=Path)
    model: str | Path | None = option(
        None, "use this model instead of the call's; required if that is a path, which is not taken from a file"
    )


@dataclass(frozen=True, kw_only=True)
class Attention(WordMaps, Sampled, Output):
    """An image and what its attention sees: the map of each word, and more."""

    command: ClassVar[str] = "attention"
    prompt: str = required("the prompt of the image")
    by: str = option(
        "word",
        "what to draw beside the image: word, each word's map averaged over all steps; step, the maps at eight of the "
        "steps; layer, the maps in each part and at each resolution of the UNet; component, the principal components "
        "of self-attention, where positions of one colour attend to the same places. Default %(default)s",
        choices=BY,
    )


@dataclass(frozen=True, kw_only=True)
class Shown(Claims, Times, Visited, Output):
    """Base of the figures of an edit itself, for which nothing is sampled."""

    command: ClassVar[str] = "show"
    source: str = required("the prompt of the image")
    target: str = required("the edited prompt")


@dataclass(frozen=True, kw_only=True)
class ShowMapper(Weights, Shown):
    """The mapper M, and P_t and Q_t wherever they change, as heat maps with tokens."""

    figure: ClassVar[str] = "mapper"


@dataclass(frozen=True, kw_only=True)
class ShowSchedule(SelfTimes, Shown):
    """The share of the source's attention that each token uses, as a timeline."""

    figure: ClassVar[str] = "schedule"


@dataclass(frozen=True, kw_only=True)
class Swept(Sampled, Output):
    """Base of the experiments."""

    command: ClassVar[str] = "sweep"
    source: str = required("the prompt of the image")
    targets: tuple[str, ...] = required("the edited prompt, or several", nargs="+", metavar="target")


@dataclass(frozen=True, kw_only=True)
class SweepTau(Weights, Claims, Swept):
    """Cross-attention injected from never to always: what each tau preserves, and how well it follows the prompt."""

    figure: ClassVar[str] = "tau"
    seeds: int = option(1, "measure N seeds, from --seed on (default %(default)s)", type=int, metavar="N")
    data: Path | None = option(
        None,
        "write the measurements of each seed to a .csv or .json file",
        writes=(".csv", ".json"),
        type=Path,
        metavar="FILE",
    )


@dataclass(frozen=True, kw_only=True)
class SweepWindow(SweepTau):
    """Cross-attention injected in one window of the steps at a time: what each preserves."""

    figure: ClassVar[str] = "window"


@dataclass(frozen=True, kw_only=True)
class SweepWord(Times, Swept):
    """Cross-attention injected for all words, for one word only, and for none."""

    figure: ClassVar[str] = "word"
    word: str = required("the word to preserve", "--word", required=True)


@dataclass(frozen=True, kw_only=True)
class Download:
    """Fetch and verify a public checkpoint."""

    command: ClassVar[str] = "download"
    name: str = required("one of the above", choices=CHECKPOINTS, metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """List the words that a model was trained on."""

    command: ClassVar[str] = "vocabulary"
    model: str = option("stickers", "a model that lists its words (default %(default)s)")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Print the JSON schema of saved calls."""

    command: ClassVar[str] = "schema"


@dataclass(frozen=True, kw_only=True)
class Equations:
    """List the lecture's formulas; with an ID, explain one."""

    command: ClassVar[str] = "equations"
    id: str | None = required("such as D7; without it all are listed", nargs="?", metavar="ID")


SHOW = {each.figure: each for each in (ShowMapper, ShowSchedule)}
SWEEP = {each.figure: each for each in (SweepTau, SweepWindow, SweepWord)}
COMMANDS = (Generate, Edit, Replay, Download, Vocabulary, Schema, Equations, Attention)
