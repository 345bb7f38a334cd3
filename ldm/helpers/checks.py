"""Argument checks whose errors are one sentence that names the fix.

Annotations state the same, but are only enforced in the test run. The checks look at types and shapes only, never at a
tensor's values: those may be on another device, and reading them would synchronise with it.
"""

import dataclasses
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, get_type_hints

import pydantic
from torch import Tensor

adapter, hints = cache(pydantic.TypeAdapter), cache(get_type_hints)


def plain(value: Any) -> Any:
    """Convert numpy and torch scalars, fractions and decimals to Python numbers, and lists to tuples."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return tuple(map(plain, value))
    if isinstance(value, Fraction | Decimal):
        return float(value)
    return value.item() if getattr(value, "shape", None) == () else value


def checked(name: str, value: Any, hint: Any) -> Any:
    """Return the value, made `plain`, if it is of the annotated type.

    Raises:
        ValueError: it is not; the error gives this name and the required type.
    """
    value = plain(value)
    try:
        adapter(hint).validate_python(value, strict=True)
    except pydantic.ValidationError as e:
        errors = e.errors()
        wanted = " or ".join(dict.fromkeys(error["msg"].removeprefix("Input should be ") for error in errors))
        wanted = wanted.replace("a valid integer", "a whole number").replace("valid ", "")
        raise ValueError(f"{name} must be {wanted}, got {errors[0]['input']!r}{_fix(errors)}") from None
    return value


def _fix(errors: list[dict[str, Any]]) -> str:
    """The correction to suggest, if there is only one."""
    kind, given = errors[0]["type"], errors[0]["input"]
    if kind == "tuple_type" and isinstance(given, str):
        return f": write ({given!r},)"
    if kind == "dataclass_exact_type" and len(errors) == 1 and isinstance(given, int | float):
        return f": write {errors[0]['ctx']['class_name']}({given!r})"
    return ""


def check_fields(config: Any) -> None:
    """Make the fields of a dataclass `plain`. Raises ValueError unless each is of its annotated type."""
    for field in dataclasses.fields(config):
        value = checked(field.name, getattr(config, field.name), hints(type(config))[field.name])
        object.__setattr__(config, field.name, value)  # works on frozen dataclasses too


def check_prompts(name: str, prompts: Any) -> None:
    """Raises ValueError unless the prompts are a list of strings; a single string is refused."""
    if isinstance(prompts, str):
        raise ValueError(f"{name} must be a list of strings, got one string: write [{prompts!r}]")
    if not isinstance(prompts, list | tuple) or not all(isinstance(prompt, str) for prompt in prompts):
        raise ValueError(f"{name} must be a list of strings, got {prompts!r}")


def check_latents(**latents: Any) -> None:
    """Raises ValueError unless all are tensors (b, c, h, w) of one shape; other shapes would silently broadcast."""
    for name, z in latents.items():
        if not isinstance(z, Tensor):
            raise ValueError(f"{name} must be latents, a tensor (b, c, h, w), got {type(z).__name__}")
        if z.ndim != 4:
            how = {1: ".reshape(-1, 1, 1, 1)", 2: "[..., None, None]", 3: "[None]"}.get(z.ndim)
            write = f": write {name}{how}" if how else ""
            raise ValueError(f"{name} must be latents, a tensor (b, c, h, w), got the shape {tuple(z.shape)}{write}")
    check_alike(**latents)


def check_alike(**tensors: Tensor) -> None:
    """Raises ValueError unless all tensors have the same shape."""
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.shape != one.shape:
            raise ValueError(
                f"{first} and {name} must have one shape, got {tuple(one.shape)} and {tuple(other.shape)}: "
                "expand or index one of them"
            )


def check_context(context: Any) -> None:
    """Raises ValueError unless this is tau_theta(y), (b, m, e)."""
    if not isinstance(context, Tensor) or context.ndim != 3:
        got = f"the shape {tuple(context.shape)}" if isinstance(context, Tensor) else repr(context)
        raise ValueError(
            f"context must be tau_theta(y), a tensor (b, m, e), got {got}: model.encode_prompts([prompt]) makes it"
        )


def check_rows(latents: Tensor, what: str, count: int) -> None:
    """Raises ValueError unless `count` is 1 or the number of latents."""
    if count not in (1, latents.shape[0]):  # len() would fix the number of rows of an exported graph
        raise ValueError(f"there are {len(latents)} latents and {count} {what}: give one for all, or one for each")


def check_heads(width: int, heads: int) -> None:
    """Raises ValueError unless the number of heads divides the width."""
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} cannot be cut into {heads} heads: give a number that divides {width}")
