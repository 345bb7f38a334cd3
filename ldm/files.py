"""Writing files whole or not at all."""

from collections.abc import Callable
from pathlib import Path


def save_atomically(write: Callable[[Path], object], path: Path) -> None:
    """Let `write` fill a file beside `path`, then put it in place whole: a crash leaves the old file or the new.

    What `write` raises is raised again, once its half-written file is gone.
    """
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
