"""What the command line refuses, each in one line that names the fix, and what a run that fails leaves behind."""

import os
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import CAT, DOG


@pytest.mark.parametrize(
    "option", [("--swap", "cat"), ("--reweight", "cat=much"), ("--alpha", "=0.5"), ("--alpha", "cat=1.0:x")]
)
def test_an_option_of_the_wrong_form_is_refused(p2p, capsys, option):
    with pytest.raises(SystemExit):
        p2p("edit", CAT, DOG, *option, "-o", "x.png")
    assert "is not" in capsys.readouterr().err


@pytest.mark.parametrize("factor", ["0", "-1", "17", "1.5", "x"])
def test_an_upscaling_that_is_no_small_number_is_refused(p2p, capsys, factor):
    with pytest.raises(SystemExit):
        p2p("generate", CAT, "--upscale", factor, "-o", "x.png")
    assert "is not a whole number from 1 to 16" in capsys.readouterr().err


def test_views_that_exclude_each_other_are_refused(p2p, capsys):
    for first, second in ((("--compare",), ("--seeds", "2")), (("--seeds", "2"), ("--upscale", "2"))):
        with pytest.raises(SystemExit):
            p2p("edit", CAT, DOG, *first, *second, "-o", "x.png")
        assert f"{second[0]}: not allowed with argument {first[0]}" in capsys.readouterr().err


