"""The commands that make images, figures, animations and data files; each gets the model and its options."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ldm.attention import AttentionFn
from ldm.pipeline import LatentDiffusion
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Call, Sampling
from p2p.cli import options
from p2p.cli.calls import alpha_of, claims_of, edit_of, sampling_of
from p2p.cli.unknown_words import tokenised
from p2p.edits import Edit, Matrices, Preserve, Swap
from p2p.experiments.comparison import Comparison
from p2p.experiments.restore import Restored
from p2p.experiments.self_attention_pca import SelfMaps, principal_components
from p2p.inject import layout_side, together, watching
from p2p.inversion.inverted import Inverted
from p2p.inversion.methods import invert
from p2p.inversion.reconstruction import Reconstruction
from p2p.mappers import align, copies, mapper
from p2p.maps import MapHistory, Scale
from p2p.photo import fitted
from p2p.result import Drawing, Result, edited, histories_of, maps_of, sampled, with_progress
from p2p.summary import NOTHING, shares, summary
from p2p.switch_times import FOR_OBJECTS, switch_times

# importing matplotlib takes a second, so plotting modules are imported by the commands that need them


Pixels = UInt8[np.ndarray, "H W 3"]
Product = Image.Image | Drawing | Result | Comparison | Restored | Reconstruction


@dataclass(frozen=True)
class Made:
    """The output of a command: its result, the image to write, and a writer for each further requested file."""

    result: Product
    image: Image.Image
    also: dict[Path, Callable[[Path], object]] = field(default_factory=dict)


def drawing(figure, data: object, also: dict[Path, Callable[[Path], object]] | None = None) -> Made:
    """A matplotlib figure as the output of a command, with the data that it shows."""
    from p2p.figures import sheets

    image = sheets.as_image(figure)
    return Made(Drawing(image, data), image, also or {})


def generate(model: LatentDiffusion, given: options.Generate) -> Made:
    """Generate an image, or a figure of several seeds, each the same as on its own."""
    samplings = of_seeds(sampling_of(given), given.seeds or 1)
    context = context_of(model, given.prompt)
    images = [(sampling.seed, _sampled(model, context, sampling)[0]) for sampling in samplings]
    if given.seeds is None:
        image = enlarged(Image.fromarray(images[0][1]), given.upscale)
    else:
        from p2p.figures import sheets

        panels = [(f"seed {seed}", image) for seed, image in images]
        image = sheets.as_image(sheets.grid(sheets.broken(panels, 5), given.prompt, side=1.6))
    return Made(image, image)


def context_of(model: LatentDiffusion, prompt: str) -> Float[Tensor, "1 m e"]:
    """tau_theta(y) of a prompt; a warning names its unknown words."""
    if model.text_encoder is None and not prompt:  # a model without prompts
        return model.encode_prompts([""])
    return model.encode_tokens(tokenised(model, [prompt]))


def of_seeds(sampling: Sampling, count: int) -> list[Sampling]:
    """The same settings with `count` seeds, from its own on. Raises ValueError for a seed out of range."""
    return [replace(sampling, seed=sampling.seed + i) for i in range(count)]


def enlarged(image: Image.Image, factor: int) -> Image.Image:
    """Enlarge an image for viewing; with factor 1 it is returned unchanged."""
    size = (factor * image.width, factor * image.height)
    return image if factor == 1 else image.resize(size, Image.Resampling.BICUBIC)


def _sampled(
    model: LatentDiffusion,
    context: Float[Tensor, "1 m e"],
    sampling: Sampling,
    look: AttentionFn | None = None,
    along: Callable[[Iterator[State]], Iterator[State]] = lambda states: states,
) -> tuple[UInt8[np.ndarray, "H W 3"], list[State]]:
    """Sample a prompt, and return the image and the states; `look` may watch the attention, `along` wrap the states."""
    run = model.denoise(context, [sampling.seed], attn_fn=lambda t: look, **sampling.options())
    states = with_progress(along(run), model, sampling)
    return model.decode(states[-1].z_t)[0], states


def edit(
    p2p: PromptToPrompt,
    call: Call,
    given: options.Edit | options.Replay,
    image: UInt8[np.ndarray, "H W 3"] | None = None,
) -> Made:
    """Edit, and show the source and its targets: side by side, compared, or for several seeds.

    Args:
        p2p: of the call.
        call: what is edited and sampled.
        given: how the images are shown, and the files to write.
        image: a real image to edit.

    Raises:
        ValueError: something does not fit; nothing has been sampled.
    """
    model, inverted = p2p.model, None
    samplings = of_seeds(call.sampling, given.seeds or 1)
    call.run(p2p)  # raises if something does not fit
    if image is not None:
        image = fitted(image, model.config.image_size, call.image.fit)
    source, *targets = p2p.tokens
    untils, times, T = call.self_injection.untils(p2p.tokens), call.sampling.times(model.schedule), model.schedule.T
    for target, tokens, until in zip(call.targets, targets, untils):
        print(f"{target.prompt}: {target.edit}", file=sys.stderr)
        said = summary(source, tokens, target.edit, until, times, T)
        print(f"  {'' if said == NOTHING else by_default(given, source, tokens)}{said}", file=sys.stderr)
    if image is not None:
        inverted = invert(model, image, source, call.image.invert, call.sampling)
    if given.seeds is not None:
        shown, run = _seeds(p2p, [replace(call, sampling=sampling) for sampling in samplings])
    elif given.compare:
        shown, run = compare(p2p, call, given.scale or "word", inverted)
    else:
        run = replace(edited(p2p, call, given.save_maps is not None, inverted), given=image)
        shown = enlarged(run.image, given.upscale)
    also = {}
    if given.save_maps:
        from p2p.experiments.export import save_maps

        also[given.save_maps] = lambda part: save_maps(part, run.histories, run.states, layout_side(model))
    if isinstance(given, options.Edit) and given.gif:
        from p2p.figures.animation import frames, save_gif

        animation = frames(model, iter(run.states), p2p.prompts)
        also[given.gif] = lambda part: save_gif(animation, part)
    if isinstance(given, options.Edit) and given.save:
        also[given.save] = lambda part: part.write_text(call.to_json() + "\n", encoding="utf-8")
    return Made(replace(run, figure=shown, given=image), shown, also)


def by_default(given: options.Edit | options.Replay, source: Tokens, target: Tokens) -> str:
    """The switch times that the prompts decide, for the printed line, "by default for another object, tau 0.5,
    self-until 0.8: "; nothing if all are given."""
    if isinstance(given, options.Replay):
        return ""
    times, own = switch_times(source, target), given.edits is None and not given.preserve
    decided = [f"tau {times.tau}"] * (own and given.tau is None)
    decided += [f"self-until {times.until}"] * (given.self_until is None)
    why = "by default for another object" if times == FOR_OBJECTS else "by default"
    return f"{', '.join([why, *decided])}: " if decided else ""


