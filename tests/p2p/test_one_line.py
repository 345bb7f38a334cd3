"""`p2p.edit` and what stands beside it: the command line's options as keywords, and what comes back."""

import argparse
import inspect
import io
import json
import sys
from copy import copy
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

import p2p
from ldm.attention import Place
from ldm.samplers import SAMPLERS
from p2p.__main__ import main
from p2p.call import Blend, Sampling
from p2p.cli import groups, options
from p2p.cli import parser as parsers
from p2p.cli.calls import sampling_of
from p2p.maps import SPECIAL, Scale
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS
from tests.support.model_files import save_model
from weights.load import DTYPES, SHIPPED

pytestmark = pytest.mark.usefixtures("two_draws")

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    """The random model as a folder."""
    return str(save_model(tiny, tmp_path_factory.mktemp("model")))


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Call the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> None:
        monkeypatch.setattr(sys, "argv", ["p2p", *args])
        main()

    return call


def command_of(name: str) -> argparse.ArgumentParser:
    top = parsers.parser()
    (commands,) = (action for action in top._actions if action.dest == "command")
    return commands.choices[name]


@pytest.mark.parametrize("name", ["edit", "replay", "generate", "attention", "compare", "restore"])
def test_every_option_is_a_keyword_with_the_same_default(name):
    """`--help` aside; and the other way round every keyword is an option, but for `edits`, which are Python's."""
    listed = lambda default: list(default) if isinstance(default, tuple) else default
    actions = {action.dest: action for action in command_of(name)._actions if action.dest != "help"}
    keywords = inspect.signature(getattr(p2p, name)).parameters
    assert actions.keys() == keywords.keys() - {"edits"}
    needed = lambda action: action.required and action.dest != "output"  # which Python can do without
    options = {dest for dest, action in actions.items() if action.option_strings and not needed(action)}
    assert len(options) > 8
    assert {dest: listed(actions[dest].default) for dest in options} == {
        dest: listed(keywords[dest].default) for dest in options
    }


@pytest.mark.parametrize("name, figures", [("show", options.SHOW), ("sweep", options.SWEEP)])
def test_figures_have_the_keywords_of_all_their_commands(name, figures):
    (chosen,) = (action.choices for action in command_of(name)._actions if action.dest == "figure")
    assert chosen.keys() == figures.keys()
    found = {action.dest for figure in chosen.values() for action in figure._actions} - {"help"}
    assert inspect.signature(getattr(p2p, name)).parameters.keys() == found | {"figure"}


@pytest.mark.parametrize("name", ["edit", "replay", "generate", "attention", "show", "sweep", "compare", "restore"])
def test_help_of_a_function_explains_every_keyword(name):
    function = getattr(p2p, name)
    listed = function.__doc__.partition("Keywords:")[2]
    for keyword, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert f"\n        {keyword}: " in listed
    assert "%" not in listed.replace("80%", "") and "--tau" not in listed


def test_the_names_that_the_parser_lists_are_those_there_are():
    """It lists them itself, so that its help needs no torch."""
    assert list(SAMPLERS) == list(groups.SAMPLERS) and ["auto", *DTYPES] == list(groups.DTYPES)
    assert get_args(Scale) == groups.SCALES and get_args(Place) == groups.PLACES
    models = {action.dest: action.help for action in command_of("edit")._actions}["model"]
    assert all(f"{name}, " in models for name in SHIPPED)


