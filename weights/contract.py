"""The contract of loading: every tensor of the files is used, every parameter filled, every shape equal; otherwise
nothing is loaded, and one error lists what does not fit."""

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
    """The tensors that do not fit. Missing and misshapen ones have our names, unexpected ones those of the file."""

    missing: list[str]
    left_over: list[str]
    misshapen: dict[str, str]  # name -> its shapes

    def __len__(self) -> int:
        return len(self.missing) + len(self.left_over) + len(self.misshapen)

    def __str__(self) -> str:
        """The number of tensors of each kind, and the first few names."""
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
    """A file, and the mapping from our parameters' full names to its names."""

    file: TensorFile
    layout: Layout


def misfit(wanted: Shapes, pieces: Iterable[Piece], is_dropped: Callable[[str], bool]) -> Misfit:
    """Compare the shapes of a model with those of files, without reading any tensor; integer tensors never fit."""
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
    """The shape of our parameter after picking it out of the file's tensor; the tensor's own if that fails."""
    try:
        return tuple(source.pick(torch.empty(shape, device="meta")).shape)
    except (RuntimeError, IndexError, ValueError):  # einops' own error is a RuntimeError
        return shape


def fill(model: nn.Module, pieces: Iterable[Piece], device: torch.device, dtype: torch.dtype) -> None:
    """Fill the parameters of a model from files that `misfit` has accepted.

    Tensors are copied one by one to the device and dtype, so that there is never a second copy of the model in memory.
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
