"""The model that ships, and the examples of README and docs on it. What its images look like is for people to judge."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ldm.attention import Site, attention_map
from ldm.config import ModelConfig
from ldm.helpers.images import to_tensor
from ldm.presets import PRESETS
from ldm.quantize import usage
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.cli import demo
from p2p.edits import Swap
from p2p.inject import watching
from p2p.maps import MapHistory
from tests.support.normal import normal
from weights.load import SHIPPED, load, load_autoencoder
from weights.training.train_autoencoder import mean_psnr

ROOT = Path(__file__).parents[1]
CAT, DOG = "a photo of a cat on the beach", "a photo of a dog on the beach"


@pytest.fixture(scope="module")
def model():
    return load("stickers")


def test_it_is_small():
    files = [file for kind in ("*.json", "*.safetensors") for file in SHIPPED["stickers"].glob(kind)]
    weights = {"model.safetensors", "vq.safetensors", "classes.safetensors", "clip.safetensors"}
    assert {"config.json", "tokenizer.json", "words.json", *weights} == {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 40e6


def test_its_config_is_the_preset_with_a_measured_scale(model):
    preset = PRESETS["stickers"]
    autoencoder = dataclasses.replace(preset.autoencoder, scale=model.config.autoencoder.scale)
    assert model.config == dataclasses.replace(preset, autoencoder=autoencoder)
    assert ModelConfig.from_json(model.config.to_json()) == model.config


def test_its_latents_have_about_unit_variance(model):
    """Of pictures it makes itself; what the scale is for."""
    pictures = model.generate([CAT, DOG], [1, 2], steps=5)
    assert 0.3 < model.encode_images(pictures).std() < 3


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
    """docs/editing.md: the text encoder is causal, so a word's vector depends on the words before it and no others."""
    prompts = ("a photo of a red car on the street", "a painting of a cat at night", "a photo of a red dog at night")
    car, cat, dog = model.encode_prompts(list(prompts))
    assert torch.equal(car[:2], cat[:2]) and (car[2] - cat[2]).abs().max() > 0.1  # BOS and the first "a"
    assert torch.equal(car[:6], dog[:6])  # ... a photo of a red
    history = MapHistory(model.tokenizer.encode(prompts[0]))
    visited = Sampling(1, 8).times(model.schedule)
    run = model.denoise(car[None], [1], steps=8, attn_fn=lambda t: watching(history))
    list(history.along(run, visited))
    maps = history.mean(history.at_side(16))
    alike = lambda word, other: torch.corrcoef(torch.stack([maps[word].flatten(), maps[other].flatten()]))[0, 1]
    # "on" comes after the car and knows it; the first "a" comes before everything, as BOS does
    assert alike("on", "car") > 0.8 and alike("a#1", "car") < -0.5
    shares = {word: float(word_map.mean()) for word, word_map in maps.items()}
    assert shares["a#1"] > max(share for word, share in shares.items() if word not in ("a#1", "BOS EOS PAD"))
    assert 0.3 < shares["BOS EOS PAD"] < 0.6 and sum(shares.values()) == pytest.approx(1, abs=1e-5)  # float32


PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def test_images_of_the_pages_are_there_wide_and_described():
    image = re.compile(r"!\[(.*?)\]\((\S+?)\)", re.DOTALL)
    found = [(page, *match) for page in PAGES for match in image.findall(page.read_text(encoding="utf-8"))]
    paths = {(page.parent / path).resolve() for page, _, path in found}
    assert paths >= {ROOT / "docs" / name for name in ("targets.png", "demo.png", "gallery.png", "plane.png")}
    for path in paths:
        with Image.open(path) as image:
            assert image.width >= 850, path  # what a page gives it
    for page, text, path in found:
        assert len(text.split()) > 8, (page, path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_the_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert link.startswith(("https://", "http://localhost")) or (page.parent / link).exists(), link


def test_trees_name_files_that_exist_and_all_of_the_ground_floor():
    named = set()
    for page in (ROOT / "README.md", ROOT / "docs/files.md"):
        for tree in re.findall(r"```\n(\w+/.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            folders: list[str] = []
            for indent, name in re.findall(r"^( *)(\S+)(?:  |$)", tree, re.MULTILINE):
                folders[len(indent) // 2 :] = [name]
                assert (ROOT / "".join(folders)).exists(), "".join(folders)
                named.add("".join(folders))
    ground = {str(path.relative_to(ROOT)) for package in ("ldm", "p2p") for path in (ROOT / package).glob("[!_]*.py")}
    assert ground <= named


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("name, count", [("README.md", 1), ("docs/editing.md", 3)])
def test_examples_of_the_pages_run(name, count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(name)
    assert len(blocks) == count
    names: dict = {}
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert np.asarray(image).shape == (128, 128, 3)


def test_the_docs_uniform_attention_is_that_of_equal_scores():
    """In the one layer that it names, and nothing elsewhere. Float64 sums of 5 terms."""
    block = next(block for block in python_blocks("docs/editing.md") if "def uniform" in block)
    names: dict = {}
    exec(compile(block.split("context =")[0], "docs/editing.md", "exec"), names)
    Q, K, V = normal(2, 3, 9, 4), normal(2, 3, 5, 4, seed=1), normal(2, 3, 5, 6, seed=2)
    for kind, layer, scale in (("cross", 7, 0), ("cross", 6, 1), ("self", 7, 1)):
        Y = names["uniform"](Site(kind, "up", layer, 3, 3), Q, K, V)
        assert_close(Y, attention_map(scale * Q, K) @ V, rtol=1e-12, atol=1e-12)


def test_demo_draws_its_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "SAMPLING", Sampling(seed=4, steps=2))
    demo.main()
    with Image.open("out/demo.png") as picture:
        assert picture.width > picture.height > 300
