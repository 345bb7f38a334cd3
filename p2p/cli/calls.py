"""The call that the options of an edit mean, once the command line or keywords are parsed."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha
from p2p.call import Blend, Call, Sampling, Target
from p2p.edits import Edit, Preserve, Refine, Renormalise, Swap
from p2p.inject import Layers, layout_side, sides
from p2p.local_blend import Region
from p2p.masks import drawn_mask, read_mask
from p2p.words import columns

EDITING = ("tau", "alpha", "refine", "swap", "preserve", "reweight", "renormalise")  # what `edits` says by itself


def claims_of(args: Namespace, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
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


def edit_of(args: Namespace, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
    """The edit of one target."""
    edit = reduce(add, args.reweight, claims_of(args, source, target, alpha))
    return edit + Renormalise() if args.renormalise else edit


def edits_of(args: Namespace, source: Tokens, targets: Sequence[Tokens]) -> list[Edit]:
    """The edit of each target.

    Raises:
        ValueError: `edits` are not one edit, or one for each target, or something else says what they do.
    """
    if "edits" not in args or args.edits is None:
        return [edit_of(args, source, target, alpha_of(args)) for target in targets]
    edits = [args.edits] * len(targets) if isinstance(args.edits, Edit) else args.edits
    if not isinstance(edits, list | tuple) or not all(isinstance(edit, Edit) for edit in edits):
        raise ValueError(f"edits must be an edit such as p2p.Swap('cat', 'dog'), or a list of them, got {args.edits!r}")
    if len(edits) != len(targets):
        raise ValueError(f"there are {len(targets)} targets and {len(edits)} edits: give one for all, or one for each")
    if more := [name for name in EDITING if getattr(args, name) not in ([], None) and getattr(args, name) is not False]:
        raise ValueError(f"edits say all that happens to the words: leave out {more[0]}, or say it in edits")
    return list(edits)


def alpha_of(args: Namespace) -> Alpha:
    """Raises ValueError for a word with two times."""
    words = [word for word, _ in args.alpha]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise ValueError(f"--alpha has two times for {twice[0]!r}: give it one")
    return Alpha(Alpha().tau if args.tau is None else args.tau, dict(args.alpha))


def blend_of(args: Namespace) -> Blend:
    """Raises ValueError for a start of nothing."""
    if args.blend_from is None:
        return Blend()
    if args.blend is None and args.mask is None:
        raise ValueError("--blend-from says when --blend or --mask begins to hold: give one of them too")
    return Blend(start=args.blend_from)


def region_of(args: Namespace) -> Region | None:
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


def self_injection_of(args: Namespace, model: LatentDiffusion) -> SelfInjection:
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
            "one of these, or --self-until never to inject none"
        )
    return SelfInjection(args.self_until, layers)


def sampling_of(args: Namespace) -> Sampling:
    """How to sample, as far as the command has options for it."""
    return Sampling(**{f.name: getattr(args, f.name) for f in fields(Sampling) if f.name in args})


def call_of(args: Namespace, model: LatentDiffusion) -> Call:
    """The whole call. Raises ValueError for what does not fit the prompts, or a mask that does not fit the picture."""
    source, *tokens = map(model.tokenizer.encode, (args.source, *args.targets))
    where = region_of(args)
    if args.mask is not None:
        if where:
            raise ValueError("--blend and --mask both say where targets may differ: give one of them")
        read = read_mask if isinstance(args.mask, Path) else drawn_mask
        where = read(args.mask, model.latent_shape[1:], model.config.autoencoder.factor)
    edits = edits_of(args, source, tokens)
    targets = (Target.of(prompt, edit, where) for prompt, edit in zip(args.targets, edits))
    return Call(
        args.source,
        tuple(targets),
        self_injection_of(args, model),
        Layers(places=args.layers),
        blend_of(args),
        sampling_of(args),
        str(args.model),
        not args.no_ema,
        args.parameterisation,
    )