def unedited(p2p: PromptToPrompt, call: Call, inverted: Inverted | None = None) -> Result:
    """[P1] Sample the same prompts from the same noise, each with its own attention."""
    histories, sampling = histories_of(p2p), call.sampling
    watch, context = together(histories), p2p.context
    seeds, how = [sampling.seed] * len(context), sampling.options()
    how |= inverted.options(len(context)) if inverted else {}
    run = p2p.model.denoise(context, seeds, attn_fn=lambda t: watching(watch), **how)
    return sampled(p2p, call, run, histories, "same seed")


def compare(
    p2p: PromptToPrompt, call: Call, scale: Scale = "word", inverted: Inverted | None = None
) -> tuple[Image.Image, Result]:
    """Draw for each target the source, the same seed with the target's prompt, and the edit, with the maps of their
    words; also return the run of the edit."""
    from p2p.figures import sheets

    plain, run = unedited(p2p, call, inverted), edited(p2p, call, watched=True, inverted=inverted)
    maps = lambda history: history.mean(history.at_side(layout_side(p2p.model)))
    panels, noise = [], "noise" if inverted else "seed"
    for row, target in enumerate(call.targets, start=1):
        panels += [
            (f"source\n{call.source}", plain.images[0], maps(plain.histories[0])),
            (f"same {noise}, new prompt\n{target.prompt}", plain.images[row], maps(plain.histories[row])),
            (f"Prompt-to-Prompt edit\n{target.prompt}", run.images[row], maps(run.histories[row])),
        ]
    return sheets.as_image(sheets.attention(panels, scale=scale)), run


