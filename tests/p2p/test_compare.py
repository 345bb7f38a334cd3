"""`p2p compare` and `p2p.compare`: every method's image is its own, and nothing is sampled in vain."""

import json
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import p2p
from ldm.schedule import Schedule
from p2p.__main__ import main
from p2p.experiments.baselines import blended, fixed_seed, inpaint, reference, sdedit
from tests.support.model_files import save_model

CAT, DOG, BIG = "a photo of a cat on the grass", "a photo of a dog on the grass", "a photo of a big cat on the grass"
MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[4:9, 3:12] = True
HOW = dict(seed=3, steps=3)
METHODS = ["same seed", "SDEdit from 0.5 T", "google/prompt-to-prompt", "Prompt-to-Prompt"]
WITH_MASK = [*METHODS[:2], "latents blended by the mask", "inpainting inside the mask", *METHODS[2:]]


@pytest.mark.machine
def test_a_method_under_the_name_of_another(tiny):
    """Each image is that of its baseline run by itself; the edit is that of `p2p.edit`, without a mask."""
    result = p2p.compare(CAT, DOG, mask=MASK, model=tiny, tau=0.3, self_until=0.6, **HOW)
    assert list(result.images) == WITH_MASK
    *_, plain = fixed_seed(tiny, [CAT, DOG], **HOW)
    z_0 = plain.z_t[:1]
    runs = {
        "same seed": fixed_seed(tiny, [CAT, DOG], **HOW),
        "SDEdit from 0.5 T": sdedit(tiny, [DOG], z_0, 0.5, **HOW),
        "latents blended by the mask": blended(tiny, [CAT, DOG], MASK, **HOW),
        "inpainting inside the mask": inpaint(tiny, [DOG], z_0, MASK, **HOW),
        "google/prompt-to-prompt": reference(tiny, [CAT, DOG], "replace", **HOW),
    }
    for name, run in runs.items():
        *_, last = run
        assert np.array_equal(result.images[name], tiny.decode(last.z_t[-1:])), name
    edit = p2p.edit(CAT, DOG, model=tiny, tau=0.3, self_until=0.6, **HOW)
    assert np.array_equal(result.images["Prompt-to-Prompt"], edit.images[1:])
    assert np.array_equal(result.source, edit.images[0])
    assert result.call == edit.call
    assert len({image.tobytes() for image in result.images.values()}) == len(WITH_MASK)


def test_a_method_that_needs_a_mask_it_does_not_get(tiny):
    """And several targets: a row each. Prompts of unequal lengths are refined by Google's implementation."""
    result = p2p.compare(CAT, DOG, BIG, model=tiny, t_0=0.7, **HOW)
    assert list(result.images) == [METHODS[0], "SDEdit from 0.7 T", *METHODS[2:]]
    assert {image.shape for image in result.images.values()} == {(2, 32, 32, 3)}
    *_, last = reference(tiny, [CAT, DOG, BIG], "refine", **HOW)
    assert np.array_equal(result.images["google/prompt-to-prompt"], tiny.decode(last.z_t[1:]))
    one = p2p.compare(CAT, DOG, model=tiny, **HOW)
    assert result.image.height > 1.8 * one.image.height and one._repr_png_()[:4] == b"\x89PNG"


def command(monkeypatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["p2p", "compare", CAT, DOG, *args])
    main()


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    save_model(tiny, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(255 * MASK.numpy().astype(np.uint8)).save("mask.png")


def test_a_command_and_a_function_that_differ(folder, monkeypatch, capsys):
    how = ["--model", "model", "--steps", "3", "--seed", "3", "--mask", "mask.png", "--t0", "0.4", "--swap", "cat=dog"]
    command(monkeypatch, *how, "-o", "out.png")
    assert capsys.readouterr().out == "out.png\n"
    result = p2p.compare(CAT, DOG, model="model", mask="mask.png", t_0=0.4, swap={"cat": "dog"}, **HOW)
    with Image.open("out.png") as written:
        assert written.tobytes() == result.image.tobytes()
        assert json.loads(written.info["p2p"])["call"] == json.loads(result.call.to_json())


def test_a_fraction_that_is_no_number(tiny):
    with pytest.raises(ValueError, match="t_0 must be a number, got 'x'"):
        p2p.compare(CAT, DOG, model=tiny, t_0="x")


def test_a_fraction_without_room_for_the_last_step(tiny, monkeypatch):
    """Where sampling ends at t = 1, as in Stable Diffusion."""
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    model = copy(tiny)
    model.schedule = Schedule(replace(tiny.config.schedule, last=1))
    with pytest.raises(ValueError, match=r"3 steps .* would run from t = 3 to t = 1, "):
        p2p.compare(CAT, DOG, model=model, steps=3, t_0=0.003)


def test_edits_with_an_option_that_they_replace(tiny):
    edits = p2p.Swap("cat", "dog")
    assert p2p.compare(CAT, DOG, model=tiny, edits=edits, **HOW).call.targets[0].edit == edits
    with pytest.raises(ValueError, match="edits are the whole edit: leave out tau"):
        p2p.compare(CAT, DOG, model=tiny, edits=edits, tau=0.5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--mask", "none.png"), "the mask 'none.png' can't be read as an image"),
        (("--t0", "0"), r"t_0 must be a fraction of T in \(0, 1\], with room for 3 steps, got 0"),
        (("--t0", "0.002"), "with room for 3 steps, got 0.002"),
        (("--swap", "bird=dog"), "no word 'bird'"),
        (("-o", "mask.png", "--mask", "mask.png"), "would overwrite the mask"),
    ],
)
def test_what_does_not_fit(folder, monkeypatch, args, message):
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message):
        command(monkeypatch, "--model", "model", "--steps", "3", "-o", "out.png", *args)
    assert not Path("out.png").exists()
