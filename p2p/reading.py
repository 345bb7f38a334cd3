"""The swaps inferred from two prompts.

A prompt is split into phrases, each of a link (a preposition, a conjunction, a verb with its object), determiners,
modifiers and a head, its last word: "in | the | deep blue | sea". Words that both prompts share are kept. Between them

- words of the same kinds in the same order are swapped one by one;
- otherwise phrases are matched in order, those with a link separately from those without, and within a phrase link is
  matched with link, determiner with determiner, head with head, and modifiers with modifiers: one by one if their
  numbers are equal, else as one phrase for another (the lecture's "orange" for "big tabby").

Unmatched words are new, or deleted. Punctuation ends a phrase and is never swapped. The kinds are those of English; in
other languages every word may be taken for a modifier or a head.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from ldm.tokenizer import Tokens
from p2p.mappers import Unit, common, units
from p2p.words import Word, name


def _listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Function words are a closed class, so they can be listed; all other words are content words.
DETERMINERS = _listed(
    "a an the this these those some any every each no another my your his her its our their one two three four five "
    "six seven eight nine ten several many few both all"
)
BEGINNERS = _listed("a an the its his her their")  # a word before them is no modifier: "dog eats a bone"
LINKS = _listed(
    "in on at of by for from to into onto with without within inside outside under underneath over above below "
    "beneath beside besides between among behind near around across along against through throughout toward towards "
    "beyond past before after during until upon off up down out via as like than and or but nor while when where that "
    "which who is are was were indoors outdoors"
)
COMPOUND_LINKS = frozenset(  # links of several words
    tuple(link.split())
    for link in (
        *("next to", "close to", "far from", "away from", "out of", "inside of", "outside of", "such as", "made of"),
        *("on top of", "in front of", "in the middle of", "on the left of", "on the right of", "to the left of"),
        *("to the right of", "at the top of", "at the bottom of", "covered in", "covered with", "surrounded by"),
    )
)
PLACE_LINKS = _listed("in on at")
# Participles follow their noun in captions: with an object they link it, "dog wearing sunglasses"; without one they end
# the noun's phrase, "dog sitting", unless a noun follows, "big flying dog".
OBJECT_VERBS = _listed("wearing holding carrying riding eating drinking reading driving playing chasing")
VERBS = _listed("sitting standing lying running walking flying jumping sleeping swimming dancing smiling")

Kind = Literal["link", "determiner", "content", "verb", "punctuation"]
Pair = tuple[tuple[Word, ...], tuple[Word, ...]]  # consecutive words of the source, and of the target


class Part(NamedTuple):
    """A word or a compound link, in its phrase."""

    words: tuple[Word, ...]
    kind: Kind
    phrase: int
    is_head: bool


class Reading(NamedTuple):
    """What an edit does, read from two prompts."""

    swaps: list[tuple[str, str]]  # words or phrases, and those that replace them, named as for `columns`
    replaces_object: bool  # whether an object becomes another: see `_objects`


def read(source: Tokens, target: Tokens) -> Reading:
    """Read two prompts."""
    both = units(source), units(target)
    ours, theirs = map(_parts, both)
    pairs: list[Pair] = []
    for gap, other in common(*both)[1]:
        facing = _facing(_within(ours, gap), _within(theirs, other))
        pairs += sorted(facing, key=lambda pair: pair[1][0].start)
    named = [(name(source, left[0], left[-1]), name(target, new[0], new[-1])) for left, new in pairs]
    objects = _objects(ours)
    return Reading(named, any(left[-1] in objects for left, _ in pairs))


def swaps(source: Tokens, target: Tokens) -> list[tuple[str, str]]:
    """The words or phrases of the source with those of the target that replace them, named as for `columns`."""
    return read(source, target).swaps


def _objects(parts: tuple[Part, ...]) -> set[Word]:
    """The heads of the phrases that are no place ("on the grass") and no medium ("a photo" of something)."""
    begins = {part.phrase: part.words[0].text.lower() for part in reversed(parts)}  # the first word of each phrase
    named = lambda i: begins[i] not in PLACE_LINKS and begins.get(i + 1) != "of"
    return {part.words[-1] for part in parts if part.kind == "content" and part.is_head and named(part.phrase)}


def _within(parts: tuple[Part, ...], gap: Sequence[Unit]) -> list[Part]:
    """The parts with words in a gap, reduced to these words."""
    inside = {unit.columns for unit in gap}
    kept = (part._replace(words=tuple(w for w in part.words if w.columns in inside)) for part in parts)
    return [part for part in kept if part.words]


def _facing(ours: list[Part], theirs: list[Part]) -> Iterator[Pair]:
    """Pair the parts of one gap."""
    if [part.kind for part in ours] == [part.kind for part in theirs]:
        for part, other in zip(ours, theirs):
            yield from _matched([part], [other])
        return
    for linked in (False, True):
        pairs = zip(*([p for p in _phrases(parts) if _has_link(p) == linked] for parts in (ours, theirs)))
        for phrase, other in pairs:
            for slot in ("link", "determiner", "modifier", "head"):
                yield from _matched(*([p for p in parts if _slot(p) == slot] for parts in (phrase, other)))


def _phrases(parts: list[Part]) -> list[list[Part]]:
    return [list(same) for _, same in groupby(parts, key=lambda part: part.phrase)]


def _has_link(phrase: list[Part]) -> bool:
    return any(part.kind == "link" for part in phrase)


def _slot(part: Part) -> str:
    """The role of a part in its phrase."""
    if part.kind in ("link", "determiner"):
        return part.kind
    return "head" if part.is_head else "modifier"


def _matched(ours: list[Part], theirs: list[Part]) -> Iterator[Pair]:
    """Pair words one by one if their numbers are equal, else as one phrase for another; none if one side is empty."""
    left, new = (tuple(word for part in parts for word in part.words) for parts in (ours, theirs))
    if len(left) == len(new):
        yield from (((word,), (other,)) for word, other in zip(left, new))
    elif left and new:
        yield left, new


def _parts(found: tuple[Unit, ...]) -> tuple[Part, ...]:
    """The words of a prompt, with their phrases."""
    groups = list(_linked(found))
    kinds = _kinds(groups)
    parts, phrase = [], 0
    for group, kind, before, after in zip(groups, kinds, ["punctuation", *kinds], [*kinds[1:], "punctuation"]):
        phrase += {
            "link": before != "link",
            "determiner": before in ("content", "verb"),
            "content": before == "verb",
            "verb": True,
            "punctuation": True,
        }[kind]
        if kind != "punctuation":
            is_head = kind == "verb" or after != "content"
            parts.append(Part(tuple(unit.word for unit in group), kind, phrase, is_head))
    return tuple(parts)


def _linked(found: tuple[Unit, ...]) -> Iterator[tuple[Unit, ...]]:
    """Group the units: a compound link is one group, any other unit its own."""
    i = 0
    while i < len(found):
        sizes = (n for n in (4, 3, 2) if tuple(unit.text for unit in found[i : i + n]) in COMPOUND_LINKS)
        size = next(sizes, 1)
        yield found[i : i + size]
        i += size


def _kinds(groups: list[tuple[Unit, ...]]) -> list[Kind]:
    """The kind of each group, given those around it."""
    first = [group[0].text for group in groups]
    kinds: list[Kind] = [_kind(group) for group in groups]
    for i, text in enumerate(first[1:], start=1):
        after = first[i + 1] if i + 1 < len(first) else ""
        if kinds[i - 1] == kinds[i] == "content":
            if text in OBJECT_VERBS or after in BEGINNERS:
                kinds[i] = "link"
            elif text in VERBS and kinds[i + 1 : i + 2] != ["content"]:
                kinds[i] = "verb"
    return kinds


def _kind(group: tuple[Unit, ...]) -> Kind:
    """The kind of a group, out of context."""
    text = group[0].text
    if group[0].word is None:
        return "punctuation"
    if len(group) > 1 or text in LINKS:
        return "link"
    return "determiner" if text in DETERMINERS or text.isdecimal() else "content"