WORDS_OF_CAT = "Its words are: a, photo, of, cat, on, the, grass"
WORDS_OF_DOG = "Its words are: a, photo, of, dog, on, the, grass"
WORDS_OF_BOTH = "Their words are: a, photo, of, cat, on, the, grass, dog"
GOOD = ("generate", CAT, "-o", "x.png")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("generate", CAT, "-o", "x.jpg"), "must be a .png file"),
        (("generate", CAT, "-o", "nowhere/x.png"), "folder 'nowhere' does not exist"),
        (("generate", "cat " * 40, "-o", "x.png"), "40 tokens, the model's context holds 30"),
        ((*GOOD, "--steps", "0"), r"steps must lie in 1\.\.1000, got 0"),
        ((*GOOD, "--steps", "1001"), r"steps must lie in 1\.\.1000, got 1001"),
        ((*GOOD, "--eta", "2"), r"eta must lie in \[0, 1\], got 2.0"),
        ((*GOOD, "--eta", "0.5", "--sampler", "ddpm"), "eta belongs to the ddim sampler: leave it out for ddpm"),
        ((*GOOD, "--eta", "0.5", "--sampler", "euler"), "eta belongs to the ddim sampler: leave it out for euler"),
        ((*GOOD, "--steps", "1001", "--sampler", "plms"), r"steps must lie in 1\.\.1000, got 1001"),
        ((*GOOD, "--device", "nonsense"), "no device 'nonsense'"),
        (("edit", CAT, DOG, "--tau", "-0.5", "-o", "x.png"), r"tau as a fraction of T must lie in \[0, 1\], got -0.5"),
        (("edit", CAT, DOG, "--tau", "t=2000", "-o", "x.png"), r"timestep must lie in 0\.\.1001, got 2000"),
        (("attention", " ", "-o", "x.png"), "no words to show the attention of"),
        ((*GOOD, "--seed", "-1"), r"seed must lie in 0\.\.2\^63-1, got -1"),
        (("edit", CAT, DOG, "--swap", "bird=dog", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_CAT}$"),
        (("edit", CAT, DOG, "--swap", "cat=bird", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_DOG}$"),
        (("edit", CAT, DOG, "--reweight", "bird=2@1:0.5", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_DOG}$"),
        (("edit", CAT, DOG, "--alpha", "bird=1:0.5", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_DOG}$"),
        (("edit", CAT, DOG, "--preserve", "bird", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_DOG}$"),
        (("edit", CAT, DOG, "--blend", "dog,-bird", "-o", "x.png"), f"neither prompt has 'bird'.*{WORDS_OF_BOTH}$"),
        (
            ("edit", " ", " ", "--blend", "bird", "-o", "x.png"),
            "neither prompt has 'bird' to blend by. They have none$",
        ),
        (("edit", CAT, DOG, "--reweight", "a=2", "-o", "x.png"), "write a#1 or a#2"),
        (("edit", CAT, DOG, "--preserve", "dog", "-o", "x.png"), f"'dog' cannot be preserved.*{WORDS_OF_CAT}$"),
        (("edit", CAT, DOG, "--alpha", "dig=0.5", "-o", "x.png"), "Did you mean 'dog'"),
        (("edit", CAT, DOG, "--blend", "bird", "-o", "x.png"), "neither prompt has 'bird'"),
        (("edit", CAT, DOG, "--blend=-cat", "-o", "x.png"), "at least one word"),
        (("edit", CAT, DOG, "--alpha", "dog=0.2:0.5", "-o", "x.png"), "after its end"),
        (("edit", CAT, DOG, "--reweight", "dog=-1", "--renormalise", "-o", "x.png"), "negative weight"),
        (("edit", CAT, DOG, "--mask", "none.png", "-o", "x.png"), "mask 'none.png' can't be read"),
        (("edit", CAT, DOG, "--preserve", "grass", "--tau", "0.5", "-o", "x.png"), "give --alpha WORD=TAU instead"),
        (("edit", CAT, DOG, "--preserve", "grass", "--alpha", "dig=0.5", "-o", "x.png"), "Did you mean 'dog'"),
        (("edit", CAT, DOG, "--preserve", "grass", "--alpha", "dog=0.5", "-o", "x.png"), "--alpha dog has no effect"),
        (("edit", CAT, f"{CAT} in fog", "--alpha", "fog=0.5", "-o", "x.png"), "--alpha fog has no effect: this edit"),
        (("edit", CAT, DOG, "--alpha", "dog=0.5", "--alpha", "dog=0.9", "-o", "x.png"), "two times for 'dog'"),
        (("edit", CAT, DOG, "--alpha", "dog=0.5", "--alpha", "Dog#1=0.9", "-o", "x.png"), "two times for 'dog'"),
        (
            ("edit", CAT, CAT, "--reweight", "grass=-1@0.5:0", "--renormalise", "-o", "x.png"),
            "negative weight can't be renormalised",
        ),
        (
            ("edit", CAT, DOG, "--blend-from", "0.5", "-o", "x.png"),
            "--blend or --mask begins to apply: give one of them",
        ),
        (("edit", CAT, DOG, "--gif", "x.png", "-o", "x.png"), r"must be a \.gif file"),
        (("sweep", "tau", CAT, DOG, "--seeds", "0", "-o", "x.png"), "--seeds must be at least 1"),
        (("sweep", "word", CAT, DOG, "--word", "bird", "-o", "x.png"), f"no word 'bird'.*{WORDS_OF_DOG}$"),
        (("sweep", "word", CAT, DOG, "--word", "dog", "-o", "x.png"), f"'dog' cannot be preserved.*{WORDS_OF_CAT}$"),
        (("sweep", "tau", CAT, DOG, CAT, "--swap", "cat=dog", "-o", "x.png"), "no word 'dog'"),
        (("sweep", "window", CAT, DOG, "cat " * 31, "-o", "x.png"), "31 tokens"),
        (("show", "mapper", CAT, DOG, "--swap", "bird=dog", "-o", "x.png"), "no word 'bird'"),
        (
            ("show", "mapper", CAT, DOG, "--swap", "cat=dog", "--swap", "cat=grass", "-o", "x.png"),
            "these pairs some share a word: cat=dog, cat=grass",
        ),
        (("edit", CAT, DOG, "--self-side", "0", "-o", "x.png"), "at least 1 position a side, got a limit of 0"),
        (("edit", CAT, DOG, "--save", "call.txt", "-o", "x.png"), r"must be a \.json file"),
        (("edit", CAT, "dog " * 31, "-o", "x.png"), "31 tokens, the model's context holds 30"),
        (("edit", CAT, DOG, "--seeds", "0", "-o", "x.png"), "--seeds must be at least 1"),
        (("generate", CAT, "--seeds", "-1", "-o", "x.png"), "--seeds must be at least 1"),
        (("generate", CAT, "--seed", str(2**63 - 1), "--seeds", "2", "-o", "x.png"), r"seed must lie in 0\.\.2\^63-1"),
        (("edit", CAT, DOG, "--seeds", "2", "--gif", "x.gif", "-o", "x.png"), "--gif is for a single seed: leave out"),
        (("edit", CAT, DOG, "--seeds", "2", "--save-maps", "x.npz", "-o", "x.png"), "--save-maps is for a single seed"),
        (("edit", CAT, DOG, "--save-maps", "x.npy", "-o", "x.png"), r"must be a \.npz file"),
        (("attention", CAT, "--save-maps", "nowhere/x.npz", "-o", "x.png"), "folder 'nowhere' does not exist"),
        (("edit", CAT, DOG, "--scale", "shared", "-o", "x.png"), "--compare draws: give both"),
        (("edit", CAT, " ", "--compare", "-o", "x.png"), "no words to show the attention of"),
        (("attention", CAT, "--by", "component", "--scale", "word", "-o", "x.png"), "--scale is for maps of words"),
        (("attention", CAT, "--by", "component", "--save-maps", "x.npz", "-o", "x.png"), "leave it out"),
        (("sweep", "tau", CAT, DOG, "--data", "x.txt", "-o", "x.png"), r"must be a \.csv or \.json file"),
        (("sweep", "window", CAT, DOG, "--data", "nowhere/x.csv", "-o", "x.png"), "folder 'nowhere' does not exist"),
    ],
)
def test_bad_input_is_one_line_that_names_the_fix(p2p, args, message, monkeypatch):
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_, **__: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message) as stopped:
        p2p(*args)
    assert str(stopped.value).startswith("p2p: error: ")
    assert not os.listdir()


def test_a_mask_of_another_size_is_refused_before_sampling(p2p, monkeypatch):
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_, **__: pytest.fail("sampling began"))
    Image.new("L", (31, 32), 255).save("mask.png")
    with pytest.raises(
        SystemExit, match=r"error: the mask 'mask\.png' is 31x32 pixels; it must have .* 32x32, or .* 16x16"
    ):
        p2p("edit", CAT, DOG, "--mask", "mask.png", "-o", "x.png")
    assert os.listdir() == ["mask.png"]


@pytest.mark.parametrize("word", ["abc", "nan", "inf", "", "t=x", "t=-1"])
def test_a_tau_that_is_no_number_is_refused(p2p, word, capsys):
    with pytest.raises(SystemExit):
        p2p("edit", CAT, DOG, "--tau", word, "-o", "x.png")
    assert "is not a number" in capsys.readouterr().err


def test_unknown_model_is_told_the_known_ones(p2p):
    with pytest.raises(
        SystemExit, match=r"no model 'stickerz': give stickers or stickers-classes, included; one to download .*sd15"
    ):
        p2p(*GOOD, model="stickerz")


def test_output_that_may_not_be_written_is_refused_first(p2p, monkeypatch):
    os.mkdir("taken.png")
    with pytest.raises(SystemExit, match="is a folder"):
        p2p("generate", CAT, "-o", "taken.png")
    Path("x.png").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SystemExit, match=r"could not write x\.png: it is write-protected"):
        p2p(*GOOD)
    assert Path("x.png").read_bytes() == b"old"


def test_interrupt_leaves_no_file(p2p, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ldm.unet.UNet.forward", interrupted)
    with pytest.raises(SystemExit) as stopped:
        p2p(*GOOD)
    assert stopped.value.code == 130 and capsys.readouterr().err.endswith("p2p: interrupted\n")
    assert not os.listdir()


def test_interrupt_leaves_what_was_written_and_no_half_of_a_file(p2p, monkeypatch):
    save = Image.Image.save

    def interrupted(self, path, **options):
        if options["format"] == "GIF":
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(SystemExit) as stopped:
        p2p("edit", CAT, DOG, "--steps", "1", "--gif", "e.gif", "-o", "e.png")
    assert stopped.value.code == 130
    assert os.listdir() == ["e.png"]


def test_a_crash_while_writing_leaves_the_old_picture(p2p, monkeypatch):
    p2p(*GOOD, "--steps", "1")
    before = Path("x.png").read_bytes()

    def disk_full(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", disk_full)
    with pytest.raises(SystemExit, match=r"could not write x\.png: No space left on device"):
        p2p(*GOOD, "--steps", "1")
    assert Path("x.png").read_bytes() == before and os.listdir() == ["x.png"]
