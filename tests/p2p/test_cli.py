"""The command line, used as a stranger would: on a small random model in a folder."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import weights.stickers
from ldm.pipeline import LatentDiffusion
from p2p import show_edit
from p2p.__main__ import main, parser
from p2p.alpha import Alpha

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"


@pytest.fixture(scope="module")
def folder(tiny: LatentDiffusion, tmp_path_factory) -> Path:
    """The random model as files."""
    folder = tmp_path_factory.mktemp("model")
    parts = {"text_encoder": tiny.text_encoder, "unet": tiny.unet, "autoencoder": tiny.autoencoder}
    tensors = {f"{p}.{n}": t.contiguous() for p, part in parts.items() for n, t in part.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(tiny.config.to_json())
    shutil.copy(Path(weights.stickers.__file__).parent / "tokenizer.json", folder)
    return folder


@pytest.fixture
def p2p(folder, monkeypatch, tmp_path):
    """Call the command line in an empty folder with all sockets blocked; returns nothing, raises SystemExit."""

    def no_network(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.chdir(tmp_path)

    def call(*args: str, model: str = str(folder)) -> None:
        monkeypatch.setattr(sys, "argv", ["p2p", *args, "--model", model])
        main()

    return call


def picture(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_generate_writes_a_picture_that_the_seed_reproduces(p2p, capsys):
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "a.png")
    assert capsys.readouterr().out == "a.png\n"
    p2p("generate", CAT, "--seed", "7", "--steps", "2", "-o", "b.png")
    p2p("generate", CAT, "--seed", "8", "--steps", "2", "-o", "c.png")
    assert picture("a.png").shape == (32, 32, 3)
    assert (picture("a.png") == picture("b.png")).all()
    assert (picture("a.png") != picture("c.png")).any()


def test_edit_writes_the_source_and_its_targets_side_by_side(p2p):
    p2p("edit", CAT, CAT, DOG, "--tau", "0", "--self-until", "0", "--steps", "2", "-o", "e.png")
    row = picture("e.png")
    assert row.shape == (32, 96, 3)
    source, same, dog = np.split(row, 3, axis=1)
    assert (source == same).all() and (source != dog).any()


def test_tau_of_all_of_T_is_the_fixed_seed_baseline(p2p):
    p2p("edit", CAT, DOG, "--tau", "1.0", "--self-until", "1.0", "--steps", "2", "--seed", "7", "-o", "e.png")
    p2p("generate", DOG, "--steps", "2", "--seed", "7", "-o", "g.png")
    difference = picture("e.png")[:, 32:].astype(int) - picture("g.png")
    assert abs(difference).max() <= 1  # batches of other sizes round otherwise, by at most one grey level


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "keep the words that both prompts have; swap 'cat' for 'dog'"),
        (("--refine",), "keep the words that both prompts have"),
        (("--swap", "cat=dog", "--reweight", "grass=2"), "swap 'cat' for 'dog'; weigh 'grass' by 2"),
        (("--preserve", "grass", "--alpha", "dog=0.5"), "preserve 'grass'"),
        (("--blend", "dog,cat,-grass"), "keep the words that both prompts have; swap 'cat' for 'dog'"),
    ],
)
def test_an_edit_says_what_it_does(p2p, capsys, options, said):
    p2p("edit", CAT, DOG, *options, "--steps", "2", "-o", "e.png")
    assert f"{DOG}: {said}\n" in capsys.readouterr().err
    assert picture("e.png").shape == (32, 64, 3)


@pytest.mark.parametrize(
    "options",
    [
        ("--reweight", "grass=50"),
        ("--tau", "1.0", "--reweight", "grass=50"),
        ("--blend", "dog", "--reweight", "grass=50"),
    ],
)
def test_options_change_the_target_and_not_the_source(p2p, options):
    """A weight far out of proportion, since the random model hardly tells words apart."""
    common = ("edit", CAT, DOG, "--steps", "4", "--self-until", "1.0")
    p2p(*common, "-o", "plain.png")
    p2p(*common, *options, "-o", "edited.png")
    plain, edited = picture("plain.png").astype(int), picture("edited.png").astype(int)
    assert abs(plain - edited)[:, :32].max() <= 1  # the blend's run builds maps, which round otherwise
    assert abs(plain - edited)[:, 32:].max() > 5


@pytest.mark.parametrize(
    "option", [("--swap", "cat"), ("--reweight", "cat=much"), ("--alpha", "=0.5"), ("--alpha", "cat=1.0:x")]
)
def test_an_option_of_the_wrong_form_is_refused(p2p, capsys, option):
    with pytest.raises(SystemExit):
        p2p("edit", CAT, DOG, *option, "-o", "x.png")
    assert "is not" in capsys.readouterr().err


def test_attention_draws_a_map_per_word(p2p):
    p2p("attention", CAT, "--steps", "1", "-o", "m.png")
    height, width, _ = picture("m.png").shape
    assert width > 300 and height > 300


def test_a_model_without_layers_of_16_shows_and_blends_by_its_nearest(p2p, folder, tmp_path_factory):
    """Latents of 24 positions a side, whose layers have 24 and 12, and at once: nothing is refused after a step."""
    larger = tmp_path_factory.mktemp("larger") / "model"
    shutil.copytree(folder, larger)
    config = json.loads((larger / "config.json").read_text()) | {"image_size": 48}
    (larger / "config.json").write_text(json.dumps(config))
    p2p("attention", CAT, "--steps", "1", "-o", "m.png", model=str(larger))
    assert min(picture("m.png").shape[:2]) > 300
    p2p("edit", CAT, DOG, "--blend", "dog", "--steps", "2", "--save", "s.json", "-o", "e.png", model=str(larger))
    saved = json.loads(Path("s.json").read_text())
    assert saved["self_injection"]["layers"]["side"] == 12 and "side" not in saved["blend"]
    p2p("replay", "s.json", "-o", "again.png", model=str(larger))
    assert picture("e.png").shape == (48, 96, 3) and (picture("e.png") == picture("again.png")).all()


def test_a_generated_picture_holds_the_full_call(p2p, folder):
    p2p("generate", CAT, "--steps", "2", "--seed", "5", "-o", "g.png")
    call = json.loads(Image.open("g.png").text["p2p"])
    assert (call["command"], call["prompt"], call["model"]) == ("generate", CAT, str(folder))
    assert (call["steps"], call["seed"], call["guidance"], call["sampler"], call["eta"]) == (2, 5, 4.0, "ddim", 0.0)


EDIT = (
    CAT,
    DOG,
    "a photo of a bicycle on the grass",
    "--tau",
    "0.3",
    "--alpha",
    "photo=1.0:0.5",
    "--reweight",
    "grass=3@0.5",
)
OPTIONS = (
    "--renormalise",
    "--self-until",
    "0.9:0.2",
    "--self-side",
    "8",
    "--layers",
    "down,up",
    "--blend",
    "grass",
    "--eta",
    "0.5",
)


@pytest.mark.parametrize("kept", ["saved.json", "e.png"])
def test_an_edit_replays_from_its_file_and_from_its_picture_to_the_bit(p2p, kept):
    p2p("edit", *EDIT, *OPTIONS, "--steps", "3", "--seed", "5", "--save", "saved.json", "-o", "e.png")
    p2p("replay", kept, "-o", "again.png")
    assert (picture("e.png") == picture("again.png")).all()
    assert Image.open("e.png").text == Image.open("again.png").text


def test_each_target_of_a_file_may_have_its_own_edits(p2p):
    p2p("edit", CAT, DOG, CAT, "--tau", "0.0", "--self-until", "0.0", "--steps", "2", "--save", "s.json", "-o", "e.png")
    call = json.loads(Path("s.json").read_text())
    call["targets"][1]["edits"].append({"reweight": {"word": "grass", "factor": 50.0}})
    Path("s.json").write_text(json.dumps(call))
    p2p("replay", "s.json", "-o", "again.png")
    before, after = picture("e.png").astype(int), picture("again.png").astype(int)
    assert (
        abs(before - after)[:, :64].max() <= 1
    )  # the folded engine's sums of one target round by the other's matrices
    assert abs(before - after)[:, 64:].max() > 5


def test_the_schema_allows_what_is_saved(p2p, capsys, monkeypatch):
    """By an independent reader of JSON schemas."""
    p2p("edit", *EDIT, *OPTIONS, "--steps", "1", "--save", "saved.json", "-o", "e.png")
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["p2p", "schema"])
    main()
    schema, call = json.loads(capsys.readouterr().out), json.loads(Path("saved.json").read_text())
    jsonschema.validate(call, schema)
    call["targets"][0]["edits"][0] = {"swop": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(call, schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call: call.pop("source"), "source: Field required"),
        (lambda call: call["sampling"].update(steps="30"), r"sampling\.steps: Input should be a valid integer"),
        (lambda call: call["sampling"].update(steps=0), r"steps must lie in 1\.\.1000, got 0"),
        (lambda call: call["sampling"].update(eta=3.0), r"sampling: .*eta must lie in \[0, 1\], got 3.0"),
        (lambda call: call.update(colour="red"), "colour: Unexpected"),
        (lambda call: call.update(targets=[]), "at least one target"),
        (lambda call: call["targets"][0].update(edits=[]), "has no edits"),
        (
            lambda call: call["targets"][0]["edits"][0].update(swap={"source": "cat", "target": "dog"}),
            r"edits\.0: .*exactly one",
        ),
        (
            lambda call: call["targets"][0]["edits"].append({"reweight": {"word": "bird", "factor": 1.0}}),
            "no word 'bird'",
        ),
        (
            lambda call: call["targets"][0]["edits"].append({"reweight": {"word": "grass", "factor": float("nan")}}),
            r"edits\.2\.reweight: .*the weight of 'grass' must be a number, got nan",
        ),
        (
            lambda call: (call["blend"].update(side=7), call["targets"][0].update(region={"words": ["cat"]})),
            "no attention of tiny has 7 positions a side: give one of 16, 8",
        ),
        (lambda call: call["targets"][0].update(mask=["01", "0"]), "rows of 0s and 1s, all of one length"),
        (lambda call: call["targets"][0].update(mask=["01", "2x"]), "rows of 0s and 1s"),
        (lambda call: call["targets"][0].update(mask=["01", "10"]), r"the mask is \(2, 2\), the latent \(16, 16\)"),
        (lambda call: call["layers"].update(places=["sideways"]), r"layers\.places\.0: Input should be 'down'"),
    ],
)
def test_a_file_with_a_wrong_field_is_refused_by_its_name(p2p, change, message, monkeypatch):
    p2p("edit", CAT, DOG, "--steps", "1", "--save", "s.json", "-o", "e.png")
    call = json.loads(Path("s.json").read_text())
    change(call)
    Path("s.json").write_text(json.dumps(call))
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_, **__: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message):
        p2p("replay", "s.json", "-o", "x.png")
    assert not Path("x.png").exists()


def test_a_mask_travels_with_the_call(p2p):
    """At the latent's size, so that replaying needs no file but the call's."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save("mask.png")
    p2p("edit", CAT, DOG, "--mask", "mask.png", "--steps", "2", "--save", "m.json", "-o", "m.png")
    rows = json.loads(Path("m.json").read_text())["targets"][0]["mask"]
    assert rows == ["1111" + "0" * 12] * 4 + ["0" * 16] * 12
    Path("mask.png").unlink()
    p2p("replay", "m.json", "-o", "again.png")
    assert (picture("again.png") == picture("m.png")).all()


