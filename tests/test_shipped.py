"""The model that ships, and the README's examples on it. What its pictures look like is for people to judge."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.config import PRESETS, ModelConfig
from ldm.pictures import to_tensor
from ldm.quantize import usage
from p2p import demo
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.edits import Swap
from weights.load import SHIPPED, load, load_autoencoder
from weights.stickers.train_autoencoder import mean_psnr

ROOT = Path(__file__).parents[1]
CAT, DOG = "a photo of a cat on the beach", "a photo of a dog on the beach"


@pytest.fixture(scope="module")
def model():
    return load("stickers")


def test_it_is_small():
    files = [file for kind in ("*.json", "*.safetensors") for file in SHIPPED["stickers"].glob(kind)]
    assert {"config.json", "tokenizer.json", "words.json", "model.safetensors", "vq.safetensors"} == {
        file.name for file in files
    }
    assert sum(file.stat().st_size for file in files) < 40e6


def test_its_config_is_the_preset_with_a_measured_scale(model):
    preset = PRESETS["stickers"]
    autoencoder = dataclasses.replace(preset.autoencoder, scale=model.config.autoencoder.scale)
    assert model.config == dataclasses.replace(preset, autoencoder=autoencoder)
    assert ModelConfig.from_json(model.config.to_json()) == model.config


def test_its_latents_have_about_unit_variance(model):
    """Of pictures it makes itself; what the scale is for."""
    pictures = model.generate([CAT, DOG], [1, 2], steps=5)
    assert 0.3 < model.encode_pictures(pictures).std() < 3


def test_either_bottleneck_brings_pictures_back(model):
    """[B2, B3] Of pictures that the model makes itself; on scenes as they are rendered see the model card."""
    pictures = model.generate([CAT, DOG], [1, 2], steps=5)
    codebook = load_autoencoder("stickers-vq")
    for autoencoder in (model.autoencoder, codebook):
        assert mean_psnr(autoencoder, pictures) > 25  # a mean colour for each picture gives 10 to 15
    assert usage(codebook.quantize.indices(codebook.latent(to_tensor(pictures))), 1024) > 0.1


def test_an_edit_into_itself_changes_nothing_and_another_does(model):
    p2p = PromptToPrompt(
        model, CAT, (CAT, DOG), (Swap("cat", "cat", Alpha(0)), Swap("cat", "dog", Alpha(0))), SelfInjection(0)
    )
    *_, last = p2p.denoise(seed=7, steps=4)
    assert torch.equal(last.z_t[0], last.z_t[1])
    assert (last.z_t[0] - last.z_t[2]).abs().max() > 1e-3


def test_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    with Image.open("dog.png") as picture:
        assert np.asarray(picture).shape == (128, 128, 3)


def test_demo_draws_its_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "STEPS", 2)
    demo.main()
    with Image.open("out/demo.png") as picture:
        assert picture.width > picture.height > 300
