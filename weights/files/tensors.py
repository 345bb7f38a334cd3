"""The tensors of a file, mapped into memory without reading them.

The safetensors library reads `.safetensors`, and torch.load with weights_only what `torch.save` wrote. This file adds
what they lack: detecting the format from the first bytes, indexes of shards, refusing a pickle that asks for more than
tensors and plain containers before it runs, checksums, and a single ValueError for everything that can be wrong.
"""

import io
import pickletools
import re
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pydantic
import safetensors.torch
import torch
from torch import Tensor

from weights.files.json_settings import settings, shown

MAX_HEADER = 16 * 2**20  # bytes of JSON; fifty times Stable Diffusion's
MAX_PICKLE = 4 * 2**20  # bytes; Stable Diffusion's has a tenth
MAX_ITEMS = 10_000  # in a tuple, including nested ones, and on the stack; torch.save needs a tenth

TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
KNOWN = {*TABLE["known"], *TABLE["leftovers"]}
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # torch.save before zip


class Leftover:
    """Stand-in for a trainer's leftovers in a checkpoint: callbacks by class, losses as numpy scalars."""

    def __init__(self, *_):
        pass

    __setstate__ = __init__


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, or of its shards, by name. They are memory-mapped: copy them before use. Truncating the
    file meanwhile crashes the process."""

    path: Path
    tensors: dict[str, Tensor]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def open_tensors(path: Path, may_be_index: bool = True) -> TensorFile:
    """Open a `.safetensors` file, an index of such files, or a checkpoint written by `torch.save`.

    A checkpoint's tensors are those in its dictionary "state_dict" (see `tensors_in`). The shards of an index are in
    the same folder, and hold exactly the tensors that the index lists for them.

    Raises:
        ValueError: the file, or a shard, does not exist, has another format, is damaged, or is not safe to read.
    """
    try:
        return TensorFile(path, _read(path, may_be_index))
    except OSError as e:
        raise ValueError(f"{path} cannot be read: {e.strerror or e}") from e
    except Exception as e:  # the libraries' own, of which damaged files cause a dozen kinds
        damaged = "" if type(e) is ValueError else "it is damaged or cut short: "
        reason, *_ = str(e).rpartition("WeightsUnpickler error: ")[2][:500].splitlines() or [type(e).__name__]
        raise ValueError(f"{path} cannot be read: {damaged}{reason}") from e


def _read(path: Path, may_be_index: bool) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError("there is no such file")
    with path.open("rb") as file:
        head = file.read(1024)
    size = path.stat().st_size
    # safetensors first: the length of its header may begin with any byte
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        tensors = safetensors.torch.load_file(path)
    elif head.startswith((b"PK\x03\x04", LEGACY_MAGIC)):
        tensors = _checkpoint(path, zipped=head.startswith(b"PK"))
    elif may_be_index and head.lstrip().startswith(b"{") and size <= MAX_HEADER:
        return _shards(path)
    else:
        what = next((what for start, what in TABLE["others"].items() if re.match(start.encode(), head)), None)
        raise ValueError(f"it is {what or f'no file of tensors, or damaged: it begins with {head[:16]!r}'}")
    for name, tensor in tensors.items():  # with strides of 0 a few bytes can claim any shape
        if tensor.nbytes > size or tensor.dim() > 8 or min(tensor.shape, default=0) < 0:
            raise ValueError(f"{shown(name)}, of shape {shown(tuple(tensor.shape))}, cannot be in this file")
    return tensors


def _shards(path: Path) -> dict[str, Tensor]:
    with settings(path) as index:
        shard_of = index.get("weight_map", ..., Annotated[dict[str, str], pydantic.Field(min_length=1)])
    found = {}
    for shard in sorted(set(shard_of.values())):
        if _folder(path.parent / shard) != _folder(path):
            raise ValueError(f"the shard {shown(shard)} is in another folder")
        tensors = open_tensors(path.parent / shard, may_be_index=False).tensors
        if differ := {name for name in shard_of if shard_of[name] == shard} ^ tensors.keys():
            raise ValueError(f"index and shard {shown(shard)} differ in {shown(sorted(differ))}")
        found |= tensors
    return found


def _folder(path: Path) -> Path:
    """The folder of a file, or of what it links to: a download cache links to one folder, and from there to others."""
    return (path.parent / path.readlink() if path.is_symlink() else path).parent.resolve()


# ----------------------------------------------------------------------------------------------------------------------
# what torch.save wrote


def _checkpoint(path: Path, zipped: bool) -> dict[str, Tensor]:
    """Open a checkpoint, memory-mapped, except for the format before zip, which torch.load reads whole.

    torch.load trusts the pickle for the number of values, so the storages are compared with what the file holds.
    """
    loaded: list[int] = []  # sizes of the storages, in bytes

    def note(storage: torch.UntypedStorage, _: str) -> torch.UntypedStorage:
        loaded.append(storage.nbytes())
        return storage

    mapped = zipped and path.suffix != ".safetensors"  # torch.load maps only paths, and depends on their names
    with path.open("rb") as file, torch.serialization.safe_globals([(Leftover, name) for name in TABLE["leftovers"]]):
        if zipped:
            sizes = _check_archive(file)
        else:  # magic number, version, system, the checkpoint, and the names of its storages
            *_, names = [_check_pickle(file) for _ in range(5)]
        file.seek(0)
        checkpoint = torch.load(path if mapped else file, map_location=note, weights_only=True, mmap=mapped)
        whole = sorted(filter(None, loaded)) == sizes if zipped else len(loaded) == len(names) and not file.read(1)
    if not whole:
        raise ValueError("it is damaged: its numbers are not there, or not as many as its pickle says")
    return tensors_in(checkpoint)


def _check_archive(file: io.BufferedIOBase) -> list[int]:
    """Check an archive of torch.save, its pickle and its checksums, and return the sizes of its storages that are not
    empty, sorted. Raises ValueError if anything is wrong."""
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        pickles = [name for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)]
        compressed = any(record.compress_type != zipfile.ZIP_STORED for record in records.values())
        distinct = {name.lower() for name in records}  # torch looks for its records whatever their case
        if len(pickles) != 1 or compressed or len(distinct) < len(archive.infolist()):
            raise ValueError("it is a zip archive that torch.save did not write: unpack it first")
        _check_pickle(io.BytesIO(archive.read(pickles[0])))
        if damaged := archive.testzip():
            raise ValueError(f"{shown(damaged)} does not have the checksum that was saved with it")
    return sorted(record.file_size for name, record in records.items() if "/data/" in name and record.file_size)


def _check_pickle(stream: io.BufferedIOBase) -> set[str]:
    """Return the strings of a pickle. Raises ValueError if it is not of torch.save's protocol, names an unknown global,
    is long, or nests so deeply that hashing would never end.

    The pickle is run as a stack machine, with the size of each item instead of the item.
    """
    strings, stack, memo = set(), [], {}
    marks: list[int] = []  # the height of the stack below each
    for opcode, argument, position in pickletools.genops(stream):
        name, takes = opcode.name, opcode.stack_before
        asked = {"PROTO": f"protocol {argument}", "GLOBAL": str(argument).replace(" ", ".")}.get(name)
        if asked and asked not in KNOWN and not re.fullmatch(r"torch\.\w+Storage", asked):
            raise ValueError(
                f"its pickle asks for {shown(asked)}. Only tensors and plain containers are read from a pickle, in "
                "torch.save's own protocol, because anything else may run code: get the weights as .safetensors"
            )
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            marked = pickletools.markobject in takes
            below = marks.pop() - takes.index(pickletools.markobject) if marked else len(stack) - len(takes)
            size = 1 + sum(stack[below:]) if name.startswith("TUPLE") else 1
            stack[below:] = [size] * len(opcode.stack_after)
        if name == "BINUNICODE":
            strings.add(argument)
        if max([len(stack), *stack[-1:]]) > MAX_ITEMS or position > MAX_PICKLE:
            raise ValueError("its pickle is longer, or holds more items in one another, than torch.save writes")
    return strings


def tensors_in(checkpoint: object) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    As long as a dictionary has another one under "state_dict", that one is entered; the result is the tensors of the
    last one, or, if it has none, those one level deeper, as in embeddings and adapters. Everything else, such as
    epochs, callbacks and the state of an optimizer, is ignored.

    Raises:
        ValueError: it is not a dictionary, has keys that are not strings, or no tensors.
    """
    for _ in range(8):  # a dictionary may contain itself
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
            checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, dict) or not all(isinstance(key, str) for key in checkpoint):
        raise ValueError("it does not hold a dictionary of tensors whose keys are names")
    nests = {name: checkpoint[name] for name in TABLE["nests"] if isinstance(checkpoint.get(name), dict)}
    inner = {f"{name}.{key}": value for name, nest in nests.items() for key, value in nest.items()}
    for entries in (checkpoint, inner):
        if tensors := {name: value.detach() for name, value in entries.items() if isinstance(value, Tensor)}:
            return tensors
    raise ValueError(f'it holds no tensors, neither on top nor under "state_dict"; its keys: {shown(list(checkpoint))}')
