"""`p2p sweep` and `p2p compare` of a real image: inverted once, edited as by `p2p edit`, and refused in its words."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import p2p
from ldm.helpers.likeness import psnr, structure
from p2p.__main__ import main
from p2p.experiments.baselines import blended, fixed_seed, inpaint, reference, sdedit
from p2p.experiments.sweeps import TAUS, WINDOWS, sweep
from p2p.inversion.methods import invert
from p2p.photo import digest, fitted
from tests.support.model_files import save_model

pytestmark = pytest.mark.usefixtures("two_draws")

CAT, DOG, BIRD = (f"a photo of a {noun} on the grass" for noun in ("cat", "dog", "bird"))
MASK = torch.zeros(16, 16, dtype=torch.bool)
MASK[4:9, 3:12] = True


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)


@pytest.fixture
def inversions(monkeypatch) -> list:
    """One entry for each inversion of an image from here on, its method."""
    seen = []

    def counting(model, image, prompt, method, sampling):
        seen.append(method)
        return invert(model, image, prompt, method, sampling)

    for module in ("p2p.cli.commands", "p2p.experiments.comparison"):
        monkeypatch.setattr(f"{module}.invert", counting)
    return seen


def assert_same(images: np.ndarray, others: np.ndarray) -> None:
    """Of runs in batches of other sizes, whose float32 rounds differently, by at most 1 in the bytes of an image."""
    assert images.shape == others.shape and np.abs(images.astype(int) - others).max() <= 1


@pytest.mark.parametrize("method", ["direct", "null-text", "edit-friendly"])
def test_every_cell_of_a_sweep_is_an_edit_of_one_inversion(tiny, image, inversions, method, monkeypatch):
    """The edits have one of their own, which does not depend on tau."""
    how = dict(image=image, invert=method, steps=2, model=tiny)
    found = p2p.sweep("tau", CAT, DOG, BIRD, **how).data
    assert inversions == [method]
    given = fitted(image, tiny.config.image_size)
    inverted = invert(tiny, given, tiny.tokenizer.encode(CAT), method, p2p.Sampling(steps=2))
    monkeypatch.setattr("p2p.cli.commands.invert", lambda *_: inverted)
    edits = np.stack([p2p.edit(CAT, DOG, BIRD, tau=tau, self_until="never", **how).images for tau in TAUS])
    source, *targets = edits.swapaxes(0, 1)
    for swept, images in zip(found, targets, strict=True):
        assert (swept.given == given).all() and swept.images.shape == (1, len(TAUS), 32, 32, 3)
        assert_same(swept.originals[0], source[0])
        assert_same(swept.images[0], images)
        for measured, measure in ((swept.preservation, psnr), (swept.structure, structure)):
            expected = [measure(picture, given) for picture in swept.images[0]]
            torch.testing.assert_close(measured[0], torch.tensor(expected))
    assert len({picture.tobytes() for picture in found[0].images[0]}) > 1  # tau matters at all


def test_the_windows_of_a_sweep_too(tiny, image, inversions):
    (found,) = p2p.sweep("window", CAT, DOG, image=image, steps=2, model=tiny).data
    assert inversions == ["direct"] and found.settings == WINDOWS
    edit = p2p.edit(CAT, DOG, image=image, tau=WINDOWS[2], self_until="never", steps=2, model=tiny)
    assert_same(found.images[0, 2], edit.images[1])


@pytest.mark.parametrize("method", ["direct", "ddim"])
def test_a_word_is_preserved_in_edits_of_one_inversion(tiny, image, inversions, method):
    how = dict(image=image, invert=method, steps=2, model=tiny)
    found = p2p.sweep("word", CAT, DOG, BIRD, word="grass", tau=0.0, **how).data
    assert inversions == [method]
    assert (found.given == fitted(image, tiny.config.image_size)).all()
    every = p2p.edit(CAT, DOG, BIRD, tau=0.0, **how)
    assert_same(found.original, every.images[0])
    assert_same(found.injected, every.images[1:])
    assert_same(found.preserved, p2p.edit(CAT, DOG, BIRD, preserve="grass", self_until="never", **how).images[1:])
    assert_same(found.same_seed, p2p.edit(CAT, DOG, BIRD, tau="never", self_until="never", **how).images[1:])
    assert len({edits.tobytes() for edits in (found.injected, found.preserved, found.same_seed)}) == 3


def test_several_seeds_of_one_image_are_refused(tiny, image):
    inverted = p2p.edit(CAT, DOG, image=image, steps=2, model=tiny).inverted
    with pytest.raises(ValueError, match=r"the same for all of the seeds \(0, 1\): give one"):
        sweep(tiny, CAT, DOG, lambda alpha: p2p.Swap("cat", "dog", alpha), seeds=(0, 1), inverted=inverted, steps=2)


@pytest.mark.machine
@pytest.mark.parametrize("method", ["direct", "ddim", "negative-prompt", "edit-friendly"])
def test_a_method_of_a_comparison_starts_elsewhere(tiny, image, inversions, method):
    """Each image is that of its baseline run by itself: from the inversion, or from the image with the seed's noise."""
    how = dict(steps=3, seed=3)
    result = p2p.compare(CAT, DOG, image=image, invert=method, mask=MASK, model=tiny, self_until=0.6, **how)
    assert inversions == [method]
    given = fitted(image, tiny.config.image_size)
    sampling, tokens = p2p.Sampling(**how), tiny.tokenizer.encode(CAT)
    inverted = invert(tiny, given, tokens, method, sampling)
    z_0, start = tiny.encode_images(given[None]), how | inverted.options(2)
    runs = {
        "same noise": fixed_seed(tiny, [CAT, DOG], **start),
        "SDEdit from 0.5 T": sdedit(tiny, [DOG], z_0, 0.5, **how),
        "latents blended by the mask": blended(tiny, [CAT, DOG], MASK, inverted=inverted, **how),
        "inpainting inside the mask": inpaint(tiny, [DOG], z_0, MASK, **how),
        "google/prompt-to-prompt": reference(tiny, [CAT, DOG], "replace", **start),
        "Prompt-to-Prompt": result.call.run(result.call.p2p(tiny), inverted=inverted),
    }
    assert list(result.images) == list(runs)
    for name, run in runs.items():
        *_, last = run
        assert np.array_equal(result.images[name], tiny.decode(last.z_t[-1:])), name
        if name == "same noise":
            assert np.array_equal(result.source, tiny.decode(last.z_t[:1])[0])
    assert len({picture.tobytes() for picture in result.images.values()}) == len(runs)
    assert (result.given == given).all() and result.call.image.invert == method


