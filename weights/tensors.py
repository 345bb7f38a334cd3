"""Which tensors a file holds, from its headers alone.

Three kinds of files hold a model's tensors: `.safetensors`, an index of several such files (shards), and checkpoints
that `torch.save` wrote, in its zip format or the older one. All come down to the same: where in a file a tensor's
numbers lie.

Files are not trusted. What a file is, its first bytes say, not its name; what it claims is checked against its size
before memory is set aside; and no code in it runs. Whatever is wrong with it is one ValueError.
"""

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open

from weights import pickled
from weights.stored import Record, Stored, TensorFile, blaming, listed

MAX_HEADER = 16 * 2**20  # bytes of JSON; fifty times Stable Diffusion's
MAX_AXES = 8

ELSEWHERE = "get the weights as .safetensors"
OTHERS = {  # how files that hold no tensors for us begin
    rb"\x1f\x8b": "packed by gzip: unpack it first",
    rb"GGUF": f"a GGUF file, whose numbers are quantised: {ELSEWHERE}",
    rb"\x08[\x01-\x14]\x12": f"an ONNX graph: {ELSEWHERE}",
    rb"\x89HDF": f"an HDF5 file, of TensorFlow: {ELSEWHERE}",
    rb"\x93NUMPY": f"an array of NumPy: {ELSEWHERE}",
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP": "an image, and no model",
    rb"7z\xbc\xaf|Rar!": "an archive: unpack it first",
}

# how torch.save began before zip: a number, in any protocol; from 4 on the length of a frame may stand before it
LEGACY_MAGIC = re.compile(rb"\x80[\2-\5](\x95.{8})?\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\.", re.DOTALL)
LEGACY_VERSION = 1001
RECORD_HEADER = 30  # bytes before a zip record's name; the last four are the lengths of the name and of what follows it

