"""What the judge of edits reads in true pictures, and what it calls right; by art of the test's own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.scenes import SyntheticArt, one, two
from weights.training import judge, world
from weights.training.judge import Found, Reading, read, right
from weights.training.render import boxes, render
from weights.training.world import Thing, caption


class Quilts(SyntheticArt):
    """A disc of sixteen patches, in shades of a colour of its own, for every noun."""

    def sticker(self, noun: str) -> Image.Image:
        rng = np.random.default_rng(list(world.NOUNS).index(noun))
        patches = rng.uniform(0.2, 1, (4, 4, 1)) * rng.uniform(0.3, 1, 3)
        y, x = np.mgrid[-1:1:100j, -1:1:100j]
        alpha = np.clip(12 * (1 - np.hypot(x, y)), 0, 1)
        rgba = np.concatenate([patches.repeat(25, 0).repeat(25, 1), alpha[..., None]], axis=-1)
        return Image.fromarray((255 * rgba).round().astype(np.uint8))


NOUNS = ("ball", "cat", "frog", "hat", "owl", "tree")


@pytest.fixture(scope="module")
def art() -> Quilts:
    return Quilts()


@pytest.fixture(autouse=True)
def few_nouns(monkeypatch):
    monkeypatch.setattr(judge, "NOUNS", NOUNS)


SCENES = [
    *(one("cat", place=place, seed=3) for place in ("on the beach", "at night")),
    one("hat", "blue", place="on the street", seed=4),
    *(one("owl", size=size, seed=5) for size in ("small", "big")),
    one("hat", pattern="striped", seed=6),
    *(one("tree", weather=weather, strength=0.6, seed=7) for weather in world.WEATHERS),
    one("tree", style="painting", seed=8),
    *(two(Thing("frog", size="big"), relation, Thing("ball", "blue"), seed=9) for relation in world.RELATIONS),
]


@pytest.mark.parametrize("scene", SCENES, ids=caption)
def test_a_true_picture_is_read_as_its_scene(art, scene):
    reading = read(render(scene, art), art, (scene, scene.replace(style="photo")))
    assert (reading.style, reading.place, reading.weather) == (scene.style, scene.place, scene.weather)
    number = len(scene.things)
    assert len(reading.found) == number
    for thing, (x, y, side, _) in zip(scene.things, boxes(scene)):
        found = reading.find(thing)
        assert found.size_word(number) == thing.size
        # positions are read to 2 pixels and sides to a tenth
        assert abs(found.x - x) < 4 and abs(found.y - y) < 4 and 0.87 < found.side / side < 1.15
    assert right(reading, reading, scene, scene)


def test_a_colour_is_told_only_where_a_prompt_names_one(art):
    plain, blue, red = (one("hat", colour, seed=4) for colour in (None, "blue", "red"))
    picture = render(red, art)
    assert read(picture, art, (plain, blue)).found[0].thing.colour == "red"  # of all colours, not of those named
    assert read(picture, art, (plain, plain)).found[0].thing.colour is None


def test_what_is_no_thing_is_left_over(art):
    scene = one("ball", place="on a table", seed=3)
    picture = render(scene, art)
    ball = read(picture, art, (scene,)).found[0]
    corner = replace(ball, x=32, y=32)
    assert read(picture, art, (scene,)).rest_at(corner) < 0.001  # a rounding of bytes, squared, is 1e-5
    picture[10:54, 10:54] = (255, 0, 255)
    assert read(picture, art, (scene,)).rest_at(corner) > 0.3


def shown(*things: tuple[Thing, int, int, int], **changes) -> Reading:
    found = tuple(Found(thing, x, y, float(side), 1.0) for thing, x, y, side in things)
    scene = {"style": "photo", "place": "on the grass", "fog": 0.0, "flakes": 0.0, "rest": torch.zeros(64, 64)}
    return Reading(**{**scene, "found": found, **changes})


CAT, DOG, BALL = Thing("cat"), Thing("dog"), Thing("ball")


@pytest.mark.parametrize(
    ("after", "target", "is_right"),
    [
        (shown((DOG, 60, 70, 66)), one("dog"), True),
        (shown((CAT, 60, 70, 66)), one("dog"), False),
        (shown((DOG, 90, 70, 66)), one("dog"), False),  # elsewhere
        (shown((DOG, 60, 70, 96)), one("dog"), False),  # larger, which nobody asked for
        (shown((DOG, 60, 70, 66), place="on the beach"), one("dog"), False),
        (shown((DOG, 60, 70, 66), fog=0.5), one("dog"), False),
        (shown((DOG, 60, 70, 66), (BALL, 100, 70, 40)), one("dog"), False),
        (shown((CAT, 62, 68, 96)), one("cat", size="big"), True),
        (shown((CAT, 62, 68, 72)), one("cat", size="big"), False),
        (shown((CAT, 60, 96, 96)), one("cat", size="big"), True),  # as far as it must come in if it grew at an edge
        (shown((CAT, 60, 99, 96)), one("cat", size="big"), False),
        (shown((Thing("cat", "blue"), 60, 70, 66)), one("cat", "blue"), True),
        (shown((CAT, 60, 70, 66)), one("cat", "blue"), False),
        (shown((CAT, 60, 70, 66), fog=0.5), one("cat", weather="fog"), True),
        (shown((CAT, 60, 70, 66), flakes=9.0), one("cat", weather="snow"), True),
        (shown((CAT, 60, 70, 66)), one("cat", weather="snow"), False),
        (shown((CAT, 60, 70, 66), (BALL, 110, 72, 50)), two(CAT, "next to", BALL), True),
        (shown((BALL, 110, 72, 50), (CAT, 60, 70, 66)), two(CAT, "next to", BALL), True),
        (shown((CAT, 60, 70, 66), (BALL, 60, 110, 50)), two(CAT, "next to", BALL), False),
        (shown((CAT, 60, 70, 66)), two(CAT, "next to", BALL), False),
    ],
)
def test_right_is_what_was_asked_and_nothing_else(after, target, is_right):
    assert right(shown((CAT, 60, 70, 66)), after, one("cat"), target) is is_right


def test_of_two_things_the_other_may_be_taken_away():
    before, source = shown((BALL, 90, 70, 52), (CAT, 30, 70, 52)), two(CAT, "next to", BALL)
    assert right(before, shown((CAT, 30, 70, 52)), source, one("cat"))
    assert not right(before, before, source, one("cat"))
    assert not right(before, shown((BALL, 90, 70, 52)), source, one("cat"))
    rest = torch.zeros(64, 64)
    rest[30:40, 40:50] = 0.2  # where the ball was
    assert not right(before, shown((CAT, 30, 70, 52), rest=rest), source, one("cat"))
    moved = shown((CAT, 60, 30, 52), (BALL, 60, 90, 52))
    assert right(before, moved, source, two(CAT, "above", BALL))
    assert not right(before, moved, source, two(BALL, "above", CAT))
