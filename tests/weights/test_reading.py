"""Whole files of tensors, of any kind: to the bit what was saved, and of a trainer's checkpoint nothing else."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.support.tensor_files import (
    CHECKPOINTS,
    KINDS,
    PICKLED,
    claim,
    pickled,
    read_all,
    refused,
    save,
    some_tensors,
    write,
)
from weights.files.tensors import open_tensors

EXACTLY = dict(rtol=0, atol=0)  # nothing is computed


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_what_was_saved(kind, tmp_path):
    file = open_tensors(write(kind, some_tensors(), tmp_path))
    assert_close(file.tensors, some_tensors(), **EXACTLY)
    assert file.shapes == {name: tuple(tensor.shape) for name, tensor in some_tensors().items()}


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_the_name_of_a_file_does_not_matter(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    assert read_all(path.rename(tmp_path / "modèle 模型")).keys() == some_tensors().keys()


def test_a_checkpoint_may_have_any_name_when_it_is_saved(tmp_path):
    torch.save(some_tensors(), tmp_path / "modèle 模型.ckpt")  # its records are named after it
    assert read_all(tmp_path / "modèle 模型.ckpt").keys() == some_tensors().keys()


def test_a_download_cache_links_index_and_shards_to_one_folder(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir(), snapshot.mkdir(parents=True)
    index = write("shards", some_tensors(), snapshot).name
    for number, file in enumerate(list(snapshot.iterdir())):
        file.rename(blobs / str(number))
        file.symlink_to(Path("../../blobs") / str(number))
    assert read_all(snapshot / index).keys() == some_tensors().keys()


# ---------------------------------------------------------------------------------------------------------------------
# what torch.save writes


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize("wrappers", [0, 1, 2])
def test_the_innermost_state_dict_counts_and_nothing_else(kind, wrappers, tmp_path):
    checkpoint = {**some_tensors(), "global_step": 3, "name": "x", "betas": [torch.ones(2)], "none": None}
    for _ in range(wrappers):
        optimizer = {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0], "lr": 0.1}]}
        checkpoint = {"epoch": 1, "state_dict": checkpoint, "optimizer_states": [optimizer], "other": torch.ones(1)}
    assert_close(read_all(save(kind, checkpoint, tmp_path)), some_tensors(), **EXACTLY)


@pytest.mark.parametrize("kind", PICKLED)
def test_the_state_dict_of_a_module_and_its_parameters_are_read(kind, tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    assert_close(read_all(save(kind, module.state_dict(), tmp_path)), dict(module.state_dict()), **EXACTLY)
    found = read_all(save(kind, dict(module.named_parameters()), tmp_path))
    assert torch.equal(found["0.weight"], module[0].weight) and not found["0.weight"].requires_grad


@pytest.mark.parametrize("kind", PICKLED)
def test_views_of_one_storage_are_each_read(kind, tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    views = {"whole": base, "turned": base.T, "part": base[1:3, ::2], "one": base[3, 5], "none": base[4:]}
    views |= {"repeated": base[:, :1].expand(4, 3)}
    assert_close(read_all(save(kind, views, tmp_path)), views, check_stride=False, **EXACTLY)


@pytest.mark.parametrize("kind", PICKLED)
def test_true_claims_are_believed(kind, tmp_path):
    """Or all lies would be refused for a mistake in how they are written."""
    claims = {"a": claim(), "b": claim(shape=(2,), stride=(3,)), "c": claim(offset=1, shape=(2, 2), stride=(1, 3))}
    found = read_all(CHECKPOINTS[kind](pickled(claims, kind), tmp_path / "ckpt"))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "a": [[0, 1, 2], [3, 4, 5]],
        "b": [0, 3],
        "c": [[1, 4], [2, 5]],
    }


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
    assert_close(read_all(path), some_tensors(), **EXACTLY)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # which is as it was


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("checkpoint", "match"),
    [
        ({}, "it holds no tensors"),
        ({"epoch": 1, "model": {"weight": torch.ones(1)}}, r"its keys: \['epoch', 'model'\]"),
        ([torch.ones(1)], "does not hold a dictionary of tensors"),
        (torch.ones(1), "does not hold a dictionary of tensors"),
        ({0: torch.ones(1), "a": torch.ones(1)}, "whose keys are names"),
        ({"state_dict": {None: 1, "a": torch.ones(1)}}, "whose keys are names"),
        ({"a": torch.ones(2).to_sparse()}, r"asks for 'torch\._utils\._rebuild_sparse_tensor'"),
        ({"a": torch.ones(1, dtype=torch.complex64)}, r"asks for 'torch\.ComplexFloatStorage'"),
    ],
)
def test_checkpoints_without_dictionaries_are_refused(kind, checkpoint, match, tmp_path):
    refused(match, save(kind, checkpoint, tmp_path))


def test_a_dictionary_that_contains_itself_ends(tmp_path):
    checkpoint = {"a": torch.ones(2)}
    checkpoint["state_dict"] = checkpoint
    assert read_all(save("zip", checkpoint, tmp_path)).keys() == {"a"}
