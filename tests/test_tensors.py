"""Reading tensors: to the bit what was saved, whatever the kind of file, and one ValueError for every other file."""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

from weights.pickled import MAX_BYTES
from weights.stored import Stored, TensorFile
from weights.tensors import MAX_AXES, open_tensors

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent


def some_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Of every dtype that public files hold, and of every number of axes that networks have."""
    generator = torch.Generator().manual_seed(seed)
    randn = lambda *shape: torch.randn(*shape, generator=generator)
    return {
        "conv.weight": randn(4, 3, 3, 3),
        "conv.bias": randn(4),
        "half": randn(5, 6).half(),
        "brain": randn(7).bfloat16(),
        "double": randn(2, 3).double(),
        "position_ids": torch.arange(10)[None],
        "num_updates": torch.tensor(12345, dtype=torch.int32),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False, True]),
        "decay": torch.tensor(0.9999),
        "nothing": torch.zeros(0, 3),
    }


def write(kind: str, tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    """A file of a kind; returns what is to be opened."""
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder / "model.safetensors"
    if kind == "shards":
        names = list(tensors)
        halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for shard, its_names in halves.items():
            save_file({name: tensors[name] for name in its_names}, folder / shard)
        index = {"metadata": {"total_size": 1}, "weight_map": {n: shard for shard, ns in halves.items() for n in ns}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder / "model.safetensors.index.json"
    torch.save({"state_dict": tensors}, folder / "model.ckpt", _use_new_zipfile_serialization=kind == "zip")
    return folder / "model.ckpt"


KINDS = ("safetensors", "shards", "zip", "legacy")
PICKLED = ("zip", "legacy")


def read_all(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    file = open_tensors(path)
    return dict(file.read(file.shapes, CPU, dtype))


def refused(match: str, path: Path) -> str:
    """The message of the one ValueError: a plain one, and not a subclass that slipped through."""
    with pytest.raises(ValueError, match=match) as error:
        read_all(path)
    assert error.type is ValueError
    assert str(path) in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# what is read is what was saved


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_dtypes_are_those_of_the_file(kind, tmp_path):
    tensors = some_tensors()
    file = open_tensors(write(kind, tensors, tmp_path))
    assert file.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert file.dtypes == {name: tensor.dtype for name, tensor in tensors.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_what_was_saved_in_the_wanted_dtype(kind, dtype, tmp_path):
    tensors = some_tensors()
    found = read_all(write(kind, tensors, tmp_path), dtype)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        wanted = tensor.to(dtype) if tensor.is_floating_point() else tensor
        assert_close(found[name], wanted, rtol=0, atol=0)  # a copy, or torch's own rounding
        assert found[name].is_contiguous() and not found[name].requires_grad


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_tensors_longer_than_what_is_read_at_a_time_are_read_whole(kind, tmp_path):
    tensor = torch.arange(3_000_000, dtype=torch.float32).reshape(1000, 3000)  # 12 MB, in pieces of 4 MiB
    found = read_all(write(kind, {"long": tensor, "next": torch.ones(3)}, tmp_path))
    assert torch.equal(found["long"], tensor) and torch.equal(found["next"], torch.ones(3))


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_asked_for_is_read_one_by_one(kind, tmp_path):
    file = open_tensors(write(kind, some_tensors(), tmp_path))
    reading = file.read(["half", "decay", "conv.bias", "half"], CPU, torch.float32)
    assert not isinstance(reading, list | dict)
    assert sorted(name for name, _ in reading) == ["conv.bias", "decay", "half"]


def test_a_tensor_that_is_not_there_is_named(tmp_path):
    file = open_tensors(write("safetensors", some_tensors(), tmp_path))
    with pytest.raises(ValueError, match=r"model\.safetensors has no tensors 'colour', 'size'"):
        list(file.read(["size", "half", "colour"], CPU, torch.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_what_becomes_of_the_file_does_not_matter(kind, tmp_path):
    tensors = some_tensors()
    found = read_all(write(kind, tensors, tmp_path))
    for path in tmp_path.iterdir():
        with open(path, "r+b") as file:
            file.write(bytes(path.stat().st_size))
        path.unlink()
    for name, tensor in found.items():
        assert torch.equal(tensor, tensors[name].to(tensor.dtype)), name


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_share_memory_neither_with_each_other_nor_with_the_file(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    first, second = read_all(path), read_all(path)
    before = {name: tensor.clone() for name, tensor in second.items()}
    for tensor in first.values():
        tensor.zero_()
    for found in (second, read_all(path)):
        assert all(torch.equal(found[name], before[name]) for name in before)
    storages = [tensor.untyped_storage().data_ptr() for tensor in first.values() if tensor.numel()]
    assert len(set(storages)) == len(storages)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_a_file_that_is_cut_short_after_it_was_opened_is_an_error(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    file = open_tensors(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"model\.\w+ cannot be read: it is cut short"):
        list(file.read(file.shapes, CPU, torch.float32))
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.\w+ cannot be read: No such file"):
        list(file.read(file.shapes, CPU, torch.float32))


PEAK = r"""
import json, re, sys
from pathlib import Path
import torch
from weights.tensors import open_tensors