@pytest.mark.parametrize("method", ["direct", "ddim"])
def test_blending_keeps_the_latents_of_the_image_outside_the_mask(tiny, image, method):
    given = fitted(image, tiny.config.image_size)
    inverted = invert(tiny, given, tiny.tokenizer.encode(CAT), method, p2p.Sampling(steps=3))
    *_, last = blended(tiny, [CAT, DOG], MASK, seed=0, inverted=inverted, steps=3)
    source, target = last.z_t
    assert torch.equal(source[:, ~MASK], target[:, ~MASK]) and not torch.equal(source[:, MASK], target[:, MASK])
    image_itself = torch.equal(source, tiny.encode_images(given[None])[0])
    assert image_itself == (method == "direct")  # which alone returns to the bit


def test_a_seed_of_a_comparison_is_that_of_the_noise_added_to_the_image(tiny, image):
    one, other = (
        p2p.compare(CAT, DOG, image=image, mask=MASK, seed=seed, steps=2, model=tiny).images for seed in (3, 4)
    )
    changed = {name for name in one if not np.array_equal(one[name], other[name])}
    assert changed == {"SDEdit from 0.5 T", "inpainting inside the mask"}


SWEEPS = ("sweep tau", "sweep window", "sweep word")
INVERTIBLE = "an image is inverted along the steps of ddim without noise: leave out --sampler and --eta"
NAMES = ("edit", "compare", *SWEEPS)


@pytest.fixture
def folder(tiny, image, tmp_path, monkeypatch):
    """The random model and an image in an empty folder."""
    (tmp_path / "model").mkdir()
    save_model(tiny, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image).save("cat.png")
    Path("text.png").write_text("no image")


@pytest.fixture
def command(folder, monkeypatch):
    def call(name: str, *args: str) -> None:
        word = ["--word", "grass"] if name == "sweep word" else []
        line = ["p2p", *name.split(), CAT, DOG, *word, "--model", "model", *args]
        monkeypatch.setattr(sys, "argv", line if "-o" in args else [*line, "-o", "out.png"])
        main()

    return call


@pytest.mark.parametrize(
    ("names", "args", "message"),
    [
        (NAMES, ("--sampler", "plms"), INVERTIBLE),
        (NAMES, ("--eta", "0.5"), INVERTIBLE),
        (
            ("edit", "sweep tau", "sweep window"),
            ("--seeds", "2"),
            "--seeds draws images from several noises, and an image has one: leave it out for --image",
        ),
        (
            ("edit", *SWEEPS),
            ("--seed", "3"),
            "an image has a noise of its own, so --seed would do nothing: leave it out",
        ),
        (NAMES, ("--image", "text.png"), "the image 'text.png' can't be read as an image"),
        (NAMES, ("--image", "none.png"), "the image 'none.png' can't be read as an image"),
        (NAMES, ("-o", "cat.png"), "the output 'cat.png' would overwrite the image: give it another name"),
    ],
)
def test_what_does_not_go_with_an_image_is_refused_alike_and_without_a_model(
    command, monkeypatch, names, args, message
):
    monkeypatch.setattr("p2p.cli.run.load", lambda *_, **__: pytest.fail("the model was loaded"))
    for name in names:
        with pytest.raises(SystemExit) as refused:
            command(name, "--image", "cat.png", *args)
        assert str(refused.value).startswith(f"p2p: error: {message}"), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("option", "value"), [("--invert", "ddim"), ("--fit", "pad")])
