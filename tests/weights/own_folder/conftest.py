"""A tiny model in a folder, and the ways to change what is in it."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.support.model_files import save_model
from weights.contract import Opened


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory) -> Path:
    """The tiny random model as a folder; not to be written to."""
    return save_model(tiny, tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def change_tensors(folder):
    """Writes the model's file again, with its dictionary of tensors changed."""

    def change(edit) -> Path:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return change


@pytest.fixture
def change_config(folder):
    """Writes config.json again, with its JSON changed."""

    def change(edit) -> Path:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        edit(fields)
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        return folder

    return change


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Of tensors: what is wrong shows before."""
    monkeypatch.setattr(Opened, "filled", lambda *_: pytest.fail("tensors are read"))
