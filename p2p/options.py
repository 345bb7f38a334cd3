"""The command line's words for an edit, and the edits they mean."""

import argparse
import math

from ldm.tokenizer import Tokens
from p2p.alpha import Alpha
from p2p.edits import Edit, Preserve, Refine, Reweight, Swap, between
from p2p.local_blend import Region

TAU = """\
when the edit lets go: the source's attention is used while t >= TAU, the target's own once t < TAU (t counts down, so
injection comes first). A fraction is of T: 0.2 means 0.2 T, so the first 80%% of the steps inject; 1.0 never injects.
A whole number is a time step, 0 (always) to T+1 (never). Default %(default)s"""


def finite(text: str) -> float:
    """A number, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def time(text: str) -> int | float:
    """A time as tau is given: a whole number stays one, since 1 is a time step and 1.0 is all of T."""
    value = finite(text)
    return int(text) if text.strip().lstrip("+-").isdecimal() else value


def pair(text: str) -> tuple[str, str]:
    """`A=B`, for argparse."""
    left, equals, right = text.partition("=")
    if not (left.strip() and equals and right.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form WORD=...")
    return left.strip(), right.strip()


def weight(text: str) -> tuple[str, float]:
    word, number = pair(text)
    return word, finite(number)


def word_time(text: str) -> tuple[str, int | float]:
    word, number = pair(text)
    return word, time(number)


def add_edit_options(parser: argparse.ArgumentParser) -> None:
    """What an edit is made of; what is repeated is composed in the order of this list."""
    parser.add_argument("--tau", type=time, default=0.2, help=TAU)
    parser.add_argument(
        "--alpha",
        type=word_time,
        action="append",
        default=[],
        metavar="WORD=TAU",
        help="a switch time of its own for a word of the target",
    )
    parser.add_argument("--refine", action="store_true", help="keep the words that both prompts have, and swap none")
    parser.add_argument(
        "--swap", type=pair, action="append", default=[], metavar="A=B", help="A of the source becomes B of the target"
    )
    parser.add_argument(
        "--preserve",
        action="append",
        default=[],
        metavar="WORD",
        help="take the source's attention for this word, at every step; alone, for no other",
    )
    parser.add_argument(
        "--reweight",
        type=weight,
        action="append",
        default=[],
        metavar="WORD=C",
        help="multiply the word's attention by C: 0 removes, above 1 strengthens, below 0 pushes away",
    )
    parser.add_argument(
        "--self-until",
        type=time,
        default=0.6,
        metavar="TAU",
        help="tau of self-attention (default %(default)s)",
    )
    parser.add_argument(
        "--blend",
        metavar="WORD,...",
        help="keep the source outside the region where these words look; -WORD cuts a word's region out",
    )


def edit_of(args: argparse.Namespace, source: Tokens, target: Tokens) -> Edit:
    """The edit of one target: what the options say, or what the prompts suggest if they say nothing."""
    alpha = Alpha(args.tau, dict(args.alpha))
    said: list[Edit] = [Refine(alpha)] if args.refine else []
    said += [Swap(word, other, alpha) for word, other in args.swap]
    said += [Preserve(word) for word in args.preserve]
    edit = sum(said[1:], said[0]) if said else between(source, target, alpha)
    for word, factor in args.reweight:
        edit += Reweight(word, factor)
    return edit


def region_of(args: argparse.Namespace) -> Region | None:
    """Where targets may differ from the source; None is everywhere.

    Raises:
        ValueError: no word to keep.
    """
    if args.blend is None:
        return None
    chosen = [word.strip() for word in args.blend.split(",") if word.strip()]
    cut = tuple(word.removeprefix("-") for word in chosen if word.startswith("-"))
    return Region(tuple(word for word in chosen if not word.startswith("-")), cut)
