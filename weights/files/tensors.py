"""The tensors of a file, mapped into memory without reading them.

The safetensors library reads `.safetensors`; torch.load reads what `torch.save` wrote, with weights_only and an
allow-list of tensors, plain containers and stand-ins for the leftovers of trainers. This file adds what they lack:
detecting the format from the first bytes, indexes of shards, refusing a pickle that asks for anything else before it
runs, checksums, and a single ValueError for everything that can be wrong.
"""

import io
import json
import pickletools
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from weights.files.json_settings import shown

MAX_HEADER = 16 * 2**20  # bytes of JSON; fifty times Stable Diffusion's
MAX_PICKLE = 4 * 2**20  # bytes; Stable Diffusion's has a tenth
MAX_ITEMS = 10_000  # in a tuple, including nested ones, and on the stack; torch.save needs a tenth

ELSEWHERE = "get the weights as .safetensors"
OTHERS = {  # first bytes of files that are mistaken for one of tensors
    rb"version https://git-lfs": "a git-lfs pointer, not the file: run `git lfs pull`, or download the file itself",
    rb"(\xef\xbb\xbf)?\s*<": "a web page, not the file: its download failed",
    rb"\x1f\x8b|7z\xbc\xaf|Rar!": "an archive: unpack it first",
    rb"GGUF": f"a GGUF file, whose numbers are quantised: {ELSEWHERE}",
    rb"\x08[\x01-\x14]\x12": f"an ONNX graph: {ELSEWHERE}",
    rb"\x89PNG|\xff\xd8\xff": "an image, and no model",
    rb"\x80": f"a pickle that torch.save did not write in its own protocol, and may run code: {ELSEWHERE}",
    rb"$": "empty",
}
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # torch.save before zip

NESTS = ("string_to_param", "image_proj", "ip_adapter")  # keys by which embeddings and adapters are recognised


class Leftover:
    """Stand-in for a trainer's leftovers in a checkpoint: callbacks by class, losses as numpy scalars."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


LEFTOVERS = {
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
}
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
KNOWN = LEFTOVERS | {f"torch.{kind}Storage" for kind in STORAGES}
KNOWN |= {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
KNOWN |= {"_codecs.encode"}  # a numpy scalar's bytes


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, or of its shards, by name. They are memory-mapped: copy them before use. Truncating the
    file meanwhile crashes the process."""

    path: Path
    tensors: dict[str, Tensor]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def open_tensors(path: Path) -> TensorFile:
    """Open a `.safetensors` file, an index of such files, or a checkpoint written by `torch.save`.

    A checkpoint's tensors are those in its dictionary "state_dict" (see `tensors_in`). The shards of an index are in
    the same folder, and hold exactly the tensors that the index lists for them.

    Raises:
        ValueError: the file, or a shard, does not exist, has another format, is damaged, or is not safe to read.
    """
    return TensorFile(path, _open(path))