def memory(what):  # not getrusage, whose peak includes that of the process that started this one
    return 1024 * int(re.search(what + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


before = memory("VmRSS")
for dtype in (torch.bfloat16, torch.float32):
    for path in sys.argv[1:]:
        file = open_tensors(Path(path))
        tensors = dict(file.read(file.shapes, torch.device("cpu"), dtype))
        size = sum(tensor.nbytes for tensor in tensors.values())
        del tensors
        print(json.dumps([memory("VmHWM") - before, size]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
def test_reading_takes_no_more_memory_than_what_is_read(tmp_path):
    shape, count = (1024, 2048), 36  # of 8 MiB each, 302 MB
    torch.save({str(i): torch.zeros(shape) for i in range(count)}, tmp_path / "model.ckpt")
    size = 4 * shape[0] * shape[1]
    header = {
        str(i): {"dtype": "F32", "shape": shape, "data_offsets": [i * size, (i + 1) * size]} for i in range(count)
    }
    path = safetensors_of(json.dumps(header).encode(), b"", tmp_path)
    os.truncate(path, path.stat().st_size + count * size)  # zeros, which a file system need not store
    command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / "model.ckpt")]
    # what is freed goes back at once: not the allocator's habit is measured, but what reading holds
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
    measured = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [read for _, read in measured] == [size * count // 2] * 2 + [size * count] * 2
    for peak, read in measured:
        print(f"{peak / read:.3f} times what was read")
        assert 0.9 * read < peak < 1.15 * read


# ---------------------------------------------------------------------------------------------------------------------
# shards


@pytest.fixture
def index(tmp_path):
    """An index of two shards; calling it changes its weight_map."""
    path = write("shards", some_tensors(), tmp_path)

    def change(edit) -> Path:
        fields = json.loads(path.read_text())
        edit(fields["weight_map"])
        path.write_text(json.dumps(fields))
        return path

    return change


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_missing_shard_is_named(index, tmp_path):
    (tmp_path / SECOND).unlink()
    assert SECOND in refused("there is no such file", index(lambda weight_map: None))


def test_a_damaged_shard_is_named(index, tmp_path):
    (tmp_path / SECOND).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert SECOND in refused("git-lfs pointer", index(lambda weight_map: None))


def test_a_tensor_that_only_the_index_lists_is_named(index):
    assert FIRST in refused("differ in 'extra'", index(lambda weight_map: weight_map.update(extra=FIRST)))


def test_a_tensor_that_the_index_does_not_list_is_named(index):
    refused("differ in 'half'", index(lambda weight_map: weight_map.pop("half")))


def test_a_tensor_that_is_in_the_other_shard_is_named(index):
    refused("differ in 'half'", index(lambda weight_map: weight_map.update(half=SECOND)))


@pytest.mark.parametrize(
    "shard",
    ["../shard.safetensors", "/etc/passwd", "sub/shard", "..", ".", "", ".hidden", "C:shard", "a\\b", "a\0b", "~"],
)
def test_a_shard_is_a_plain_name_in_the_same_folder(index, tmp_path, shard):
    (tmp_path.parent / "shard.safetensors").write_bytes((tmp_path / SECOND).read_bytes())
    path = index(lambda weight_map: weight_map.update({n: shard for n, s in weight_map.items() if s == SECOND}))
    refused("a shard must be a file in the same folder", path)


def test_a_shard_that_links_out_of_the_folder_is_refused(index, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / SECOND).rename(elsewhere / SECOND)
    (tmp_path / SECOND).symlink_to(elsewhere / SECOND)
    refused("link to another folder", index(lambda weight_map: None))


def test_a_download_cache_links_index_and_shards_to_one_folder(index, tmp_path):
    path = index(lambda weight_map: None)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    for number, file in enumerate([path, tmp_path / FIRST, tmp_path / SECOND]):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert read_all(snapshot / path.name).keys() == some_tensors().keys()


def test_an_index_of_an_index_is_refused(index, tmp_path):
    path = index(lambda weight_map: None)
    refused("it is no file of tensors", index(lambda weight_map: weight_map.update({n: path.name for n in weight_map})))


@pytest.mark.parametrize(
    "text",
    [
        *('{"error": "Repository not found"}', '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": 1}}'),
        *('{"weight_map": {"a": "b", "a": "c"}}', '{"weight_map"', "{}", '{"a": ' * 100_000),
    ],
)
def test_json_that_is_not_an_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused("not an index|says 'a' twice|JSON is damaged", tmp_path / "model.safetensors.index.json")


# ---------------------------------------------------------------------------------------------------------------------
# checkpoints


def save(kind: str, checkpoint, folder: Path) -> Path:
    torch.save(checkpoint, folder / "model.ckpt", _use_new_zipfile_serialization=kind == "zip")
    return folder / "model.ckpt"


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize("wrappers", [0, 1, 2])
def test_the_innermost_state_dict_counts_and_what_is_no_tensor_is_ignored(kind, wrappers, tmp_path):
    checkpoint = {**some_tensors(), "global_step": 3, "name": "x", "betas": [torch.ones(2)], "none": None}
    for _ in range(wrappers):
        optimizer = {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0], "lr": 0.1}]}
        checkpoint = {"epoch": 1, "state_dict": checkpoint, "optimizer_states": [optimizer], "other": torch.ones(1)}
    found = read_all(save(kind, checkpoint, tmp_path))
    assert found.keys() == some_tensors().keys()
    assert torch.equal(found["conv.weight"], some_tensors()["conv.weight"])


