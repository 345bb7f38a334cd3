"""`p2p restore` and `p2p.restore`: the given stays, what does not fit is refused, and the shipped model restores."""

import io
import json
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import p2p
from ldm.helpers.likeness import psnr
from p2p.__main__ import main
from p2p.cli import options
from p2p.experiments.restore import Task
from tests.support.model_files import save_model

CAT = "a photo of a cat on the grass"
MASK = np.zeros((32, 32))
MASK[5:20, 8:17] = 1
BOX = (3, 0, 20, 25)
SETTINGS = {"inpaint": dict(mask=MASK), "uncrop": dict(box=BOX), "colour": {}, "super": dict(factor=4)}
SIZES = {"inpaint": (32, 32), "uncrop": (25, 17), "colour": (32, 32), "super": (8, 8)}


def image_for(task: str) -> np.ndarray:
    return np.random.default_rng(0).integers(100, 150, (*SIZES[task], 3), dtype=np.uint8)


@pytest.mark.parametrize("task", SETTINGS)
def test_an_image_in_which_the_given_is_lost(tiny, task):
    """Pixels of a mask and of a box stay to the grey level, grey levels and averages but for what bytes round off."""
    image = image_for(task)
    result = p2p.restore(task, image, CAT, model=tiny, seed=3, steps=2, **SETTINGS[task])
    made, degraded = np.array(result.restored), np.array(result.degraded)
    assert made.shape == degraded.shape == np.asarray(result.decoded).shape == (32, 32, 3)
    assert not np.array_equal(made, np.asarray(result.decoded))
    A = result.given.degradation.A
    if task == "inpaint":
        assert np.array_equal(made[MASK == 0], image[MASK == 0]) and (degraded[MASK == 1] == 128).all()
        assert not np.array_equal(made[MASK == 1], image[MASK == 1])
    elif task == "uncrop":
        assert np.array_equal(made[0:25, 3:20], image)
    else:
        x = torch.from_numpy(made).permute(2, 0, 1)[None].double()
        clipped = torch.from_numpy((made == 0) | (made == 255)).permute(2, 0, 1)[None]
        free = A(clipped.double()) == 0  # a random model leaves the range of bytes at some pixels
        assert free.double().mean() > 0.2
        y = (result.given.y.double() + 1) * 127.5
        assert_close(A(x)[free], y[free], rtol=0, atol=0.5 + 1e-3)  # half a level of rounding, and float32
    assert len(result.states) == 4  # two visits


def test_a_colour_that_the_task_already_knows(tiny):
    """Of a coloured image only the grey levels are used."""
    coloured = image_for("colour")
    grey = np.repeat(np.asarray(Image.fromarray(coloured).convert("L"))[..., None], 3, axis=2)
    one, two = (p2p.restore("colour", image, CAT, model=tiny, steps=1).given.y for image in (coloured, grey))
    assert_close(one, two, rtol=0, atol=1.01 / 127.5)  # a level, which PIL rounds


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """The random model as files, and an image, a mask and a text in an empty folder."""
    (tmp_path / "model").mkdir()
    save_model(tiny, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image_for("inpaint")).save("image.png")
    Image.fromarray(image_for("super")).save("small.png")
    Image.fromarray((255 * MASK).astype(np.uint8)).save("mask.png")
    Path("text.png").write_text("no image")


def command(monkeypatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["p2p", "restore", "--model", "model", "--steps", "2", *args])
    main()


def test_a_command_and_a_function_that_differ(folder, monkeypatch, capsys):
    args = ["--task", "inpaint", "--mask", "mask.png", "--image", "image.png", "--prompt", CAT, "--seed", "3"]
    command(monkeypatch, *args, "-o", "out.png")
    assert capsys.readouterr().out == "out.png\n"
    how = dict(mask="mask.png", model="model", seed=3, steps=2)
    for image in ("image.png", Path("image.png"), Image.open("image.png"), image_for("inpaint")):
        result = p2p.restore("inpaint", image, CAT, **how)
        with Image.open("out.png") as written, Image.open(io.BytesIO(result._repr_png_())) as shown:
            assert written.tobytes() == shown.tobytes() == result.image.tobytes() and written.size == (64, 32)
            said = json.loads(written.info["p2p"])
        assert (said["command"], said["task"], said["prompt"], said["seed"]) == ("restore", "inpaint", CAT, 3)
        assert "image.png" not in str(said)  # names of files stay at home
    assert np.array_equal(result.restored, result.image.crop((32, 0, 64, 32)))


def test_the_tasks_that_the_parser_lists_are_those_there_are():
    assert get_args(Task) == options.TASKS


