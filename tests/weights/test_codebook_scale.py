"""Latents of a codebook have no scale, though diffusers writes one down when it saves such a model again."""

import json
import logging

import pytest
import torch
from torch.testing import assert_close

from tests.support.public_files import write_folder
from tests.support.public_models import public
from weights.load import load


@pytest.fixture
def resaved(tmp_path):
    """The public folder of a model with a codebook, that codebook's part saved again."""
    write_folder(public("celebahq"), tmp_path, ".bin")
    public("celebahq").parts["autoencoder"].save_pretrained(tmp_path / "vqvae")
    return tmp_path


@torch.no_grad()
def test_a_model_that_diffusers_saved_again_decodes_as_before(resaved, caplog):
    assert json.loads((resaved / "vqvae" / "config.json").read_text())["scaling_factor"] == 0.18215
    with caplog.at_level(logging.INFO, "weights"):
        ours = load(resaved).autoencoder
    assert (
        "config.json: with a codebook, a scaling_factor of 0.18215 is the library's default; 1 is taken" in caplog.text
    )
    assert ours.config == public("celebahq").config.autoencoder and ours.config.scale == 1
    z = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = public("celebahq").parts["autoencoder"]
    # float32 and outputs of order 1 behind some thirty layers; divided by 0.18215, z differs by its own size
    assert_close(ours.decode(z), theirs.decode(z).sample, rtol=0, atol=1e-4)


def test_of_a_file_that_is_silent_nothing_is_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "weights"):
        load(write_folder(public("celebahq"), tmp_path, ".bin"))
    assert "scaling_factor" not in caplog.text