def test_the_steps_as_an_animation(p2p):
    p2p("edit", CAT, DOG, "--steps", "3", "--gif", "e.gif", "-o", "e.png")
    with Image.open("e.gif") as animation:
        assert animation.n_frames == 3


@pytest.mark.parametrize(
    "args",
    [
        ("show", "mapper", CAT, DOG, "--reweight", "grass=2"),
        ("show", "schedule", CAT, DOG, "--alpha", "dog=1.0:0.5"),
        ("sweep", "tau", CAT, DOG, "--seeds", "2"),
        ("sweep", "window", CAT, DOG),
        ("sweep", "word", CAT, DOG, "--word", "grass"),
    ],
)
def test_figures_are_drawn(p2p, args):
    p2p(*args, "--steps", "2", "-o", "f.png")
    assert min(picture("f.png").shape[:2]) > 200
    assert json.loads(Image.open("f.png").text["p2p"])["source"] == CAT


CLAIMS, WEIGHTS, TIMES = ("--refine", "--swap", "--preserve"), ("--reweight", "--renormalise"), ("--tau", "--alpha")
SAMPLED = ("--seed", "--guidance", "--eta")
USED = {
    "show mapper": (*CLAIMS, *WEIGHTS, *TIMES),
    "show schedule": (*CLAIMS, *TIMES, "--self-until"),
    "sweep tau": (*CLAIMS, *WEIGHTS, *SAMPLED),
    "sweep window": (*CLAIMS, *WEIGHTS, *SAMPLED),
    "sweep word": (*TIMES, *SAMPLED),
}
VALUES = {
    "--tau": "0.5",
    "--alpha": "dog=0.5",
    "--swap": "cat=dog",
    "--preserve": "grass",
    "--reweight": "grass=2",
    "--self-until": "0.2",
    "--self-side": "8",
    "--layers": "up",
    "--blend": "dog",
    "--mask": "mask.png",
    "--blend-from": "0.5",
    "--seed": "1",
    "--guidance": "2",
    "--eta": "0.5",
    "--steps": "8",
}
FLAGS = ("--refine", "--renormalise")


