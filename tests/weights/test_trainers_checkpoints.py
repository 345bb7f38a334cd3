"""What torch.save writes, a trainer's checkpoints too: the tensors are read and nothing else."""

import pickle
import sys
import types

import numpy as np
import pytest
import torch
from tensor_files import PICKLED, read_all, refused, save, some_tensors
from torch import nn


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
