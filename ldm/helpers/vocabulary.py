"""The words that a model was trained on, if there are few enough to list."""

import textwrap
from dataclasses import dataclass

import pydantic

from ldm.config import STRICT


@dataclass(frozen=True)
class Vocabulary:
    """All words of a model's training captions, and the grammar of the captions."""

    __pydantic_config__ = STRICT

    grammar: str  # kinds in capitals, optional parts in brackets
    kinds: dict[str, tuple[str, ...]]  # words and phrases by kind, such as nouns

    @property
    def words(self) -> frozenset[str]:
        """All individual words, in lower case."""
        return frozenset(word for entries in self.kinds.values() for entry in entries for word in entry.lower().split())

    def __str__(self) -> str:
        width = max(map(len, self.kinds)) + 2
        lines = [
            textwrap.fill(f"{kind:<{width}}{', '.join(entries)}", 100, subsequent_indent=" " * width)
            for kind, entries in self.kinds.items()
        ]
        return "\n".join([*lines, "", self.grammar])

    def to_json(self) -> str:
        return VOCABULARY.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Vocabulary":
        """Parse the JSON that `to_json` returns.

        Raises:
            ValueError: not JSON, or another object.
        """
        try:
            return VOCABULARY.validate_json(text)
        except pydantic.ValidationError as e:
            raise ValueError("; ".join(error["msg"] for error in e.errors()[:5])) from e


VOCABULARY = pydantic.TypeAdapter(Vocabulary)