@pytest.fixture
def drawn(tiny, monkeypatch):
    """What a figure would be drawn from, as text; nothing is sampled or drawn."""
    seen = []

    def matrices(source, target, M, at):
        return M.tolist(), {t: (P.tolist(), Q.tolist(), renormalise) for t, (P, Q, renormalise) in at.items()}

    def sweep(model, source, target, edit, taus, seeds, **how):
        return edit(Alpha(0.5)), seeds, how

    monkeypatch.setattr("p2p.show_edit.timeline", lambda *args: show_edit.shares(*args)[1].tolist())
    monkeypatch.setattr("p2p.show_edit.matrices", matrices)
    monkeypatch.setattr("p2p.sweeps.sweep", sweep)
    monkeypatch.setattr("p2p.sweeps.preserve", lambda model, *args, **how: (args, how))
    for name in ("tau_sweep", "window_sweep", "preservation"):
        monkeypatch.setattr(f"p2p.show_sweeps.{name}", lambda found: found)
    monkeypatch.setattr("p2p.show.as_image", lambda found: seen.append(repr(found)) or Image.new("L", (1, 1)))

    def call(figure: str, *options: str) -> str:
        prompts = ("a photo of a red cat on the grass", "a photo of a blue dog on the grass")
        word = ("--word", "grass") if figure == "sweep word" else ()
        args = parser().parse_args([*figure.split(), *prompts, *word, "--steps", "10", *options, "-o", "x.png"])
        args.make(tiny, args)
        return seen.pop()

    return call


