"""Prompt-to-Prompt in one line, with the options of the command line as keywords:

    p2p.edit("a photo of a cat on the grass", "a photo of a dog on the grass", seed=7)

The command line's defaults are those of the functions here. What they call is imported when they are called, since its
help needs no torch.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature

from p2p.cli.hints import meant


def edit(
    source,
    *targets,
    edits=None,
    tau=None,
    alpha=(),
    refine=False,
    swap=(),
    preserve=(),
    reweight=(),
    renormalise=False,
    self_until=0.6,
    self_side=None,
    layers=("down", "mid", "up"),
    blend=None,
    mask=None,
    blend_from=None,
    model="stickers",
    seed=0,
    steps=30,
    sampler="ddim",
    guidance=4.0,
    eta=0.0,
    compare=False,
    seeds=None,
    upscale=1,
    scale=None,
    output=None,
    save=None,
    gif=None,
    save_maps=None,
    device="auto",
    dtype="float32",
    no_ema=False,
    parameterisation=None,
    **unknown,
):
    """An image and its edits by Prompt-to-Prompt. What is not said is inferred from the prompts, as by `p2p edit`.

    Args:
        source, targets: the prompt y, and each y* it becomes.
        edits: `p2p.Swap("cat", "dog") + p2p.Reweight("grass", 2)`, one for all targets or a list of one each; instead
            of the seven below.
        tau: when the edit lets go: the source's attention is used while t >= tau. A fraction of T (by default 0.2),
            `p2p.Step(200)`, "never" or a `p2p.Window`.
        alpha: words of the target with a tau of their own: `{"dog": 0.5}`.
        refine: keep the words that both prompts have, and swap none.
        swap: `{"cat": "dog"}`.
        preserve: the word, or words, that take the source's attention.
        reweight: factors of words' attention, `{"fog": 3}`, or a list of `p2p.Reweight`.
        renormalise: divide the rows of the edited attention by their sums.
        self_until: tau of self-attention.
        self_side: positions a side of the largest layers whose self-attention is injected; by default the model's
            `layout_side`.
        layers: "down", "mid", "up", or some of them.
        blend: the word, or words, outside whose region the source is kept; "-house" cuts a word's region out.
        mask: a picture file or an array, white or 1 where targets may differ.
        blend_from: regions and masks hold once t is below this time; by default 0.8.
        model: a name or path as for `p2p.load`, or a model that it loaded.
        seed, steps, sampler, guidance, eta: as for `p2p.Sampling`.
        compare: show a figure: the source, the same seed with the new prompt, and the edit, with the map of every word.
        seeds: show a figure of so many seeds; the images, maps and states of the result are those of the first.
        upscale: show and write the image so many times as large, 1 to 16.
        scale: colours of the compared maps, "word" or "shared".
        output, save, gif, save_maps: files to write: the image, the call, an animation, the maps of every step.
        device, dtype, no_ema, parameterisation: of a model that is to be loaded, as for `p2p.load`.

    Returns:
        A `p2p.Result`.

    Raises:
        TypeError: a keyword that there is not.
        ValueError, OSError: something does not fit or can't be written; nothing has been sampled.
        FloatingPointError: the settings lead to numbers that are not finite.
    """
    return _made(edit, locals())


DEFAULTS = {name: keyword.default for name, keyword in signature(edit).parameters.items()}


def replay(
    file,
    *,
    model=None,
    compare=False,
    seeds=None,
    upscale=1,
    scale=None,
    output=None,
    save_maps=None,
    device="auto",
    dtype="float32",
    no_ema=False,
    parameterisation=None,
    **unknown,
):
    """An edit made again.

    Args:
        file: a call, or a file that holds one: a .json that `save` wrote, or a .png.
        model: instead of the call's; needed where that is a path, which is never followed.
        compare, seeds, upscale, scale, output, save_maps, device, dtype, no_ema, parameterisation: as for `edit`.

    Returns:
        A `p2p.Result`.

    Raises:
        TypeError, ValueError, OSError, FloatingPointError: as `edit`.
    """
    return _made(replay, locals())


def generate(
    prompt,
    *,
    model="stickers",
    seed=0,
    steps=30,
    sampler="ddim",
    guidance=4.0,
    eta=0.0,
    seeds=None,
    upscale=1,
    output=None,
    device="auto",
    dtype="float32",
    no_ema=False,
    parameterisation=None,
    **unknown,
):
    """The image of a prompt (a PIL image), or with `seeds` a figure of several; keywords and errors as for `edit`."""
    return _made(generate, locals())


def restore(
    task,
    image,
    prompt="",
    *,
    mask=None,
    box=None,
    factor=None,
    model="stickers",
    seed=0,
    steps=20,
    guidance=2.0,
    eta=1.0,
    visits=2,
    length=1,
    output=None,
    device="auto",
    dtype="float32",
    no_ema=False,
    parameterisation=None,
    **unknown,
):
    """An image restored by its prompt: what is given stays, the model makes the rest.

    Args:
        task: "inpaint": paint inside the mask. "uncrop": paint around the image, which fills the box. "colour": colour
            it by its grey levels. "super": enlarge it.
        image: a file, a PIL image or an array of bytes (H, W, 3). It has the model's size; for "uncrop" that of the box
            and for "super" a factor-th of the model's.
        prompt: of the whole image.
        mask: of "inpaint": a file or an array of the image's size, white or 1 where to paint.
        box: of "uncrop": left, top, right, bottom in pixels of the result, right and bottom exclusive.
        factor: of "super", by default 4.
        model, seed, steps, guidance, eta: as for `edit`.
        visits, length: time travel: every `length` steps are taken `visits` times, so that what is made fits what is
            given.
        output: a file for the image beside what was given.
        device, dtype, no_ema, parameterisation: as for `edit`.

    Returns:
        A `p2p.Restored`.

    Raises:
        TypeError, ValueError, OSError, FloatingPointError: as `edit`.
    """
    return _made(restore, locals())


def compare(
    source,
    *targets,
    mask=None,
    t_0=0.5,
    edits=None,
    tau=None,
    alpha=(),
    refine=False,
    swap=(),
    preserve=(),
    reweight=(),
    renormalise=False,
    self_until=0.6,
    model="stickers",
    seed=0,
    steps=30,
    sampler="ddim",
    guidance=4.0,
    eta=0.0,
    output=None,
    device="auto",
    dtype="float32",
    no_ema=False,
    parameterisation=None,
    **unknown,
):
    """An edit by Prompt-to-Prompt beside the same seed, SDEdit, masks and Google's implementation.

    Args:
        source, targets: the prompt y, and each y* it becomes.
        mask: a file or an array, white or 1 where targets may differ, for the methods that need one, blending of
            latents and inpainting. Prompt-to-Prompt does not use it.
        t_0: how far SDEdit noises the source, as a fraction of T.
        output: a file for the figure.
        edits, and all others: as for `edit`.

    Returns:
        A `p2p.Comparison`.

    Raises:
        TypeError, ValueError, OSError, FloatingPointError: as `edit`.
    """
    return _made(compare, locals())


RESTORING = {name: keyword.default for name, keyword in signature(restore).parameters.items()}


COMPARING = {name: keyword.default for name, keyword in signature(compare).parameters.items()}


def _made(function: Callable, said: dict[str, object]):
    """What one of these functions returns, given its arguments."""
    if unknown := said.pop("unknown"):
        _refuse(function, next(iter(unknown)))
    from p2p.cli import run
    from p2p.cli.compare import compare as compared
    from p2p.cli.keywords import parsed
    from p2p.cli.restore import restore as restored

    with _keywords():
        options, model = parsed(said)
        options.command = options.make = function.__name__  # as the command line has them
        make = {edit: run.edit, replay: run.replay, generate: run.picture, restore: restored, compare: compared}
        made, _ = make[function](options, model)
    return made


def _refuse(function: Callable, keyword: str) -> None:
    """Raises TypeError for a keyword that a function does not have."""
    known = [name for name, of in signature(function).parameters.items() if of.kind is Parameter.KEYWORD_ONLY]
    near = meant(keyword, known)
    raise TypeError(f"p2p.{function.__name__} has no keyword {keyword!r}{near} Its keywords are {', '.join(known)}")


@contextmanager
def _keywords() -> Iterator[None]:
    """Around what the command line does: its errors name `--self-side`, here that is `self_side`."""
    try:
        yield
    except ValueError as e:
        spelt = re.sub(r"--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), str(e))
        raise ValueError(spelt) from e
