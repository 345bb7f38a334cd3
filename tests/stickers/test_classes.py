"""The stickers with a table of classes: what its training changes, and what the included one does."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from p2p import edit
from weights.load import SHIPPED, load, load_vocabulary
from weights.training import train_classes
from weights.training.trainer import Recipe
from weights.training.world import NOUNS, Scene, Thing


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Two steps on random latents of cats and dogs, for the included UNet, written to a folder of the test's."""
    shipped, scenes = load("stickers"), [Scene((Thing(noun),)) for noun in ("cat", "dog") * 4]
    latents = torch.randn(len(scenes), *shipped.latent_shape, generator=torch.Generator().manual_seed(0)).half()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "model.safetensors").write_bytes(b"the UNet")
    monkeypatch.setattr(train_classes, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(train_classes, "load", lambda name, device: shipped)
    monkeypatch.setattr(train_classes, "training_scenes", lambda number: scenes)
    monkeypatch.setattr(train_classes, "render_all", lambda scenes, name: None)
    monkeypatch.setattr(train_classes, "encode_all", lambda autoencoder, pictures: latents)
    monkeypatch.setattr(train_classes, "misread", lambda model: {"the judge": [("cat", 0, "dog")]})

    def run() -> torch.Tensor:
        recipe = Recipe(steps=2, batch=8, lr=0.02, warmup=1, ema=0.0, weight_decay=0.0)
        train_classes.train_classes(tmp_path / "runs", recipe)
        return load_file(tmp_path / "package" / "classes.safetensors")["embedding.weight"]

    return shipped, run


def test_training_changes_the_rows_of_its_classes_alone(train, capsys):
    shipped, run = train
    before = {name: tensor.clone() for name, tensor in shipped.unet.state_dict().items()}
    rows, empty = run().unflatten(0, (35, 8)), shipped.encode_prompts([""])[0, :8].half()
    changed = [number for number in range(35) if not rows[number].equal(empty)]
    assert set(changed) <= {list(NOUNS).index("cat"), list(NOUNS).index("dog"), 34} and len(changed) >= 2
    assert all(tensor.equal(before[name]) for name, tensor in shipped.unet.state_dict().items())
    assert "67 of 68 images show their class to the judge; wrong=[('cat', 0, 'dog')]" in capsys.readouterr().out


def test_another_unet_begins_another_run(train, tmp_path):
    _, run = train
    run()
    (tmp_path / "package" / "model.safetensors").write_bytes(b"another UNet")
    run()
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    "scene, plain",
    [
        (Scene((Thing("cat", size="big"),), weather="fog"), True),
        (Scene((Thing("cat", "red"),)), False),
        (Scene((Thing("cat", pattern="striped"),)), False),
        (Scene((Thing("cat"),), style="painting"), False),
        (Scene((Thing("cat"), Thing("dog")), relation="above"), False),
    ],
)
def test_scenes_that_show_a_class(scene, plain):
    assert train_classes.is_plain(scene) is plain


# ---------------------------------------------------------------------------------------------------------------------
# the included table


@pytest.fixture(scope="module")
def classes():
    return load("stickers-classes")


def test_the_included_table_serves_the_included_unet(classes):
    assert (SHIPPED["stickers-classes"] / "classes.safetensors").stat().st_size <= 100_000
    plain = load("stickers").unet.state_dict()
    assert all(tensor.equal(plain[name]) for name, tensor in classes.unet.state_dict().items())
    assert classes.tokenizer.names == tuple(NOUNS) == load_vocabulary("stickers-classes").kinds["classes"]


def test_a_class_predicts_its_own_image_better_than_another(classes):
    """What the table is trained for, on images of the prompts: the noise in them, told the class and told another."""
    nouns, shipped = ["cat", "pizza", "tree", "car"], load("stickers")
    images = shipped.generate([f"a photo of a {noun} on the grass" for noun in nouns], [1, 2, 3, 4], steps=10)
    z_0, t = shipped.encode_images(images), 600
    eps = torch.randn(z_0.shape, generator=torch.Generator().manual_seed(0))
    z_t = classes.schedule.add_noise(z_0, eps, t)
    error = lambda names: (classes.predict(z_t, t, classes.encode_prompts(names)).eps - eps).square().mean((1, 2, 3))
    own, other, none = error(nouns), error(nouns[1:] + nouns[:1]), error([""] * 4)
    assert (own < other).all() and own.mean() < none.mean()


def test_a_class_by_name_and_by_number_is_one_image(classes):
    cat, first, dog = classes.generate(["cat", "0", "dog"], [7, 7, 7], steps=2)
    assert (cat == first).all() and (cat != dog).any()


def test_an_edit_changes_the_class(classes):
    """Injected always, the tokens of dog get the attention of cat's; never, they get their own."""
    run = lambda tau: edit("cat", "dog", tau=tau, model=classes, steps=3).images
    kept, free = run(0.0), run("never")
    assert np.array_equal(kept[0], free[0]) and not np.array_equal(kept[1], free[1])
    dog = classes.generate(["dog"], [0], steps=3)[0]
    assert_close(
        torch.from_numpy(kept[0]), torch.from_numpy(classes.generate(["cat"], [0], steps=3)[0]), rtol=0, atol=1
    )
    assert not np.array_equal(dog, kept[1])