def test_an_option_for_an_image_is_refused_without_one(command, monkeypatch, name, option, value):
    monkeypatch.setattr("p2p.cli.run.load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(SystemExit, match=f"^p2p: error: {option} is for an image: give --image too$"):
        command(name, option, value)


def test_a_replay_draws_one_image_too(tiny, image):
    call = p2p.edit(CAT, DOG, image=image, steps=2, model=tiny).call
    with pytest.raises(ValueError, match="an image has one: leave it out for image"):
        p2p.replay(call, image=image, seeds=2, model=tiny)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("sweep tau", ("--swap", "horse=dog"), "no word 'horse'"),
        ("sweep window", ("--reweight", "horse=2"), "no word 'horse'"),
        ("sweep word", ("--word", "horse"), "no word 'horse'"),
        ("sweep word", ("--word", "dog"), "'dog' cannot be preserved"),
        ("sweep word", ("--alpha", "horse=0.5"), "no word 'horse'"),
        ("sweep tau", ("--steps", "1001"), r"steps must lie in 1\.\.1000, got 1001"),
        ("compare", ("--swap", "horse=dog"), "no word 'horse'"),
        ("compare", ("--t0", "2"), r"t_0 must be a fraction of T in \(0, 1\]"),
        ("compare", ("--mask", "text.png"), "the mask 'text.png' can't be read as an image"),
        ("compare", ("--image", "icon.png"), "the image is 8x8 pixels: it must have 16 a side at least"),
        ("sweep tau", ("--image", "icon.png"), "the image is 8x8 pixels: it must have 16 a side at least"),
    ],
)
def test_what_does_not_fit_is_refused_before_inversion(command, monkeypatch, name, args, message):
    Image.new("RGB", (8, 8)).save("icon.png")
    monkeypatch.setattr("ldm.pipeline.LatentDiffusion.encode_images", lambda *_: pytest.fail("inversion began"))
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message):
        command(name, "--image", "cat.png", *args)
    assert not Path("out.png").exists()


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_of_an_image_is_the_command_lines_and_tells_which_image(command, tiny, image, name):
    figure, word = name.split()[1], {"word": "grass"} if name == "sweep word" else {}
    how = ["--image", "cat.png", "--fit", "pad", "--invert", "fixed-point", "--steps", "2"]
    command(name, *how)
    drawn = p2p.sweep(
        figure, CAT, DOG, image=image, fit="pad", invert="fixed-point", steps=2, model="model", output="one.png", **word
    )
    with Image.open("out.png") as line, Image.open("one.png") as one:
        assert line.tobytes() == one.tobytes() == drawn.image.tobytes()
        assert line.info["p2p"] == one.info["p2p"] and "cat.png" not in line.info["p2p"]
        said = json.loads(line.info["p2p"])
    assert said["image"] == {"sha256": digest(image), "invert": "fixed-point", "fit": "pad"}
    assert said.keys().isdisjoint({"invert", "fit"})
    command(name, "--steps", "1")
    with Image.open("out.png") as plain:
        assert json.loads(plain.info["p2p"]).keys().isdisjoint({"image", "invert", "fit"})


def test_an_image_is_fitted_as_asked(tiny, image):
    how = dict(image=image, fit="pad", steps=1, model=tiny)
    padded = fitted(image, tiny.config.image_size, "pad")
    assert not np.array_equal(padded, fitted(image, tiny.config.image_size))
    (swept,) = p2p.sweep("tau", CAT, DOG, **how).data
    preserved = p2p.sweep("word", CAT, DOG, word="grass", **how).data
    for found in (swept, preserved, p2p.compare(CAT, DOG, **how)):
        assert np.array_equal(found.given, padded)


def test_a_comparison_of_an_image_is_the_command_lines_and_tells_which_image(command, tiny, image):
    command("compare", "--image", "cat.png", "--invert", "ddim", "--seed", "3", "--steps", "2")
    result = p2p.compare(CAT, DOG, image=image, invert="ddim", seed=3, steps=2, model="model")
    with Image.open("out.png") as written:
        assert written.tobytes() == result.image.tobytes()
        call = json.loads(written.info["p2p"])["call"]
    assert call == json.loads(result.call.to_json())
    assert call["image"] == {"sha256": digest(image), "invert": "ddim", "fit": "crop"}


def test_the_numbers_of_a_sweep_tell_how_near_the_source_comes_to_the_image(command, tiny, image):
    command("sweep tau", "--image", "cat.png", "--invert", "ddim", "--steps", "2", "--data", "tau.json")
    source, *cells = json.loads(Path("tau.json").read_text())
    edit = p2p.edit(CAT, DOG, image=image, invert="ddim", steps=2, model=tiny)
    assert source["setting"] == "source" and len(cells) == len(TAUS)
    # the images differ by at most 1 in a byte, and a random model's are far from the image
    assert source["preservation_db"] == pytest.approx(psnr(edit.images[0], edit.given), abs=0.05)
    assert source["structure"] == pytest.approx(structure(edit.images[0], edit.given), abs=0.01)