@pytest.mark.parametrize("figure", USED)
def test_a_figure_uses_every_option_that_it_takes_and_refuses_the_others(drawn, figure, capsys):
    plain = drawn(figure)
    assert drawn(figure) == plain
    for option in (*FLAGS, *VALUES):
        words = (option,) if option in FLAGS else (option, VALUES[option])
        if option in USED[figure] or option == "--steps":
            assert drawn(figure, *words) != plain, option
        else:
            with pytest.raises(SystemExit):
                drawn(figure, *words)
            assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_a_file_that_holds_no_edit_is_refused(p2p):
    p2p("generate", CAT, "--steps", "1", "-o", "g.png")
    Path("junk.json").write_bytes(b"\xff\x00")
    for file, message in (("g.png", "holds no edit"), ("junk.json", "holds no edit"), ("none.json", "could not read")):
        with pytest.raises(SystemExit, match=message):
            p2p("replay", file, "-o", "x.png")


def test_a_file_names_no_path_of_a_model(p2p, monkeypatch):
    p2p("edit", CAT, DOG, "--steps", "1", "--save", "s.json", "-o", "e.png")
    monkeypatch.setattr(sys, "argv", ["p2p", "replay", "s.json", "-o", "x.png"])
    with pytest.raises(SystemExit, match="has no name here: give --model"):
        main()


