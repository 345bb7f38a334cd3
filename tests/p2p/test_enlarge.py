"""`p2p restore --task super` by a model of super-resolution: any size that fits, and what has no effect is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import p2p
from p2p.__main__ import main
from tests.support.public_files import write_folder
from tests.support.public_models import public
from weights.load import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The public model's folder, small and with random numbers; it enlarges 4 times and halves the image twice."""
    return write_folder(public("super-resolution"), tmp_path_factory.mktemp("model"))


def small(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def command(folder, tmp_path, monkeypatch):
    """Call the command line in an empty folder, with the model as ./model."""
    (tmp_path / "model").symlink_to(folder)
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> None:
        monkeypatch.setattr(sys, "argv", ["p2p", *args, "--model", "model", "-o", "out.png"])
        main()

    return call


def test_an_image_that_is_not_square_by_command_and_function(command, folder, capsys):
    Image.fromarray(small(12, 8)).save("small.png")
    command("restore", "--task", "super", "--image", "small.png", "--steps", "2", "--seed", "3")
    assert capsys.readouterr().out == "out.png\n"
    result = p2p.restore("super", small(12, 8), model=load(folder), steps=2, seed=3, factor=4)
    assert len(result.states) == 2  # no time travel
    assert result.restored.size == result.decoded.size == result.degraded.size == (48, 32)
    assert np.array_equal(result.restored, result.decoded)
    assert np.array_equal(np.asarray(result.degraded)[::4, ::4], small(12, 8))
    with Image.open("out.png") as written:
        assert written.tobytes() == result.image.tobytes()
        said = json.loads(written.info["p2p"])
    assert (said["task"], said["model"], said["seed"]) == ("super", "model", 3)


def test_a_small_image_that_is_not_looked_at(folder):
    model = load(folder)
    enlarge = lambda image: np.asarray(p2p.restore("super", image, model=model, steps=2).restored).astype(int)
    assert np.abs(enlarge(small(8, 8)) - enlarge(255 - small(8, 8))).mean() > 1


SUPER = ("restore", "--task", "super")


@pytest.mark.parametrize(
    ("args", "size", "message"),
    [
        (
            SUPER,
            (30, 32),
            "the image is 30x32 pixels, for model both sides must be multiples of 4 and at most 512: crop",
        ),
        (SUPER, (32, 516), "the image is 32x516 pixels, .* at most 512: crop or resize it$"),
        ((*SUPER, "--factor", "2"), (8, 8), "model enlarges 4 times, got --factor 2: leave it out"),
        ((*SUPER, "--prompt", "a cat"), (8, 8), "--prompt has no effect on model, which enlarges by the image: leave"),
        ((*SUPER, "--guidance", "3"), (8, 8), "--guidance has no effect on model"),
        ((*SUPER, "--visits", "3"), (8, 8), "--visits has no effect on model"),
        ((*SUPER, "--length", "2"), (8, 8), "--length has no effect on model"),
        ((*SUPER, "--box", "0,0,4,4"), (8, 8), "--box is not for --task super: leave it out"),
        ((*SUPER, "--steps", "1001"), (8, 8), r"steps must lie in 1\.\.1000, got 1001"),
        (
            ("restore", "--task", "colour"),
            (32, 32),
            "model enlarges images and does nothing else: give another --model",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_sampling(command, monkeypatch, args, size, message):
    Image.fromarray(small(*size)).save("small.png")
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message) as failure:
        command(*args, "--image", "small.png")
    assert "\n" not in str(failure.value) and not Path("out.png").exists()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (dict(task="super", prompt="a cat"), "prompt has no effect on ldm-super-resolution-4x, which enlarges by the"),
        (dict(task="super", guidance=3), "guidance has no effect on ldm-super-resolution-4x"),
        (dict(task="super", visits=3), "visits has no effect on ldm-super-resolution-4x"),
        (dict(task="super", length=2), "length has no effect on ldm-super-resolution-4x"),
        (dict(task="super", factor=2), "ldm-super-resolution-4x enlarges 4 times, got factor 2: leave it out"),
        (dict(task="super", image=small(30, 32)), "for ldm-super-resolution-4x both sides must be multiples of 8"),
        (dict(task="colour"), "ldm-super-resolution-4x enlarges images and does nothing else"),
        (dict(task="super", factor=3, model="stickers"), "must be at least 2 and divide the model's 128 pixels, got 3"),
        (dict(task="colour", model="sd15"), "the image is 8x8 pixels, for task colour it must have the model's size"),
    ],
)
def test_a_model_known_by_name_is_not_loaded_to_be_told_what_does_not_fit(monkeypatch, keywords, message):
    monkeypatch.setattr("p2p.cli.run.load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(ValueError, match=message):
        p2p.restore(**dict(image=small(8, 8), model="ldm-super-resolution-4x") | keywords)


def test_a_folder_named_as_a_public_model_is_a_path(tmp_path, monkeypatch, folder):
    """Its own files tell what fits it: the public model would not take an image of 12 x 12 pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ldm-super-resolution-4x").symlink_to(folder)
    result = p2p.restore("super", small(12, 12), model=Path("ldm-super-resolution-4x"), steps=1)
    assert result.restored.size == (48, 48)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("generate", ""), "model makes an image of another one: .* `p2p restore --task super` enlarge an image by it"),
        (
            ("generate", "a cat"),
            "model was trained without prompts: .*; let `p2p restore --task super` enlarge an image",
        ),
        (("edit", "a cat", "a dog"), "model was trained without prompts: .*; let `p2p restore --task super` enlarge"),
        (("attention", "a cat"), "model was trained without prompts"),
    ],
)
def test_a_prompt_is_refused_with_what_the_model_does(command, monkeypatch, args, message):
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message) as failure:
        command(*args)
    assert "\n" not in str(failure.value)


def test_one_image_or_one_for_each_seed(folder):
    model = load(folder)
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    run = lambda seeds, x: (
        list(model.denoise(model.encode_prompts([""] * len(seeds)), seeds, steps=2, condition=x))[-1].z_t
    )
    assert torch.equal(run([3, 4], x[:1]), run([3, 4], x[:1].expand(2, -1, -1, -1)))
    for i, seed in enumerate((3, 4)):
        # equal but for float32's rounding in batches of other sizes
        torch.testing.assert_close(run([3, 4], x)[i], run([seed], x[i : i + 1])[0], rtol=0, atol=1e-3)
