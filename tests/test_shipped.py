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
from p2p.call import Sampling
from p2p.edits import Swap
from p2p.inject import watching
from p2p.maps import MapHistory
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


@pytest.mark.machine
def test_an_edit_into_itself_changes_nothing_and_another_does(model):
    p2p = PromptToPrompt(
        model, CAT, (CAT, DOG), (Swap("cat", "cat", Alpha(0)), Swap("cat", "dog", Alpha(0))), SelfInjection(0)
    )
    *_, last = p2p.denoise(seed=7, steps=4)
    assert torch.equal(last.z_t[0], last.z_t[1])
    assert (last.z_t[0] - last.z_t[2]).abs().max() > 1e-3


@pytest.mark.machine
def test_the_first_a_is_one_vector_and_lights_what_no_word_names(model):
    """README's sentence: the text encoder is causal, so a word's vector holds what stands before it and no more."""
    prompts = ("a photo of a red car on the street", "a painting of a cat at night", "a photo of a red dog at night")
    car, cat, dog = model.encode_prompts(list(prompts))
    assert torch.equal(car[:2], cat[:2]) and (car[2] - cat[2]).abs().max() > 0.1  # BOS and the first "a"
    assert torch.equal(car[:6], dog[:6])  # ... a photo of a red
    history = MapHistory(model.tokenizer.encode(prompts[0]))
    visited = Sampling(1, 8).times(model.schedule)
    run = model.denoise(car[None], [1], steps=8, edit=lambda t: watching(history))
    list(history.along(run, visited))
    maps = history.mean(history.at_side(16))
    alike = lambda word, other: torch.corrcoef(torch.stack([maps[word].flatten(), maps[other].flatten()]))[0, 1]
    # "on" comes after the car and knows it; the first "a" comes before everything, as BOS does
    assert alike("on", "car") > 0.8 and alike("a#1", "car") < -0.5
    shares = {word: float(word_map.mean()) for word, word_map in maps.items()}
    assert shares["a#1"] > max(share for word, share in shares.items() if word not in ("a#1", "BOS EOS PAD"))
    assert 0.3 < shares["BOS EOS PAD"] < 0.6 and sum(shares.values()) == pytest.approx(1, abs=1e-5)  # float32


def test_readme_images_are_there_wide_and_described():
    images = re.findall(r"!\[(.*?)\]\((\S+?)\)", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert {path for _, path in images} >= {"docs/targets.png", "docs/demo.png", "docs/gallery.png"}
    for text, path in images:
        with Image.open(ROOT / path) as image:
            assert image.width >= 850, path  # what a page gives a README
        assert len(text.split()) > 8, path


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
    monkeypatch.setattr(demo, "SAMPLING", Sampling(seed=4, steps=2))
    demo.main()
    with Image.open("out/demo.png") as picture:
        assert picture.width > picture.height > 300
