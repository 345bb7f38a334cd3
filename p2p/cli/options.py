"""The options of every command: its groups, and those of its own. A command receives an instance of its class.

The docstrings are the help of `p2p --help`. Of several bases the fields of the last come first.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from p2p.cli.groups import (
    Chosen,
    Claims,
    ComparedViews,
    Inversion,
    Loading,
    Output,
    RealImage,
    Sampled,
    SelfTimes,
    Times,
    Views,
    Visited,
    Weights,
    Where,
    WordMaps,
    option,
    required,
)
from p2p.cli.values import box, finite
from weights.checkpoints import CHECKPOINTS

BY = ("word", "step", "layer", "component")
TASKS = ("inpaint", "uncrop", "colour", "super")  # as in p2p.experiments.restore
EDITS = """p2p.Swap("cat", "dog") + p2p.Reweight("grass", 2): one edit for all targets, or a list with one for each;
replaces tau (an edit has that of its p2p.Alpha, by default 0.2), alpha, refine, swap, preserve, reweight and
renormalise"""


def in_python(help: str) -> Any:
    """A keyword that is no option of the command line."""
    return field(default=None, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class Generate(Views, Sampled, Output):
    """An image of a prompt."""

    command: ClassVar[str] = "generate"
    prompt: str = required("the prompt of the image")


@dataclass(frozen=True, kw_only=True)
class Edit(WordMaps, ComparedViews, Where, SelfTimes, Weights, Claims, Times, RealImage, Sampled, Output):
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
    edits: Any = in_python(EDITS)


@dataclass(frozen=True, kw_only=True)
class Replay(WordMaps, ComparedViews, Loading, Output):
    """Repeat an edit from its saved call or its image."""

    command: ClassVar[str] = "replay"
    file: Any = required("a .json file that --save wrote, or a .png that `p2p edit` made", type=Path)
    model: str | Path | None = option(
        None, "use this model instead of the call's; required if that is a path, which is not taken from a file"
    )
    image: Any = option(None, "the image that the call edits, if it edits one", reads=True, type=Path, metavar="FILE")


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
class Compare(SelfTimes, Weights, Claims, Times, RealImage, Sampled, Output):
    """An edit beside the methods that Prompt-to-Prompt is compared with."""

    command: ClassVar[str] = "compare"
    source: str = required("the prompt of the image")
    targets: tuple[str, ...] = required("the edited prompt, or several", nargs="+", metavar="target")
    mask: Any = option(
        None,
        "an image that is white where targets may differ, for the methods that need it, blending of latents and "
        "inpainting; Prompt-to-Prompt does not use it",
        reads=True,
        type=Path,
        metavar="FILE",
    )
    t_0: float = option(
        0.5,
        "of SDEdit: how far the source is noised, as a fraction of T (default %(default)s)",
        "--t0",
        type=finite,
        metavar="T0",
    )
    edits: Any = in_python(EDITS)


@dataclass(frozen=True, kw_only=True)
class Restore(Chosen, Output):
    """Inpaint, uncrop, colour or enlarge an image file."""

    command: ClassVar[str] = "restore"
    task: str = required(
        "inpaint: paint inside the white of --mask. uncrop: paint around the image, which fills --box. colour: colour "
        "the image by its grey levels. super: enlarge the image --factor times; by --model ldm-super-resolution-4x, "
        "which was trained to, 4 times, without --prompt.",
        "--task",
        choices=TASKS,
        required=True,
    )
    image: Any = required("the image to restore", "--image", reads=True, type=Path, required=True, metavar="FILE")
    prompt: str = option("", "what the whole image shows (default: nothing)")
    mask: Any = option(None, "of inpaint: an image that is white where to paint", reads=True, type=Path, metavar="FILE")
    box: tuple[int, int, int, int] | None = option(
        None,
        "of uncrop: where in the result the image is: left, top, right, bottom in pixels, the last two exclusive",
        type=box,
        metavar="x0,y0,x1,y1",
    )
    factor: int | None = option(None, "of super: how many times to enlarge (default 4)", type=int, metavar="N")
    seed: int = option(0, "of the noise (default %(default)s)", type=int)
    steps: int = option(20, "from noise to image (default %(default)s)", type=int)
    guidance: float = option(
        2.0, "how strongly to follow the prompt; 1 is no guidance (default %(default)s)", type=finite
    )
    eta: float = option(1.0, "noise that each step adds, 0 to 1 (default %(default)s)", type=finite)
    visits: int = option(
        2,
        "time travel: how often each stretch of steps is taken, to fit what is made to what is given (default "
        "%(default)s)",
        type=int,
    )
    length: int = option(1, "of such a stretch, in steps (default %(default)s)", type=int)


@dataclass(frozen=True, kw_only=True)
class Invert(Inversion, Chosen, Output):
    """Find the noise that leads to an image file, and sample from it again."""

    command: ClassVar[str] = "invert"
    prompt: str = required("describes the image")
    image: Any = required("the image", "--image", reads=True, type=Path, required=True, metavar="FILE")
    seed: int = option(0, "of the noise, for edit-friendly (default %(default)s)", type=int)
    steps: int = option(30, "number of timesteps to visit, at most T (default %(default)s)", type=int)
    guidance: float = option(
        4.0, "guidance scale w of the sampling; 1 is no guidance (default %(default)s)", type=finite, metavar="W"
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
class Swept(RealImage, Sampled, Output):
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
    """The source's attention injected for all words, its cross-attention for one word only, and none."""

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
COMMANDS = (Generate, Edit, Replay, Download, Vocabulary, Schema, Equations, Attention, Compare, Restore, Invert)