def test_what_is_not_said_is_what_a_call_has_by_default(tiny):
    result = p2p.edit(CAT, DOG, model=tiny, steps=1)
    encode, side = tiny.tokenizer.encode, p2p.layout_side(tiny)
    target = p2p.Target.of(DOG, p2p.Edit.between(encode(CAT), encode(DOG)))
    injection = p2p.SelfInjection(FOR_OBJECTS.until, p2p.Layers(side=side))
    assert result.call == p2p.Call(CAT, (target,), injection, sampling=Sampling(steps=1), model=tiny.config.name)
    shown = options.Edit(source=CAT, targets=(DOG,))
    assert sampling_of(shown) == Sampling() and shown.model in SHIPPED
    assert p2p.SelfInjection().until == shown.self_until and p2p.Layers().places == shown.layers
    by_dest = {action.dest: action.help for action in command_of("edit")._actions}
    assert f"(default {Blend().start})" in by_dest["blend_from"]
    for dest, (objects, others) in zip(("tau", "self_until"), zip(FOR_OBJECTS, FOR_OTHERS)):
        assert f"Default {objects} where an object becomes another" in by_dest[dest]
        assert f"and {others} for all other edits" in by_dest[dest]


OPTIONS = (  # of the command line, and the same as keywords
    ([], {}),
    (
        ["--swap", "cat=dog", "--preserve", "grass", "--reweight", "grass=2", "--alpha", "dog=0.5", "--tau", "0.3"],
        dict(
            swap={"cat": "dog"},
            preserve="grass",
            reweight={"grass": np.float32(2)},
            alpha={"dog": np.float64(0.5)},
            tau=0.3,
        ),
    ),
    (
        ["--blend", "dog,-grass", "--blend-from", "t=900", "--self-until", "1:0.5", "--self-side", "8"],
        dict(blend=["dog", "-grass"], blend_from=p2p.Step(900), self_until=p2p.Window(0.5, 1.0), self_side=8),
    ),
    (
        ["--refine", "--renormalise", "--layers", "down,up", "--sampler", "plms", "--guidance", "2"],
        dict(refine=True, renormalise=True, layers=["down", "up"], sampler="plms", guidance=2),
    ),
    (
        ["--swap", "cat=dog", "--reweight", "dog=3@0.5", "--tau", "0.2"],
        dict(edits=p2p.Swap("cat", "dog") + p2p.Reweight("dog", 3.0, 0.5)),
    ),
    (["--eta", "0.5", "--seed", "7", "--upscale", "2"], dict(eta=0.5, seed=np.int64(7), upscale=2)),
    (["--compare", "--scale", "shared"], dict(compare=True, scale="shared")),
    (["--seeds", "2"], dict(seeds=2)),
)


@pytest.mark.parametrize(("options", "keywords"), OPTIONS, ids=lambda x: "".join(x[:1]) if isinstance(x, list) else "")
def test_the_image_is_the_command_lines_to_the_bit(model, command, options, keywords):
    command("edit", CAT, DOG, "--model", model, "--steps", "3", *options, "-o", "line.png", "--save", "line.json")
    result = p2p.edit(CAT, DOG, model=Path(model), steps=3, **keywords)
    assert result.call == p2p.Call.from_json(Path("line.json").read_bytes())
    shown = Image.open(io.BytesIO(result._repr_png_()))
    assert shown.tobytes() == Image.open("line.png").tobytes() == result.image.tobytes()


def test_the_shipped_model_edits_in_one_line_as_the_command_line(command):
    result = p2p.edit(CAT, DOG, seed=7, steps=2)
    command("edit", CAT, DOG, "--seed", "7", "--steps", "2", "-o", "line.png")
    assert Image.open(io.BytesIO(result._repr_png_())).tobytes() == Image.open("line.png").tobytes()


def test_a_result_has_the_source_beside_its_targets(tiny):
    bicycle = "a photo of a bicycle on the grass"
    result = p2p.edit(CAT, DOG, bicycle, model=tiny, steps=2)
    assert len(result.targets) == 2 and [state.t for state in result.states] == [500, 0]
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())))
    assert (shown == np.concatenate([np.asarray(image) for image in (result.source, *result.targets)], axis=1)).all()
    assert (result.images == tiny.decode(result.states[-1].z_t)).all()
    assert all(repr(prompt) in repr(result) for prompt in (CAT, DOG, bicycle))


