"""The keywords of `p2p.edit` and its like: Python values, checked and converted to the options of a command."""

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ldm.helpers.checks import checked, plain
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from p2p.call import Call
from p2p.cli.groups import Loading
from p2p.cli.hints import meant
from p2p.cli.values import window
from p2p.edits import Reweight

EXAMPLES = {"swap": "{'cat': 'dog'}", "alpha": "{'dog': 0.5}", "reweight": "{'fog': 3}, or a list of p2p.Reweight"}


def from_keywords(command: type, function: str, given: dict[str, Any]) -> tuple[Any, LatentDiffusion | None]:
    """The options of a command, and the model if a loaded one was given.

    Args:
        command: the class of the options.
        function: its name in errors, such as "p2p.edit".
        given: the arguments.

    Raises:
        TypeError: an unknown keyword, or a missing one.
        ValueError: an invalid value.
    """
    known = {f.name: f for f in fields(command)}
    for name in given.keys() - known.keys():
        keywords = [other for other, f in known.items() if f.default is not MISSING or f.metadata["flags"]]
        near = meant(name, keywords)
        raise TypeError(f"{function} has no keyword {name!r}{near} Its keywords are {', '.join(keywords)}")
    if missing := [name for name, f in known.items() if f.default is MISSING and name not in given]:
        raise TypeError(f"{function} needs the keyword {missing[0]!r}")
    given = {name: plain(value) for name, value in given.items()}
    model = given["model"] if isinstance(given.get("model"), LatentDiffusion) else None
    if model:
        given["model"] = model.config.name
        if model.config.name in PRESETS:
            given["model"] += ", made in Python"  # or a replay would take the public weights of that name
        defaults = {f.name: f.default for f in fields(Loading)}
        if idle := [name for name in defaults if given.get(name, defaults[name]) != defaults[name]]:
            raise ValueError(f"{idle[0]} applies when a model is loaded, and this one already is: give it to p2p.load")
        if origin := model.origin:
            given |= {"model": origin.model, "no_ema": not origin.ema, "parameterisation": origin.parameterisation}
    hints = get_type_hints(command)
    for name, value in given.items():
        if known[name].default is not MISSING and value is known[name].default:
            continue
        choices = known[name].metadata.get("how", {}).get("choices")
        hint = Literal[choices] if choices else hints[name]
        given[name] = READERS.get(name, checked)(name, value, hint)
    options = command(**given)
    if "targets" in known and not options.targets:
        raise ValueError("give at least one target prompt after the source")
    views = [f.name for f in known.values() if f.metadata.get("view") and getattr(options, f.name) != f.default]
    if len(views) > 1:
        raise ValueError(f"{' and '.join(sorted(views))} are two ways to show the images: give one of them")
    return options, model


def _prompt(name: str, value: object, hint: Any) -> str | tuple[str, ...]:
    prompts = value if name == "targets" else (value,)
    if wrong := [prompt for prompt in prompts if not isinstance(prompt, str)]:
        raise ValueError(f"a prompt is a string, and targets are given one after the other, got {wrong[0]!r}")
    return value


def _model(name: str, value: object, hint: Any) -> str | Path:
    if not isinstance(value, str | Path):
        raise ValueError(f"model must be a name, a path or a model that p2p.load returned, got {value!r}")
    return value


def _path(name: str, value: object, hint: Any) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError(f"{name} must be a path, got {value!r}")
    return Path(value)


def _file(name: str, value: object, hint: Any) -> Path | Call:
    if not isinstance(value, str | Path | Call):
        raise ValueError(f"file must be a path or a call, got {value!r}")
    return Path(value) if isinstance(value, str) else value


def _pixels(name: str, value: object, hint: Any) -> object:
    """A path, or an image or an array, which is checked once the model's size is known."""
    return Path(value) if isinstance(value, str) else value


def _any(name: str, value: object, hint: Any) -> object:
    """A value that the method itself checks."""
    return value


def _pairs(name: str, value: object, hint: Any) -> tuple[tuple[str, Any], ...]:
    """The items of a mapping, or pairs."""
    found = value.items() if isinstance(value, Mapping) else value
    if not isinstance(found, Iterable) or isinstance(found, str):
        found = [None]
    found = tuple(plain(pair) for pair in found)
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in found):
        raise ValueError(f"{name} must be a dict by word, such as {EXAMPLES[name]}, got {value!r}")
    return found


def _time(name: str, value: object, hint: Any) -> object:
    """A time or a window, or one in the notation of the command line: "t=200", "1:0.5"."""
    try:
        return window(value) if isinstance(value, str) else value
    except ArgumentTypeError as e:
        raise ValueError(f"{name}: {e}") from e


def _times(name: str, value: object, hint: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((word, _time(name, when, hint)) for word, when in _pairs(name, value, hint))


def _weights(name: str, value: object, hint: Any) -> tuple[Reweight, ...]:
    if isinstance(value, tuple) and all(isinstance(weight, Reweight) for weight in value):
        return value
    return tuple(Reweight(word, _real(name, factor, float)) for word, factor in _pairs(name, value, hint))


def _real(name: str, value: object, hint: Any) -> object:
    """A number, as a float; `Sampling` and `Reweight` refuse everything else."""
    return float(value) if type(value) is int else value


def _number(name: str, value: object, hint: Any) -> float:
    return checked(name, _real(name, value, hint), hint)


def _several(name: str, value: object, hint: Any) -> tuple[str, ...]:
    """One string, or several."""
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, tuple) or not all(isinstance(each, str) for each in several):
        raise ValueError(f"{name} must be a string or a list of strings, got {value!r}")
    return several


def _layers(name: str, value: object, hint: Any) -> tuple[str, ...]:
    return tuple(part.strip() for part in ",".join(_several(name, value, hint)).split(","))


def _blend(name: str, value: object, hint: Any) -> str:
    return ",".join(_several(name, value, hint))


def _upscale(name: str, value: object, hint: Any) -> int:
    if checked(name, value, int) not in range(1, 17):
        raise ValueError(f"upscale must lie in 1..16, got {value}")
    return value


READERS: dict[str, Callable[[str, Any, Any], Any]] = (
    dict.fromkeys(("prompt", "source", "target", "targets"), _prompt)
    | dict.fromkeys(("output", "save", "gif", "save_maps", "data"), _path)
    | dict.fromkeys(("guidance", "eta"), _real)
    | dict.fromkeys(("tau", "self_until", "blend_from"), _time)
    | dict.fromkeys(("mask", "image"), _pixels)
    | {"t_0": _number, "model": _model, "file": _file, "edits": _any, "reweight": _weights, "preserve": _several}
    | {"swap": _pairs, "alpha": _times, "layers": _layers, "blend": _blend, "upscale": _upscale}
)  # all others are checked against their types alone
