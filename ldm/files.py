"""Writing files whole or not at all."""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path


def save_atomically(write: Callable[[Path], object], path: Path) -> None:
    """Let `write` fill a file beside `path`, then put it in place whole: a crash leaves the old file or the new.

    What `write` raises is raised again, once its half-written file is gone.

    Raises:
        OSError: it can't be written; the message names the path.
    """
    part = _part(path)
    try:
        write(part)
        part.replace(path)
    except OSError as e:
        raise OSError(e.errno, f"could not write {path}: {e.strerror or e}") from e
    finally:
        with contextlib.suppress(OSError):  # also where there can be none
            part.unlink()


def check_writable(path: Path) -> None:
    """Try whether `save_atomically` could write there, before the work that it is to keep; nothing is changed.

    Raises:
        OSError: it could not; the message names the path.
    """
    part = _part(path)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(path.stat().st_mode):  # which fails for too long a name
                raise IsADirectoryError("it is a folder")
            if not os.access(path, os.W_OK):  # replacing a file does not ask for this
                raise PermissionError("it is write-protected")
        part.touch()
        part.unlink()
    except OSError as e:
        raise OSError(e.errno, f"could not write {path}: {e.strerror or e}") from e


def _part(path: Path) -> Path:
    """The file that is filled: of this process, and with a name that is no longer than `path` may have."""
    start = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.with_name(f"{start}.{os.getpid()}.part")