INPAINT, SUPER = ("--task", "inpaint", "--image", "image.png"), ("--task", "super", "--image", "small.png")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (INPAINT, "--task inpaint needs --mask"),
        (
            (*INPAINT, "--mask", "small.png"),
            "the mask 'small.png' is 8x8 pixels; it must have the image's size, 32x32$",
        ),
        ((*INPAINT, "--mask", "text.png"), "the mask 'text.png' can't be read as an image"),
        ((*INPAINT, "--mask", "mask.png", "--factor", "4"), "--factor is not for --task inpaint: leave it out"),
        (("--task", "colour", "--image", "text.png"), "the image 'text.png' can't be read as an image"),
        (("--task", "colour", "--image", "none.png"), "the image 'none.png' can't be read as an image"),
        (("--task", "colour", "--image", "small.png"), "the image is 8x8 pixels, .* the model's size, 32x32: resize"),
        (("--task", "uncrop", "--image", "image.png"), "--task uncrop needs --box"),
        (
            ("--task", "uncrop", "--image", "image.png", "--box", "1,0,33,32"),
            r"the box \(1, 0, 33, 32\) does not lie in the image",
        ),
        (("--task", "uncrop", "--image", "image.png", "--box", "0,0,16,32"), "the size of the box, 16x32: resize it"),
        ((*SUPER, "--factor", "3"), "--factor must be at least 2 and divide the model's 32 pixels, got 3"),
        ((*SUPER, "--factor", "1"), "--factor must be at least 2"),
        ((*SUPER, "--factor", "8"), "for --task super it must have the model's 32 divided by 8, 4x4: resize it"),
        ((*SUPER, "--visits", "0"), "time travel needs a length and visits of at least 1"),
        ((*SUPER, "--eta", "2"), r"eta must lie in \[0, 1\], got 2"),
        ((*SUPER, "--steps", "1001"), r"steps must lie in 1\.\.1000, got 1001"),
        ((*SUPER, "-o", "small.png"), "the output 'small.png' would overwrite the image"),
    ],
)
def test_what_does_not_fit(folder, monkeypatch, args, message):
    """One line, nothing sampled, nothing written."""
    before = {path.name: path.read_bytes() for path in Path().glob("*.png")}
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message) as failure:
        command(monkeypatch, *(() if "-o" in args else ("-o", "out.png")), *args)
    assert "\n" not in str(failure.value)
    assert {path.name: path.read_bytes() for path in Path().glob("*.png")} == before


@pytest.mark.parametrize("box", ["1,2,3", "1,2,3,x", "-1,0,3,4"])
def test_a_box_that_is_not_four_numbers(folder, monkeypatch, capsys, box):
    with pytest.raises(SystemExit):
        command(monkeypatch, "--task", "uncrop", "--image", "image.png", f"--box={box}", "-o", "out.png")
    assert "is not x0,y0,x1,y1: four whole numbers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: dict(task="sharpen", image=x), "task must be"),
        (lambda x: dict(task="uncrop", image=x, box=(0, 0, 16.5, 32)), "box"),
        (lambda x: dict(task="super", image=x, factor="4"), "factor must be"),
        (lambda x: dict(task="inpaint", image=x), "^task inpaint needs mask"),
        (lambda x: dict(task="colour", image=x / 255), "image must be an array of bytes"),
        (lambda x: dict(task="inpaint", image=x, mask=MASK[:5]), "the mask is an array"),
    ],
)
def test_keywords_that_do_not_fit(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        p2p.restore(model=tiny, **call(image_for("colour")))
    with pytest.raises(TypeError, match="did you mean 'mask'"):
        p2p.restore("inpaint", image_for("inpaint"), CAT, model=tiny, maks=MASK)


def test_files_of_every_mode_are_read(tmp_path):
    """A grey level is the same number in all of them: 100 of 255."""
    from p2p.photo import as_pixels

    grey = np.full((4, 4), 100, dtype=np.uint8)
    images = [Image.fromarray(grey), Image.fromarray(grey).convert("RGBA"), Image.fromarray(grey).convert("P")]
    images.append(Image.fromarray(grey.astype(np.uint16) * 257))
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
        assert (as_pixels(tmp_path / f"{number}.png") == 100).all(), image.mode


def test_the_shipped_model_enlarges_better_than_bicubic():
    """An image that it made itself, at a quarter of the size: the autoencoder is not in the way."""
    prompt = "a photo of a red car on the street"
    true = np.asarray(p2p.generate(prompt, seed=4, steps=10))
    small = true.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    result = p2p.restore("super", small, prompt, seed=1, steps=6)
    bicubic = np.asarray(Image.fromarray(small).resize((128, 128), Image.Resampling.BICUBIC))
    assert psnr(np.asarray(result.restored), true) > psnr(bicubic, true) + 1.5
    for image, least in ((result.decoded, 36), (result.restored, 50)):  # decoded: as the autoencoder allows
        again = np.asarray(image).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
        assert psnr(again, small) > least