def test_maps_have_the_words_on_an_axis_and_leave_the_images(tiny):
    result = p2p.edit(CAT, DOG, model=tiny, steps=2)
    before = result.images.copy()
    source, target = result.maps
    words = ("a#1", "photo", "of", "a#2", "cat", "on", "the", "grass", SPECIAL)
    assert source.words == words and target.words == (*words[:4], "dog", *words[5:])
    side = p2p.layout_side(tiny)
    assert source.A.shape == (2, len(words), side, side) and source.times == (1000, 500)
    # sums of a few hundred float32 numbers
    torch.testing.assert_close(torch.tensor(source.A.sum(axis=1)), torch.ones(2, side, side), atol=1e-5, rtol=0)
    assert (target["dog"] == target.A[:, 4].mean(axis=0)).all()
    assert (result.images == before).all() and result.maps is result.maps
    # both steps lie in tau's window, where the dog has the cat's attention, of maps built by the explicit engine
    assert (source["cat"] == target["dog"]).all() and not (source["cat"] == source["grass"]).all()
    with pytest.raises(ValueError, match=r"has no word 'horse'\. Its words are: a"):
        source["horse"]
    with pytest.raises(ValueError, match="'a'"):
        source["a"]


def test_maps_that_were_recorded_are_not_made_again(tiny, monkeypatch, tmp_path):
    result = p2p.edit(CAT, DOG, model=tiny, steps=1, save_maps=tmp_path / "m.npz")
    monkeypatch.setattr("p2p.result.edited", lambda *_, **__: pytest.fail("the call ran again"))
    saved = np.load(tmp_path / "m.npz")
    assert all((saved[f"maps_{i}"] == maps.A).all() for i, maps in enumerate(result.maps))


def test_a_call_is_replayed_from_memory_file_and_image(tiny, tmp_path):
    image, file = tmp_path / "e.png", str(tmp_path / "c.json")
    result = p2p.edit(CAT, DOG, model=tiny, steps=2, mask=np.eye(16) > 0, output=image, save=file)
    assert p2p.Call.from_json(result.call.to_json()) == result.call
    for saved in (result.call, file, image):
        again = p2p.replay(saved, model=tiny)
        assert again.call == result.call and (again.images == result.images).all()
    assert np.array_equal(np.asarray(Image.open(image)), np.asarray(result.image))
    with pytest.raises(ValueError, match=r"the call was made by the model 'tiny', .*: give model$"):
        p2p.replay(result.call)


def test_generate_is_the_command_lines(model, command):
    command("generate", CAT, "--model", model, "--steps", "2", "--seed", "3", "-o", "line.png")
    image = p2p.generate(CAT, model=model, steps=2, seed=3, output="one.png")
    assert image.tobytes() == Image.open("line.png").tobytes() == Image.open("one.png").tobytes()
    made, line = (json.loads(Image.open(name).text["p2p"]) for name in ("one.png", "line.png"))
    assert made == line


DRAWN = (  # by the command line, and by a function
    (("attention", CAT), lambda **how: p2p.attention(CAT, **how)),
    (("attention", CAT, "--by", "component"), lambda **how: p2p.attention(CAT, by="component", **how)),
    (
        ("show", "mapper", CAT, DOG, "--reweight", "grass=2"),
        lambda **how: p2p.show("mapper", CAT, DOG, reweight={"grass": 2}, **how),
    ),
    (("show", "schedule", CAT, DOG, "--tau", "0.5"), lambda **how: p2p.show("schedule", CAT, DOG, tau=0.5, **how)),
    (("sweep", "tau", CAT, DOG), lambda **how: p2p.sweep("tau", CAT, DOG, **how)),
    (("sweep", "word", CAT, DOG, "--word", "grass"), lambda **how: p2p.sweep("word", CAT, DOG, word="grass", **how)),
)


@pytest.mark.parametrize(("line", "draw"), DRAWN, ids=lambda x: " ".join(x[:2]) if isinstance(x, tuple) else "")
def test_a_drawing_is_the_command_lines(model, command, line, draw):
    command(*line, "--model", model, "--steps", "2", "-o", "line.png")
    drawn = draw(model=model, steps=2, output="one.png")
    shown = Image.open(io.BytesIO(drawn._repr_png_()))
    assert shown.tobytes() == Image.open("line.png").tobytes() == drawn.image.tobytes()
    assert Image.open("line.png").text == Image.open("one.png").text


