"""Upper limits on configurations. Files are not trusted: a configuration beyond them is a mistake, or an attempt to
exhaust memory."""

import dataclasses

LARGEST = 2**20  # of channels, vocabularies and the like
DEEPEST = 64  # layers of a transformer, or residual blocks of a level
MOST_LEVELS = 16
LONGEST = 10**5  # T


def check_sizes(config: object, *but: str) -> None:
    """Raises ValueError unless the integer fields of a configuration, except those named, are valid sizes."""
    for field in dataclasses.fields(config):
        value, most = getattr(config, field.name), DEEPEST if field.name == "layers" else LARGEST
        numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if type(n) is int]
        if field.name not in but and not all(1 <= n <= most for n in numbers):
            raise ValueError(f"{field.name} must lie in 1..{most}, got {value}")


def check_levels(channels: tuple[int, ...], groups: int) -> None:
    """Raises ValueError unless there are 1 to 16 levels, and the groups of GroupNorm divide each level's channels."""
    if not 1 <= len(channels) <= MOST_LEVELS:
        raise ValueError(f"a model has 1 to {MOST_LEVELS} levels, channels names {len(channels)}")
    if any(c % groups for c in channels):
        raise ValueError(f"channels of {channels} cannot all be cut into {groups} groups")
