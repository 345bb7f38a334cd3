"""The contract of loading: every tensor of the files is used, every parameter filled, every shape equal; otherwise
nothing is loaded, and one error lists what does not fit."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from weights.build import PartConfig, empty, shapes
from weights.files.json_settings import shown
from weights.files.tensors import TensorFile
from weights.key_names import Layout, Source, is_dropped

log = logging.getLogger(__name__)

SHOWN = 3  # names, in an error
Misfit = dict[str, list[str]]  # what is wrong -> the tensors, as they are shown


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose headers have been read, but not its tensors."""

    what: str  # a description, for messages
    parts: dict[str, PartConfig]
    pieces: list[tuple[str, TensorFile, Layout]]  # a part's name, its file, and where its parameters are in it

    def misfit(self) -> Misfit:
        """Compare the shapes of the model with those of the files, without reading any tensor; integer tensors never
        fit. Missing and misshapen tensors have our names, unexpected ones those of the file."""
        missing, misshapen, used = [], [], set()
        for part, file, layout in self.pieces:
            used |= {(id(file), name) for source in layout.values() for name in (source.name, source.instead_of)}
            for ours, shape in shapes(self.parts[part]).items():
                source, name = layout[ours], shown(f"{part}.{ours}")
                if source.name not in file.tensors:
                    missing.append(name)
                elif (found := picked_shape(source, file.shapes[source.name])) != shape:
                    misshapen.append(f"{name} {found} instead of {shape}")
                elif not file.tensors[source.name].is_floating_point():
                    kind = str(file.tensors[source.name].dtype).removeprefix("torch.")
                    misshapen.append(f"{name} {kind} instead of floating-point numbers")
        text = self.parts.get("text_encoder")
        names = {(id(file), name) for _, file, _ in self.pieces for name in file.tensors} - used
        left_over = [shown(name) for _, name in names if not is_dropped(name, text)]
        found = {"missing": missing, "left over": left_over, "of the wrong shape": misshapen}
        return {what: sorted(names) for what, names in found.items() if names}

    def misfits(self) -> int:
        """How many tensors do not fit."""
        return sum(map(len, self.misfit().values()))

    def refuse_misfit(self, path: Path) -> None:
        """Raises ValueError, with a list of all misfits, unless the tensors are exactly those of the model."""
        said = [
            f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''})"
            for what, names in self.misfit().items()
        ]
        if said:
            raise ValueError(f"the tensors of {path} do not fit {self.what}: {'; '.join(said)}")

    def filled(self, device: torch.device, dtype: torch.dtype) -> nn.ModuleDict:
        """Create the modules, with the tensors of files that `refuse_misfit` has accepted.

        Tensors are copied one by one to the device and dtype, so that there is never a second copy of the model in
        memory.
        """
        model = empty(self.parts)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        kind = str(dtype).removeprefix("torch.")
        log.info("%s: %.0f million parameters, %s, on %s", self.what, millions, kind, device)
        as_wanted = dict(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)
        try:
            tensors = {
                f"{part}.{name}": source.pick(file.tensors[source.name]).to(**as_wanted)
                for part, file, layout in self.pieces
                for name, source in layout.items()
            }
        except RuntimeError as e:
            raise ValueError(f"no memory for the model's parameters: {e}") from e
        model.load_state_dict(tensors, assign=True)
        return model.eval().requires_grad_(False)


def picked_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of our parameter after picking it out of the file's tensor; the tensor's own if that fails."""
    try:
        return tuple(source.pick(torch.empty(shape, device="meta")).shape)
    except (RuntimeError, IndexError, ValueError):  # einops' own error is a RuntimeError
        return shape
