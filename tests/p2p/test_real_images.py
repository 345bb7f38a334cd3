"""Edits of real images, from the command line and in one line: the same image, saved, replayed, and refused."""

import json
from typing import get_args

import numpy as np
import pytest
from PIL import Image

import p2p
from p2p.cli import groups
from p2p.inversion.inverted import Method
from p2p.photo import fitted

CAT, DOG = "a photo of a cat", "a photo of a dog"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)


def test_the_methods_are_those_that_help_lists():
    assert set(groups.INVERSIONS) == set(get_args(Method))


@pytest.mark.parametrize("method", get_args(Method))
def test_the_source_is_the_image_and_the_targets_are_edits_of_it(tiny, image, method):
    result = p2p.edit(CAT, DOG, "a photo of a bird", image=image, invert=method, steps=2, model=tiny)
    given = fitted(image, tiny.config.image_size)
    assert (result.given == given).all() and len(result.images) == 3
    assert result.image.size == (4 * tiny.config.image_size, tiny.config.image_size)  # the image beside the three
    assert len(result.maps) == 3  # made by a second run from the same inversion
    if method == "direct":
        assert (result.images[0] == tiny.decode(tiny.encode_images(given[None]))[0]).all()


def test_an_edit_of_an_image_is_replayed_with_the_image(tiny, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "cat.png")
    made = p2p.edit(CAT, DOG, image=tmp_path / "cat.png", steps=2, model=tiny, fit="pad", save=tmp_path / "call.json")
    saved = json.loads((tmp_path / "call.json").read_text())
    assert set(saved["image"]) == {"sha256", "invert", "fit"}  # no path
    again = p2p.replay(tmp_path / "call.json", image=image, model=tiny)
    assert (again.images == made.images).all() and again.call == made.call
    with pytest.raises(ValueError, match="edits an image, which is not saved with it: give image"):
        p2p.replay(tmp_path / "call.json", model=tiny)
    with pytest.raises(ValueError, match="another image than the one given"):
        p2p.replay(tmp_path / "call.json", image=255 - image, model=tiny)
    plain = p2p.edit(CAT, DOG, steps=2, model=tiny).call
    with pytest.raises(ValueError, match="edits a generated image: leave out image"):
        p2p.replay(plain, image=image, model=tiny)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"seeds": 2}, "an image has one: leave it out for image"),
        ({"sampler": "dpm++"}, "along the steps of ddim without noise: leave out sampler"),
        ({"eta": 0.5}, "along the steps of ddim without noise: leave out sampler"),
        ({"steps": 2000}, "the number of steps must lie in"),
        ({"swap": {"horse": "dog"}}, "horse"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_inversion(tiny, image, monkeypatch, keywords, message):
    monkeypatch.setattr(type(tiny), "encode_images", None)
    with pytest.raises(ValueError, match=message):
        p2p.edit(CAT, DOG, image=image, model=tiny, **{"steps": 2} | keywords)


def test_an_inversion_without_an_image_is_refused(tiny):
    with pytest.raises(ValueError, match="invert is for an image: give image"):
        p2p.edit(CAT, DOG, invert="null-text", steps=2, model=tiny)


def test_a_reconstruction_tells_the_limit_and_what_was_reached(tiny, image):
    made = p2p.invert(CAT, image, steps=2, model=tiny)
    assert (made.reconstructed == made.limit).all() and "reconstructed to" in made.summary
    assert made.image.size == (3 * 32, 32)
    loose = p2p.invert(CAT, image, steps=2, model=tiny, invert="ddim")
    assert (loose.limit == made.limit).all() and not (loose.reconstructed == loose.limit).all()


def test_compare_shows_the_image_in_place_of_the_generated_source(tiny, image):
    made = p2p.edit(CAT, DOG, image=image, steps=2, model=tiny, compare=True)
    assert made.figure is not None and (made.given == fitted(image, 32)).all()


def test_a_seed_that_would_do_nothing_is_refused(tiny, image):
    with pytest.raises(ValueError, match="seed would do nothing"):
        p2p.edit(CAT, DOG, image=image, seed=3, steps=2, model=tiny)
    with pytest.raises(ValueError, match="seed would do nothing"):
        p2p.invert(CAT, image, seed=3, steps=2, model=tiny)
    runs = [
        p2p.invert(CAT, image, invert="edit-friendly", seed=seed, steps=2, model=tiny).reconstructed for seed in (3, 4)
    ]
    assert not (runs[0] == runs[1]).all()


@pytest.mark.parametrize("prompts", [("cat.png", DOG), (CAT, "out/dog.JPG")])
def test_a_file_in_the_place_of_a_prompt_is_refused(tiny, prompts):
    with pytest.raises(ValueError, match="is a file and no prompt: give it by image, and a prompt"):
        p2p.edit(*prompts, steps=2, model=tiny)