def test_the_model_that_a_file_asks_for_is_said_before_it_is_loaded(p2p, monkeypatch, capsys):
    """It may be gigabytes to download."""
    p2p("edit", CAT, DOG, "--steps", "1", "--save", "s.json", "-o", "e.png")
    call = json.loads(Path("s.json").read_text()) | {"model": "sd15"}
    Path("s.json").write_text(json.dumps(call))

    def load(name, *_, **__):
        raise ValueError(f"would load {name}")

    monkeypatch.setattr("p2p.__main__.load", load)
    monkeypatch.setattr(sys, "argv", ["p2p", "replay", "s.json", "-o", "x.png"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="would load sd15"):
        main()
    assert capsys.readouterr().err == "s.json asks for the model sd15\n"
    with pytest.raises(SystemExit, match="would load sd21"):
        p2p("replay", "s.json", "-o", "x.png", model="sd21")
    assert not capsys.readouterr().err


def test_ddpm_and_eta_run(p2p):
    p2p("generate", CAT, "--sampler", "ddpm", "--steps", "2", "-o", "a.png")
    p2p("generate", CAT, "--eta", "1", "--steps", "2", "-o", "b.png")
    # [D17] eta = 1 is ancestral sampling; rounding of another order of operations
    assert abs(picture("a.png").astype(int) - picture("b.png")).max() <= 1


@pytest.mark.parametrize(("sampler", "calls"), [("ddpm", 3), ("plms", 4), ("dpm++", 3), ("euler", 3)])
def test_every_sampler_runs_and_its_network_calls_are_counted(p2p, capsys, sampler, calls):
    p2p("generate", CAT, "--sampler", sampler, "--steps", "3", "-o", "a.png")
    assert f" {calls}/{calls} " in capsys.readouterr().err
    p2p("generate", CAT, "--steps", "3", "-o", "b.png")
    # euler is ddim, and ends where the small model's ddim does
    assert (picture("a.png") == picture("b.png")).all() == (sampler == "euler")


def test_an_edit_by_plms_with_a_local_blend_replays_to_the_bit(p2p, capsys):
    """PLMS reaches its second time step twice."""
    p2p("edit", CAT, DOG, "--sampler", "plms", "--blend", "dog", "--steps", "4", "--save", "s.json", "-o", "e.png")
    assert " 5/5 " in capsys.readouterr().err
    p2p("replay", "s.json", "-o", "again.png")
    assert (picture("e.png") == picture("again.png")).all()
    p2p("show", "schedule", CAT, DOG, "--sampler", "plms", "--steps", "4", "-o", "f.png")


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
        (("edit", CAT, DOG, "--tau", "1.5", "-o", "x.png"), r"tau as a fraction of T must lie in \[0, 1\], got 1.5"),
        (("edit", CAT, DOG, "--tau", "2000", "-o", "x.png"), r"time step must lie in 0\.\.1001, got 2000"),
        (("edit", CAT, DOG, "--tau", "-1", "-o", "x.png"), r"must lie in 0\.\.1001, got -1"),
        (("attention", " ", "-o", "x.png"), "no words to show the attention of"),
        ((*GOOD, "--seed", "-1"), r"seed must lie in 0\.\.2\^63-1, got -1"),
        (("edit", CAT, DOG, "--swap", "bird=dog", "-o", "x.png"), "no word 'bird'.*photo, of, cat"),
        (("edit", CAT, DOG, "--reweight", "a=2", "-o", "x.png"), "say a#1 or a#2"),
        (("edit", CAT, DOG, "--preserve", "dog", "-o", "x.png"), "'dog' cannot be preserved"),
        (("edit", CAT, DOG, "--alpha", "dig=0.5", "-o", "x.png"), "Did you mean 'dog'"),
        (("edit", CAT, DOG, "--blend", "bird", "-o", "x.png"), "neither prompt has 'bird'"),
        (("edit", CAT, DOG, "--blend=-cat", "-o", "x.png"), "at least one word"),
        (("edit", CAT, DOG, "--alpha", "dog=0.2:0.5", "-o", "x.png"), "after its end"),
        (("edit", CAT, DOG, "--reweight", "dog=-1", "--renormalise", "-o", "x.png"), "negative weight"),
        (("edit", CAT, DOG, "--mask", "none.png", "-o", "x.png"), "mask 'none.png' can't be read"),
        (("edit", CAT, DOG, "--gif", "x.png", "-o", "x.png"), r"must be a \.gif file"),
        (("sweep", "tau", CAT, DOG, "--seeds", "0", "-o", "x.png"), "--seeds must be at least 1"),
        (("sweep", "word", CAT, DOG, "--word", "dog", "-o", "x.png"), "'dog' cannot be preserved"),
        (("show", "mapper", CAT, DOG, "--swap", "bird=dog", "-o", "x.png"), "no word 'bird'"),
        (("edit", CAT, DOG, "--self-side", "0", "-o", "x.png"), "at least 1 position a side, got a limit of 0"),
        (("edit", CAT, DOG, "--save", "call.txt", "-o", "x.png"), r"must be a \.json file"),
        (("edit", CAT, "dog " * 31, "-o", "x.png"), "31 tokens, the model's context holds 30"),
    ],
)
def test_bad_input_is_one_line_that_names_the_fix(p2p, args, message, monkeypatch):
    monkeypatch.setattr("ldm.unet.UNet.forward", lambda *_, **__: pytest.fail("sampling began"))
    with pytest.raises(SystemExit, match=message) as stopped:
        p2p(*args)
    assert str(stopped.value).startswith("p2p: error: ")
    assert not os.listdir()


