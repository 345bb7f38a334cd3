"""Pickles are not trusted: none is run, and what it says of its tensors must be so."""

import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from tensor_files import (
    CHECKPOINTS,
    PICKLED,
    Call,
    Identifier,
    claim,
    pickled,
    read_all,
    refused,
    save,
    some_tensors,
    traps,
    zip_of,
)

from weights.pickled import MAX_BYTES
from weights.tensors import MAX_AXES

# ---------------------------------------------------------------------------------------------------------------------
# pickles that run code


@pytest.mark.parametrize("trap", traps(Path()))
@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_with_a_call_is_refused_and_not_run(kind, trap, tmp_path):
    sentinel = tmp_path / "sprung"
    path = save(kind, {"state_dict": some_tensors(), "callback": traps(sentinel)[trap]}, tmp_path)
    assert "may run code" in refused(r"asks for '[\w.]+'", path)
    assert not sentinel.exists()


@pytest.mark.parametrize("trap", traps(Path()))
def test_the_traps_do_work(trap, tmp_path):
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # a trap leaves its file open
        pickle.loads(pickle.dumps(traps(tmp_path / "sprung")[trap]))
    assert (tmp_path / "sprung").exists()


def test_the_refusal_names_the_function(tmp_path):
    path = save("zip", {"a": Call(os.system, "true")}, tmp_path)
    assert f"'{os.system.__module__}.system'" in refused(r"\.safetensors", path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_plain_pickle_is_refused_and_not_run(tmp_path, protocol):
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(traps(tmp_path / "sprung")["eval"], protocol))
    refused("torch.save did not write|no file of tensors", tmp_path / "model.ckpt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_all_protocols_that_torch_save_can_be_asked_for_are_read(protocol, new, tmp_path):
    tensors = some_tensors() | {"p": torch.nn.Parameter(torch.ones(2)), "a" * 300: torch.zeros(1), "µ": torch.zeros(2)}
    path = tmp_path / "ckpt"
    torch.save(
        {"state_dict": tensors, "epoch": 2**40, "more": [1.5, None, "x" * 300]},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=new,
    )
    found, by_torch = read_all(path), torch.load(path, weights_only=False)["state_dict"]
    assert found.keys() == by_torch.keys()
    assert all(torch.equal(found[name], by_torch[name]) for name in found)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_in_all_protocols(protocol, tmp_path):
    torch.save(
        {"a": torch.zeros(2), "b": traps(tmp_path / "sprung")["eval"]}, tmp_path / "ckpt", pickle_protocol=protocol
    )
    assert "may run code" in refused(r"asks for '[\w.]+'", tmp_path / "ckpt")
    assert not (tmp_path / "sprung").exists()


# ---------------------------------------------------------------------------------------------------------------------
# pickles that lie about their tensors


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


def test_a_stride_of_a_tensor_without_elements_may_be_any(tmp_path):
    path = zip_of(pickled({"a": claim(shape=(0, 7), stride=(1, 2**63))}), tmp_path / "ckpt")
    assert read_all(path)["a"].shape == (0, 7)


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
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for 'os.system'"),
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
