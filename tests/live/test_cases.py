"""What the page's JavaScript is tested on: enough, and of every kind."""

import json

import pytest

from p2p.live.cases import BLENDS, EDITS, NOISE, PROMPTS, STEPS
from p2p.live.world import FOLDER, PRESETS, world
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS
from weights.load import load


@pytest.fixture(scope="module")
def model():
    return load("stickers", device="cpu")


@pytest.fixture(scope="module")
def made():
    """As the page's JavaScript is tested on them."""
    built = json.loads((FOLDER / "cases.json").read_text())
    del built["images"]
    return built


@pytest.mark.live
def test_there_are_a_thousand_of_every_kind(made):
    counts = {kind: len(found) for kind, found in made.items()}
    assert counts == {"prompts": PROMPTS, "edits": EDITS, "steps": STEPS, "noise": NOISE, "blends": BLENDS}
    assert sum(counts.values()) == 1000


@pytest.mark.live
def test_edits_take_every_way_through_the_method(made):
    edits = made["edits"]
    taus = {edit["tau"] for edit in edits}
    assert "never" in taus and len(taus) > 300
    kinds = {
        "several swaps": lambda edit: len(edit["swaps"]) > 1,
        "a phrase for a word": lambda edit: any(len(a.split()) != len(b.split()) for a, b in edit["swaps"]),
        "an object for another": lambda edit: edit["default"] == FOR_OBJECTS._asdict(),
        "a swap within an object": lambda edit: bool(edit["swaps"]) and edit["default"] == FOR_OTHERS._asdict(),
        "no swap": lambda edit: not edit["swaps"],
        "a new word": lambda edit: bool(edit["new"]),
        "a word's own window": lambda edit: any(start < 1 for start, _ in edit["alpha"].values()),
        "a weight": lambda edit: bool(edit["weights"]),
        "a split column": lambda edit: any(0 < x < 1 for step in edit["steps"] for _, _, x in step["P"]),
        "a word that occurs twice": lambda edit: any("#2" in word for word in edit["alpha"]),
        "self-attention on": lambda edit: any(step["self"] for step in edit["steps"]),
        "self-attention off": lambda edit: any(not step["self"] for step in edit["steps"]),
    }
    rare = {kind: sum(map(has, edits)) for kind, has in kinds.items() if sum(map(has, edits)) < 15}
    assert not rare


@pytest.mark.live
def test_steps_take_every_way_through_the_samplers(made):
    seen = {(step["sampler"], step["k"] == 0, step["times"][step["k"] + 1] == 0) for step in made["steps"]}
    assert {(sampler, first, last) for sampler in ("ddim", "dpm++") for first, last in ((1, 0), (0, 0), (0, 1))} <= seen


@pytest.mark.live
def test_regions_are_neither_empty_nor_everywhere(made):
    shares = [sum(blend["mask"]) / len(blend["mask"]) for blend in made["blends"]]
    assert min(shares) > 0 and sorted(shares)[len(shares) // 2] < 1


def test_the_page_knows_the_prompts_of_its_presets(model):
    told = world(model)
    known = {word for entries in told["vocabulary"]["kinds"].values() for entry in entries for word in entry.split()}
    assert len(PRESETS) == len(told["presets"]) == 6
    assert all({*preset.source.split(), *preset.target.split()} <= known for preset in PRESETS)


def test_presets_have_the_times_of_their_prompts_but_for_a_tau_of_their_own(model):
    times = {preset["title"]: (preset["tau"], preset["until"]) for preset in world(model)["presets"]}
    assert times["One word for another"] == FOR_OBJECTS
    assert times["Another colour"] == FOR_OTHERS
    assert times["Another style"] == (0.4, FOR_OTHERS.until)


def test_another_kind_of_model_is_refused(tiny):
    with pytest.raises(ValueError, match="the page samples the included model only, not tiny"):
        world(tiny)