@pytest.mark.parametrize("word", ["abc", "nan", "inf", ""])
def test_a_tau_that_is_no_number_is_refused(p2p, word, capsys):
    with pytest.raises(SystemExit):
        p2p("edit", CAT, DOG, "--tau", word, "-o", "x.png")
    assert "is not a number" in capsys.readouterr().err


def test_unknown_model_is_told_the_known_ones(p2p):
    with pytest.raises(SystemExit, match=r"no model 'stickerz': give stickers, which ships; one to download .*sd15"):
        p2p(*GOOD, model="stickerz")


def test_output_that_may_not_be_written_is_refused_first(p2p, monkeypatch):
    os.mkdir("taken.png")
    with pytest.raises(SystemExit, match="is a folder"):
        p2p("generate", CAT, "-o", "taken.png")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SystemExit, match="may not be written"):
        p2p(*GOOD)


def test_interrupt_leaves_no_file(p2p, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ldm.unet.UNet.forward", interrupted)
    with pytest.raises(SystemExit, match=r"^p2p: interrupted$"):
        p2p(*GOOD)
    assert not os.listdir()


def test_interrupt_leaves_what_was_written_and_no_half_of_a_file(p2p, monkeypatch):
    save = Image.Image.save

    def interrupted(self, path, **options):
        if options["format"] == "GIF":
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(SystemExit, match=r"^p2p: interrupted$"):
        p2p("edit", CAT, DOG, "--steps", "1", "--gif", "e.gif", "-o", "e.png")
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


def test_equations_lists_the_formulas_with_the_slides_slips(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "equations"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18 + 3 + 9 + 13
    assert any(line.startswith("D7  *") for line in lines) and any(line.startswith("D8   ") for line in lines)


def test_help_explains_tau(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["p2p", "edit", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = " ".join(capsys.readouterr().out.split())
    assert "0.2 means 0.2 T, so the first 80% of the steps inject" in text
    assert "t >= TAU" in text
