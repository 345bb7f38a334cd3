"""The subcommands of the command line: they make images, figures, animations and data files."""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ldm.attention import AttentionEdit
from ldm.pipeline import LatentDiffusion, State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.call import Call, Sampling
from p2p.cli.calls import alpha_of, claims_of, edit_of, sampling_of
from p2p.edits import Edit, Matrices, Swap
from p2p.experiments.baselines import fixed_seed
from p2p.experiments.self_attention_pca import SelfMaps, principal_components
from p2p.inject import layout_side, together, watching
from p2p.mappers import align, copies, mapper
from p2p.maps import MapHistory, Scale
from p2p.result import Result, edited, histories_of, prompts_of, sampled, with_progress
from p2p.summary import summary

# importing matplotlib takes a second, so plotting modules are imported by the commands that need them


@dataclass(frozen=True)
class Made:
    """The output of a command: its image, and a writer for each further file that was requested."""

    image: Image.Image
    also: dict[Path, Callable[[Path], object]] = field(default_factory=dict)
    result: Result | None = None  # of an edit


def generate(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """Generate an image, or a figure of several seeds, each the same as on its own."""
    if args.seeds is None:
        return Made(enlarged(Image.fromarray(_sampled(model, args, sampling_of(args))[0]), args.upscale))
    from p2p.figures import sheets

    samplings = of_seeds(sampling_of(args), args.seeds)
    panels = [(f"seed {sampling.seed}", _sampled(model, args, sampling)[0]) for sampling in samplings]
    return Made(sheets.as_image(sheets.grid(sheets.broken(panels, 5), args.prompt, side=1.6)))


def of_seeds(sampling: Sampling, count: int) -> list[Sampling]:
    """The same settings with `count` seeds, from its own on. Raises ValueError for a seed out of range."""
    return [replace(sampling, seed=sampling.seed + i) for i in range(count)]


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Enlarge an image for viewing; with factor 1 it is returned unchanged."""
    size = (factor * image.width, factor * image.height)
    return image if factor == 1 else image.resize(size, Image.Resampling.BICUBIC)


def _sampled(
    model: LatentDiffusion,
    args: argparse.Namespace,
    sampling: Sampling,
    look: AttentionEdit | None = None,
    along: Callable[[Iterator[State]], Iterator[State]] = lambda states: states,
) -> tuple[UInt8[np.ndarray, "H W 3"], list[State]]:
    """Sample a prompt, and return the image and the states; `look` may watch the attention, `along` wrap the states."""
    context = model.encode_prompts([args.prompt])
    run = model.denoise(context, [sampling.seed], edit=lambda t: look, **sampling.options())
    states = with_progress(along(run), model, sampling)
    return model.decode(states[-1].z_t)[0], states


def edit(model: LatentDiffusion, call: Call, args: argparse.Namespace) -> Made:
    """Edit, and show the source and its targets: side by side, compared, or for several seeds."""
    samplings = of_seeds(call.sampling, args.seeds or 1)
    call.start(model)  # raises if something does not fit
    source, *targets = map(model.tokenizer.encode, prompts_of(call))
    until, times, T = call.self_injection.until, call.sampling.times(model.schedule), model.schedule.T
    for target, tokens in zip(call.targets, targets):
        print(f"{target.prompt}: {target.edit}", file=sys.stderr)
        print(f"  {summary(source, tokens, target.edit, until, times, T)}", file=sys.stderr)
    if args.seeds is not None:
        image, run = _seeds(model, [replace(call, sampling=sampling) for sampling in samplings])
    elif args.compare:
        image, run = compare(model, call, args.scale or "word")
    else:
        run = edited(model, call, watched=args.save_maps is not None)
        image = enlarged(run.image, args.upscale)
    also = {}
    if args.save_maps:
        from p2p.experiments.export import save_maps

        also[args.save_maps] = lambda part: save_maps(part, run.histories, run.states, layout_side(model))
    if "gif" in args and args.gif:
        from p2p.figures.animation import frames, save_gif

        animation = frames(model, iter(run.states), prompts_of(call))
        also[args.gif] = lambda part: save_gif(animation, part)
    return Made(image, also, replace(run, figure=image))


def unedited(model: LatentDiffusion, call: Call) -> Result:
    """Sample the same prompts from the same seed, each with its own attention."""
    histories = histories_of(model, call)
    watch, sampling = together(histories), call.sampling
    run = fixed_seed(model, prompts_of(call), sampling.seed, edit=lambda t: watching(watch), **sampling.options())
    return sampled(model, call, run, histories, "same seed")


def compare(model: LatentDiffusion, call: Call, scale: Scale = "word") -> tuple[Image.Image, Result]:
    """Draw for each target the source, the same seed with the target's prompt, and the edit, with the maps of their
    words; also return the run of the edit."""
    from p2p.figures import sheets

    plain, run = unedited(model, call), edited(model, call, watched=True)
    maps = lambda history: history.mean(history.at_side(layout_side(model)))
    panels = []
    for row, target in enumerate(call.targets, start=1):
        panels += [
            (f"source\n{call.source}", plain.images[0], maps(plain.histories[0])),
            (f"same seed, new prompt\n{target.prompt}", plain.images[row], maps(plain.histories[row])),
            (f"Prompt-to-Prompt edit\n{target.prompt}", run.images[row], maps(run.histories[row])),
        ]
    return sheets.as_image(sheets.attention(panels, scale=scale)), run


def _seeds(model: LatentDiffusion, calls: list[Call]) -> tuple[Image.Image, Result]:
    """Draw a row of images for each seed; also return the run of the first."""
    from p2p.figures import sheets

    captions = ["source\n", *["edit\n"] * len(calls[0].targets)]
    captions = [role + prompt for role, prompt in zip(captions, prompts_of(calls[0]))]
    runs = [edited(model, call) for call in calls]
    rows = {run.call.sampling.seed: list(zip(captions, run.images)) for run in runs}
    return sheets.as_image(sheets.by_seed(rows)), runs[0]


def attention(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """Draw the image of a prompt with the attention map of each word, or with the components of its self-attention.

    Raises:
        ValueError: an option is for maps of words, and components are asked for.
    """
    from p2p.figures import sheets

    side, sampling = layout_side(model), sampling_of(args)
    if args.by == "component":
        for option in ("scale", "save_maps"):
            if getattr(args, option):
                raise ValueError(f"--{option.replace('_', '-')} is for maps of words: leave it out for --by component")
        seen = SelfMaps(side)
        picture, _ = _sampled(model, args, sampling, seen)
        return Made(sheets.as_image(sheets.components(picture, principal_components(seen.mean()[0]))))
    history, scale = MapHistory(model.tokenizer.encode(args.prompt)), args.scale or "word"
    along = lambda states: history.along(states, sampling.times(model.schedule))
    picture, states = _sampled(model, args, sampling, watching(history), along)
    if args.by == "step":
        figure = sheets.by_step(history, picture, side, scale=scale)
    elif args.by == "layer":
        figure = sheets.by_layer(history, picture, scale)
    else:
        figure = sheets.attention([(args.prompt, picture, history.mean(history.at_side(side)))], scale=scale)
    if not args.save_maps:
        return Made(sheets.as_image(figure))
    from p2p.experiments.export import save_maps

    return Made(sheets.as_image(figure), {args.save_maps: lambda part: save_maps(part, [history], states, side)})


def matrices(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """Draw the mapper of an edit, and P_t and Q_t at each step where they change."""
    from p2p.figures import edit_matrices, sheets

    source, target = _prompts(model, args)
    edit = edit_of(args, source, target, alpha_of(args))
    pairs = tuple((part.source, part.target) for part in edit.parts if isinstance(part, Swap))
    compiled, at = edit.compile(source, target, model.schedule.T), {}
    last: Matrices | None = None
    for t in sampling_of(args).times(model.schedule)[:-1]:
        found = compiled(t)
        if last is None or not (found.P.equal(last.P) and found.Q.equal(last.Q)):
            at[t] = last = found
    if len(at) > 4:  # a ramp changes them at every step
        at = {t: at[t] for t in list(at)[:: -(-len(at) // 4)]}
    M = mapper(align(source, target, pairs) if pairs else copies(source, target), len(source.ids))
    return Made(sheets.as_image(edit_matrices.matrices(source, target, M, at)))


def schedule(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """Draw when each token of the target uses the source's attention."""
    from p2p.figures import edit_matrices, sheets

    source, target = _prompts(model, args)
    edit, visited = claims_of(args, source, target, alpha_of(args)), sampling_of(args).times(model.schedule)
    figure = edit_matrices.timeline(source, target, edit, args.self_until, visited, model.schedule.T)
    return Made(sheets.as_image(figure))


def _prompts(model: LatentDiffusion, args: argparse.Namespace) -> tuple[Tokens, Tokens]:
    return model.tokenizer.encode(args.source), model.tokenizer.encode(args.target)


def sweep_tau(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """[P12] Draw the targets with injection from never to always, with the preservation and fidelity of each tau."""
    from p2p.experiments.sweeps import TAUS
    from p2p.figures import sweep_plots

    return _measured(args, _swept(model, args, TAUS), sweep_plots.tau_sweep)


def sweep_window(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """[P13] Draw the targets with injection in one window of the steps at a time, and what each window preserves."""
    from p2p.experiments.sweeps import WINDOWS
    from p2p.figures import sweep_plots

    return _measured(args, _swept(model, args, WINDOWS), sweep_plots.window_sweep)


def _measured(args: argparse.Namespace, sweeps: list, draw: Callable) -> Made:
    """The figure of sweeps, with a data file if requested."""
    from p2p.figures import sheets

    if not args.data:
        return Made(sheets.as_image(draw(sweeps)))
    from p2p.experiments.export import measurements, save_numbers

    fill = lambda part: save_numbers(part, measurements(sweeps), args.data.suffix.lower())
    return Made(sheets.as_image(draw(sweeps)), {args.data: fill})


def _swept(model: LatentDiffusion, args: argparse.Namespace, taus: tuple) -> list:
    from p2p.experiments.sweeps import sweep

    sampling, encode = sampling_of(args), model.tokenizer.encode
    source, seeds = encode(args.source), range(args.seed, args.seed + args.seeds)
    edit_to = lambda y: lambda alpha: edit_of(args, source, y, alpha)
    edits = [(prompt, edit_to(encode(prompt))) for prompt in args.targets]
    for prompt, edit in edits:  # raises before the first sweep samples
        PromptToPrompt(model, args.source, (prompt,), (edit(Alpha()),))
    return [sweep(model, args.source, prompt, edit, taus, seeds, **sampling.options()) for prompt, edit in edits]


def sweep_word(model: LatentDiffusion, args: argparse.Namespace) -> Made:
    """[P11] Draw the targets with the attention of all words, of one word only, and of none."""
    from p2p.experiments.sweeps import preserve
    from p2p.figures import sheets, sweep_plots

    sampling, encode = sampling_of(args), model.tokenizer.encode
    source, alpha = encode(args.source), alpha_of(args)
    edits = [Edit.between(source, encode(y), alpha) for y in args.targets]
    found = preserve(model, args.source, args.targets, args.word, edits, args.seed, **sampling.options())
    return Made(sheets.as_image(sweep_plots.preservation(found)))