def _seeds(p2p: PromptToPrompt, calls: list[Call]) -> tuple[Image.Image, Result]:
    """Draw a row of images for each seed; also return the run of the first."""
    from p2p.figures import sheets

    captions = ["source\n", *["edit\n"] * len(p2p.targets)]
    captions = [role + prompt for role, prompt in zip(captions, p2p.prompts)]
    runs = [edited(p2p, call) for call in calls]
    rows = {run.call.sampling.seed: list(zip(captions, run.images)) for run in runs}
    return sheets.as_image(sheets.by_seed(rows)), runs[0]


def attention(model: LatentDiffusion, given: options.Attention) -> Made:
    """Draw the image of a prompt with the attention map of each word, or with the components of its self-attention.

    Raises:
        ValueError: components are requested together with an option for maps of words.
    """
    from p2p.figures import sheets

    if given.by == "component":
        for option in ("scale", "save_maps"):
            if getattr(given, option):
                raise ValueError(f"--{option.replace('_', '-')} is for maps of words: leave it out for --by component")
    side, sampling = layout_side(model), sampling_of(given)
    (tokens,) = tokenised(model, [given.prompt])
    context = model.encode_tokens([tokens])
    if given.by == "component":
        seen = SelfMaps(side)
        image, _ = _sampled(model, context, sampling, seen)
        found = principal_components(seen.mean()[0])
        return drawing(sheets.components(image, found), found)
    history, scale = MapHistory(tokens), given.scale or "word"
    along = lambda states: history.along(states, sampling.times(model.schedule))
    image, states = _sampled(model, context, sampling, watching(history), along)
    if given.by == "step":
        figure = sheets.by_step(history, image, side, scale=scale)
    elif given.by == "layer":
        figure = sheets.by_layer(history, image, scale)
    else:
        figure = sheets.attention([(given.prompt, image, history.mean(history.at_side(side)))], scale=scale)
    also = {}
    if given.save_maps:
        from p2p.experiments.export import save_maps

        also[given.save_maps] = lambda part: save_maps(part, [history], states, side)
    return drawing(figure, maps_of(history, side), also)


