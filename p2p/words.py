"""From a word of the prompt to its columns of the attention matrix.

The tokenizer says which characters each token came from, so a word's columns are the tokens whose characters lie in
the word, however many there are; nothing is guessed from the tokens' text.
"""

import difflib
import re
from typing import NamedTuple

from ldm.tokenizer import Tokens

WORD = re.compile(r"\w+(?:['’-]\w+)*")  # letters and digits, with apostrophes and hyphens inside


class Word(NamedTuple):
    """One word of a prompt and where it stands."""

    text: str
    start: int  # characters [start, end) of the prompt
    end: int
    columns: tuple[int, ...]  # its tokens


def words(tokens: Tokens) -> list[Word]:
    """The words of a prompt, in order."""
    found = [(m.group(), m.start(), m.end()) for m in WORD.finditer(tokens.prompt)]
    return [Word(text, start, end, _columns(tokens, start, end)) for text, start, end in found]


def names(tokens: Tokens) -> list[str]:
    """What `columns` knows each word of the prompt by, in order: the word; `cat#1`, `cat#2` where it stands twice."""
    texts = [word.text.lower() for word in words(tokens)]
    return [
        f"{word.text}#{texts[: i + 1].count(text)}" if texts.count(text) > 1 else word.text
        for i, (word, text) in enumerate(zip(words(tokens), texts))
    ]


def columns(tokens: Tokens, word: str) -> tuple[int, ...]:
    """The columns of a word, or of a phrase of several words, of the prompt; upper and lower case are one.

    Where the word stands more than once, `cat#2` names its second place.

    Raises:
        ValueError: the prompt does not have the word (the error says which it has), or has it several times.
    """
    name, _, which = word.partition("#")
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, name.split())) + r"(?!\w)"
    places = list(re.finditer(pattern, tokens.prompt, re.IGNORECASE)) if name.strip() else []
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


def _columns(tokens: Tokens, start: int, end: int) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(tokens.spans) if a < b and start <= a and b <= end)
