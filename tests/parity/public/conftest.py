"""The small public models in their folders and files.

Single files are recognised by comparing them with the known models, so here the known models are the small ones.
"""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest

from ldm.presets import AUTOENCODERS, PRESETS
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.public_files import write_folder
from tests.support.public_models import KINDS, public, vq_with_attention
from weights.contract import Opened
from weights.files import tokenizers

SUFFIX = {"text2im": ".bin", "celebahq": ".bin"}  # these repositories have pickles alone


@pytest.fixture(autouse=True)
def small_models_are_known():
    models = {kind: public(kind).config for kind in KINDS}
    first_stages = {"kl": models["sd1"].autoencoder, "vq": vq_with_attention()[1]}
    with patch.dict(PRESETS, models, clear=True), patch.dict(AUTOENCODERS, first_stages, clear=True):
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Callable[[str], Path]:
    """A public folder; not to be changed."""
    suffix = lambda kind: SUFFIX.get(kind, ".safetensors")
    return cache(lambda kind: write_folder(public(kind), tmp_path_factory.mktemp(kind), suffix(kind)))


@pytest.fixture
def copied(folder, tmp_path) -> Callable[..., Path]:
    """A copy to change, and some of its files taken out."""

    def copy(kind: str, *without: str) -> Path:
        path = shutil.copytree(folder(kind), tmp_path / "copy", dirs_exist_ok=True)
        for name in without:
            (path / name).unlink()
        return path

    return copy


@pytest.fixture(scope="session")
def single(folder, tmp_path_factory) -> Callable[[str], Path]:
    """A CompVis file with a tokenizer beside it; not to be changed."""

    def write(kind: str) -> Path:
        place = tmp_path_factory.mktemp(kind)
        if public(kind).config.text:
            shutil.copytree(folder(kind) / "tokenizer", place / "tokenizer")
        return save_checkpoint(compvis(public(kind)), place / "model.safetensors")

    return cache(write)


@pytest.fixture
def nothing_is_read(monkeypatch):
    monkeypatch.setattr(Opened, "filled", lambda *_: pytest.fail("tensors are read"))
    monkeypatch.setattr(tokenizers, "fetched", lambda name: pytest.fail(f"{name} is fetched"))
