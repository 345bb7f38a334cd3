"""Damage to files of tensors of any kind, by chance but the same each time, and what may come of it."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import safetensors.torch
import torch
from tensor_files import HTML, POINTER, write

Tensors = dict[str, torch.Tensor]


@dataclass
class Case:
    """A damaged file, and what may come of it."""

    path: Path
    may: str  # be "refused"; be "read", with one tensor changed; or "either"
    original: Tensors
    library: Callable[[Path], Tensors] | None = None
    changed: str | None = None


# ---------------------------------------------------------------------------------------------------------------------
# whole files


def base_tensors() -> Tensors:
    generator = torch.Generator().manual_seed(0)
    randn = lambda *shape: torch.randn(*shape, generator=generator)
    return {
        "conv.weight": randn(4, 2, 3, 3),
        "linear.weight": randn(6, 5).half(),
        "norm.bias": randn(8).bfloat16(),
        "position_ids": torch.randint(2**40, (1, 7), generator=generator),
        "bytes": torch.randint(256, (9,), generator=generator, dtype=torch.uint8),
        "decay": randn(()),
    }


def of_safetensors(path: Path) -> Tensors:
    return safetensors.torch.load(path.read_bytes())


def of_torch(path: Path) -> Tensors:
    entries = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name: entry for name, entry in entries.items() if isinstance(entry, torch.Tensor)}


@dataclass
class Whole:
    """A whole file, from which damaged ones are made."""

    kind: str
    path: Path
    content: bytes
    tensors: Tensors
    library: Callable[[Path], Tensors] | None

    @classmethod
    def write(cls, kind: str, folder: Path) -> "Whole":
        tensors = base_tensors()
        path = write(kind, tensors, folder)
        library = {"safetensors": of_safetensors, "shards": None}.get(kind, of_torch)
        return cls(kind, path, path.read_bytes(), tensors, library)

    def damaged(self, content: bytes, may: str, **more) -> Case:
        self.path.write_bytes(content)
        return Case(self.path, may, self.tensors, self.library, **more)

    def numbers_of(self, name: str) -> range:
        """The bytes of a tensor, which are random enough to be found."""
        numbers = self.tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert self.content.count(numbers) == 1
        return range(start := self.content.index(numbers), start + len(numbers))


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


# ---------------------------------------------------------------------------------------------------------------------
# anywhere in a file


def flip_a_number(rng: Random, whole: Whole) -> Case:
    name = rng.choice(list(whole.tensors))
    content = flipped(whole.content, rng.choice(whole.numbers_of(name)), rng.randrange(8))
    if whole.kind == "zip":  # which has checksums
        return whole.damaged(content, "refused")
    return whole.damaged(content, "read", changed=name)


def flip_elsewhere(rng: Random, whole: Whole) -> Case:
    in_it = () if whole.kind == "shards" else whole.tensors  # an index holds no numbers
    numbers = {position for name in in_it for position in whole.numbers_of(name)}
    positions = [position for position in range(len(whole.content)) if position not in numbers]
    return whole.damaged(flipped(whole.content, rng.choice(positions), rng.randrange(8)), "either")


def flip_several(rng: Random, whole: Whole) -> Case:
    content = whole.content
    for _ in range(rng.randint(2, 20)):
        content = flipped(content, rng.randrange(len(content)), rng.randrange(8))
    return whole.damaged(content, "either")


def cut(rng: Random, whole: Whole) -> Case:
    return whole.damaged(whole.content[: rng.randrange(len(whole.content))], "refused")


def insert_or_drop(rng: Random, whole: Whole) -> Case:
    position, length = rng.randrange(len(whole.content)), rng.randint(1, 64)
    middle, skipped = (rng.randbytes(length), 0) if rng.random() < 0.5 else (b"", length)
    return whole.damaged(whole.content[:position] + middle + whole.content[position + skipped :], "either")


def overwrite(rng: Random, whole: Whole) -> Case:
    """A run of bytes from elsewhere in the file, or of one byte."""
    position, length = rng.randrange(len(whole.content)), rng.randint(2, 64)
    source = rng.randrange(len(whole.content))
    run = rng.choice([whole.content[source : source + length], bytes([rng.choice([0, 255])]) * length])
    return whole.damaged(whole.content[:position] + run + whole.content[position + len(run) :], "either")


# ---------------------------------------------------------------------------------------------------------------------
# files that are something else


def something_else(rng: Random, whole: Whole) -> Case:
    contents = [
        HTML,
        b"\n \t" + HTML,
        b"\xef\xbb\xbf" + HTML,
        HTML + whole.content,
        POINTER,
        POINTER + rng.randbytes(100),
        b"",
        b"\0" * rng.randint(1, 10_000),
        b"\xff" * rng.randint(1, 10_000),
        rng.randbytes(rng.randint(1, 10_000)),
        gzip.compress(whole.content),
        b"Entry not found",
        b'{"error": "Entry not found"}',
        b"[" * 100_000,
        b'{"weight_map": ' * 100_000,
        b"PK\x03\x04" + rng.randbytes(1000),
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02" + rng.randbytes(100),
        whole.content[len(whole.content) // 2 :],
    ]
    return whole.damaged(rng.choice(contents), "refused")
