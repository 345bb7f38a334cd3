"""What captions say, and which scenes are drawn for training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scenes import one, two
from weights.training import world
from weights.training.data import HELD_OUT_SEEDS, held_out_scenes, training_scenes
from weights.training.world import Scene, Thing, caption, is_held_out, sample_scene

# ---------------------------------------------------------------------------------------------------------------------
# captions


@pytest.mark.parametrize(
    ("scene", "words"),
    [
        (one("cat"), "a photo of a cat on the grass"),
        (one("apple"), "a photo of an apple on the grass"),
        (one("apple", says_place=False), "a photo of an apple"),
        (one("umbrella", "orange"), "a photo of an orange umbrella on the grass"),
        (one("umbrella", "blue", place="in the desert"), "a photo of a blue umbrella in the desert"),
        (one("apple", "red", "big"), "a photo of a big red apple on the grass"),
        (one("owl", size="small", place="at night"), "a photo of a small owl at night"),
        (one("cake", pattern="with sprinkles", place="on a table"), "a photo of a cake with sprinkles on a table"),
        (one("hat", pattern="striped", place="on the beach"), "a photo of a striped hat on the beach"),
        (one("octopus", "orange", "big", "striped"), "a photo of a big striped orange octopus on the grass"),
        (one("elephant", "pink", None, "with sprinkles"), "a photo of a pink elephant with sprinkles on the grass"),
        (one("castle", style="pencil drawing"), "a pencil drawing of a castle on the grass"),
        (one("boat", style="painting", place="in the sea"), "a painting of a boat in the sea"),
        (one("lion", place="on the street", weather="fog"), "a photo of a lion on the street in fog"),
        (one("bicycle", weather="snow", says_place=False), "a photo of a bicycle with snowflakes"),
        (one("rabbit", weather="snow", strength=1.0), "a photo of a rabbit on the grass with snowflakes"),
        (
            two(Thing("house"), "next to", Thing("tree"), place="in the snow"),
            "a photo of a house next to a tree in the snow",
        ),
        (
            two(Thing("apple", "green"), "above", Thing("ball", size="big"), style="painting", weather="fog"),
            "a painting of a green apple above a big ball on the grass in fog",
        ),
        (
            two(Thing("donut", pattern="with sprinkles"), "next to", Thing("owl", "orange"), says_place=False),
            "a photo of a donut with sprinkles next to an orange owl",
        ),
    ],
)
def test_captions_follow_the_grammar(scene, words):
    assert caption(scene) == words


def test_the_world_has_the_words_that_the_edits_need():
    assert len(world.NOUNS) >= 30
    assert len(world.COLOURS) == 7
    assert set(world.SIZES) == {"small", None, "big"}
    assert len(world.PLACES) == 8
    assert len(world.RELATIONS) == 2
    assert len(world.WEATHERS) == 2
    assert len(world.STYLES) == 3
    assert len(world.PATTERNS) == 2
    assert len(set(world.NOUNS.values())) == len(world.NOUNS)  # no two nouns share a sticker


def test_the_held_out_pairs_are_pairs_of_known_words():
    assert all(colour in world.COLOURS and noun in world.NOUNS for colour, noun in world.HELD_OUT_PAIRS)


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (lambda: one("unicorn"), world.NOUNS),
        (lambda: one("cat", "beige"), world.COLOURS),
        (lambda: one("cat", pattern="spotted"), world.PATTERNS),
        (lambda: one("cat", place="on the moon"), world.PLACES),
        (lambda: one("cat", style="sketch"), world.STYLES),
        (lambda: two(Thing("cat"), "under", Thing("dog")), world.RELATIONS),
        (lambda: two(Thing("cat"), "next to", Thing("unicorn")), world.NOUNS),
        (lambda: one("cat").replace(place="on the moon"), world.PLACES),
    ],
)
def test_a_scene_refuses_unknown_words_and_lists_the_known_ones(make, known):
    with pytest.raises(ValueError, match="is not in the stickers world; choose from") as error:
        make()
    listed = str(error.value).split("choose from ")[1].split(", ")
    assert set(listed) - {"None"} == set(known)


def test_a_scene_refuses_unknown_sizes_and_weathers_too():
    """In a process of its own, because the shape checks of the test run would be first to complain."""
    program = """
import json
from weights.training.world import Scene, Thing
def refusal(make):
    try: return repr(make())
    except ValueError as e: return str(e)
print(json.dumps([refusal(lambda: Scene((Thing("cat", size="huge"),))),
                  refusal(lambda: Scene((Thing("cat"),), weather="hail"))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert json.loads(done.stdout) == [
        "'huge' is not in the stickers world; choose from small, None, big",
        "'hail' is not in the stickers world; choose from None, fog, snow",
    ]


@pytest.mark.parametrize(
    ("things", "relation"), [((), None), (("cat",), "above"), (("cat", "dog"), None), (("cat", "dog", "owl"), "above")]
)
def test_a_scene_is_one_thing_or_two_with_a_relation(things, relation):
    with pytest.raises(ValueError, match="one thing, or two and a relation"):
        Scene(tuple(map(Thing, things)), relation=relation)


# ---------------------------------------------------------------------------------------------------------------------
# random scenes


def test_the_same_seed_gives_the_same_scene():
    scenes = [sample_scene(seed) for seed in range(100)]
    assert scenes == [sample_scene(seed) for seed in range(100)]
    assert len(set(map(caption, scenes))) > 90  # and other seeds give other scenes, a few short captions aside
    assert [scene.seed for scene in scenes] == list(range(100))


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    return [sample_scene(seed) for seed in range(1200)]


def test_random_scenes_use_every_word(sampled):
    things = [thing for scene in sampled for thing in scene.things]
    assert {thing.noun for thing in things} == set(world.NOUNS)
    assert {thing.colour for thing in things} == {None, *world.COLOURS}
    assert {thing.size for thing in things} == set(world.SIZES)
    assert {thing.pattern for thing in things} == {None, *world.PATTERNS}
    assert {scene.place for scene in sampled} == set(world.PLACES)
    assert {scene.relation for scene in sampled} == {None, *world.RELATIONS}
    assert {scene.weather for scene in sampled} == {None, *world.WEATHERS}
    assert {scene.style for scene in sampled} == set(world.STYLES)
    assert {scene.says_place for scene in sampled} == {True, False}


def test_pencil_drawings_never_speak_of_colours(sampled):
    assert all(t.colour is None for scene in sampled if scene.style == "pencil drawing" for t in scene.things)


def test_the_strength_of_the_weather_is_a_fraction(sampled):
    assert all(0 <= scene.strength <= 1 for scene in sampled)


def test_no_training_scene_has_a_held_out_pair(sampled):
    scenes = training_scenes(800)
    pairs = {(thing.colour, thing.noun) for scene in scenes for thing in scene.things}
    assert not pairs & world.HELD_OUT_PAIRS
    skipped = {scene.seed for scene in sampled} - {scene.seed for scene in scenes}
    assert any(seed < scenes[-1].seed for seed in skipped)  # there was something to leave out
    assert all(is_held_out(sample_scene(seed)) for seed in skipped if seed < scenes[-1].seed)  # and nothing else was
    assert training_scenes(10) == scenes[:10]


def test_held_out_scenes_are_none_of_the_training_scenes():
    training, held_out = training_scenes(200), held_out_scenes(200)
    assert max(scene.seed for scene in training) < HELD_OUT_SEEDS <= min(scene.seed for scene in held_out)
    assert len({scene.seed for scene in held_out}) == 200
    assert any(is_held_out(scene) for scene in held_out)
