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
    for name in ("modèle 模型", "model.safetensors"):
        path = path.rename(tmp_path / name)
        assert read_all(path).keys() == some_tensors().keys()
    torch.save(some_tensors(), tmp_path / "modèle 模型.ckpt")  # its records are named after it
    assert read_all(tmp_path / "modèle 模型.ckpt").keys() == some_tensors().keys()


def test_a_download_cache_links_index_and_shards_to_one_folder(tmp_path):
    """From which it links the shards on to a store that repositories share."""
    blobs, snapshot, store = tmp_path / "blobs", tmp_path / "snapshots" / "0123", tmp_path / "store"
    for folder in (blobs, snapshot, store):
        folder.mkdir(parents=True)
    index = write("shards", some_tensors(), snapshot).name
    for number, file in enumerate(list(snapshot.iterdir())):
        file.rename((blobs if file.name == index else store) / str(number))
        if file.name != index:
            (blobs / str(number)).symlink_to(Path("../store") / str(number))
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
    # the same as it is told in the tests of lies, or they would be refused for a mistake in how they are written
    claims = {"a": claim(), "b": claim(shape=(2,), stride=(3,)), "c": claim(offset=1, shape=(2, 2), stride=(1, 3))}
    found = read_all(CHECKPOINTS[kind](pickled(claims, kind), tmp_path / "ckpt"))
    expected = {"a": [[0, 1, 2], [3, 4, 5]], "b": [0, 3], "c": [[1, 4], [2, 5]]}
    assert {name: tensor.tolist() for name, tensor in found.items()} == expected


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize("as_key", [True, False])
def test_a_checkpoint_of_a_trainer_is_read_without_the_trainer(kind, as_key, tmp_path, monkeypatch):
    """As CompVis published them: callbacks by class, with losses as numpy scalars."""
    module = "pytorch_lightning.callbacks.model_checkpoint"
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        callback = type("ModelCheckpoint", (), {"__module__": module})
        sys.modules[module].ModelCheckpoint = callback
        state = {"best_model_score": np.float64(0.25), "current_score": torch.tensor(0.25), "dirpath": "/tmp"}
        instance = callback()
        instance.__dict__.update(state)
        callbacks = {callback: state} if as_key else [instance]
        schedulers = [{"last_lr": np.float32(1e-4), "step": np.int64(3)}]
        checkpoint = {"epoch": 5, "callbacks": callbacks, "lr_schedulers": schedulers, "state_dict": some_tensors()}
        path = save(kind, checkpoint, tmp_path)
    assert module not in sys.modules
    for _ in range(2):  # before and after
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)  # so it takes more than torch's own list, which stays as it was
        assert_close(read_all(path), some_tensors(), **EXACTLY)


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("checkpoint", "match"),
    [
        ({}, "it holds no tensors"),
        ({"epoch": 1, "model": {"weight": torch.ones(1)}}, r"its keys: \['epoch', 'model'\]"),
        ([torch.ones(1)], "does not hold a dictionary of tensors"),
        ({"state_dict": {None: 1, "a": torch.ones(1)}}, "whose keys are names"),
        ({"a": torch.ones(2).to_sparse()}, r"asks for 'torch\._utils\._rebuild_sparse_tensor'"),
    ],
)
def test_checkpoints_without_dictionaries_are_refused(kind, checkpoint, match, tmp_path):
    refused(match, save(kind, checkpoint, tmp_path))


def test_a_dictionary_that_contains_itself_ends(tmp_path):
    checkpoint = {"a": torch.ones(2)}
    checkpoint["state_dict"] = checkpoint
    assert read_all(save("zip", checkpoint, tmp_path)).keys() == {"a"}
