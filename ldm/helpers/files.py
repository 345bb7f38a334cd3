"""Atomic file writing: whole or not at all."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path


def save_atomically(write: Callable[[Path], object], path: Path) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place: a crash leaves the old file or the new.

    If `write` raises, the temporary file is deleted and the exception is raised again.

    Raises:
        OSError: the file can't be written; the message names the path.
    """
    part = _part(path)
    try:
        write(part)
        part.replace(path)
    except OSError as e:
        raise OSError(e.errno, f"could not write {path}: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):  # it may not exist
            part.unlink()


def check_writable(path: Path) -> None:
    """Check before a long computation that `save_atomically` could write its result there; changes nothing.

    Raises:
        OSError: it could not; the message names the path.
    """
    part = _part(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(path.stat().st_mode):  # fails for a name that is too long
                raise IsADirectoryError("it is a folder")
            if not os.access(path, os.W_OK):  # replacing a file does not require this
                raise PermissionError("it is write-protected")
        part.touch()
        part.unlink()
    except OSError as e:
        raise OSError(e.errno, f"could not write {path}: {e.strerror or e}") from e


def _part(path: Path) -> Path:
    """The temporary file: unique to this process, with a name no longer than `path` may have."""
    start = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.with_name(f"{start}.{os.getpid()}.part")
