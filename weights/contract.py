"""The contract of loading: every tensor of the files used, every parameter filled, every shape equal; otherwise one
error that says what does not fit, and nothing is loaded."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import nn

from weights.files.json_settings import shown
from weights.files.tensors import TensorFile
from weights.key_names import Layout, Source

Shapes = Mapping[str, tuple[int, ...]]
SHOWN = 3  # names, in an error


@dataclass(frozen=True)
class Misfit:
    """What does not fit. Missing and misshapen are named as in our model, what is left over as in the file."""

    missing: list[str]
    left_over: list[str]
    misshapen: dict[str, str]  # name -> its shapes

    def __len__(self) -> int:
        return len(self.missing) + len(self.left_over) + len(self.misshapen)

    def __str__(self) -> str:
        """How many, and the first few names."""
        said = {
            "missing": dict.fromkeys(self.missing, ""),
            "left over": dict.fromkeys(self.left_over, ""),
            "of the wrong shape": self.misshapen,
        }
        return "; ".join(f"{len(names)} {what} ({_few(names)})" for what, names in said.items() if names)


def _few(names: Mapping[str, str]) -> str:
    first = [f"{shown(name)} {note}".strip() for name, note in islice(names.items(), SHOWN)]
    return ", ".join([*first, *["..."] * (len(names) > SHOWN)])


class Piece(NamedTuple):
    """A file, and what of it goes where: our parameters' full names to the file's."""

    file: TensorFile
    layout: Layout


def misfit(wanted: Shapes, pieces: Iterable[Piece], is_dropped: Callable[[str], bool]) -> Misfit:
    """Compare the shapes of a model with those of files, without reading them; whole numbers have no right shape."""
    missing, left_over, misshapen, covered = [], [], {}, set()
    for file, layout in pieces:
        covered |= layout.keys()
        used = {name for source in layout.values() for name in (source.name, source.instead_of)}
        left_over += sorted(name for name in file.shapes.keys() - used if not is_dropped(name))
        for name, source in layout.items():
            if source.name not in file.shapes:
                missing.append(name)
            elif (found := picked_shape(source, file.shapes[source.name])) != wanted[name]:
                misshapen[name] = f"{found} instead of {wanted[name]}"
            elif not file.tensors[source.name].is_floating_point():
                kind = str(file.tensors[source.name].dtype).removeprefix("torch.")
                misshapen[name] = f"{kind} instead of floating-point numbers"
    return Misfit(sorted(missing + list(wanted.keys() - covered)), left_over, misshapen)


def picked_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what is picked out of a tensor; its own, where nothing can be."""
    try:
        return tuple(source.pick(torch.empty(shape, device="meta")).shape)
    except (RuntimeError, IndexError, ValueError):  # einops' own error is a RuntimeError
        return shape


def fill(model: nn.Module, pieces: Iterable[Piece], device: torch.device, dtype: torch.dtype) -> None:
    """Make the tensors of files the parameters of a model, which `misfit` has found nothing against.

    Each is copied out of its file by itself, to its device and dtype: at no time is a second copy of the model there.
    """
    as_wanted = dict(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)
    try:
        tensors = {
            name: source.pick(file.tensors[source.name]).to(**as_wanted)
            for file, layout in pieces
            for name, source in layout.items()
        }
    except RuntimeError as e:
        raise ValueError(f"no memory for the model's parameters: {e}") from e
    model.load_state_dict(tensors, assign=True)
