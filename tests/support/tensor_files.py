"""Files of tensors in every kind that is read, whole or with a lie in them, and the one error that refuses them."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weights.files.tensors import open_tensors

KINDS = ("safetensors", "shards", "zip", "legacy")
PICKLED = ("zip", "legacy")
HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n"


def some_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Of every dtype that public files hold, and of every number of axes that networks have."""
    generator = torch.Generator().manual_seed(seed)
    randn = lambda *shape: torch.randn(*shape, generator=generator)
    return {
        "conv.weight": randn(4, 3, 3, 3),
        "linear.weight": randn(6, 5).half(),
        "norm.bias": randn(8).bfloat16(),
        "double": randn(2, 3).double(),
        "position_ids": torch.randint(2**40, (1, 7), generator=generator),
        "num_updates": torch.tensor(1234567, dtype=torch.int32),
        "bytes": torch.randint(256, (9,), generator=generator, dtype=torch.uint8),
        "flags": torch.tensor([True, False, False, True, True, True]),
        "decay": randn(()),
        "nothing": torch.zeros(0, 3),
    }


def write(kind: str, tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    """A file of a kind; returns what is to be opened."""
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder / "model.safetensors"
    if kind == "shards":
        return write_shards(tensors, folder / "model.safetensors", save_file)
    return save(kind, {"state_dict": tensors}, folder)


def write_shards(tensors: dict[str, torch.Tensor], path: Path, save_file: Callable) -> Path:
    """Two files, every other tensor in each, and an index of them, which is returned."""
    shard_of = {}
    for i in range(2):
        shard, names = f"{path.stem}-{i + 1:05}-of-00002.safetensors", list(tensors)[i::2]
        save_file({name: tensors[name] for name in names}, path.with_name(shard))
        shard_of |= dict.fromkeys(names, shard)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = path.with_name(f"{path.name}.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": shard_of}))
    return index


def save(kind: str, checkpoint, folder: Path) -> Path:
    """A pickled file that holds this and nothing else."""
    torch.save(checkpoint, folder / "model.ckpt", _use_new_zipfile_serialization=kind == "zip")
    return folder / "model.ckpt"


def read_all(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in open_tensors(path).tensors.items()}


def refused(match: str, path: Path) -> str:
    """The message of the one ValueError: a plain one, and not a subclass that slipped through."""
    with pytest.raises(ValueError, match=match) as error:
        read_all(path)
    assert error.type is ValueError
    message = str(error.value)
    assert str(path) in message and "\n" not in message and len(message) < 1000
    return message


# ---------------------------------------------------------------------------------------------------------------------
# pickles that run code


class Call:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class ByState:
    """Unpickled, it is given a state that it runs."""

    def __init__(self, code: str):
        self.code = code

    def __setstate__(self, state):
        exec(state["code"])


def traps(sentinel: Path) -> dict[str, object]:
    """Objects that create a file when they are unpickled, by the way in which they do so."""
    code = f"open({str(sentinel)!r}, 'w').close()"
    system, method = Call(os.system, f"touch '{sentinel}'"), Call(Path.touch, sentinel)
    return {"os.system": system, "eval": Call(eval, code), "method": method, "state": ByState(code)}


# ---------------------------------------------------------------------------------------------------------------------
# pickles that lie about their tensors


class Identifier:
    """What a pickle says of a storage."""

    def __init__(self, *fields):
        self.fields = fields


def pickled(checkpoint, kind: str = "zip") -> bytes:
    """As torch.save would, with what it would not say."""
    view = {"zip": (), "legacy": (None,)}[kind]
    stream = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return obj.fields + view if isinstance(obj, Identifier) else None

    Pickler(stream, protocol=2).dump(checkpoint)
    return stream.getvalue()


def claim(numel=6, offset=0, shape=(2, 3), stride=(3, 1), key="0", storage=torch.FloatStorage) -> Call:
    """What a pickle says of a tensor; by default the truth about `CONTENT`."""
    identifier = Identifier("storage", storage, key, "cpu", numel)
    return Call(torch._utils._rebuild_tensor_v2, identifier, offset, shape, stride, False, OrderedDict())


CONTENT = np.arange(6, dtype="<f4").tobytes()


def zip_of(program: bytes, path: Path, content: bytes = CONTENT, **options) -> Path:
    """A checkpoint in torch.save's zip format, with one storage."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", content)
        archive.writestr("archive/version", b"3\n")
    return path


def legacy_of(program: bytes, path: Path, content: bytes = CONTENT, numel: int = 6, keys: tuple = ("0",)) -> Path:
    """A checkpoint in torch.save's older format, with one storage, unless it says otherwise."""
    magic, version = 0x1950A86A20F9469CFC6C, 1001
    system = {"protocol_version": version, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    header = [pickle.dumps(value, 2) for value in (magic, version, system)]
    path.write_bytes(b"".join([*header, program, pickle.dumps(list(keys), 2), numel.to_bytes(8, "little"), content]))
    return path


CHECKPOINTS = {"zip": zip_of, "legacy": legacy_of}
