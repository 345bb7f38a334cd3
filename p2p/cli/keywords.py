"""The keywords of `p2p.edit` and of the functions beside it: Python's values, as the command line has them parsed."""

from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path

from ldm.helpers.checks import checked, plain
from ldm.pipeline import LatentDiffusion
from p2p.api import DEFAULTS
from p2p.call import Call
from p2p.edits import Reweight
from p2p.maps import Scale

FLAGS = {"refine", "renormalise", "compare", "no_ema"}
FILES = {"output", "save", "gif", "save_maps", "mask", "file", "image"}
EXAMPLES = {"swap": "{'cat': 'dog'}", "alpha": "{'dog': 0.5}", "reweight": "{'fog': 3}, or a list of p2p.Reweight"}
LOADING = ("device", "dtype", "no_ema", "parameterisation")


def parsed(keywords: dict[str, object]) -> tuple[Namespace, LatentDiffusion | None]:
    """Keywords of `p2p.edit`, or of a function beside it, as the command line's options once parsed; and the model, if
    it is loaded.

    Raises:
        ValueError: a value that its option can't have.
    """
    said = {name: plain(value) for name, value in keywords.items()}
    for name in said.keys() & FLAGS:
        checked(name, said[name], bool)
    for name in said.keys() & FILES:
        said[name] = Path(said[name]) if isinstance(said[name], str) else said[name]
        kind, what = (Path | Call, "a path or a call") if name == "file" else (Path | None, "a path")
        if name not in ("mask", "image") and not isinstance(said[name], kind):
            raise ValueError(f"{name} must be {what}, got {said[name]!r}")
    _check_prompts(said)
    _check_views(said)
    model = said["model"] if isinstance(said["model"], LatentDiffusion) else None
    if model is None and not isinstance(said["model"], str | Path | None):
        raise ValueError(f"model must be a name, a path or a model that p2p.load returned, got {said['model']!r}")
    if model:
        said["model"] = model.config.name
        if idle := [name for name in LOADING if said[name] != DEFAULTS[name]]:
            raise ValueError(f"{idle[0]} is of a model that is to be loaded, this one is: give it to p2p.load")
    for name in said.keys() & {"swap", "alpha"}:
        said[name] = _pairs(name, said[name])
    if "reweight" in said:
        weights = said["reweight"]
        known = isinstance(weights, tuple) and all(isinstance(weight, Reweight) for weight in weights)
        pairs = [] if known else _pairs("reweight", weights)
        said["reweight"] = list(weights) if known else [Reweight(word, _real(factor)) for word, factor in pairs]
    for name in said.keys() & {"guidance", "eta", "t_0"}:
        said[name] = _real(said[name])
    if "targets" in said:
        said["targets"] = list(said["targets"])
    if "preserve" in said:
        said["preserve"] = list(_several("preserve", said["preserve"]))
    if "layers" in said:
        said["layers"] = tuple(part.strip() for part in ",".join(_several("layers", said["layers"])).split(","))
    if said.get("blend") is not None:
        said["blend"] = ",".join(_several("blend", said["blend"]))
    return Namespace(**said), model


def _check_prompts(said: dict[str, object]) -> None:
    prompts = [said[name] for name in ("prompt", "source") if name in said] + list(said.get("targets", ()))
    if wrong := [prompt for prompt in prompts if not isinstance(prompt, str)]:
        raise ValueError(f"a prompt is a string, and targets are given one after the other, got {wrong[0]!r}")
    if "targets" in said and not said["targets"]:
        raise ValueError("give at least one target prompt after the source")


def _check_views(said: dict[str, object]) -> None:
    upscale = said.get("upscale", 1)
    views = {"compare": bool(said.get("compare")), "seeds": said.get("seeds") is not None, "upscale": upscale != 1}
    if len(chosen := [name for name, wanted in views.items() if wanted]) > 1:
        raise ValueError(f"{' and '.join(chosen)} are two ways to show the images: give one of them")
    if said.get("seeds") is not None:
        checked("seeds", said["seeds"], int)
    if checked("upscale", upscale, int) not in range(1, 17):
        raise ValueError(f"upscale must lie in 1..16, got {upscale}")
    if said.get("scale") is not None:
        checked("scale", said["scale"], Scale)


def _pairs(name: str, given: object) -> list[tuple[str, object]]:
    """The items of a mapping, or pairs."""
    found = given.items() if isinstance(given, Mapping) else given
    if not isinstance(found, Iterable) or isinstance(found, str):
        found = [None]
    found = [plain(pair) for pair in found]
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in found):
        raise ValueError(f"{name} must be a dict by word, such as {EXAMPLES[name]}, got {given!r}")
    return found


def _real(number: object) -> object:
    """A whole number as a float, as the command line reads it."""
    return float(number) if type(number) is int else number


def _several(name: str, given: object) -> tuple[str, ...]:
    """One string, or several."""
    several = (given,) if isinstance(given, str) else given
    if not isinstance(several, tuple) or not all(isinstance(each, str) for each in several):
        raise ValueError(f"{name} must be a string or a list of strings, got {given!r}")
    return several
