"""Options that several commands share: the name, type, default and help of each, as the fields of a dataclass.

The parser of the command line and the keywords of `p2p.edit` and its like are derived from the fields. Nothing here
imports torch, so that help is fast; a field that holds a value of the method, such as a `Window`, is `Any`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2p.cli.values import PLACES, finite, pair, places, scale_factor, time, weight, window, word_window

SCALES = ("word", "shared")
SAMPLERS = ("ddim", "ddpm", "plms", "dpm++", "euler")  # as in ldm.samplers
INVERSIONS = ("direct", "ddim", "fixed-point", "null-text", "negative-prompt", "edit-friendly")  # as in p2p.inversion
FITS = ("crop", "pad")  # as in p2p.photo
DTYPES = ("auto", "float32", "bfloat16", "float16")  # as in weights.load


def option(
    default: Any,
    help: str,
    *flags: str,
    view: bool = False,
    writes: tuple[str, ...] = (),
    reads: bool = False,
    **how,
) -> Any:
    """An option of the command line, `--name`, and a keyword in Python.

    Args:
        default: its value if it is not given.
        help: its explanation, in argparse's format.
        flags: further spellings; a long one replaces `--name`.
        view: at most one of these options may be given.
        writes: the endings of the file that it names, which is written.
        reads: whether it names a file that is read, which is then not written.
        how: passed to argparse.
    """
    metadata = {"help": help, "flags": flags, "view": view, "writes": writes, "reads": reads, "how": how}
    return field(default=default, metadata=metadata)


def required(help: str, *flags: str, reads: bool = False, **how) -> Any:
    """An argument that must be given: by position, or by its flag; `reads` as for `option`."""
    return field(metadata={"help": help, "flags": flags, "reads": reads, "how": how})


@dataclass(frozen=True, kw_only=True)
class Output:
    """The file of the image, and what it took to make it."""

    output: Path | None = option(
        None, "where to write the image", "-o", writes=(".png",), type=Path, required=True, metavar="FILE.png"
    )
    profile: bool = option(
        False, "print on standard error how long each network took, and the most memory that was in use"
    )


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Loading of the model."""

    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto: a GPU if there is one (default %(default)s)")
    dtype: str = option(
        "float32",
        "float16 halves memory and time on a GPU; auto is bfloat16 on a processor that computes in it (AVX-512 BF16 or "
        "AMX), and float32 elsewhere (default %(default)s)",
        choices=DTYPES,
    )
    no_ema: bool = option(False, "where a file has both, load the weights without averaging")
    parameterisation: str | None = option(
        None,
        "what the UNet predicts, where a file does not state it (default: as the model's files state, else eps)",
        choices=("eps", "v"),
    )


@dataclass(frozen=True, kw_only=True)
class Chosen(Loading):
    """The model."""

    model: str | Path = option(
        "stickers",
        "stickers, which is included; stickers-classes, the same for a class as the prompt, such as cat; a public "
        "checkpoint by name, downloaded on first use (see `p2p download "
        "--help`); a diffusers folder; a CompVis file (.safetensors or .ckpt); or PRESET=FILE for a file that could be "
        "of several models. Recommended: 50 steps and guidance 7.5 for Stable Diffusion, 4 steps and guidance 1 for "
        "sd-turbo. Default %(default)s",
    )


@dataclass(frozen=True, kw_only=True)
class Visited(Chosen):
    """The model, and the timesteps that sampling visits."""

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
        "of it. t=200 is a timestep, and never injects nothing. Default 0.5 where an object becomes another, which has "
        "another shape, and 0.2 for all other edits",
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
        None,
        "tau of self-attention, or its window. Default 0.8 where an object becomes another, and 0.6 for all other "
        "edits",
        type=window,
        metavar="[START:]END",
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
        reads=True,
        type=Path,
        metavar="FILE",
    )
    blend_from: Any = option(None, "regions and masks apply once t < TAU (default 0.8)", type=time, metavar="TAU")


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """How a real image is inverted."""

    invert: str = option(
        "direct",
        "how the noise is found that leads to the image: direct, the source follows the inverted latents exactly; "
        "ddim, the sampler's steps backwards, and fixed-point, the same, iterated; null-text, the empty prompt is "
        "optimised (20 s); negative-prompt, guidance leads away from the source's prompt; edit-friendly, the noise "
        "of each step of ddpm. Default %(default)s",
        choices=INVERSIONS,
    )
    fit: str = option(
        "crop",
        "an image of another size is scaled, and cut to the middle square, or padded with white (default %(default)s)",
        choices=FITS,
    )


@dataclass(frozen=True, kw_only=True)
class RealImage(Inversion):
    """A real image in the place of a generated source."""

    image: Any = option(
        None,
        "edit this image instead of a generated one; the source's prompt describes it",
        reads=True,
        type=Path,
        metavar="FILE",
    )


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
