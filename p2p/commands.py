"""What the subcommands of the command line make: pictures, figures and animations."""

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ldm.attention import AttentionEdit
from ldm.pipeline import LatentDiffusion, State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.call import Call, Sampling
from p2p.edits import Edit, Matrices, Moment, Swap
from p2p.inject import layout_side, watching
from p2p.mapper import align, mapper
from p2p.maps import MapHistory
from p2p.options import alpha_of, claims_of, edit_of, sampling_of
from p2p.principal import SelfMaps, principal_components

# matplotlib takes a second to load, so what draws is imported by the commands that draw


def with_progress(states: Iterator[State], model: LatentDiffusion, sampling: Sampling) -> list[State]:
    calls = len(sampling.times(model.schedule)) - 1
    with logging_redirect_tqdm():  # a warning on a line of its own, above the bar
        return list(tqdm(states, total=calls, unit="step", file=sys.stderr))


def generate(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """The picture of a prompt."""
    return Image.fromarray(_sampled(model, args))


def _sampled(
    model: LatentDiffusion,
    args: argparse.Namespace,
    look: AttentionEdit | None = None,
    along: Callable[[Iterator[State]], Iterator[State]] = lambda states: states,
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of a prompt, with something that looks at its attention, or goes along with its states."""
    sampling = sampling_of(args)
    context = model.encode_prompts([args.prompt])
    states = model.denoise(context, [sampling.seed], edit=lambda t: look, **sampling.options())
    return model.decode(with_progress(along(states), model, sampling)[-1].z_t)[0]


def edit(model: LatentDiffusion, call: Call) -> tuple[Image.Image, list[State]]:
    """The source and its targets side by side, and the run that led there."""
    states = call.start(model)
    for target in call.targets:
        print(f"{target.prompt}: {target.edit}", file=sys.stderr)
    states = with_progress(states, model, call.sampling)
    return Image.fromarray(np.concatenate(list(model.decode(states[-1].z_t)), axis=1)), states


ATTENTION = ("word", "step", "layer", "component")


def attention(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """The picture of a prompt, and where each of its words looks, or what its self-attention sees."""
    from p2p import show

    side = layout_side(model)
    if args.by == "component":
        seen = SelfMaps(side)
        picture = _sampled(model, args, seen)
        return show.as_image(show.components(picture, principal_components(seen.mean()[0])))
    history, visited = MapHistory(model.tokenizer.encode(args.prompt)), sampling_of(args).times(model.schedule)
    picture = _sampled(model, args, watching(history), lambda states: history.along(states, visited))
    if args.by == "step":
        return show.as_image(show.by_step(history, picture, side))
    if args.by == "layer":
        return show.as_image(show.by_layer(history, picture))
    return show.as_image(show.attention([(args.prompt, picture, history.mean(history.at_side(side)))]))


def matrices(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """The mapper of an edit, and P_t and Q_t wherever in the sampling they change."""
    from p2p import show, show_edit

    source, target = _prompts(model, args)
    edit = edit_of(args, source, target, alpha_of(args))
    pairs = tuple((part.source, part.target) for part in edit.parts if isinstance(part, Swap))
    T, at = model.schedule.T, {}
    last: Matrices | None = None
    for t in sampling_of(args).times(model.schedule)[:-1]:
        found = edit.matrices(Moment(t, T, source, target))
        if last is None or not (found.P.equal(last.P) and found.Q.equal(last.Q)):
            at[t] = last = found
    if len(at) > 4:  # a ramp changes them at every step
        at = {t: at[t] for t in list(at)[:: -(-len(at) // 4)]}
    return show.as_image(show_edit.matrices(source, target, mapper(align(source, target, pairs), len(source.ids)), at))


def schedule(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """When each token of the target uses the source's attention."""
    from p2p import show, show_edit

    source, target = _prompts(model, args)
    edit, visited = claims_of(args, source, target, alpha_of(args)), sampling_of(args).times(model.schedule)
    return show.as_image(show_edit.timeline(source, target, edit, args.self_until, visited, model.schedule.T))


def _prompts(model: LatentDiffusion, args: argparse.Namespace) -> tuple[Tokens, Tokens]:
    return model.tokenizer.encode(args.source), model.tokenizer.encode(args.target)


def sweep_tau(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """[P12] The targets with injection from never to always, and what each tau keeps and follows."""
    from p2p import show, show_sweeps
    from p2p.sweeps import TAUS

    return show.as_image(show_sweeps.tau_sweep(_swept(model, args, TAUS)))


def sweep_window(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """[P13] The targets with injection in one window of the steps at a time, and what each window keeps."""
    from p2p import show, show_sweeps
    from p2p.sweeps import WINDOWS

    return show.as_image(show_sweeps.window_sweep(_swept(model, args, WINDOWS)))


def _swept(model: LatentDiffusion, args: argparse.Namespace, taus: tuple) -> list:
    from p2p.sweeps import sweep

    sampling, encode = sampling_of(args), model.tokenizer.encode
    source, seeds = encode(args.source), range(args.seed, args.seed + args.seeds)
    edit_to = lambda y: lambda alpha: edit_of(args, source, encode(y), alpha)
    for y in args.targets:  # what does not fit is refused before the first sweep samples
        PromptToPrompt(model, args.source, (y,), (edit_to(y)(Alpha()),))
    return [sweep(model, args.source, y, edit_to(y), taus, seeds, **sampling.options()) for y in args.targets]


def sweep_word(model: LatentDiffusion, args: argparse.Namespace) -> Image.Image:
    """[P11] The targets with the attention of all words, of one word alone, and of none."""
    from p2p import show, show_sweeps
    from p2p.sweeps import preserve

    sampling, encode = sampling_of(args), model.tokenizer.encode
    source, alpha = encode(args.source), alpha_of(args)
    edits = [Edit.between(source, encode(y), alpha) for y in args.targets]
    found = preserve(model, args.source, args.targets, args.word, edits, args.seed, **sampling.options())
    return show.as_image(show_sweeps.preservation(found))
