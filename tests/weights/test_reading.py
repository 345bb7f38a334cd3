"""Reading tensors: to the bit what was saved, whatever the kind of file, and one by one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensor_files import CPU, KINDS, PICKLED, read_all, safetensors_of, some_tensors, write
from torch.testing import assert_close

from weights.stored import Stored, TensorFile
from weights.tensors import open_tensors

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_the_name_of_a_file_does_not_matter(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    assert read_all(path.rename(tmp_path / "model.anything")).keys() == some_tensors().keys()


def test_a_checkpoint_may_have_any_name_when_it_is_saved(tmp_path):
    torch.save(some_tensors(), tmp_path / "modèle 模型.ckpt")  # its records are named after it
    assert read_all(tmp_path / "modèle 模型.ckpt").keys() == some_tensors().keys()


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
        # measured 1.056 in half precision and 1.028 in full: 8 MiB more than what is read, 4 of them the piece that is
        # read at a time. A second copy of everything would make it 2; below 1 the measurement is wrong.
        assert 0.9 * read < peak < 1.15 * read


def test_a_tensor_for_which_there_is_no_memory_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    path.touch()
    file = TensorFile(path, {"a": Stored(path, torch.float32, shape=(2**60,), stride=(1,), start=0)})
    with pytest.raises(ValueError, match="no memory for a tensor of shape"):
        next(file.read(["a"], CPU, torch.float32))
