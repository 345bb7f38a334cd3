"""The options of an edit on the command line. Their defaults are those of `p2p.edit`.

What an option's text means is imported when there is one to read: the help needs no torch.
"""

import argparse
import math
from pathlib import Path

from p2p.api import DEFAULTS

PLACES = DEFAULTS["layers"]
SCALES = ("word", "shared")
TAU = """\
when the edit lets go: the source's attention is used while t >= TAU, the target's own once t < TAU (t counts down, so
injection comes first). A number is a fraction of T: with 0.2 the first 80%% of the sampling injects, with 0 all of it.
t=200 is a time step, and never injects nothing. Default 0.2"""


def finite(text: str) -> float:
    """A number, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def time(text: str):
    """A time as tau is given: a fraction of T, `t=200`, or `never`."""
    text = text.strip()
    if text == "never":
        return text
    if (step := text.removeprefix("t=")) != text and step.isdecimal():
        from p2p.alpha import Step

        return Step(int(step))
    value = finite(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is more than 1: a number is a fraction of T; a time step is t={text}")
    return value


def pair(text: str, right: str = "OTHER") -> tuple[str, str]:
    """`A=B`, for argparse; `right` is what B is in words."""
    word, equals, other = (part.strip() for part in text.partition("="))
    if not (word and equals and other):
        raise argparse.ArgumentTypeError(f"{text!r} is not WORD={right}: give {word or 'WORD'}={other or right}")
    return word, other


def window(text: str):
    """`END`, or `START:END`."""
    start, colon, end = text.partition(":")
    if not colon:
        return time(text)
    from p2p.alpha import Window

    return Window(time(end), time(start))


def word_window(text: str) -> tuple:
    word, when = pair(text, "[START:]END")
    return word, window(when)


def weight(text: str):
    """`WORD=C`, or `WORD=C@START:END`."""
    from p2p.edits import Reweight

    word, rest = pair(text, "C")
    factor, at, when = rest.partition("@")
    return Reweight(word, finite(factor), window(when) if at else 0.0)


def places(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(PLACES):
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {','.join(PLACES)}")
    return chosen


# Each command adds the groups of options that it uses, so that argparse refuses the others.


def add_times(parser: argparse.ArgumentParser) -> None:
    """When the source's attention is used."""
    parser.add_argument("--tau", type=time, help=TAU)
    parser.add_argument(
        "--alpha",
        type=word_window,
        action="append",
        default=[],
        metavar="WORD=[START:]END",
        help="a switch time of its own for a word of the target, or a window: 1:0.5 is the first half of the steps",
    )


def add_claims(
    parser: argparse.ArgumentParser, preserved: str = "at every step (--alpha gives it another time)"
) -> None:
    """Which words take the source's attention; composed in this order."""
    parser.add_argument("--refine", action="store_true", help="keep the words that both prompts have, and swap none")
    parser.add_argument(
        "--swap", type=pair, action="append", default=[], metavar="A=B", help="A of the source becomes B of the target"
    )
    parser.add_argument(
        "--preserve",
        action="append",
        default=[],
        metavar="WORD",
        help=f"take the source's attention for this word, {preserved}; alone, for no other",
    )


def add_swept_claims(parser: argparse.ArgumentParser) -> None:
    """The same where a sweep says when, and injects cross-attention alone."""
    add_claims(parser, preserved="while the sweep injects")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """How strongly words are attended to, whosever attention it is; composed in this order, after all claims."""
    parser.add_argument(
        "--reweight",
        type=weight,
        action="append",
        default=[],
        metavar="WORD=C[@START:END]",
        help="multiply the word's attention by C: 0 removes it (stripes go, fog thins; a colour, size or thing stays), "
        "above 1 strengthens, below 0 pushes away; at every step, or in a window as for --alpha",
    )
    parser.add_argument(
        "--renormalise",
        action="store_true",
        help="divide the rows of the edited attention by their sums; a weight C is then log C added before the softmax",
    )


def add_self_times(parser: argparse.ArgumentParser) -> None:
    """When the source's self-attention is used."""
    parser.add_argument(
        "--self-until",
        type=window,
        default=DEFAULTS["self_until"],
        metavar="[START:]END",
        help="tau of self-attention, or its window (default %(default)s)",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where in the network attention is edited, and where in the picture targets may differ."""
    parser.add_argument(
        "--self-side",
        type=int,
        metavar="N",
        help="inject self-attention in layers of at most N positions a side (default: as many as the model's level "
        "nearest 16 has, which is 16, and of sd21 24)",
    )
    parser.add_argument(
        "--layers",
        type=places,
        default=PLACES,
        metavar="PLACE,...",
        help="edit attention only there: some of down,mid,up (default all)",
    )
    parser.add_argument(
        "--blend",
        metavar="WORD,...",
        help="keep the source outside the region where these words look; -WORD behind them cuts a word's region out",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="keep the source outside the white of this picture, of the picture's size or the latent's",
    )
    parser.add_argument(
        "--blend-from",
        type=time,
        metavar="TAU",
        help="regions and masks hold once t < TAU (default 0.8)",
    )


def factor(text: str) -> int:
    """How many times as large, for argparse."""
    if not (text.isdecimal() and 1 <= int(text) <= 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 16")
    return int(text)


def add_views(parser: argparse.ArgumentParser, compared: bool = True) -> None:
    """What is made of the images: nothing in them changes."""
    view = parser.add_mutually_exclusive_group()
    if compared:
        view.add_argument(
            "--compare",
            action="store_true",
            help="a figure: for each target the source, the same seed with the new prompt, and the edit, with the map "
            "of every word",
        )
    view.add_argument("--seeds", type=int, metavar="N", help="a figure: the same for N seeds, from --seed on")
    view.add_argument(
        "--upscale",
        type=factor,
        default=DEFAULTS["upscale"],
        metavar="N",
        help="write the image N times as wide and high, smoothly, to be looked at (default %(default)s)",
    )


def add_maps(parser: argparse.ArgumentParser) -> None:
    """How the maps of words are drawn, and where their numbers go."""
    parser.add_argument(
        "--scale",
        choices=SCALES,
        help="colours of the maps: word (the default), each word's from 0 to its own largest, with its share of all "
        "attention beside it; shared, one scale for all, where a dark map is a word with little attention",
    )
    parser.add_argument(
        "--save-maps",
        type=Path,
        metavar="FILE.npz",
        help="the maps of every word at every step, and the latents, as arrays for numpy.load",
    )
