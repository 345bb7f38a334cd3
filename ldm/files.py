"""Writing files whole or not at all."""

from collections.abc import Callable
from pathlib import Path


def save_atomically(write: Callable[[Path], None], path: Path) -> None:
    """Let `write` fill a file beside `path`, then put it in place whole: a crash leaves the old file or the new."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
