"""The command line's words for an edit, and the edits they mean."""

import argparse
import math
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import get_args

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha, Step, Time, Window
from p2p.call import Blend, Call, Sampling, Target
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.inject import Layers, layout_side, sides
from p2p.local_blend import Region
from p2p.maps import Scale
from p2p.masks import read_mask
from p2p.words import columns

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


def time(text: str) -> Time:
    """A time as tau is given: a fraction of T, `t=200`, or `never`."""
    text = text.strip()
    if text == "never":
        return text
    if (step := text.removeprefix("t=")) != text and step.isdecimal():
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


def window(text: str) -> Time | Window:
    """`END`, or `START:END`."""
    start, colon, end = text.partition(":")
    return Window(time(end), time(start)) if colon else time(text)


def word_window(text: str) -> tuple[str, Time | Window]:
    word, when = pair(text, "[START:]END")
    return word, window(when)


def weight(text: str) -> Reweight:
    """`WORD=C`, or `WORD=C@START:END`."""
    word, rest = pair(text, "C")
    factor, at, when = rest.partition("@")
    return Reweight(word, finite(factor), window(when) if at else 0.0)


def places(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(Layers().places):
        raise argparse.ArgumentTypeError(f"{text!r}: give some of {','.join(Layers().places)}")
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
        help="multiply the word's attention by C: 0 takes it away (stripes and snowflakes go, fog thins; a colour, "
        "size or thing stays), above 1 strengthens, below 0 pushes away; at every step, or in a window as for --alpha",
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
        default=0.6,
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
        default=Layers().places,
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
        help=f"regions and masks hold once t < TAU (default {Blend().start})",
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
        default=1,
        metavar="N",
        help="write the image N times as wide and high, smoothly, to be looked at (default %(default)s)",
    )


def add_maps(parser: argparse.ArgumentParser) -> None:
    """How the maps of words are drawn, and where their numbers go."""
    parser.add_argument(
        "--scale",
        choices=get_args(Scale),
        help="colours of the maps: word (the default), each word's from 0 to its own largest, with its share of all "
        "attention beside it; shared, one scale for all, where a dark map is a word with little attention",
    )
    parser.add_argument(
        "--save-maps",
        type=Path,
        metavar="FILE.npz",
        help="the maps of every word at every step, and the latents, as arrays for numpy.load",
    )


def claims_of(args: argparse.Namespace, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
    """The edit of one target but for its weights: what the options say, or what the prompts suggest if they say
    nothing.

    Raises:
        ValueError: a tau or an alpha is said that no word would heed.
    """
    said: list[Edit] = [Refine(alpha)] if args.refine else []
    said += [Swap(word, other, alpha) for word, other in args.swap]
    if "tau" not in args:  # a sweep, whose own alpha is that of every word
        said += [Preserve(word, alpha) for word in args.preserve]
    else:
        if args.preserve and not said:
            if args.tau is not None:
                raise ValueError("--preserve alone holds at every step, whatever --tau: give --alpha WORD=TAU instead")
            taken = {column for word in args.preserve for column in columns(target, word)}
            if idle := [word for word in alpha.words if not taken.intersection(columns(target, word))]:
                raise ValueError(f"--alpha {idle[0]} times nothing: --preserve alone takes no other word's attention")
        said += [Preserve(word, Alpha(0.0, alpha.words)) for word in args.preserve]
    return reduce(add, said) if said else Edit.between(source, target, alpha)


def edit_of(args: argparse.Namespace, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
    """The edit of one target."""
    edit = reduce(add, args.reweight, claims_of(args, source, target, alpha))
    return edit + Renormalise() if args.renormalise else edit


def alpha_of(args: argparse.Namespace) -> Alpha:
    """Raises ValueError for a word with two times."""
    words = [word for word, _ in args.alpha]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(f"--alpha has two times for {twice[0]!r}: give it one")
    return Alpha(Alpha().tau if args.tau is None else args.tau, dict(args.alpha))


def blend_of(args: argparse.Namespace) -> Blend:
    """Raises ValueError for a start of nothing."""
    if args.blend_from is None:
        return Blend()
    if args.blend is None and not args.mask:
        raise ValueError("--blend-from says when --blend or --mask begins to hold: give one of them too")
    return Blend(start=args.blend_from)


def region_of(args: argparse.Namespace) -> Region | None:
    """Where targets may differ from the source; None is everywhere.

    Raises:
        ValueError: no word to keep.
    """
    if args.blend is None:
        return None
    chosen = [word.strip() for word in args.blend.split(",") if word.strip()]
    keep = tuple(word for word in chosen if not word.startswith("-"))
    if not keep:
        raise ValueError(f"--blend needs at least one word whose region changes: --blend {','.join(['WORD', *chosen])}")
    return Region(keep, tuple(word.removeprefix("-") for word in chosen if word.startswith("-")))


def self_injection_of(args: argparse.Namespace, model: LatentDiffusion) -> SelfInjection:
    """Raises ValueError for layers that the model has none of."""
    side = layout_side(model) if args.self_side is None else args.self_side
    layers = Layers(side, args.layers)
    there = sides(model, args.layers)
    if not there:
        raise ValueError(f"{model.config.name} has no attention in --layers {','.join(args.layers)}: give others too")
    if side < min(there):
        have = ", ".join(map(str, there))
        raise ValueError(
            f"--self-side {side} leaves no self-attention to inject, layers there have {have} positions a side: give "
            "one of these, or --self-until 1.0 to inject none"
        )
    return SelfInjection(args.self_until, layers)


def sampling_of(args: argparse.Namespace) -> Sampling:
    """How to sample, as far as the command has options for it."""
    return Sampling(**{f.name: getattr(args, f.name) for f in fields(Sampling) if f.name in args})


def call_of(args: argparse.Namespace, model: LatentDiffusion) -> Call:
    """The whole call. Raises ValueError for what does not fit the prompts, or a mask that does not fit the picture."""
    source, *tokens = map(model.tokenizer.encode, (args.source, *args.targets))
    where = region_of(args)
    if args.mask:
        if where:
            raise ValueError("--blend and --mask both say where targets may differ: give one of them")
        where = read_mask(args.mask, model.latent_shape[1:], model.config.autoencoder.factor)
    alpha = alpha_of(args)
    targets = (Target.of(prompt, edit_of(args, source, y, alpha), where) for prompt, y in zip(args.targets, tokens))
    return Call(
        args.source,
        tuple(targets),
        self_injection_of(args, model),
        Layers(places=args.layers),
        blend_of(args),
        sampling_of(args),
        args.model,
        not args.no_ema,
        args.parameterisation,
    )
