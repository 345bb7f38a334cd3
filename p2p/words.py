"""From a word of the prompt to its columns of the attention matrix.

The tokenizer says which characters each token came from, so a word's columns are the tokens whose characters lie in
the word, however many there are; nothing is guessed from the tokens' text.
"""

import difflib
import re
import unicodedata
from typing import NamedTuple

from ldm.tokenizer import Tokens

LETTER = r"[\w\u0300-\u036f]"  # or digit; an accent may be a character of its own, behind its letter
WORD = re.compile(rf"\w{LETTER}*(?:['’-]{LETTER}+)*")  # with apostrophes and hyphens inside


class Word(NamedTuple):
    """One word of a prompt and where it stands."""

    text: str  # its accents composed with their letters
    start: int  # characters [start, end) of the prompt
    end: int
    columns: tuple[int, ...]  # its tokens


def words(tokens: Tokens) -> list[Word]:
    """The words of a prompt, in order."""
    return [
        Word(unicodedata.normalize("NFC", m.group()), m.start(), m.end(), _columns(tokens, m.start(), m.end()))
        for m in WORD.finditer(tokens.prompt)
    ]


def names(tokens: Tokens) -> list[str]:
    """What `columns` knows each word of the prompt by, in order: the word; `cat#1`, `cat#2` where it stands twice."""
    found = []
    for word in words(tokens):
        starts = [place.start() for place in _places(tokens, word.text)]
        found.append(f"{word.text}#{starts.index(word.start) + 1}" if len(starts) > 1 else word.text)
    return found


def columns(tokens: Tokens, word: str) -> tuple[int, ...]:
    """The columns of a word, or of a phrase of several words, of the prompt; upper and lower case are one, and so are
    the two ways to write an accent.

    Where the word stands more than once, `cat#2` names its second place.

    Raises:
        ValueError: the prompt does not have the word (the error says which it has), or has it several times.
    """
    name, _, which = word.partition("#")
    places = _places(tokens, name)
    if not places:
        have = list(dict.fromkeys(w.text for w in words(tokens)))
        near = difflib.get_close_matches(name.lower(), [w.lower() for w in have], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"the prompt {tokens.prompt!r} has no word {name!r}.{hint} Its words are: {', '.join(have)}")
    if which and not (which.isdecimal() and 1 <= int(which) <= len(places)):
        raise ValueError(
            f"{word!r}: the number after # says which {name!r}; {tokens.prompt!r} has {len(places)} of them"
        )
    if not which and len(places) > 1:
        choices = " or ".join(f"{name}#{i + 1}" for i in range(len(places)))
        raise ValueError(f"{name!r} stands {len(places)} times in {tokens.prompt!r}: say {choices}")
    place = places[int(which) - 1 if which else 0]
    return _columns(tokens, place.start(), place.end())


def _places(tokens: Tokens, name: str) -> list[re.Match]:
    """Where a word or phrase stands: between letters it does not, but beside a hyphen it may."""
    pattern = rf"(?<!{LETTER})" + r"\s+".join(map(_spellings, name.split())) + rf"(?!{LETTER})"
    return list(re.finditer(pattern, tokens.prompt, re.IGNORECASE)) if name.strip() else []


def _spellings(name: str) -> str:
    """A pattern of a name that takes each accent composed with its letter or behind it."""
    forms = ({c, unicodedata.normalize("NFD", c)} for c in unicodedata.normalize("NFC", name))
    return "".join(f"(?:{'|'.join(map(re.escape, sorted(form)))})" for form in forms)


def _columns(tokens: Tokens, start: int, end: int) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(tokens.spans) if a < b and start <= a and b <= end)
