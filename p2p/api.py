"""Prompt-to-Prompt in one line, with the options of the command line as keywords:

    p2p.edit("a photo of a cat on the grass", "a photo of a dog on the grass", seed=7)

Their names, defaults and explanations are those of `p2p.cli.options`. The modules that they call are imported when they
are called, because help needs no torch.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from inspect import Parameter, Signature, signature
from textwrap import fill
from typing import Any

from p2p.cli import options

VALUES = """
    Times are a fraction of T, `p2p.Step(200)`, "never", or a `p2p.Window`; words come as `swap={"cat": "dog"}`,
    `alpha={"dog": 0.5}`, `reweight={"fog": 3}`; several as a list: `blend=["house", "-door"]`. A file is a path; `mask`
    may also be an array, 1 for white; `image` may also be a PIL image or an array of bytes (H, W, 3); `model` may also
    be a model that `p2p.load` returned.
"""


def _documented(*commands: type) -> Callable[[Callable], Callable]:
    """Complete a function's signature and docstring by the options of its commands."""
    found = {f.name: f for command in commands for f in fields(command)}

    def complete(function: Callable) -> Callable:
        *named, _ = signature(function).parameters.values()
        keywords = {name: f for name, f in found.items() if name not in [parameter.name for parameter in named]}
        default = lambda f: Parameter.empty if f.default is MISSING else f.default
        chosen = [Parameter(name, Parameter.KEYWORD_ONLY, default=default(f)) for name, f in keywords.items()]
        function.__signature__ = Signature(named + chosen)
        summary, _, rest = function.__doc__.partition("\n")
        listed = "\n".join(
            fill(f"{name}: {_explained(f)}", 118, initial_indent=" " * 8, subsequent_indent=" " * 12)
            for name, f in keywords.items()
        )
        function.__doc__ = f"{summary}\n{rest.rstrip()}\n{VALUES}\n    Keywords:\n{listed}\n"
        return function

    return complete


def _explained(option: Any) -> str:
    return option.metadata["help"].replace("%(default)s", str(option.default)).replace("%%", "%")


@_documented(options.Edit)
def edit(source, *targets, **keywords):
    """Edit an image by its prompt, with Prompt-to-Prompt. Without options the edit is inferred from the prompts.

    Args:
        source, targets: the prompt y, and one y* or several.
        keywords: as below.

    Returns:
        A `p2p.Result`.

    Raises:
        TypeError: an unknown keyword.
        ValueError, OSError: an argument does not fit, or a file can't be written; nothing has been sampled.
        FloatingPointError: the settings lead to numbers that are not finite.
    """
    return _run("p2p.edit", options.Edit, {"source": source, "targets": targets} | keywords)


@_documented(options.Replay)
def replay(file, **keywords):
    """Repeat an edit.

    Args:
        file: a `p2p.Call`, or a file that holds one: a .json that `save` wrote, or a .png.
        keywords: as below.

    Returns:
        A `p2p.Result`. Raises as `edit`.
    """
    return _run("p2p.replay", options.Replay, {"file": file} | keywords)


@_documented(options.Generate)
def generate(prompt, **keywords):
    """Generate an image of a prompt, or with `seeds` a figure of several: a PIL image. Raises as `edit`.

    Args:
        prompt: the prompt y.
        keywords: as below.
    """
    return _run("p2p.generate", options.Generate, {"prompt": prompt} | keywords)


@_documented(options.Attention)
def attention(prompt, **keywords):
    """Draw the image of a prompt with the attention maps of its words, or with the components of its self-attention.

    Args:
        prompt: the prompt y.
        keywords: as below.

    Returns:
        A `p2p.Drawing`, whose data are the `p2p.Maps`, or the components. Raises as `edit`.
    """
    return _run("p2p.attention", options.Attention, {"prompt": prompt} | keywords)


@_documented(options.Compare)
def compare(source, *targets, **keywords):
    """Edit an image by Prompt-to-Prompt, and beside it by the same seed, SDEdit, masks and Google's implementation.

    Args:
        source, targets: the prompt y, and one y* or several.
        keywords: as below.

    Returns:
        A `p2p.Comparison`. Raises as `edit`.
    """
    return _run("p2p.compare", options.Compare, {"source": source, "targets": targets} | keywords)


@_documented(options.Restore)
def restore(task, image, prompt="", **keywords):
    """Restore an image by a prompt: what is given stays, the model makes the rest.

    Args:
        task: "inpaint": paint inside the mask. "uncrop": paint around the image, which fills the box. "colour": colour
            it by its grey levels. "super": enlarge it.
        image: a file, a PIL image or an array of bytes (H, W, 3). It has the model's size; for "uncrop" that of the box
            and for "super" a factor-th of the model's; a model of super-resolution enlarges any size that fits.
        prompt: of the whole image.
        keywords: as below.

    Returns:
        A `p2p.Restored`. Raises as `edit`.
    """
    return _run("p2p.restore", options.Restore, {"task": task, "image": image, "prompt": prompt} | keywords)


@_documented(options.Invert)
def invert(prompt, image, **keywords):
    """Find the noise that leads to an image, and sample from it again: how well an edit can keep the image.

    Args:
        prompt: describes the image.
        image: a file, a PIL image or an array of bytes (H, W, 3), of any size.
        keywords: as below.

    Returns:
        A `p2p.Reconstruction`. Raises as `edit`.
    """
    return _run("p2p.invert", options.Invert, {"prompt": prompt, "image": image} | keywords)


@_documented(*options.SHOW.values())
def show(figure, source, target, **keywords):
    """Draw an edit itself, without sampling: its mapper and matrices, or its schedule.

    Args:
        figure: "mapper" or "schedule".
        source, target: the prompts y and y*.
        keywords: as below, those that this figure has on the command line.

    Returns:
        A `p2p.Drawing`, whose data are M and the `p2p.Matrices` by t, or the shares of the source's attention by token.
        Raises as `edit`.
    """
    return _draw("show", options.SHOW, figure, {"source": source, "target": target} | keywords)


@_documented(*options.SWEEP.values())
def sweep(figure, source, *targets, **keywords):
    """Draw an edit made in several ways, and measure it.

    Args:
        figure: "tau", "window" or "word".
        source, targets: the prompt y, and one y* or several.
        keywords: as below, those that this experiment has on the command line.

    Returns:
        A `p2p.Drawing`, whose data are the images and their measurements. Raises as `edit`.
    """
    return _draw("sweep", options.SWEEP, figure, {"source": source, "targets": targets} | keywords)


def _draw(name: str, figures: dict[str, type], figure: object, given: dict[str, Any]):
    if figure not in figures:
        raise ValueError(f"p2p.{name} draws {' or '.join(map(repr, figures))}, got {figure!r}")
    return _run(f"p2p.{name}({figure!r}, ...)", figures[figure], given)


def _run(function: str, command: type, given: dict[str, Any]):
    """The result of a command, given its keywords."""
    from p2p.cli import run
    from p2p.cli.keywords import from_keywords

    with _named_as_keywords():
        chosen, model = from_keywords(command, function, given)
        made, _ = run.make(chosen, model)
    return made


@contextmanager
def _named_as_keywords() -> Iterator[None]:
    """Errors of the command line name `--self-side`; change that to `self_side`."""
    try:
        yield
    except ValueError as e:
        raise ValueError(re.sub(r"--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), str(e))) from e
