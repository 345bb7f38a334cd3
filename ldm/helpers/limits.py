"""How large the numbers of a configuration may be. Files are not trusted: beyond these limits a configuration is a
mistake, or is meant to fill memory."""

import dataclasses

LARGEST = 2**20  # of widths, vocabularies and the like
DEEPEST = 64  # layers of a transformer, or residual blocks of a level
MOST_LEVELS = 16
LONGEST = 10**5  # T


def check_sizes(config: object, *but: str) -> None:
    """Raises ValueError unless the whole numbers in a configuration's fields, but for those named, are sizes."""
    for field in dataclasses.fields(config):
        value, most = getattr(config, field.name), DEEPEST if field.name == "layers" else LARGEST
        numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if type(n) is int]
        if field.name not in but and not all(1 <= n <= most for n in numbers):
            raise ValueError(f"{field.name} must lie in 1..{most}, got {value}")


def check_levels(widths: tuple[int, ...], groups: int) -> None:
    """Raises ValueError unless there are levels, and their widths can be cut into the groups of GroupNorm."""
    if not 1 <= len(widths) <= MOST_LEVELS:
        raise ValueError(f"a model has 1 to {MOST_LEVELS} levels, widths names {len(widths)}")
    if any(width % groups for width in widths):
        raise ValueError(f"widths of {widths} cannot all be cut into {groups} groups")
