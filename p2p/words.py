"""Maps a word of the prompt to its columns of the attention matrix.

The tokenizer gives each token's span of characters. A word is a run of letters, digits and their marks, extended to
whole tokens: it has every token that shares a character with it. So every word has columns, and no two words share one;
a run of which the tokenizer keeps nothing is not a word.
"""

import difflib
import re
import unicodedata
from typing import NamedTuple

from ldm.tokenizer import Tokens

RUN = r"L[LM]*"  # in a prompt's shape, where L is a letter or digit and M a mark, such as an accent or a vowel sign
JOINED = re.compile(rf"{RUN}(?:['’‐‑_\u00ad\u200c\u200d-]{RUN})*")  # runs joined by an apostrophe, hyphen, ...


class Word(NamedTuple):
    """A word of a prompt, and its position."""

    text: str  # with composed accents
    start: int  # characters [start, end) of the prompt
    end: int
    columns: tuple[int, ...]  # its tokens, at least one


class Searched(NamedTuple):
    """A prompt in the forms used to search it for words."""

    tokens: Tokens
    shape: str  # L for each letter or digit, M for each mark
    normal: str
    edges: dict[int, int]  # where in the normal form a word may begin or end, mapped to the position in the prompt


def words(tokens: Tokens) -> tuple[Word, ...]:
    """The words of a prompt, in order."""
    found: list[Word] = []
    shape = _shape(tokens.prompt)
    for run in JOINED.finditer(shape):
        word = _grown(tokens, shape, *run.span())
        if found and word.columns and word.columns[0] <= found[-1].columns[-1]:  # one token spans both runs
            word = _grown(tokens, shape, found.pop().start, word.end)
        found += [word] if word.columns else []
    return tuple(found)


def names(tokens: Tokens) -> list[str]:
    """The name of each word for `columns`, in order: the word itself, or `cat#1`, `cat#2` if it occurs twice."""
    searched = _searched(tokens)
    return [_name(searched, word, word) for word in words(tokens)]


def name(tokens: Tokens, first: Word, last: Word) -> str:
    """The name for `columns` of the phrase from one word of the prompt to another."""
    return _name(_searched(tokens), first, last)


def _name(searched: Searched, first: Word, last: Word) -> str:
    text = " ".join(unicodedata.normalize("NFC", searched.tokens.prompt[first.start : last.end]).split())
    starts = [place.start for place in _places(searched, text)]
    return f"{text}#{starts.index(first.start) + 1}" if len(starts) > 1 else text


def columns(tokens: Tokens, word: str) -> tuple[int, ...]:
    """The columns of a word or phrase of the prompt; case and the encoding of accents are ignored.

    If the word occurs more than once, `cat#2` names its second occurrence.

    Raises:
        ValueError: the prompt does not have the word (the error lists its words), or has it several times.
    """
    searched = _searched(tokens)
    text, _, which = word.rpartition("#")
    if not (which.isdecimal() and _places(searched, text)) and ("#" not in word or _places(searched, word)):
        text, which = word, ""
    places = _places(searched, text)
    if not places:
        near = difflib.get_close_matches(normal(text), _distinct(tokens), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"the prompt {tokens.prompt!r} has no word {text!r}.{hint} {listed(tokens)}")
    if which and not (which.isdecimal() and 1 <= int(which) <= len(places)):
        raise ValueError(
            f"{word!r}: the number after # selects which {text!r}; {tokens.prompt!r} has {len(places)} of them"
        )
    if not which and len(places) > 1:
        choices = " or ".join(f"{text}#{i + 1}" for i in range(len(places)))
        raise ValueError(f"{text!r} occurs {len(places)} times in {tokens.prompt!r}: write {choices}")
    return places[int(which) - 1 if which else 0].columns


def listed(*prompts: Tokens) -> str:
    """The words of the prompts, as the last sentence of an error about a word that they lack."""
    its, it_has = ("Its", "It has") if len(prompts) == 1 else ("Their", "They have")
    have = _distinct(*prompts).values()
    return f"{its} words are: {', '.join(have)}" if have else f"{it_has} none"


def normal(text: str) -> str:
    """Normalise case and Unicode equivalence, for comparing spellings."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _distinct(*prompts: Tokens) -> dict[str, str]:
    """The words of the prompts, each spelling once, by their normal forms."""
    return {normal(word.text): word.text for tokens in prompts for word in words(tokens)}


def _places(searched: Searched, text: str) -> list[Word]:
    """The occurrences of a word or phrase: next to a hyphen is allowed, inside a run of letters or as part of a token
    with more letters is not."""
    if not text.strip():
        return []
    tokens, shape, prompt, edges = searched
    pattern = r"\s+".join(re.escape(normal(part)) for part in text.split())
    found = []
    for match in re.finditer(f"(?=({pattern}))", prompt):  # lookahead, so that matches may overlap
        start, end = edges.get(match.start(1)), edges.get(match.end(1))
        if start is None or end is None:
            continue
        place = _grown(tokens, shape, start, end)
        if place.columns and "L" not in shape[place.start : start] + shape[end : place.end]:
            found.append(place)
    return found


def _grown(tokens: Tokens, shape: str, start: int, end: int) -> Word:
    """Extend the characters [start, end) to whole tokens, and by the marks that follow."""
    own, reached = (), None
    while own != reached:
        reached = own
        own = tuple(i for i, (a, b) in enumerate(tokens.spans) if a < end and start < b)
        start = min([start, *(tokens.spans[i][0] for i in own)])
        end = max([end, *(tokens.spans[i][1] for i in own)])
        end += len(shape) - end - len(shape[end:].lstrip("M"))
    return Word(unicodedata.normalize("NFC", tokens.prompt[start:end]), start, end, own)


def _shape(prompt: str) -> str:
    """The prompt with L for each letter or digit and M for each mark."""
    kinds = {"L": "L", "N": "L", "M": "M"}
    return "".join(kinds.get(unicodedata.category(c)[0], c) for c in prompt)


def _searched(tokens: Tokens) -> Searched:
    prompt, shape = tokens.prompt, _shape(tokens.prompt)
    inside = {i for run in re.finditer(f"{RUN}|.M+", shape) for i in range(run.start() + 1, run.end())}
    # nothing composes across an edge, so the text before it can be normalised separately
    edges = {len(normal(prompt[:i])): i for i in range(len(prompt) + 1) if i not in inside}
    return Searched(tokens, shape, normal(prompt), edges)
