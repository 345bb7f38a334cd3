"""From a word of the prompt to its columns of the attention matrix.

The tokenizer tells which characters each token came from. A word is a run of letters, digits and their marks, grown to
whole tokens: it has every token that shares a character with it. So no word is without columns and no two words share
one; a run of which the tokenizer kept nothing is no word.
"""

import difflib
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from ldm.tokenizer import Tokens

RUN = r"L[LM]*"  # of a prompt's shape, in which L is a letter or digit and M a mark, such as an accent or a vowel sign
JOINED = re.compile(rf"{RUN}(?:['’‐‑_\u00ad\u200c\u200d-]{RUN})*")  # with an apostrophe, hyphen, ... between two


class Word(NamedTuple):
    """One word of a prompt and where it stands."""

    text: str  # its accents composed with their letters
    start: int  # characters [start, end) of the prompt
    end: int
    columns: tuple[int, ...]  # its tokens, at least one


@lru_cache(maxsize=256)  # asked for at every step of the sampling
def words(tokens: Tokens) -> tuple[Word, ...]:
    """The words of a prompt, in order."""
    found: list[Word] = []
    for run in JOINED.finditer(_shape(tokens.prompt)):
        word = _grown(tokens, *run.span())
        if found and word.columns and word.columns[0] <= found[-1].columns[-1]:  # one token spans both runs
            word = _grown(tokens, found.pop().start, word.end)
        found += [word] if word.columns else []
    return tuple(found)


def names(tokens: Tokens) -> list[str]:
    """What `columns` knows each word of the prompt by, in order: the word; `cat#1`, `cat#2` where it stands twice."""
    return [name(tokens, word, word) for word in words(tokens)]


def name(tokens: Tokens, first: Word, last: Word) -> str:
    """What `columns` knows the phrase from one word of the prompt to another by."""
    text = " ".join(unicodedata.normalize("NFC", tokens.prompt[first.start : last.end]).split())
    starts = [place.start for place in _places(tokens, text)]
    return f"{text}#{starts.index(first.start) + 1}" if len(starts) > 1 else text


@lru_cache(maxsize=256)
def columns(tokens: Tokens, word: str) -> tuple[int, ...]:
    """The columns of a word, or of a phrase of several words, of the prompt; upper and lower case are one, and so are
    all ways to write an accent.

    Where the word stands more than once, `cat#2` names its second place.

    Raises:
        ValueError: the prompt does not have the word (the error says which it has), or has it several times.
    """
    text, _, which = word.rpartition("#")
    if not (which.isdecimal() and _places(tokens, text)) and ("#" not in word or _places(tokens, word)):
        text, which = word, ""
    places = _places(tokens, text)
    if not places:
        have = {normal(w.text): w.text for w in words(tokens)}
        near = difflib.get_close_matches(normal(text), have, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = f"Its words are: {', '.join(have.values())}" if have else "It has none"
        raise ValueError(f"the prompt {tokens.prompt!r} has no word {text!r}.{hint} {listed}")
    if which and not (which.isdecimal() and 1 <= int(which) <= len(places)):
        raise ValueError(
            f"{word!r}: the number after # says which {text!r}; {tokens.prompt!r} has {len(places)} of them"
        )
    if not which and len(places) > 1:
        choices = " or ".join(f"{text}#{i + 1}" for i in range(len(places)))
        raise ValueError(f"{text!r} stands {len(places)} times in {tokens.prompt!r}: say {choices}")
    return places[int(which) - 1 if which else 0].columns


def normal(text: str) -> str:
    """The form in which spellings are compared: texts that Unicode holds equivalent but for their case have one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _places(tokens: Tokens, text: str) -> list[Word]:
    """Where a word or phrase stands: beside a hyphen it may, but neither between letters nor as a part of a token that
    has more letters."""
    if not text.strip():
        return []
    prompt, edges, shape = *_searched(tokens.prompt), _shape(tokens.prompt)
    pattern = r"\s+".join(re.escape(normal(part)) for part in text.split())
    found = []
    for match in re.finditer(f"(?=({pattern}))", prompt):  # ahead, so that places may overlap
        start, end = edges.get(match.start(1)), edges.get(match.end(1))
        if start is None or end is None:
            continue
        place = _grown(tokens, start, end)
        if place.columns and "L" not in shape[place.start : start] + shape[end : place.end]:
            found.append(place)
    return found


def _grown(tokens: Tokens, start: int, end: int) -> Word:
    """The characters [start, end) with all of every token that has one of them, and with the marks behind them."""
    shape, own, reached = _shape(tokens.prompt), (), None
    while own != reached:
        reached = own
        own = tuple(i for i, (a, b) in enumerate(tokens.spans) if a < end and start < b)
        start = min([start, *(tokens.spans[i][0] for i in own)])
        end = max([end, *(tokens.spans[i][1] for i in own)])
        end += len(shape) - end - len(shape[end:].lstrip("M"))
    return Word(unicodedata.normalize("NFC", tokens.prompt[start:end]), start, end, own)


@lru_cache(maxsize=256)
def _shape(prompt: str) -> str:
    """The prompt with L for every letter or digit and M for every mark."""
    kinds = {"L": "L", "N": "L", "M": "M"}
    return "".join(kinds.get(unicodedata.category(c)[0], c) for c in prompt)


@lru_cache(maxsize=256)
def _searched(prompt: str) -> tuple[str, dict[int, int]]:
    """The prompt's normal form; and where in it a word may begin or end, with the same place in the prompt."""
    inside = {i for run in re.finditer(f"{RUN}|.M+", _shape(prompt)) for i in range(run.start() + 1, run.end())}
    # nothing composes across an edge, so what is before it has its normal form by itself
    return normal(prompt), {len(normal(prompt[:i])): i for i in range(len(prompt) + 1) if i not in inside}
