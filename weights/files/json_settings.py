"""JSON files of settings, validated by declarative models: no setting is overlooked."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import Field

from ldm.helpers.limits import DEEPEST, LARGEST

Size = Annotated[int, Field(ge=1, le=LARGEST)]
Depth = Annotated[int, Field(ge=1, le=DEEPEST)]

OFF = (None, False, 0, "", "default", [])
# settings that do not change the result, or describe a feature that is off
IRRELEVANT = {"sample_size", "upcast_attention", "force_upcast", "dropout", "addition_embed_type_num_heads"}


class Settings(pydantic.BaseModel):
    """The settings that are read from a kind of file."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow", frozen=True)

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Raises the errors that `named` turns into one."""
        return cls.model_validate_json(path.read_bytes())

    def shared(self, config: type, *but: str) -> dict[str, Any]:
        """The settings that a config has under the same name, except those named."""
        names = {field.name for field in dataclasses.fields(config)} & type(self).model_fields.keys()
        return {name: getattr(self, name) for name in names.difference(but)}


class AllSettings(Settings):
    """Settings of which none is overlooked: others must have their value in `FIXED`, be in `IGNORED`, or be off."""

    FIXED: ClassVar[dict[str, Any]] = {}
    IGNORED: ClassVar[set[str]] = IRRELEVANT

    @pydantic.model_validator(mode="after")
    def refuse_others(self) -> "Settings":
        for key, value in self.model_extra.items():
            per_level = value if isinstance(value, list) and value else [value]
            known = (self.FIXED[key],) if key in self.FIXED else OFF
            if not (key in self.IGNORED or key.startswith("_") or all(each in known for each in per_level)):
                raise ValueError(f"{shown(key)} is {shown(value)}, which the classes here do not have")
        return self


def values(path: Path) -> dict[str, Any]:
    """The content of a JSON file, which must be an object."""
    with named(path):
        return pydantic.TypeAdapter(dict[str, Any]).validate_json(path.read_bytes())


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn all that can be wrong with a file of settings into one ValueError with its path."""
    try:
        yield
    except OSError as e:
        raise ValueError(f"the model folder lacks {path.name}: could not read {path}: {e.strerror}") from e
    except pydantic.ValidationError as e:
        first, *_ = e.errors()
        # the rest are numbers in lists and types in unions
        names = [part for part in first["loc"] if str(part).isidentifier()] or first["loc"]
        match first["type"], shown(".".join(map(str, names))):
            case "value_error", _:
                said = f": {first['ctx']['error']}"
            case "missing", key:
                said = f" lacks {key}"
            case _, "''":
                said = f" is not a configuration: {first['msg']}"
            case _, key:
                said = f": {key} is {shown(first['input'])}: {first['msg']}"
        raise ValueError(f"{path}{said}") from e
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def shown(value: object) -> str:
    """Format untrusted content of a file for a message: in one line, shortened, without control characters."""
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
