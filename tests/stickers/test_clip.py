"""The small CLIP: its training on pairs of images and captions, and what the included one tells apart."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.testing import assert_close

from ldm.config import CLIPConfig, VisionConfig
from ldm.presets import CLIP_PRESETS
from ldm.zoo.clip import new_clip
from weights.load import SHIPPED_CLIPS, load_clip
from weights.training import train_clip
from weights.training.art import ARCHIVE, cache_dir, load_art
from weights.training.data import HELD_OUT_SEEDS
from weights.training.render import render
from weights.training.train_clip import ClipLoss, classify
from weights.training.trainer import Recipe, Trainer
from weights.training.world import COLOURS, NOUNS, Scene, Thing, sample_scene

FILE = SHIPPED_CLIPS["stickers-clip"]
TINY = CLIPConfig(
    text=replace(CLIP_PRESETS["stickers-clip"].text, width=32, layers=1, heads=2, hidden=64),
    vision=VisionConfig(image_size=16, patch=8, width=32, layers=1, heads=2, hidden=64),
    embedding=16,
)


def tinted() -> tuple[np.ndarray, list[str]]:
    """Four noisy images of each colour, (28, 16, 16, 3), and their captions."""
    rng = np.random.default_rng(0)
    shades = rng.integers(40, 215, (len(COLOURS), 1, 1, 3)).repeat(4, 0)
    images = shades + rng.integers(-20, 20, (len(shades), 16, 16, 3))
    return images.astype(np.uint8), [f"a {colour} ball" for colour in COLOURS for _ in range(4)]


def test_a_batch_has_no_caption_twice(tokenizer):
    """Of two images with one caption each would be wrong for the other's text, which is its own."""
    loss, seen = ClipLoss(tokenizer, *tinted(), batch=12), set()
    for seed in range(10):
        pick = loss.pick(torch.Generator().manual_seed(seed))
        captions = [loss.captions[i] for i in pick]
        assert len(set(captions)) == len(captions) >= 5  # of 12 draws among 7 captions
        seen |= set(pick)
    assert len(seen) > 20  # of 28: it is not always the same image of a caption


def test_training_lowers_the_loss_and_moves_both_towers(tokenizer, tmp_path):
    torch.manual_seed(0)
    model = new_clip(TINY)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    recipe = Recipe(steps=40, batch=28, lr=5e-3, warmup=5)
    trainer = Trainer(model, ClipLoss(tokenizer, *tinted(), recipe.batch), recipe, tmp_path)
    losses = [trainer.one_step() for _ in range(recipe.steps)]
    # ln 7 = 1.9 where nothing is told apart
    assert losses[0] > 1.5 and max(losses[-5:]) < 0.5
    assert [name for name, p in model.named_parameters() if p.equal(before[name])] == []


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in the place of the package's, and scenes of one step."""
    shutil.copy(FILE.with_name("tokenizer.json"), tmp_path)
    scenes = [Scene((Thing("cat", colour),)) for colour in COLOURS]
    monkeypatch.setattr(train_clip, "FILE", tmp_path / "clip.safetensors")
    monkeypatch.setattr(train_clip, "training_scenes", lambda number: scenes)
    monkeypatch.setattr(train_clip, "render_all", lambda scenes, name: tinted()[0][::4])
    monkeypatch.setattr(train_clip, "report", lambda: None)
    return tmp_path


def test_what_a_run_writes_is_its_average_and_is_loaded(package):
    recipe = Recipe(steps=2, batch=4, lr=1e-3)
    train_clip.train_clip(package / "runs", recipe)
    state = torch.load(package / "runs" / "clip" / "state.pt", weights_only=True)
    clip, tokenizer = load_clip(package / "clip.safetensors", device="cpu")
    assert_close(dict(clip.state_dict()), {name: tensor.half().float() for name, tensor in state["averaged"].items()})
    assert tokenizer.batch(["a cat"]).shape == (1, 32)


def test_another_file_is_refused_with_what_does_not_fit():
    with pytest.raises(ValueError, match=r"vq.safetensors do not fit stickers-clip: \d+ missing"):
        load_clip(FILE.with_name("vq.safetensors"))


# ---------------------------------------------------------------------------------------------------------------------
# the included one


def test_it_is_small_and_in_half_precision():
    assert FILE.stat().st_size <= 3_000_000
    with safe_open(FILE, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}


def test_it_names_what_new_scenes_show():
    """Nouns, in their own colours, and colours in photos that neither the training nor the model card's numbers saw."""
    if not (cache_dir() / ARCHIVE).exists():
        pytest.skip("the stickers' art has not been downloaded")
    scenes, art = map(sample_scene, range(HELD_OUT_SEEDS + 10_000, HELD_OUT_SEEDS + 10_200)), load_art()
    scenes = [scene for scene in scenes if len(scene.things) == 1 and scene.style == "photo"]
    things, images = [scene.things[0] for scene in scenes], np.stack([render(scene, art) for scene in scenes])
    clip, tokenizer = load_clip("stickers-clip", device="cpu")
    nouns = classify(clip, tokenizer, images, [Thing(noun) for noun in NOUNS])
    right = [found.noun == thing.noun for found, thing in zip(nouns, things) if not thing.colour]
    # 79% by the model card, of some 50 images: known to 0.06. By chance 3%
    assert len(right) > 40 and np.mean(right) > 0.6
    right = [
        classify(clip, tokenizer, image[None], [Thing(thing.noun, colour) for colour in COLOURS])[0].colour
        == thing.colour
        for image, thing in zip(images, things)
        if thing.colour
    ]
    assert len(right) > 30 and np.mean(right) > 0.9  # by chance 14%