def _open(path: Path, may_be_index: bool = True) -> dict[str, Tensor]:
    with _blaming(path):
        if not path.is_file():
            raise ValueError("there is no such file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(1024)
        # text formats first: the length of a safetensors header may begin with any byte
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
            tensors = safetensors.torch.load_file(path)
        elif head.startswith((b"PK\x03\x04", LEGACY_MAGIC)):
            tensors = _checkpoint(path, zipped=head.startswith(b"PK"))
        elif may_be_index and head.lstrip().startswith(b"{"):
            return _shards(path)
        else:
            what = next((what for start, what in OTHERS.items() if re.match(start, head, re.DOTALL)), None)
            raise ValueError(f"it is {what or f'no file of tensors, or damaged: it begins with {head[:16]!r}'}")
        for name, tensor in tensors.items():  # with strides of 0 a few bytes can claim any shape
            if tensor.nbytes > size or tensor.dim() > 8 or min(tensor.shape, default=0) < 0:
                raise ValueError(f"{shown(name)}, of shape {shown(tuple(tensor.shape))}, cannot be in this file")
        return tensors


def _shards(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        index = json.loads(file.read(MAX_HEADER))
    shard_of = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shard_of, dict) or not shard_of or not all(isinstance(s, str) for s in shard_of.values()):
        raise ValueError("it is JSON, but not an index of shards: it has no weight_map from tensors to files")
    found = {}
    for shard in sorted(set(shard_of.values())):
        if not re.fullmatch(r"\w[\w.-]*", shard, re.ASCII):
            raise ValueError(f"a shard must be a file in the same folder, with a plain name, not {shown(shard)}")
        tensors = _open(path.parent / shard, may_be_index=False)
        # resolved paths: a download cache links both to one folder
        if (path.parent / shard).resolve().parent != path.resolve().parent:
            raise ValueError(f"the shard {shard} is a link to another folder")
        if differ := {name for name in shard_of if shard_of[name] == shard} ^ tensors.keys():
            raise ValueError(f"index and shard {shard} differ in {shown(sorted(differ))}")
        found |= tensors
    return found


# ----------------------------------------------------------------------------------------------------------------------
# what torch.save wrote


def _checkpoint(path: Path, zipped: bool) -> dict[str, Tensor]:
    """Open a checkpoint, memory-mapped, except for the format before zip, which torch.load reads whole."""
    loaded: list[int] = []  # sizes of the storages, in bytes

    def note(storage: torch.UntypedStorage, _: str) -> torch.UntypedStorage:
        loaded.append(storage.nbytes())
        return storage

    is_as_said = (_check_archive if zipped else _check_legacy)(path)
    stand_ins = torch.serialization.safe_globals([(Leftover, name) for name in LEFTOVERS])
    misnamed = path.suffix == ".safetensors"  # torch.load depends on the path's name, and maps only paths
    with stand_ins, warnings.catch_warnings(action="ignore"), path.open("rb") as file:
        source = file if misnamed else path
        checkpoint = torch.load(source, map_location=note, weights_only=True, mmap=zipped and not misnamed)
    if not is_as_said(loaded):  # torch.load trusts the pickle for the number of values
        raise ValueError("it is damaged: its numbers are not there, or not as many as its pickle says")
    return tensors_in(checkpoint)


def _check_legacy(path: Path) -> Callable[[list[int]], bool]:
    """Check the pickles, and return how to check the sizes of the storages, each of which follows its length."""
    with path.open("rb") as file:
        start = io.BytesIO(file.read(MAX_PICKLE))
    for _ in range(4):  # magic number, version, system, the checkpoint
        _check_pickle(start)
    keys = sum(opcode.name.endswith("UNICODE") for opcode in _check_pickle(start))
    begin, end = start.tell(), path.stat().st_size
    return lambda loaded: keys == len(loaded) and begin + sum(8 + size for size in loaded) == end


def _check_archive(path: Path) -> Callable[[list[int]], bool]:
    """Check the archive and its pickle, and return how to check the sizes of the storages, which are its records.

    Raises:
        ValueError: it was not written by torch.save, its pickle is not safe, or a checksum is wrong.
    """
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        pickles = [record for record in records if re.fullmatch(r"[^/]+/data\.pkl", record.filename)]
        if len({record.filename for record in records}) < len(records):
            raise ValueError("it has two records of one name")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise ValueError("it is a compressed archive, which torch.save does not write: unpack it first")
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE:
            raise ValueError("it is a zip archive, but not one that torch.save wrote")
        _check_pickle(io.BytesIO(archive.read(pickles[0])))
        if damaged := archive.testzip():
            raise ValueError(f"{shown(damaged)} does not have the checksum that was saved with it")
    sizes = sorted(record.file_size for record in records if "/data/" in record.filename and record.file_size)
    return lambda loaded: sorted(filter(None, loaded)) == sizes


def _check_pickle(stream: io.BytesIO) -> list[pickletools.OpcodeInfo]:
    """Return the instructions of a pickle. Raises ValueError if it names an unknown global, or nests so deeply that
    hashing would never end.

    The pickle is run as a stack machine, with the size of each item instead of the item.
    """
    opcodes, stack, memo = [], [], {}
    marks: list[int] = []  # the height of the stack below each
    for opcode, argument, _ in pickletools.genops(stream):
        opcodes.append(opcode)
        if opcode.name == "PROTO" and argument != 2:
            raise ValueError(f"its pickle is of protocol {argument}, and torch.save's own is 2: {ELSEWHERE}")
        if opcode.name == "GLOBAL" and (name := argument.replace(" ", ".", 1)) not in KNOWN:
            raise ValueError(
                f"its pickle asks for {shown(name)}. Only tensors and plain containers are read from a pickle, "
                f"because anything else may run code: {ELSEWHERE}"
            )
        match opcode.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                marks.append(len(stack))
            case name:
                below = len(stack) - len(opcode.stack_before)
                if pickletools.markobject in opcode.stack_before:
                    below = marks.pop() - opcode.stack_before.index(pickletools.markobject)
                if below < 0:
                    raise ValueError("it is damaged: an instruction of its pickle has nothing to work on")
                size = 1 + sum(stack[below:]) if name.startswith("TUPLE") else 1
                stack[below:] = [size] * len(opcode.stack_after)
                if max(size, len(stack)) > MAX_ITEMS:
                    raise ValueError(f"its pickle holds more than {MAX_ITEMS} items in one another")
    return opcodes


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
    nests = {name: checkpoint[name] for name in NESTS if isinstance(checkpoint.get(name), dict)}
    inner = {f"{name}.{key}": value for name, nest in nests.items() for key, value in nest.items()}
    for entries in (checkpoint, inner):
        if tensors := {name: value.detach() for name, value in entries.items() if isinstance(value, Tensor)}:
            return tensors
    raise ValueError(f'it holds no tensors, neither on top nor under "state_dict"; its keys: {shown(list(checkpoint))}')


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Turn all errors into one ValueError, including the libraries' own, of which damaged files cause a dozen kinds."""
    try:
        yield
    except OSError as e:
        raise ValueError(f"{path} cannot be read: {e.strerror or e}") from e
    except Exception as e:
        damaged = "" if type(e) is ValueError else "it is damaged or cut short: "
        raise ValueError(f"{path} cannot be read: {damaged}{str(e)[:500].partition(chr(10))[0]}") from e
