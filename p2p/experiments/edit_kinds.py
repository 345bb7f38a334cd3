"""Kinds of edit in the stickers world, and the options of `p2p edit` that are tried on each.

Nouns, colours and patterns are chosen so that a failed edit looks different: cars, for example, are red by default.
"""

from typing import NamedTuple

from p2p.alpha import Time
from p2p.switch_times import FOR_OTHERS
from weights.training.world import PLACES, Scene, Thing, caption


class Setting(NamedTuple):
    """Options of `p2p edit`."""

    name: str
    tau: Time = FOR_OTHERS.tau
    self_until: Time = FOR_OTHERS.until
    preserve: bool = False  # the attention of a noun that both prompts have, and of no other word
    factor: float | None = None  # of the attention to the word that the kind is about


class Case(NamedTuple):
    """An edit: from one scene to another, or by the weight of a word of the first."""

    source: Scene
    target: Scene
    word: str | None = None

    @property
    def prompts(self) -> tuple[str, str]:
        return caption(self.source), caption(self.source if self.word else self.target)

    @property
    def kept(self) -> str | None:
        """The first noun that both scenes have."""
        nouns = [thing.noun for thing in self.target.things]
        return next((thing.noun for thing in self.source.things if thing.noun in nouns), None)


SETTINGS = (
    Setting("defaults"),
    Setting("`--tau 0.5`", 0.5),
    Setting("`--preserve NOUN`", preserve=True),
    Setting("`--tau 0.8 --self-until 0.8`", 0.8, 0.8),
    Setting("no injection", "never", "never"),
)
FACTORS = tuple(Setting(f"`--reweight WORD={c:g}`", factor=c) for c in (0.0, -1.0, -4.0))


def of(noun: str, place: str, colour=None, size=None, pattern=None, **scene) -> Scene:
    return Scene((Thing(noun, colour, size, pattern),), place, **scene)


def pair(first: str, relation: str, second: str, place: str) -> Scene:
    return Scene((Thing(first), Thing(second)), place, relation)


def added(case: Case) -> str:
    """The word that the target adds to the source; the last one of a phrase."""
    source, target = (caption(scene).split() for scene in (case.source, case.target))
    return [word for word in target if word not in source][-1]


GRASS, BEACH, SNOW, _, NIGHT, _, TABLE, STREET = PLACES
EDITS = {
    "a noun for another of its shape": [
        Case(of("cat", BEACH), of("dog", BEACH)),
        Case(of("apple", TABLE), of("lemon", TABLE)),
        Case(of("panda", GRASS), of("frog", GRASS)),
    ],
    "a noun for another of another shape": [
        Case(of("house", GRASS), of("tree", GRASS)),
        Case(of("cat", STREET), of("rocket", STREET)),
        Case(of("hat", BEACH), of("pizza", BEACH)),
    ],
    "one of two nouns for another": [
        Case(pair("panda", "next to", "ball", GRASS), pair("lion", "next to", "ball", GRASS)),
        Case(pair("cat", "next to", "house", BEACH), pair("dog", "next to", "house", BEACH)),
        Case(pair("hat", "above", "frog", SNOW), pair("balloon", "above", "frog", SNOW)),
    ],
    "a colour for another": [
        Case(of("car", STREET, "blue"), of("car", STREET, "yellow")),
        Case(of("hat", BEACH, "green"), of("hat", BEACH, "pink")),
        Case(of("house", GRASS, "yellow"), of("house", GRASS, "blue")),
    ],
    "a colour added": [
        Case(of("car", STREET), of("car", STREET, "blue")),
        Case(of("cat", BEACH), of("cat", BEACH, "pink")),
        Case(of("house", GRASS), of("house", GRASS, "blue")),
    ],
    "a size added": [
        Case(of("cat", BEACH), of("cat", BEACH, size="small")),
        Case(of("car", STREET), of("car", STREET, size="big")),
        Case(of("house", GRASS), of("house", GRASS, size="small")),
    ],
    "a size for another": [
        Case(of("dog", GRASS, size="small"), of("dog", GRASS, size="big")),
        Case(of("apple", TABLE, size="big"), of("apple", TABLE, size="small")),
        Case(of("hat", BEACH, size="big"), of("hat", BEACH, size="small")),
    ],
    "a pattern added": [
        Case(of("hat", BEACH), of("hat", BEACH, pattern="striped")),
        Case(of("balloon", GRASS), of("balloon", GRASS, pattern="striped")),
        Case(of("lion", STREET), of("lion", STREET, pattern="striped")),
    ],
    "a place for another": [
        Case(of("penguin", SNOW), of("penguin", BEACH)),
        Case(of("cat", GRASS), of("cat", NIGHT)),
        Case(of("house", GRASS), of("house", SNOW)),
    ],
    "a style for another": [
        Case(of("castle", GRASS), of("castle", GRASS, style="painting")),
        Case(of("cat", STREET), of("cat", STREET, style="painting")),
        Case(of("apple", TABLE), of("apple", TABLE, style="painting")),
    ],
    "weather added": [
        Case(of("tree", GRASS), of("tree", GRASS, weather="fog")),
        Case(of("cat", BEACH), of("cat", BEACH, weather="snow")),
        Case(of("house", STREET), of("house", STREET, weather="fog")),
    ],
    "a second thing added": [
        Case(of("cat", GRASS), pair("cat", "next to", "ball", GRASS)),
        Case(of("frog", BEACH), pair("frog", "next to", "house", BEACH)),
        Case(of("panda", SNOW), pair("panda", "next to", "balloon", SNOW)),
    ],
    "a relation for another": [
        Case(pair("cat", "next to", "ball", GRASS), pair("cat", "above", "ball", GRASS)),
        Case(pair("hat", "above", "frog", SNOW), pair("hat", "next to", "frog", SNOW)),
        Case(pair("balloon", "above", "house", BEACH), pair("balloon", "next to", "house", BEACH)),
    ],
}
EDITS["one of two things taken away"] = [Case(case.target, case.source) for case in EDITS["a second thing added"]]
REMOVALS = {
    word: [Case(case.target, case.source, added(case)) for case in EDITS[kind]]
    for word, kind in (
        ("a pattern", "a pattern added"),
        ("weather", "weather added"),
        ("a colour", "a colour added"),
        ("a size", "a size added"),
        ("one of two nouns", "a second thing added"),
    )
}
