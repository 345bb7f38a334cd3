"""`p2p replay`: a call travels in a file and in its image, and makes the same picture again."""

import json
import shutil
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from p2p.__main__ import main
from tests.support.command_line import CAT, DOG, image
from weights.load import load

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


def test_a_generated_picture_holds_the_full_call(p2p, folder):
    p2p("generate", CAT, "--steps", "2", "--seed", "5", "-o", "g.png")
    call = json.loads(Image.open("g.png").text["p2p"])
    assert (call["command"], call["prompt"], call["model"]) == ("generate", CAT, str(folder))
    assert (call["steps"], call["seed"], call["guidance"], call["sampler"], call["eta"]) == (2, 5, 4.0, "ddim", 0.0)


@pytest.mark.machine
@pytest.mark.parametrize("kept", ["saved.json", "e.png"])
def test_an_edit_replays_to_the_bit_from_its_file_and_image(p2p, kept):
    p2p("edit", *EDIT, *OPTIONS, "--steps", "3", "--seed", "5", "--save", "saved.json", "-o", "e.png")
    p2p("replay", kept, "-o", "again.png")
    assert (image("e.png") == image("again.png")).all()
    assert Image.open("e.png").text == Image.open("again.png").text


def test_an_edit_by_plms_with_a_local_blend_replays_to_the_bit(p2p, capsys):
    """PLMS reaches its second time step twice."""
    p2p("edit", CAT, DOG, "--sampler", "plms", "--blend", "dog", "--steps", "4", "--save", "s.json", "-o", "e.png")
    assert " 5/5 " in capsys.readouterr().err
    p2p("replay", "s.json", "-o", "again.png")
    assert (image("e.png") == image("again.png")).all()
    p2p("show", "schedule", CAT, DOG, "--sampler", "plms", "--steps", "4", "-o", "f.png")


def test_each_target_of_a_file_may_have_its_own_edits(p2p):
    p2p("edit", CAT, DOG, CAT, "--tau", "0.0", "--self-until", "0.0", "--steps", "2", "--save", "s.json", "-o", "e.png")
    call = json.loads(Path("s.json").read_text())
    call["targets"][1]["edits"].append({"reweight": {"word": "grass", "factor": 50.0}})
    Path("s.json").write_text(json.dumps(call))
    p2p("replay", "s.json", "-o", "again.png")
    before, after = image("e.png").astype(int), image("again.png").astype(int)
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
    assert (image("again.png") == image("m.png")).all()


def test_a_file_that_holds_no_edit_is_refused(p2p):
    p2p("generate", CAT, "--steps", "1", "-o", "g.png")
    Image.new("L", (8, 8)).save("plain.png")
    Path("junk.json").write_bytes(b"\xff\x00")
    for file, message in (
        ("g.png", r"g\.png was made by `p2p generate`: only images made by `p2p edit` can be replayed$"),
        ("plain.png", "holds no edit to replay: `p2p edit` did not make it"),
        ("junk.json", "holds no edit"),
        ("none.json", "could not read"),
        ("none.png", r"none\.png can't be read"),
    ):
        with pytest.raises(SystemExit, match=message):
            p2p("replay", file, "-o", "x.png")


@pytest.mark.filterwarnings("default")  # as it is for users: of PIL's two limits the lower one only warns
@pytest.mark.parametrize("limit", [2000, 1000])
def test_a_picture_of_any_number_of_pixels_is_replayed(p2p, monkeypatch, limit):
    """Its pixels are not decoded, and a figure of ours is no file from elsewhere."""
    p2p("edit", CAT, DOG, "--steps", "1", "-o", "e.png")  # of 2048 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    p2p("replay", "e.png", "-o", "x.png")
    assert Path("e.png").read_bytes() == Path("x.png").read_bytes()
    p2p("show", "mapper", CAT, DOG, "-o", "m.png")


def test_a_call_that_unpacks_to_megabytes_is_refused(p2p):
    info = PngInfo()
    info.add_itxt("p2p", " " * 2**24, zip=True)  # 16 kB in the file
    Image.new("L", (8, 8)).save("bomb.png", pnginfo=info)
    with pytest.raises(SystemExit, match=r"^p2p: error: bomb\.png can't be read as an image: .* too large"):
        p2p("replay", "bomb.png", "-o", "x.png")


def test_a_picture_made_again_names_the_model_that_made_it(p2p, folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "model"
    shutil.copytree(folder, other)
    p2p("edit", CAT, DOG, "--steps", "1", "-o", "e.png")
    p2p("replay", "e.png", "-o", "again.png", model=str(other))
    made, again = (json.loads(Image.open(name).text["p2p"]) for name in ("e.png", "again.png"))
    assert made["model"] == str(folder) and again == made | {"model": str(other)}


@pytest.mark.parametrize(("first", "then"), [((), ()), (("--no-ema",), ()), ((), ("--no-ema",))])
def test_a_call_keeps_whether_averaged_weights_made_the_image(p2p, monkeypatch, first, then):
    taken = []
    monkeypatch.setattr("p2p.cli.run.load", lambda *args, ema, **kw: taken.append(ema) or load(*args, ema=ema, **kw))
    p2p("edit", CAT, DOG, "--steps", "1", *first, "-o", "e.png")
    p2p("replay", "e.png", *then, "-o", "again.png")
    averaged = [not first, not (first or then)]
    assert taken == averaged
    assert [json.loads(Image.open(name).text["p2p"])["ema"] for name in ("e.png", "again.png")] == averaged


@pytest.mark.parametrize("first, then, used", [("v", [], "vv"), ("eps", [], ["eps"] * 2), ("v", ["eps"], ["v", "eps"])])
def test_what_the_unet_predicts_is_kept_in_a_saved_call(p2p, monkeypatch, first, then, used):
    taken = []
    how = lambda *args, parameterisation, **kw: (
        taken.append(parameterisation) or load(*args, parameterisation=parameterisation, **kw)
    )
    monkeypatch.setattr("p2p.cli.run.load", how)
    p2p("edit", CAT, DOG, "--steps", "1", "--parameterisation", first, "-o", "e.png")
    p2p("replay", "e.png", *(x for p in then for x in ("--parameterisation", p)), "-o", "again.png")
    assert taken == list(used)
    assert (Path("e.png").read_bytes() == Path("again.png").read_bytes()) is (not then)


def test_a_file_names_no_path_of_a_model(p2p, monkeypatch):
    p2p("edit", CAT, DOG, "--steps", "1", "--save", "s.json", "-o", "e.png")
    monkeypatch.setattr(sys, "argv", ["p2p", "replay", "s.json", "-o", "x.png"])
    with pytest.raises(SystemExit, match="is no known name: give --model"):
        main()


def test_the_model_of_a_file_is_printed_before_it_is_loaded(p2p, monkeypatch, capsys):
    """It may be gigabytes to download."""
    p2p("edit", CAT, DOG, "--steps", "1", "--save", "s.json", "-o", "e.png")
    call = json.loads(Path("s.json").read_text()) | {"model": "sd15"}
    Path("s.json").write_text(json.dumps(call))

    def load(name, *_, **__):
        raise ValueError(f"would load {name}")

    monkeypatch.setattr("p2p.cli.run.load", load)
    monkeypatch.setattr(sys, "argv", ["p2p", "replay", "s.json", "-o", "x.png"])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="would load sd15"):
        main()
    assert capsys.readouterr().err == "s.json asks for the model sd15\n"
    with pytest.raises(SystemExit, match="would load sd21"):
        p2p("replay", "s.json", "-o", "x.png", model="sd21")
    assert not capsys.readouterr().err