DTYPES = {  # safetensors' names
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_tensors(path: Path) -> TensorFile:
    """The tensors of a `.safetensors` file, of an index of such files, or of a checkpoint written by `torch.save`.

    Only headers are read. Of a checkpoint, the dictionary of tensors under "state_dict" counts (see
    `pickled.tensors_in`). The shards of an index lie in the same folder, and hold just the tensors it lists for them.

    Raises:
        ValueError: the file, or a shard, is not there, is none of these, is damaged, or is not safe to read.
    """
    return TensorFile(path, _open(path, may_be_index=True))


def _open(path: Path, may_be_index: bool) -> dict[str, Stored]:
    with blaming(path):
        if not path.is_file():
            raise ValueError("there is no such file")
        with open(path, "rb") as file:
            head = file.read(1024)
            file.seek(0)
            # first what could be taken for text: the length of a safetensors header may begin with any byte
            if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_HEADER:
                return _safetensors(path, file)
            if head.startswith(b"PK\x03\x04"):
                return _zip_checkpoint(path)
            if LEGACY_MAGIC.match(head):
                return _legacy_checkpoint(path, file)
            if may_be_index and head.lstrip().startswith(b"{"):
                return _shards(path, file)
        raise ValueError(_what_else(head))


def _what_else(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer, not the file: run `git lfs pull`, or download the file itself"
    if text.startswith(b"<"):
        return "it is a web page, not the file: its download failed"
    for start, what in OTHERS.items():
        if re.match(start, head, re.DOTALL):
            return f"it is {what}"
    if head.startswith(b"\x80"):
        return "it is a pickle that torch.save did not write, and is not read, because it may run code"
    return f"it is no file of tensors, or damaged: it begins with {head[:16]!r}"


# ---------------------------------------------------------------------------------------------------------------------
# where the tensors lie


def _safetensors(path: Path, file: BinaryIO) -> dict[str, Stored]:
    with _parsing(), safe_open(path, framework="pt"):
        pass  # it holds the header to the format and to the file's size
    length = int.from_bytes(file.read(8), "little")
    header = _json(file.read(length))
    header.pop("__metadata__", None)
    stored = {}
    for name, tensor in header.items():
        if tensor["dtype"] not in DTYPES:
            raise ValueError(f"numbers of the kind {tensor['dtype']}, of {listed([name])}, are not supported")
        shape = tuple(tensor["shape"])
        stride = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        start = 8 + length + tensor["data_offsets"][0]
        stored[name] = Stored(path, DTYPES[tensor["dtype"]], shape, stride, start)
    _check_sizes(stored, file)
    return stored


def _shards(path: Path, file: BinaryIO) -> dict[str, Stored]:
    index = _json(file.read(MAX_HEADER))
    shard_of = index.get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of or not all(isinstance(s, str) for s in shard_of.values()):
        raise ValueError("it is JSON, but not an index of shards: it has no weight_map from tensors to files")
    stored = {}
    for shard in sorted(set(shard_of.values())):
        if not re.fullmatch(r"\w[\w.-]*", shard, re.ASCII):
            raise ValueError(f"a shard must be a file in the same folder, with a plain name, not {shard[:80]!r}")
        tensors = _open(path.parent / shard, may_be_index=False)
        # where they really are: a download cache links both to one folder
        if (path.parent / shard).resolve().parent != path.resolve().parent:
            raise ValueError(f"the shard {shard} is a link to another folder")
        expected = {name for name, its_shard in shard_of.items() if its_shard == shard}
        if expected != tensors.keys():
            raise ValueError(f"index and shard {shard} differ in {listed(sorted(expected ^ tensors.keys()))}")
        stored |= tensors
    return stored


def _zip_checkpoint(path: Path) -> dict[str, Stored]:
    with _Bounded(path) as file:
        with _parsing():
            archive = zipfile.ZipFile(file)
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.infolist()):
            raise ValueError("it has two records of one name")
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
            raise ValueError("it is a compressed archive, which torch.save does not write: unpack it first")
        programs = [name for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(programs) != 1:
            raise ValueError("it is a zip archive, but not one that torch.save wrote")
        (program,) = programs
        folder = program.removesuffix("data.pkl")
        with _parsing():
            order = archive.read(folder + "byteorder") if folder + "byteorder" in records else b"little"
        if order != b"little":
            raise ValueError("its numbers are not in little-endian byte order")
        with _parsing():
            stream = io.BytesIO(archive.read(program))
        views = pickled.tensors_in(pickled.interpret(stream)[0])
        stored = {}
        for name, view in views.items():
            record = records.get(f"{folder}data/{view.storage.key}")
            bytes_used = view.storage.numel * view.storage.dtype.itemsize
            if record is None or record.file_size != bytes_used or record.header_offset + bytes_used > _size(file):
                raise ValueError(f"it is damaged: the numbers of {listed([name])} are not there, or not as many")
            start = _record_start(file, record)
            stored[name] = _place(path, view, start, Record(start, record.file_size, record.CRC))
        _check_sizes(stored, file)
        return stored


def _legacy_checkpoint(path: Path, file: BinaryIO) -> dict[str, Stored]:
    stream = io.BytesIO(file.read(pickled.MAX_BYTES))  # five pickles, then the storages, each after its length
    (_magic, _), (version, _), (system, _), (checkpoint, storages), (keys, _) = (
        pickled.interpret(stream) for _ in range(5)
    )
    if version != LEGACY_VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was written by an unknown version of torch.save, or not in little-endian byte order")
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(storages):
        raise ValueError("it is damaged: its storages are not those that its tensors use")
    starts, position, size = {}, stream.tell(), _size(file)
    for key in keys:
        file.seek(position)
        length = int.from_bytes(file.read(8), "little")
        starts[key] = position + 8
        position = starts[key] + length * storages[key].dtype.itemsize
        if length != storages[key].numel or position > size:
            raise ValueError("it is damaged or cut short: a storage has not the length that it should have")
    if position < size:
        raise ValueError(f"it is damaged: its tensors end at byte {position}, and the file at byte {size}")
    views = pickled.tensors_in(checkpoint)
    stored = {name: _place(path, view, starts[view.storage.key], None) for name, view in views.items()}
    _check_sizes(stored, file)
    return stored


def _record_start(file: BinaryIO, record: zipfile.ZipInfo) -> int:
    """The byte where a zip record's content begins: after a header of its own. If that lies, the checksum tells."""
    file.seek(record.header_offset + RECORD_HEADER - 4)
    name, extra = file.read(2), file.read(2)
    return file.tell() + int.from_bytes(name, "little") + int.from_bytes(extra, "little")


def _place(path: Path, view: pickled.View, start: int, record: Record | None) -> Stored:
    """A view of a storage that lies at byte `start`."""
    # along an axis of one element, and of a tensor without any, a stride has no meaning, and may be any number
    stride = tuple(s if n > 1 and 0 not in view.shape else 1 for n, s in zip(view.shape, view.stride))
    dtype = view.storage.dtype
    stored = Stored(path, dtype, view.shape, stride, start + view.offset * dtype.itemsize, record)
    if view.offset + stored.span > view.storage.numel:
        raise ValueError(f"it is damaged: a tensor of shape {view.shape[:8]} reaches outside its storage")
    return stored


def _check_sizes(stored: Mapping[str, Stored], file: BinaryIO) -> None:
    """No tensor is larger than its file: strides of 0, or axes of 0, let a few bytes claim any shape."""
    size = _size(file)
    for name, tensor in stored.items():
        if len(tensor.shape) > MAX_AXES:
            raise ValueError(f"{listed([name])} has {len(tensor.shape)} axes")
        if math.prod(max(n, 1) for n in tensor.shape) * tensor.dtype.itemsize > size:
            raise ValueError(f"{listed([name])}, of shape {tensor.shape}, is larger than the file")


# ---------------------------------------------------------------------------------------------------------------------
# helpers


class _Bounded(io.FileIO):
    """A file for `zipfile`, which reads a record, and the list of all, at once, however long the archive says it is."""

    def read(self, size: int = -1) -> bytes:
        if size > pickled.MAX_BYTES:
            raise ValueError(f"its pickle or its list of records is longer than {pickled.MAX_BYTES} bytes")
        return super().read(size)


@contextmanager
def _parsing() -> Iterator[None]:
    """Around others' parsers: on damaged files they fail in a dozen ways, not all documented."""
    try:
        yield
    except Exception as e:
        raise ValueError(f"it is damaged or cut short: {str(e)[:200]}") from e


def _json(text: bytes) -> dict:
    """A JSON object that says nothing twice: parsers differ in which of two values counts."""

    def unique(pairs: list[tuple[str, object]]) -> dict:
        fields = {}
        for name, value in pairs:
            if name in fields:
                raise ValueError(f"its JSON says {listed([name])} twice")
            fields[name] = value
        return fields

    try:
        fields = json.loads(text, object_pairs_hook=unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise ValueError(f"its JSON is damaged: {e}") from e
    if not isinstance(fields, dict):
        raise ValueError("its JSON is not an object")
    return fields


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
