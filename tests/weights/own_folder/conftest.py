"""A tiny model in a folder, and the ways to change what is in it."""

import json
import shutil
from collections.abc import Callable
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
def change(folder) -> Callable[..., Path]:
    """Writes the copy's tensors, or one of its JSON files, again as `edit` changes them."""

    def change(edit: Callable[[dict], object], name: str = "model.safetensors") -> Path:
        path = folder / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else load_file(path)
        edit(content)
        save_file(content, path) if path.suffix != ".json" else path.write_text(json.dumps(content), encoding="utf-8")
        return folder

    return change


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Of tensors: what is wrong shows before."""
    monkeypatch.setattr(Opened, "filled", lambda *_: pytest.fail("tensors are read"))
