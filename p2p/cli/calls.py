"""Options and tokens to a `Call`: what is edited, how, and how it is sampled."""

from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from torch import Tensor

from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import Tokens
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha
from p2p.call import Blend, Call, RealImage, Sampling, Target
from p2p.cli import groups, options
from p2p.edits import Edit, Preserve, Refine, Renormalise, Swap
from p2p.inject import Layers, layout_side, sides
from p2p.local_blend import Region
from p2p.masks import drawn_mask, read_mask
from p2p.photo import digest
from p2p.switch_times import switch_times
from p2p.words import columns


def claims_of(given: groups.Claims, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
    """The edit of one target without its weights: the given one, or by default the one inferred from the prompts.

    Raises:
        ValueError: a tau or an alpha that would have no effect.
    """
    claims: list[Edit] = [Refine(alpha)] if given.refine else []
    claims += [Swap(word, other, alpha) for word, other in given.swap]
    if not isinstance(given, groups.Times):  # a sweep, whose own alpha applies to every word
        claims += [Preserve(word, alpha) for word in given.preserve]
    else:
        if given.preserve and not claims and given.tau is not None:
            raise ValueError("--preserve alone applies at all steps, with any --tau: give --alpha WORD=TAU instead")
        claims += [Preserve(word, Alpha(0.0, alpha.words)) for word in given.preserve]
    if alpha.words:
        P = claims_of(given, source, target, Alpha(0.0)).compile(source, target, T=1)(1).P  # all that is ever injected
        if idle := [word for word in alpha.words if not P[:, list(columns(target, word))].any()]:
            raise ValueError(f"--alpha {idle[0]} has no effect: this edit injects nothing of the source for the word")
    return reduce(add, claims) if claims else Edit.between(source, target, alpha)


def edit_of(given: Any, source: Tokens, target: Tokens, alpha: Alpha) -> Edit:
    """The edit of one target, given options with `Claims` and `Weights`."""
    edit = reduce(add, given.reweight, claims_of(given, source, target, alpha))
    return edit + Renormalise() if given.renormalise else edit


def edits_of(given: options.Edit, source: Tokens, targets: Sequence[Tokens]) -> list[Edit]:
    """The edit of each target.

    Raises:
        ValueError: `edits` is not one edit or one for each target, or another option would change them.
    """
    if given.edits is None:
        return [edit_of(given, source, target, alpha_of(given, source, target)) for target in targets]
    edits = [given.edits] * len(targets) if isinstance(given.edits, Edit) else given.edits
    if not isinstance(edits, list | tuple) or not all(isinstance(edit, Edit) for edit in edits):
        raise ValueError(f"edits must be an edit such as p2p.Swap('cat', 'dog'), or a list of them, got {edits!r}")
    if len(edits) != len(targets):
        raise ValueError(f"there are {len(targets)} targets and {len(edits)} edits: give one for all, or one for each")
    others = [f for part in (groups.Times, groups.Claims, groups.Weights) for f in fields(part)]
    if more := [f.name for f in others if getattr(given, f.name) != f.default]:
        raise ValueError(f"edits are the whole edit: leave out {more[0]}, or make it part of edits")
    return list(edits)


def alpha_of(given: groups.Times, source: Tokens, target: Tokens) -> Alpha:
    """alpha_t of one target. Raises ValueError for a word with two times."""
    places = [columns(target, word) for word, _ in given.alpha]  # Dog and dog#1 may be one word
    if twice := [word for (word, _), place in zip(given.alpha, places) if places.count(place) > 1]:
        raise ValueError(f"--alpha has two times for {twice[0]!r}: give it one")
    return Alpha(switch_times(source, target).tau if given.tau is None else given.tau, dict(given.alpha))


def blend_of(given: groups.Where) -> Blend:
    """Raises ValueError for a start without a region or a mask."""
    if given.blend_from is None:
        return Blend()
    if given.blend is None and given.mask is None:
        raise ValueError("--blend-from sets when --blend or --mask begins to apply: give one of them too")
    return Blend(start=given.blend_from)


def where_of(given: groups.Where, model: LatentDiffusion) -> Region | Bool[Tensor, "h w"] | None:
    """The region or mask in which targets may differ from the source; None is everywhere.

    Raises:
        ValueError: both a region and a mask, a region without words, or a mask that does not fit the image.
    """
    if given.blend is not None and given.mask is not None:
        raise ValueError("--blend and --mask both restrict where targets may differ: give one of them")
    if given.mask is not None:
        return mask_of(given.mask, model)
    if given.blend is None:
        return None
    chosen = [word.strip() for word in given.blend.split(",") if word.strip()]
    keep = tuple(word for word in chosen if not word.startswith("-"))
    if not keep:
        raise ValueError(f"--blend needs at least one word whose region changes: --blend {','.join(['WORD', *chosen])}")
    return Region(keep, tuple(word.removeprefix("-") for word in chosen if word.startswith("-")))


def mask_of(mask: Path | object, model: LatentDiffusion) -> Bool[Tensor, "h w"]:
    """Raises ValueError for a mask that does not fit the image."""
    read = read_mask if isinstance(mask, Path) else drawn_mask
    return read(mask, model.latent_shape[1:], model.config.autoencoder.factor)


def self_injection_of(given: options.Edit, model: LatentDiffusion, tokens: Sequence[Tokens]) -> SelfInjection:
    """With the times that are used, for replays to be independent of defaults. Raises ValueError if the model has no
    such layers."""
    side = layout_side(model) if given.self_side is None else given.self_side
    layers = Layers(side, given.layers)
    there = sides(model, given.layers)
    if not there:
        raise ValueError(f"{model.config.name} has no attention in --layers {','.join(given.layers)}: add others")
    if side < min(there):
        have = ", ".join(map(str, there))
        raise ValueError(
            f"--self-side {side} leaves no self-attention to inject, layers there have {have} positions a side: give "
            "one of these, or --self-until never to inject none"
        )
    untils = SelfInjection(given.self_until).untils(tokens)
    return SelfInjection(untils[0] if len(set(untils)) == 1 else tuple(untils), layers)


def sampling_of(given: groups.Chosen) -> Sampling:
    """The sampling settings; those that the command has no options for are the defaults."""
    return Sampling(**{f.name: getattr(given, f.name) for f in fields(Sampling) if hasattr(given, f.name)})


def real_image_of(given: groups.RealImage, image: UInt8[np.ndarray, "H W 3"] | None) -> RealImage | None:
    """The image as a call has it, if there is one."""
    return None if image is None else RealImage(digest(image), given.invert, given.fit)


def call_of(
    given: options.Edit,
    model: LatentDiffusion,
    tokens: Sequence[Tokens],
    image: UInt8[np.ndarray, "H W 3"] | None = None,
) -> Call:
    """The whole call, given the tokens of its prompts, and the image that it edits, if it edits one. Raises ValueError
    for options that do not fit prompts, model or image."""
    source, *targets = tokens
    where = where_of(given, model)
    edits = edits_of(given, source, targets)
    return Call(
        given.source,
        tuple(Target.of(prompt, edit, where) for prompt, edit in zip(given.targets, edits)),
        self_injection_of(given, model, tokens),
        Layers(places=given.layers),
        blend_of(given),
        sampling_of(given),
        real_image_of(given, image),
        str(given.model),
        not given.no_ema,
        given.parameterisation,
    )
