"""A model by its name, from the hub to parameters and images, in Python and on the command line."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.presets import PRESETS
from p2p.__main__ import main
from p2p.call import Call
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.public_files import write_folder
from tests.support.public_models import our_tensors, public
from tests.support.server import Repository
from tests.support.toy import offline
from weights.checkpoints import CHECKPOINTS
from weights.load import load, load_autoencoder

EDIT = ("edit", "a photo of a cat", "a photo of a dog", "--model", "sd15", "--steps", "2", "-o", "e.png")


@pytest.fixture
def sd15(hub, monkeypatch, tmp_path):
    """The hub has a small model under every name of the table that is asked for here, and the cache is empty."""
    folder = write_folder(public("sd1"), tmp_path / "published")
    whole = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    of = lambda part: {name.removeprefix(part): whole[name] for name in whole if name.startswith(part)}
    for name, files in {"sd15": whole, "sd-vae-ft-mse": of("vae/"), "clip-tokenizer": of("tokenizer/")}.items():
        repository = Repository(files)
        entry = replace(CHECKPOINTS[name], hub=f"maker/{name}", revision=repository.commit, mirrors=(), sha256={})
        monkeypatch.setitem(CHECKPOINTS, name, entry)
        hub.repositories[entry.hub] = repository
    return hub


@pytest.fixture
def p2p(monkeypatch, tmp_path) -> Callable[..., None]:
    """Call the command line in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*args: str) -> None:
        monkeypatch.setattr(sys, "argv", ["p2p", *args])
        main()

    return call


def assert_is_the_published_model(model) -> None:
    for name, tensor in public("sd1").tensors().items():
        part, _, rest = name.partition(".")
        assert torch.equal(getattr(model, part).state_dict()[rest], tensor), name


def test_a_model_is_downloaded_on_first_use_alone(sd15, p2p, capfd):
    model = load("sd15")
    assert_is_the_published_model(model)
    assert model.config == replace(public("sd1").config, name="sd15")
    assert {r.what for r in sd15.requests} == {"api", *CHECKPOINTS["sd15"].files}
    printed = capfd.readouterr().err
    assert re.search("licence creativeml-openrail-m: .*\n.* MB from .*/maker/sd15 at", printed)
    assert printed.endswith("the content of all 12 files is verified\n")
    sd15.requests.clear()
    p2p("download", "sd15")
    printed = capfd.readouterr()
    assert printed.err == "" and sd15.requests == []
    assert_is_the_published_model(load(Path(printed.out.rstrip("\n"))))
    found = load_autoencoder("sd-vae-ft-mse").state_dict()
    for name, tensor in our_tensors(public("sd1").parts["autoencoder"]).items():
        assert torch.equal(found[name], tensor), name


def test_the_tokenizer_that_a_single_file_lacks_is_downloaded(sd15, tmp_path):
    with patch.dict(PRESETS, {"sd1": public("sd1").config}):
        model = load(save_checkpoint(compvis(public("sd1")), tmp_path / "model.safetensors"))
    assert_is_the_published_model(model)
    assert {r.what for r in sd15.requests} == {"api", *CHECKPOINTS["clip-tokenizer"].files}
    assert model.tokenizer.batch(["a cat"]).tolist() == load("sd15").tokenizer.batch(["a cat"]).tolist()


def test_an_edit_downloads_its_model_and_then_works_offline(sd15, p2p):
    p2p(*EDIT)
    with Image.open("e.png") as image:
        row = np.asarray(image)
        assert Call.from_json(image.info["p2p"]).model == "sd15"
    assert row.shape == (32, 64, 3) and (row[:, :32] != row[:, 32:]).any()
    with offline():
        p2p("replay", "e.png", "-o", "again.png")
    with Image.open("again.png") as image:
        assert (np.asarray(image) == row).all()


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=str)
def test_without_a_network_an_edit_is_one_error(settings, tmp_path):
    """As a stranger has it: the real table, in a process of its own, which reads the variables."""
    unset = {variable: value for variable, value in os.environ.items() if not variable.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-m", "p2p", *EDIT[:-1], str(tmp_path / "e.png")],
        env=unset | settings | {"HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"p2p: error: sd15 is not complete in {tmp_path}") and done.stderr.count("\n") == 1
    assert "run `p2p download sd15` where there is a network" in done.stderr
    assert not (tmp_path / "e.png").exists()
