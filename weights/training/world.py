"""The stickers world: small scenes defined by their parameters, each with a caption that describes them.

A `Scene` is a dataclass; `caption(scene)` and `render(scene, art)` are functions of it. Everything that the caption
does not determine (positions, the horizon, the texture of the sand) is drawn from `scene.seed`, each from a separate
random stream, so that changing one word of the scene changes nothing else: an edited caption has an exact edited image.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ldm.helpers.vocabulary import Vocabulary

NOUNS = {  # noun: code point of the sticker
    **{"cat": "1f431", "dog": "1f436", "lion": "1f981", "panda": "1f43c", "frog": "1f438", "rabbit": "1f430"},
    **{"elephant": "1f418", "turtle": "1f422", "fish": "1f41f", "duck": "1f986", "butterfly": "1f98b"},
    **{"owl": "1f989", "octopus": "1f419", "penguin": "1f427", "cake": "1f382", "castle": "1f3f0", "car": "1f697"},
    **{"bicycle": "1f6b2", "house": "1f3e0", "tree": "1f333", "flower": "1f33b", "apple": "1f34e", "lemon": "1f34b"},
    **{"pizza": "1f355", "donut": "1f369", "boat": "26f5", "mushroom": "1f344", "cactus": "1f335"},
    **{"balloon": "1f388", "ball": "26bd", "hat": "1f3a9", "umbrella": "2602-fe0f", "rocket": "1f680"},
    **{"strawberry": "1f353"},
}
COLOURS = {
    "red": 0.0,
    "orange": 0.075,
    "yellow": 0.145,
    "green": 0.34,
    "blue": 0.6,
    "purple": 0.77,
    "pink": 0.91,
}  # hue
SIZES = {"small": 0.6, None: 1.0, "big": 1.45}  # factor on the side of the sticker
PATTERNS = ("striped", "with sprinkles")
PLACES = (
    "on the grass",
    "on the beach",
    "in the snow",
    "in the desert",
    "at night",
    "in the sea",
    "on a table",
    "on the street",
)
RELATIONS = ("next to", "above")
WEATHERS = {"fog": "in fog", "snow": "with snowflakes"}
STYLES = ("photo", "pencil drawing", "painting")

# Colour-noun pairs that are in no training scene: an image of one shows that the model composes.
HELD_OUT_PAIRS = frozenset(
    {
        ("blue", "cat"),
        ("green", "dog"),
        ("purple", "lion"),
        ("pink", "elephant"),
        ("red", "turtle"),
        ("yellow", "butterfly"),
        ("blue", "cake"),
        ("orange", "castle"),
        ("green", "car"),
        ("purple", "house"),
        ("red", "fish"),
        ("blue", "apple"),
        ("pink", "boat"),
        ("yellow", "mushroom"),
        ("orange", "umbrella"),
        ("green", "balloon"),
    }
)


@dataclass(frozen=True)
class Thing:
    """One sticker. `None` means natural colour, ordinary size or no pattern, which the caption does not mention."""

    noun: str
    colour: str | None = None
    size: Literal["small", "big"] | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class Scene:
    """The contents of a caption, and the seed for everything that it leaves open."""

    things: tuple[Thing, ...]
    place: str = "on the grass"
    relation: str | None = None  # between two things
    weather: Literal["fog", "snow"] | None = None
    strength: float = 0.5  # of the weather, in [0, 1]; not in the caption
    style: str = "photo"
    says_place: bool = True
    seed: int = 0

    def __post_init__(self):
        if len(self.things) != (2 if self.relation else 1):
            raise ValueError(f"a scene has one thing, or two and a relation: got {self.things}, {self.relation!r}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"the strength of the weather must lie in [0, 1], got {self.strength}")
        words = [(self.place, PLACES), (self.style, STYLES), (self.weather, (None, *WEATHERS))]
        words += [(self.relation, (None, *RELATIONS))]
        for thing in self.things:
            words += [(thing.noun, NOUNS), (thing.colour, (None, *COLOURS)), (thing.size, SIZES)]
            words += [(thing.pattern, (None, *PATTERNS))]
        for word, known in words:
            if word not in known:
                raise ValueError(f"{word!r} is not in the stickers world; choose from {', '.join(map(str, known))}")

    def replace(self, **changes) -> "Scene":
        """The scene with changed fields: the exact scene of an edited caption."""
        return dataclasses.replace(self, **changes)


def caption(scene: Scene) -> str:
    """Describe the scene, as in `a painting of a big red apple next to a cat on the beach in fog`."""
    things = f" {scene.relation} ".join(_noun_phrase(thing) for thing in scene.things)
    words = [f"{_article(scene.style)} of", things]
    words += [scene.place] if scene.says_place else []
    words += [WEATHERS[scene.weather]] if scene.weather else []
    return " ".join(words)


def _noun_phrase(thing: Thing) -> str:
    before = "striped" if thing.pattern == "striped" else None
    phrase = _article(" ".join(filter(None, (thing.size, before, thing.colour, thing.noun))))
    return phrase + (" with sprinkles" if thing.pattern == "with sprinkles" else "")


def _article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


VOCABULARY = Vocabulary(
    "a STYLE of a [SIZE] [striped] [COLOUR] NOUN [with sprinkles] [RELATION a ... NOUN ...] [PLACE] [WEATHER]",
    {
        "styles": STYLES,
        "sizes": tuple(filter(None, SIZES)),
        "patterns": PATTERNS,
        "colours": tuple(COLOURS),
        "nouns": tuple(NOUNS),
        "relations": RELATIONS,
        "places": PLACES,
        "weather": tuple(WEATHERS.values()),
        "other": ("a", "an", "of"),
    },
)


def is_held_out(scene: Scene) -> bool:
    """True if the scene has a held-out colour-noun pair."""
    return any((thing.colour, thing.noun) in HELD_OUT_PAIRS for thing in scene.things)


def sample_scene(seed: int) -> Scene:
    """Draw a random scene, determined by the seed. It may have a held-out pair."""
    rng = np.random.default_rng([seed, 0])
    two = rng.random() < 0.35
    style = rng.choice(STYLES, p=[0.76, 0.12, 0.12]).item()
    return Scene(
        things=tuple(_sample_thing(rng, style) for _ in range(1 + two)),
        relation=rng.choice(RELATIONS, p=[0.65, 0.35]).item() if two else None,
        place=_pick(rng, PLACES),
        weather=rng.choice([None, "fog", "snow"], p=[0.78, 0.11, 0.11]),
        strength=float(rng.random()),
        style=style,
        says_place=bool(rng.random() < 0.8),
        seed=seed,
    )


def _sample_thing(rng: np.random.Generator, style: str) -> Thing:
    noun = _pick(rng, tuple(NOUNS))
    colour = _pick(rng, tuple(COLOURS)) if rng.random() < 0.45 else None
    if style == "pencil drawing":  # has no colour
        colour = None
    size = rng.choice([None, "small", "big"], p=[0.7, 0.12, 0.18])
    pattern = rng.choice([None, *PATTERNS], p=[0.86, 0.07, 0.07])
    return Thing(noun, colour, size, pattern)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[rng.integers(len(options))]
