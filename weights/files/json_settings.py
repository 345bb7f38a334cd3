"""A JSON file of settings, of which none is overlooked."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydantic

from ldm import config
from ldm.helpers.checks import checked

OFF = (None, False, 0, "", "default", [])


class Settings(dict):
    """The content of a JSON file, which remembers what was read of it."""

    def __init__(self, content: dict[str, Any]):
        super().__init__(content)
        self.read = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None, kind: Any = Any) -> Any:
        """The value of a key, or the default; ... is none. Raises ValueError if it is not of this type."""
        return checked(key, self[key], kind) if key in self or default is ... else default

    def made(self, table: dict[str, Any], **fields: Any) -> Any:
        """Create a config, strictly, except that a list makes a tuple.

        Args:
            table: `config`, its class in `ldm.config`; `names` of its fields in the file; `default` values of the
                file's keys, which also give their types; the only values that `fixed` keys may have, for each level if
                they are lists; `ignored` keys, or "*" for all others. Any other key must be off.
            fields: further ones of the config.

        Raises:
            ValueError: a setting is missing, unknown or invalid.
        """
        default, fixed, ignored = (table.get(part, {}) for part in ("default", "fixed", "ignored"))
        for ours, key in table["names"].items():
            fields.setdefault(ours, self.get(key, default.get(key, ...), type(default[key]) if key in default else Any))
        for key, value in self.items():
            per_level = value if isinstance(value, list) and value else [value]
            known = (fixed[key],) if fixed.get(key) else OFF
            unchecked = self.read.union(ignored, (key,) if "*" in ignored or key.startswith("_") else ())
            if (key in fixed or key not in unchecked) and any(each not in known for each in per_level):
                raise ValueError(f"{shown(key)} is {shown(value)}, which the classes here do not have")
        return pydantic.TypeAdapter(getattr(config, table["config"])).validate_json(json.dumps(fields))


@contextmanager
def settings(path: Path, kind: Any = dict[str, Any]) -> Iterator[Settings]:
    """Read a JSON file, of a certain type; whatever is wrong with it, also in the body of the `with`, becomes one
    ValueError."""
    with named(path):
        yield Settings(pydantic.TypeAdapter(kind).validate_json(path.read_bytes()))


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn any error about a file of settings into a ValueError with its path."""
    try:
        yield
    except OSError as e:
        raise ValueError(f"the model folder lacks {path.name}: could not read {path}: {e.strerror}") from e
    except KeyError as e:
        raise ValueError(f"{path} lacks {e}") from e
    except pydantic.ValidationError as e:
        first, *_ = e.errors()
        where = shown(".".join(map(str, first["loc"])))
        match first["type"]:
            case "value_error":
                said = f": {str(first['ctx']['error'])[:500]}"
            case "missing":
                said = f" lacks {where}"
            case _ if first["loc"]:
                said = f": {where} is {shown(first['input'])}: {first['msg']}"
            case _:
                said = f" is not a configuration: {first['msg']}"
        raise ValueError(f"{path}{said}") from e
    except (ValueError, ArithmeticError, TypeError, AttributeError) as e:
        raise ValueError(f"{path}: {str(e)[:500].partition(chr(10))[0]}") from e


def shown(value: object) -> str:
    """Format untrusted content of a file for a message: in one line, shortened, without control characters."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
