"""Tensors that lie in files, and reading them from there.

A tensor is read into memory of its own, in pieces, and the file is never mapped: pages of a mapped file count as memory
too as long as it is open. Parameters copied out of a mapping hold 2.0 times their size at once, and 1.5 times if the
file has half the precision; read in pieces, 1.02 times. Parameters left in a mapping would hold no more, but be in one
dtype and on one device only, and end the process if the file became shorter under it.
"""

import functools
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Shaped
from torch import Tensor

PIECE = 4 * 2**20  # bytes read at a time


@dataclass(frozen=True)
class Record:
    """Bytes of a file that have a checksum."""

    start: int
    size: int
    crc: int


@dataclass(frozen=True)
class Stored:
    """Where a tensor's numbers lie: the first one at byte `start`, the others by strides, in elements."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    start: int
    record: Record | None = None

    @property
    def span(self) -> int:
        """Elements from the first to the last, both included."""
        return 0 if 0 in self.shape else 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride))


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, or of a file and its shards, by name."""

    path: Path
    stored: Mapping[str, Stored]

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self.stored.items()}

    @functools.cached_property
    def dtypes(self) -> dict[str, torch.dtype]:
        """As in the file."""
        return {name: stored.dtype for name, stored in self.stored.items()}

    def read(
        self, names: Iterable[str], device: torch.device, dtype: torch.dtype
    ) -> Iterator[tuple[str, Shaped[Tensor, "..."]]]:
        """The named tensors, one at a time, in the order of the file; each owns its memory.

        Floating tensors come in the given dtype, others in their own. No more than `PIECE` bytes are held besides.

        Raises:
            ValueError: a name is not in the file, the file has changed or is damaged, or there is no room for it.
        """
        wanted = set(names)
        if missing := sorted(wanted - self.stored.keys()):
            raise ValueError(f"{self.path} has no tensors {listed(missing)}")
        place = lambda name: (self.stored[name].path, self.stored[name].start)
        scratch = torch.empty(PIECE, dtype=torch.uint8, device="cpu")
        for path, group in itertools.groupby(sorted(wanted, key=place), key=lambda name: self.stored[name].path):
            with blaming(path), open(path, "rb") as file:
                verified: Record | None = None
                for name in group:
                    stored = self.stored[name]
                    if stored.record is not None and stored.record != verified:
                        _verify(file, stored.record, scratch)
                        verified = stored.record
                    yield name, _read(file, stored, device, dtype, scratch)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Errors about a file begin with its path."""
    try:
        yield
    except OSError as e:
        raise ValueError(f"{path} cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise ValueError(f"{path} cannot be read: {e}") from e


def shown(text: str, most: int = 120) -> str:
    """What a file calls something, for a terminal: cut, and control characters escaped."""
    return repr(text[:most])[1:-1] + ("..." if len(text) > most else "")


def listed(names: list[str]) -> str:
    return ", ".join(repr(name[:80]) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def _read(file: BinaryIO, stored: Stored, device: torch.device, dtype: torch.dtype, scratch: Tensor) -> Tensor:
    dtype = dtype if stored.dtype.is_floating_point else stored.dtype
    try:
        flat = torch.empty(stored.span, device=device, dtype=dtype)
    except RuntimeError as e:
        raise ValueError(f"no memory for a tensor of shape {stored.shape}: {e}") from e
    file.seek(stored.start)
    for piece in flat.split(PIECE // stored.dtype.itemsize):
        numbers = scratch[: len(piece) * stored.dtype.itemsize]
        _fill(file, numbers)
        piece.copy_(numbers.view(stored.dtype))
    return flat.as_strided(stored.shape, stored.stride).contiguous()


def _verify(file: BinaryIO, record: Record, scratch: Tensor) -> None:
    file.seek(record.start)
    crc = 0
    for first in range(0, record.size, PIECE):
        piece = scratch[: min(PIECE, record.size - first)]
        _fill(file, piece)
        crc = zlib.crc32(piece.numpy(), crc)
    if crc != record.crc:
        raise ValueError("it is damaged: numbers in it do not have the checksum that was saved with them")


def _fill(file: BinaryIO, numbers: Tensor) -> None:
    if file.readinto(numbers.numpy()) != len(numbers):
        raise ValueError("it is cut short, or was changed while it was read")
