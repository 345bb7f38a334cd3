"""Refuses files that are mistaken for a model supported here, by the table not_models.toml. Rarer ones are refused
without a name, since they do not fit."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from weights.files.tensors import TensorFile

KINDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
ADVICE = "give a Stable Diffusion 1 or 2, as sd15 or sd21"  # where a kind has none of its own


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The kind of a file with these tensors, by its name in the table."""
    text = "\n".join(sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items()))
    return next((name for name, kind in KINDS.items() if re.search(kind["tensors"], text, re.M | re.S)), None)


def refuse_others(file: TensorFile, but: str | None = None) -> None:
    """Raises ValueError, with the remedy, for a file of any of the kinds except this one."""
    name = kind_of(file.shapes)
    if name not in (None, but):
        raise ValueError(f"{file.path} is {KINDS[name]['what']}: {KINDS[name].get('advice', ADVICE)}")