def test_a_drawing_has_the_data_that_it_shows(tiny):
    """Of the mapper, [P7]'s by hand: one cat is one dog, so M and P_t at T are the identity."""
    maps = p2p.attention(CAT, model=tiny, steps=2).data
    assert maps.A.shape[:2] == (2, 9) and maps.words[4] == "cat"
    M, at = p2p.show("mapper", CAT, DOG, model=tiny).data
    assert (torch.eye(32) == M).all() and (at[1000].P == M).all()
    names, shares = p2p.show("schedule", CAT, DOG, model=tiny, tau=0.5, steps=2).data
    assert names[5] == "dog" and shares[5].tolist() == [1, 1] and shares.shape == (12, 2)
    (swept,) = p2p.sweep("tau", CAT, DOG, model=tiny, steps=1).data
    assert swept.images.shape == (1, 6, 32, 32, 3) and swept.target == DOG


@pytest.mark.parametrize(
    ("draw", "kind", "message"),
    [
        (lambda: p2p.show("map", CAT, DOG), ValueError, "p2p.show draws 'mapper' or 'schedule', got 'map'"),
        (lambda: p2p.show("schedule", CAT, DOG, reweight={"dog": 2}), TypeError, "'schedule'.* no keyword 'reweight'"),
        (lambda: p2p.sweep("word", CAT, DOG), TypeError, "needs the keyword 'word'"),
        (lambda: p2p.sweep("tau", CAT), ValueError, "at least one target"),
        (lambda: p2p.attention(CAT, by="words"), ValueError, "by must be 'word', 'step', 'layer' or 'component'"),
        (lambda: p2p.attention(CAT, scal="word"), TypeError, "did you mean 'scale'"),
    ],
)
def test_a_wrong_drawing_is_refused(draw, kind, message, monkeypatch):
    monkeypatch.setattr("p2p.cli.run.load", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(kind, match=message):
        draw()


def test_a_model_is_loaded_onto_one_default_device():
    devices = {inspect.signature(function).parameters["device"].default for function in (p2p.edit, p2p.load)}
    assert devices == {"auto"}


def test_a_mask_is_an_array_of_the_images_or_latents_size(tiny):
    small = np.eye(16, dtype=bool)
    masks = [
        p2p.edit(CAT, DOG, model=tiny, steps=1, mask=mask).call.targets[0].mask
        for mask in (
            small,
            small.repeat(2, 0).repeat(2, 1).astype(np.float32),
            torch.tensor(small),
            np.fliplr(np.fliplr(small).copy()),  # an array that runs backwards
        )
    ]
    assert masks[0] == masks[1] == masks[2] == masks[3] == tuple("0" * i + "1" + "0" * (15 - i) for i in range(16))


REFUSED = (
    (
        dict(gudance=3),
        TypeError,
        r"p2p.edit has no keyword 'gudance': did you mean 'guidance'\? Its",
    ),
    (dict(zzz=3), TypeError, r"no keyword 'zzz'\. Its"),
    (dict(swap=("cat", "dog")), ValueError, "swap must be a dict by word, such as {'cat': 'dog'}, got"),
    (dict(reweight=3), ValueError, "reweight must be a dict by word, such as {'fog': 3}"),
    (dict(blend=3), ValueError, "blend must be a string or a list of strings, got 3"),
    (dict(blend="-dog"), ValueError, "blend needs at least one word"),
    (dict(blend_from=0.3), ValueError, "^blend_from sets when blend or mask begins to apply"),
    (dict(self_side=1), ValueError, "^self_side 1 leaves .* or self_until never"),
    (dict(edits=p2p.Refine(), tau=0.0), ValueError, "leave out tau"),
    (dict(edits=[p2p.Refine()] * 2), ValueError, "1 targets and 2 edits"),
    (dict(edits="swap"), ValueError, "edits must be an edit such as"),
    (dict(compare=True, seeds=2), ValueError, "compare and seeds are two ways"),
    (dict(upscale=17), ValueError, r"upscale must lie in 1\.\.16"),
    (dict(compare="yes"), ValueError, "compare must be a boolean"),
    (dict(output=3), ValueError, "output must be a path, got 3"),
    (dict(output="e.jpg"), ValueError, r"must be a \.png file"),
    (
        dict(mask=np.eye(7)),
        ValueError,
        r"an array \(7, 7\); it must have the image's size",
    ),
    (dict(mask=255 * np.eye(16)), ValueError, "divide one of bytes by 255"),
    (dict(mask=np.full((16, 16), "white")), ValueError, "black to white, got an array of <U5"),
    (dict(device="cpu"), ValueError, "device applies when a model is loaded"),
    (dict(model=3), ValueError, "model must be a name, a path or a model"),
    (dict(tau=200), ValueError, r"a timestep is Step\(t\)"),
)


@pytest.mark.parametrize(("keywords", "kind", "message"), REFUSED)
def test_a_wrong_keyword_is_refused_before_anything_is_sampled(tiny, monkeypatch, keywords, kind, message):
    monkeypatch.setattr(type(tiny), "predict", lambda *_: pytest.fail("the network was called"))
    with pytest.raises(kind, match=message):
        p2p.edit(CAT, DOG, **dict(model=tiny) | keywords)


@pytest.mark.parametrize(("targets", "message"), [(([DOG],), "one after the other"), ((), "at least one target")])
def test_targets_are_given_one_after_the_other(tiny, targets, message):
    with pytest.raises(ValueError, match=message):
        p2p.edit(CAT, *targets, model=tiny)


def test_a_file_to_replay_is_a_path_or_a_call():
    with pytest.raises(ValueError, match="file must be a path or a call, got 5"):
        p2p.replay(5)


def test_a_call_names_what_its_model_was_loaded_from(tiny, model, monkeypatch):
    """Not what its configuration is called, which may be the name of public weights."""
    named = lambda of: p2p.edit(CAT, DOG, model=of, steps=1).call
    assert named(p2p.load(model)).model == model
    assert not named(p2p.load(model, ema=False)).ema
    monkeypatch.chdir(Path(model).parent)
    name = Path(model).name
    assert named(p2p.load(Path(name))).model == f"./{name}"  # a Path is no name
    own = copy(tiny)
    own.config = replace(tiny.config, name="sd15")
    with pytest.raises(ValueError, match="made by the model 'sd15, made in Python', which is no known name"):
        p2p.replay(named(own))


@pytest.mark.usefixtures("unchecked")
def test_times_may_be_numbers_of_other_types(tiny):
    alpha = {"dog": p2p.Window(np.float32(0.5)), "grass": Fraction(1, 4)}
    times = dict(tau=p2p.Step(np.int64(200)), alpha=alpha, self_until=Decimal("0.5"))
    call = p2p.edit(CAT, DOG, model=tiny, steps=1, **times).call
    usual = dict(tau=p2p.Step(200), alpha={"dog": p2p.Window(0.5), "grass": 0.25}, self_until=0.5)
    assert call == p2p.edit(CAT, DOG, model=tiny, steps=1, **usual).call
    assert call == type(call).from_json(call.to_json())


def test_times_may_be_written_as_on_the_command_line(tiny):
    written = p2p.edit(CAT, DOG, model=tiny, steps=1, tau="t=200", alpha={"dog": "1:0.5"}, self_until="never").call
    half = p2p.Window(start=1.0, end=0.5)
    given = p2p.edit(CAT, DOG, model=tiny, steps=1, tau=p2p.Step(200), alpha={"dog": half}, self_until="never").call
    assert written == given
    with pytest.raises(ValueError, match="tau: 'soon' is not a number"):
        p2p.edit(CAT, DOG, model=tiny, tau="soon")