@pytest.mark.parametrize("kind", PICKLED)
def test_the_state_dict_of_a_module_and_its_parameters_are_read(kind, tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = module.state_dict()
    found = read_all(save(kind, state, tmp_path))
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    found = read_all(save(kind, dict(module.named_parameters()), tmp_path))
    assert torch.equal(found["0.weight"], module[0].weight) and not found["0.weight"].requires_grad


@pytest.mark.parametrize("kind", PICKLED)
def test_views_of_one_storage_are_each_their_own(kind, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    views = {
        "whole": base,
        "transposed": base.T,
        "column": base[:, 2],
        "part": base[1:3, ::2],
        "one": base[3, 5],
        "none": base[4:],
        "repeated": base[:, :1].expand(4, 3),
        "row": base[2:3],
    }
    found = read_all(save(kind, views, tmp_path))
    for name, view in views.items():
        assert torch.equal(found[name], view), name
        assert found[name].untyped_storage().nbytes() <= base.nbytes and found[name].is_contiguous()


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize("as_key", [True, False])
def test_a_checkpoint_of_a_trainer_is_read_without_the_trainer(kind, as_key, tmp_path, monkeypatch):
    """As CompVis published them: callbacks by class, with losses as numpy scalars."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    with monkeypatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        callback = type("ModelCheckpoint", (), {"__module__": names[-1], "__init__": lambda self: None})
        sys.modules[names[-1]].ModelCheckpoint = callback
        state = {"best_model_score": np.float64(0.25), "current_score": torch.tensor(0.25), "dirpath": "/tmp"}
        instance = callback()
        instance.__dict__.update(state)
        checkpoint = {
            "epoch": 5,
            "callbacks": {callback: state} if as_key else [instance],
            "lr_schedulers": [{"last_lr": np.float32(1e-4), "step": np.int64(3)}],
            "state_dict": some_tensors(),
        }
        path = save(kind, checkpoint, tmp_path)
    assert not any(name in sys.modules for name in names)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # so it takes more than torch's own list
    found = read_all(path)
    assert found.keys() == some_tensors().keys()
    assert torch.equal(found["conv.weight"], some_tensors()["conv.weight"])


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("checkpoint", "match"),
    [
        ({}, "it holds no tensors"),
        ({"epoch": 1, "model": {"weight": torch.ones(1)}}, "its keys begin with: 'epoch', 'model'"),
        ([torch.ones(1)], "does not hold a dictionary of tensors"),
        (torch.ones(1), "does not hold a dictionary of tensors"),
        ({0: torch.ones(1), "a": torch.ones(1)}, "not a string"),
        ({("a", "b"): torch.ones(1)}, "not a string"),
        ({"state_dict": {None: 1, "a": torch.ones(1)}}, "not a string"),
        ({"a": torch.ones(2).to_sparse()}, r"asks for 'torch\._utils\._rebuild_sparse_tensor'"),
        ({"a": torch.ones(1), "b": range(3)}, r"asks for '\w+\.x?range'"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, r"asks for 'torch\.ComplexFloatStorage'"),
    ],
)
def test_checkpoints_that_are_no_dictionaries_of_tensors_are_refused(kind, checkpoint, match, tmp_path):
    refused(match, save(kind, checkpoint, tmp_path))


def test_a_dictionary_that_contains_itself_ends(tmp_path):
    checkpoint = {"a": torch.ones(2)}
    checkpoint["state_dict"] = checkpoint
    assert read_all(save("zip", checkpoint, tmp_path)).keys() == {"a"}


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
    """Objects that create a file when they are unpickled, by the function that does so."""
    code = f"open({str(sentinel)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, f"touch '{sentinel}'"),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "open": Call(open, str(sentinel), "w"),
        "subprocess": Call(subprocess.check_call, ["touch", str(sentinel)]),
        "method": Call(Path.touch, sentinel),
        "state": ByState(code),
    }


@pytest.mark.parametrize("trap", traps(Path()))
@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_with_a_call_is_refused_and_not_run(kind, trap, tmp_path):
    sentinel = tmp_path / "sprung"
    path = save(kind, {"state_dict": some_tensors(), "callback": traps(sentinel)[trap]}, tmp_path)
    assert "may run code" in refused(r"asks for '[\w.]+'", path)
    assert not sentinel.exists()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # the trap leaves its file open
        pickle.loads(pickle.dumps(traps(sentinel)[trap]))
    assert sentinel.exists()  # the trap does work


def test_the_refusal_names_the_function(tmp_path):
    path = save("zip", {"a": Call(os.system, "true")}, tmp_path)
    assert f"'{os.system.__module__}.system'" in refused(r"\.safetensors", path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_refused_and_not_run(tmp_path, protocol):
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(traps(tmp_path / "sprung")["eval"], protocol))
    refused("torch.save did not write|no file of tensors", tmp_path / "model.ckpt")
    assert not (tmp_path / "sprung").exists()


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
    pickler = pickle.Pickler(stream, protocol=2)
    pickler.persistent_id = lambda obj: obj.fields + view if isinstance(obj, Identifier) else None
    pickler.dump(checkpoint)
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


@pytest.mark.parametrize("kind", PICKLED)
def test_true_claims_are_believed(kind, tmp_path):
    claims = {"a": claim(), "b": claim(shape=(2,), stride=(3,)), "c": claim(offset=1, shape=(2, 2), stride=(1, 3))}
    path = CHECKPOINTS[kind](pickled(claims, kind), tmp_path / "ckpt")
    found, by_torch = read_all(path), torch.load(path, weights_only=True)
    assert found.keys() == by_torch.keys()
    assert all(torch.equal(found[name], by_torch[name]) for name in found)
    assert found["c"].tolist() == [[1, 4], [2, 5]]


OUTSIDE, OTHERWISE, LARGER = "reaches outside its storage", "in a way that torch.save does not", "larger than the file"
NOT_THERE = "not there, or not as many|a storage has not the length|its storages are not those"


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (dict(shape=(2, 4), stride=(4, 1)), OUTSIDE),
        (dict(stride=(4, 1)), OUTSIDE),
        (dict(stride=(2**62, 2**62)), OUTSIDE),
        (dict(offset=1), OUTSIDE),
        (dict(offset=2**70), OUTSIDE),
        (dict(offset=7, shape=(0,), stride=(1,)), OUTSIDE),
        (dict(offset=-1), OTHERWISE),
        (dict(stride=(-3, 1), offset=3), OTHERWISE),
        (dict(shape=(-2, -3)), OTHERWISE),
        (dict(shape=(2.0, 3)), OTHERWISE),
        (dict(shape=("2", 3)), OTHERWISE),
        (dict(shape=6, stride=1), OTHERWISE),
        (dict(shape=(2, 3), stride=(3,)), OTHERWISE),
        (dict(numel=-6), OTHERWISE),
        (dict(numel="6"), OTHERWISE),
        (dict(key=0), OTHERWISE),
        (dict(storage="FloatStorage"), OTHERWISE),
        (dict(storage=OrderedDict), OTHERWISE),
        (dict(storage=int), "asks for '__builtin__.long'"),
        (dict(numel=5, shape=(5,), stride=(1,)), NOT_THERE),
        (dict(numel=7), NOT_THERE),
        (dict(numel=2**40, shape=(2**40,), stride=(1,)), NOT_THERE),
        (dict(numel=2**70), NOT_THERE),
        (dict(key="1"), NOT_THERE),
        (dict(key="../data/0"), NOT_THERE),
        (dict(storage=torch.DoubleStorage), NOT_THERE),
        (dict(storage=torch.HalfStorage), NOT_THERE + "|its tensors end at"),
        (dict(shape=(10**6, 10**6), stride=(0, 0)), LARGER),
        (dict(shape=(0, 2**62), stride=(1, 1)), LARGER),
        (dict(shape=(0, 2**70), stride=(1, 1)), LARGER),
        (dict(shape=(1,) * (MAX_AXES + 1), stride=(1,) * (MAX_AXES + 1)), "9 axes"),
        (dict(shape=(1,) * 50_000, stride=(1,) * 50_000), "50000 axes"),
    ],
    ids=range(32),
)
def test_a_tensor_that_is_not_where_the_pickle_says_is_refused(kind, lie, match, tmp_path):
    refused(match, CHECKPOINTS[kind](pickled({"a": claim(**lie)}, kind), tmp_path / "ckpt"))


@pytest.mark.parametrize("kind", PICKLED)
def test_a_storage_that_the_pickle_describes_in_two_ways_is_refused(kind, tmp_path):
    claims = {"a": claim(), "b": claim(numel=7, shape=(7,), stride=(1,))}
    refused("storage '0' in two ways", CHECKPOINTS[kind](pickled(claims, kind), tmp_path / "ckpt"))


@pytest.mark.parametrize("kind", PICKLED)
def test_a_storage_that_is_a_view_of_another_is_refused(kind, tmp_path):
    identifier = Identifier("storage", torch.FloatStorage, "0", "cpu", 6, ("1", 0, 6))
    tensor = Call(torch._utils._rebuild_tensor_v2, identifier, 0, (2, 3), (3, 1), False, OrderedDict())
    refused(OTHERWISE, CHECKPOINTS[kind](pickled({"a": tensor}), tmp_path / "ckpt"))


def test_a_stride_along_an_axis_of_one_may_be_any(tmp_path):
    path = zip_of(pickled({"a": claim(shape=(1, 6), stride=(2**70, 1))}), tmp_path / "ckpt")
    assert torch.equal(read_all(path)["a"], torch.arange(6.0)[None])


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"\x80\x02}(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u.", "'a' twice"),
        (b"\x80\x02}X\x01\0\0\0aK\x01sX\x01\0\0\0aK\x02s.", "'a' twice"),
        (b"", "damaged, cut short, or longer"),
        (b"\x80\x02}", "damaged, cut short, or longer"),
        (b"\x80\x02X\xff\xff\xff\xffaa.", "damaged, cut short, or longer"),
        (b"\x80\x02c\\d\n\\x\n.", "damaged, cut short, or longer"),
        (b"\x80\x02.", "nothing to work on"),
        (b"\x80\x02\x86.", "nothing to work on"),
        (b"\x80\x02K\x01K\x02\x87.", "nothing to work on"),
        (b"\x80\x02t.", "nothing to work on"),
        (b"\x80\x02h\x07.", "nothing to work on"),
        (b"\x80\x02q\x07.", "nothing to work on"),
        (b"\x80\x02]K\x01R.", "calls a function in a way"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81]K\x01a.", "does not hold a dictionary"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x05\x85R.", "calls a function in a way"),
        (b"\x80\x02ctorch\nFloatStorage\nK\x05\x85R.", "calls a function in a way"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R.", "calls a function in a way"),
        (b"\x80\x02]}b.", "gives attributes to what has none"),
        (b"\x80\x02}K\x01a.", "appends to what is not a list"),
        (b"\x80\x02]K\x01K\x02s.", "an entry of what is not a dictionary"),
        (b"\x80\x02}(K\x01u.", "an entry of what is not a dictionary"),
        (b"\x80\x02K\x05Q.", "points to a storage in a way"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "an instruction SHORT_BINUNICODE"),
        (b"(i__main__\nX\n.", "an instruction INST"),
    ],
)
def test_a_program_that_torch_save_would_not_write_is_refused(kind, program, match, tmp_path):
    if kind == "legacy":
        match += "|its storages are not those"  # the next pickle follows this one, and then the storages
    refused(match, CHECKPOINTS[kind](program, tmp_path / "ckpt"))


def test_a_pickle_has_a_limit(tmp_path):
    for kind, checkpoint in CHECKPOINTS.items():
        program = pickled({"a": claim(), "b": "x" * MAX_BYTES}, kind)
        refused(f"longer than {MAX_BYTES} bytes", checkpoint(program, tmp_path / "ckpt"))
    path = zip_of(pickled({"a": claim(), "b": "x" * (MAX_BYTES - 1000)}), tmp_path / "ckpt")
    assert read_all(path).keys() == {"a"}


# ---------------------------------------------------------------------------------------------------------------------
# containers that lie


TRUE = pickled({"a": claim()})


def test_a_checksum_that_does_not_hold_is_found_when_the_numbers_are_read(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(CONTENT, CONTENT[::-1]))
    assert open_tensors(path).shapes == {"a": (2, 3)}  # which are not read before
    refused("checksum", path)
    path.write_bytes(whole.replace(b"FloatStorage", b"LongStorage\n"))
    refused("CRC", path)


def test_a_compressed_archive_is_refused(tmp_path):
    content = bytes(2**24)  # 16 MiB in 16 kB
    program = pickled({"a": claim(numel=2**22, shape=(2**22,), stride=(1,))})
    path = zip_of(program, tmp_path / "ckpt", content, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
    refused("compressed archive", path)


def test_a_record_larger_than_the_file_is_refused(tmp_path):
    path = zip_of(pickled({"a": claim(numel=2**28, shape=(2**28,), stride=(1,))}), tmp_path / "ckpt")
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1) + 1)  # of data/0
    whole[entry + 20 : entry + 28] = 2 * (2**30).to_bytes(4, "little")
    path.write_bytes(whole)
    refused("'a' are not there", path)


def test_places_beyond_what_a_file_can_have_are_refused(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/more", b"")  # so that the list is written again
        archive.getinfo("archive/data/0").header_offset = 2**64 - 1
    refused("'a' are not there", path)
    claims = {"a": claim(numel=2**63, shape=(1,), stride=(1,)), "b": claim(key="1")}
    refused("a storage has not the length", legacy_of(pickled(claims, "legacy"), path, numel=2**63, keys=("0", "1")))


def test_the_storages_of_a_checkpoint_are_those_that_it_lists(tmp_path):
    for keys in ((), ("0", "1"), ("1",), ("0", "0"), (0,), ([],), ("0", None)):
        refused(
            "its storages are not those", legacy_of(pickled({"a": claim()}, "legacy"), tmp_path / "ckpt", keys=keys)
        )


def test_a_list_of_records_has_a_limit(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    whole = path.read_bytes()
    end = bytearray(whole[-22:])
    end[12:16] = (MAX_BYTES + 1).to_bytes(4, "little")
    path.write_bytes(whole[:-22] + bytes(MAX_BYTES) + end)
    refused("list of records is longer", path)


def test_two_records_of_one_name_are_refused(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", CONTENT[::-1])
    refused("two records of one name", path)


def test_other_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "ckpt", "w") as archive:
        archive.writestr("word/document.xml", b"<xml/>")
    refused("not one that torch.save wrote", tmp_path / "ckpt")
    with zipfile.ZipFile(tmp_path / "ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", TRUE)
        archive.writestr("archive/data/0", CONTENT)
        archive.writestr("archive/byteorder", b"big")
    refused("little-endian", tmp_path / "ckpt")


def safetensors_of(header: bytes, content: bytes, folder: Path) -> Path:
    path = folder / "lies.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + content)
    return path


def entry(name: str = "a", dtype: str = "F32", shape: str = "[6]", offsets: str = "[0,24]") -> str:
    """A tensor in a safetensors header; by default the truth about `CONTENT`."""
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry(shape="[7]")], "damaged"),
        ([entry(shape="[7]", offsets="[0,28]")], "damaged"),
        ([entry(shape="[5]", offsets="[0,20]")], "damaged"),
        ([entry(shape="[5]", offsets="[4,24]")], "damaged"),
        ([entry(shape="[-6]")], "damaged"),
        ([entry(shape="[4294967296,4294967296]")], "damaged"),
        ([entry(shape="[1099511627776]", offsets="[0,4398046511104]")], "damaged"),
        ([entry(shape="[18446744073709551616]")], "damaged"),
        ([entry(shape="6")], "damaged"),
        ([entry(), entry("b", shape="[0,4611686018427387904]", offsets="[24,24]")], "damaged|larger than the file"),
        ([entry(dtype="float")], "damaged"),
        ([entry(dtype="C64", shape="[3]")], "C64, of 'a', are not supported"),
        ([entry(shape="[1,1,1,1,1,1,1,1,6]")], "9 axes"),
        ([entry(), entry(dtype="I32")], "'a' twice"),
        ([entry(), entry("\\u0061", dtype="I32")], "'a' twice"),
        (['"__metadata__":{"a":"1","a":"2"}', entry()], "'a' twice"),
        ([entry()[:-1] + ',"dtype":"I32"}'], "twice|duplicate"),
        ([entry()[:-1]], "damaged"),
        (['"a":{' * 100_000], "damaged"),
    ],
    ids=range(19),
)
def test_a_safetensors_header_that_lies_is_refused(entries, match, tmp_path):
    header = "{" + ",".join(entries) + "}"
    refused(match, safetensors_of(header.encode(), CONTENT, tmp_path))


def test_a_true_safetensors_header_is_believed(tmp_path):
    header = "{" + entry(shape="[2,3]") + "}  "
    found = read_all(safetensors_of(header.encode(), CONTENT, tmp_path))
    assert torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))


HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n"


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "model.bin"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (HTML, "web page"),
        (b"\xef\xbb\xbf\n" + HTML, "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (POINTER, "git lfs pull"),
        (gzip.compress(POINTER), "gzip"),
        (b"Not Found", "no file of tensors, or damaged: it begins with b'Not Found'"),
        (b"PK\x03\x04", "damaged or cut short"),
        (bytes(1000), "no file of tensors"),
        (b"\xff" * 1000, "no file of tensors"),
        (b"\xff" * 7 + b"\x00{}", "no file of tensors"),
    ],
)
def test_what_a_file_is_its_first_bytes_say(content, match, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(match, tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
@pytest.mark.parametrize("left", [-1, 60, 1000])
def test_a_file_that_is_cut_short_is_refused(kind, left, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    refused("damaged|cut short", path)


@pytest.mark.parametrize("kind", ["safetensors", "legacy"])
def test_a_file_that_goes_on_after_its_end_is_refused(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    refused("damaged", path)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_the_name_of_a_file_does_not_matter(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    assert read_all(path.rename(tmp_path / "model.anything")).keys() == some_tensors().keys()


def test_a_checkpoint_may_have_any_name_when_it_is_saved(tmp_path):
    torch.save(some_tensors(), tmp_path / "modèle 模型.ckpt")  # its records are named after it
    assert read_all(tmp_path / "modèle 模型.ckpt").keys() == some_tensors().keys()


def test_what_is_not_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        refused("no such file|File name too long|null", path)
    os.mkfifo(tmp_path / "pipe")
    refused("no such file", tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused("no such file", tmp_path / "loop")


def test_a_tensor_for_which_there_is_no_memory_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    file = TensorFile(path, {"a": Stored(path, torch.float32, shape=(2**60,), stride=(1,), start=0)})
    with pytest.raises(ValueError, match="no memory for a tensor of shape"):
        next(file.read(["a"], CPU, torch.float32))
