"""A JSON file of settings, read key by key, so that no setting is overlooked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ldm.helpers.limits import LARGEST

Config = TypeVar("Config")

OFF = (None, False, 0, "", "default", [])
# settings that do not change the result, or describe a feature that is off
IRRELEVANT = {"sample_size", "upcast_attention", "force_upcast", "dropout", "addition_embed_type_num_heads"}


class Settings:
    """A JSON file, read key by key; `finish` refuses unread settings that are not known to be harmless."""

    def __init__(self, path: Path):
        self.path, self.read = path, set()
        try:
            self.values = json.loads(path.read_bytes())
        except OSError as e:
            raise ValueError(f"the model folder lacks {path.name}: could not read {path}: {e.strerror}") from e
        except (ValueError, RecursionError) as e:
            raise ValueError(f"{path} is not JSON: {e}") from e
        if not isinstance(self.values, dict):
            raise ValueError(f"{path} is not a configuration: it holds no object")

    def __call__(self, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """The value of a key. Raises ValueError if it has another type, or is absent and has no default."""
        self.read.add(key)
        value = self.values.get(key, default)
        if value is ...:
            raise ValueError(f"{self.path} lacks {key!r}")
        # in Python, booleans are numbers
        number = isinstance(value, bool) and bool not in (kind if isinstance(kind, tuple) else (kind,))
        if value is not default and (not isinstance(value, kind) or number):
            raise ValueError(f"{self.path}: {key!r} is {shown(value)}")
        return value

    def one_of(self, key: str, known: tuple, default: Any = ...) -> Any:
        value = self(key, (object, bool), default)
        if value not in known:
            raise ValueError(f"{self.path}: {key!r} is {shown(value)}; here it can be {' or '.join(map(repr, known))}")
        return value

    def size(self, key: str, default: Any = ..., most: int = LARGEST) -> int:
        value = self(key, int, default)
        if not 1 <= value <= most:
            raise ValueError(f"{self.path}: {key!r} is {shown(value)}, which is not a size from 1 to {most}")
        return value

    def sizes(self, key: str) -> tuple[int, ...]:
        values = self(key, list)
        if not values or not all(type(v) is int and 1 <= v <= LARGEST for v in values):
            raise ValueError(f"{self.path}: {key!r} is {shown(values)}, which is not a list of sizes to {LARGEST}")
        return tuple(values)

    def number(self, key: str, default: Any = ...) -> float:
        value = self(key, (int, float), default)
        try:
            return float(value)
        except OverflowError as e:
            raise ValueError(f"{self.path}: {key!r} is {shown(value)}, which is too large") from e

    def make(self, kind: Callable[..., Config], **fields) -> Config:
        """Create a config from these fields. Raises ValueError, with the file's path, if they are inconsistent."""
        try:
            return kind(**fields)
        except ValueError as e:
            raise ValueError(f"{self.path}: {e}") from e

    def blocks(self, known: dict, levels: int) -> list:
        """Look up each level by the names of its down block and its up block (in reverse order)."""
        down, up = self("down_block_types", list), self("up_block_types", list)
        if not len(down) == len(up) == levels:
            raise ValueError(f"{self.path}: as many blocks down and up as levels are needed, {levels}")
        try:
            return [known[tuple(map(str, pair))] for pair in zip(down, reversed(up))]
        except KeyError as e:
            raise ValueError(f"{self.path}: no level here has the blocks {shown(e.args[0])}") from None

    def finish(self, fixed: dict, whose: str = "these classes") -> None:
        for key, value in self.values.items():
            if key in self.read or key in IRRELEVANT or key.startswith("_"):
                continue
            per_level = value if isinstance(value, list) and value else [value]
            if not all(each == fixed[key] if key in fixed else each in OFF for each in per_level):
                raise ValueError(f"{self.path}: {shown(key)} is {shown(value)}, which {whose} do not have")


def shown(value: object) -> str:
    """Format untrusted content of a file for a message: in one line, shortened, without control characters."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