def show_mapper(model: LatentDiffusion, given: options.ShowMapper) -> Made:
    """Draw the mapper of an edit, and P_t and Q_t at each step where they change."""
    from p2p.figures import edit_matrices

    source, target = tokenised(model, [given.source, given.target])
    edit = edit_of(given, source, target, alpha_of(given, source, target))
    pairs = tuple((part.source, part.target) for part in edit.parts if isinstance(part, Swap))
    compiled, at = edit.compile(source, target, model.schedule.T), {}
    last: Matrices | None = None
    for t in sampling_of(given).times(model.schedule)[:-1]:
        found = compiled(t)
        if last is None or not (found.P.equal(last.P) and found.Q.equal(last.Q)):
            at[t] = last = found
    if len(at) > 4:  # a ramp changes them at every step
        at = {t: at[t] for t in list(at)[:: -(-len(at) // 4)]}
    M = mapper(align(source, target, pairs) if pairs else copies(source, target), len(source.ids))
    return drawing(edit_matrices.matrices(source, target, M, at), (M, at))


def show_schedule(model: LatentDiffusion, given: options.ShowSchedule) -> Made:
    """Draw when each token of the target uses the source's attention."""
    from p2p.figures import edit_matrices

    source, target = tokenised(model, [given.source, given.target])
    edit = claims_of(given, source, target, alpha_of(given, source, target))
    (until,) = SelfInjection(given.self_until).untils((source, target))
    shown = (source, target, edit, until, sampling_of(given).times(model.schedule), model.schedule.T)
    return drawing(edit_matrices.timeline(*shown), shares(*shown))


def sweep_tau(model: LatentDiffusion, given: options.SweepTau, image: Pixels | None = None) -> Made:
    """[P12] Draw the targets with injection from never to always, with the preservation and fidelity of each tau."""
    from p2p.experiments.sweeps import TAUS
    from p2p.figures import sweep_plots

    return _measured(model, given, image, TAUS, sweep_plots.tau_sweep)


def sweep_window(model: LatentDiffusion, given: options.SweepWindow, image: Pixels | None = None) -> Made:
    """[P13] Draw the targets with injection in one window of the steps at a time, and what each window preserves."""
    from p2p.experiments.sweeps import WINDOWS
    from p2p.figures import sweep_plots

    return _measured(model, given, image, WINDOWS, sweep_plots.window_sweep)


def _measured(
    model: LatentDiffusion, given: options.SweepTau, image: Pixels | None, taus: tuple, draw: Callable
) -> Made:
    """The figure of a sweep of each target, with a data file if requested."""
    from p2p.experiments.sweeps import sweep

    sampling, seeds = sampling_of(given), range(given.seed, given.seed + given.seeds)
    source, *targets = tokenised(model, [given.source, *given.targets])
    edit_to: Callable[[Tokens], Callable[[Alpha], Edit]] = lambda y: lambda alpha: edit_of(given, source, y, alpha)
    for y in targets:  # raises before the first sweep samples
        edit_to(y)(Alpha()).compile(source, y, model.schedule.T)
    how = sampling.options() | _real(model, given, source, image)
    found = [sweep(model, source, y, edit_to(y), taus, seeds, **how) for y in targets]
    also = {}
    if given.data:
        from p2p.experiments.export import measurements, save_numbers

        also[given.data] = lambda part: save_numbers(part, measurements(found), given.data.suffix.lower())
    return drawing(draw(found), found, also)


def _real(model: LatentDiffusion, given: options.Swept, source: Tokens, image: Pixels | None) -> dict[str, Any]:
    """A real image at the model's size and its one inversion, as keywords of the sweeps; none without an image."""
    if image is None:
        return {}
    image = fitted(image, model.config.image_size, given.fit)
    return {"given": image, "inverted": invert(model, image, source, given.invert, sampling_of(given))}


def sweep_word(model: LatentDiffusion, given: options.SweepWord, image: Pixels | None = None) -> Made:
    """[P11] Draw the targets with the attention of all words, of one word only, and of none."""
    from p2p.experiments.sweeps import preserve
    from p2p.figures import sweep_plots

    source, *targets = tokenised(model, [given.source, *given.targets])
    edits = [Edit.between(source, y, alpha_of(given, source, y)) for y in targets]
    for edit, y in zip(edits, targets):  # raises before the image is inverted
        (edit + Preserve(given.word)).compile(source, y, model.schedule.T)
    how = sampling_of(given).options() | _real(model, given, source, image)
    found = preserve(model, source, targets, given.word, edits, given.seed, **how)
    return drawing(sweep_plots.preservation(found), found)


FIGURES: dict[type, Callable[..., Made]] = {
    options.Generate: generate,
    options.Attention: attention,
    options.ShowMapper: show_mapper,
    options.ShowSchedule: show_schedule,
    options.SweepTau: sweep_tau,
    options.SweepWindow: sweep_window,
    options.SweepWord: sweep_word,
}
