"""Running a program: what it says and how it exits when something around it fails.

A program's file begins with its own start, so that what is heavy is imported inside `run`:

    if __name__ == "__main__":
        from ldm.program import run

        raise SystemExit(run("p2p.demo"))

Exit codes: 0, done; 1, an error, told in one line; 2, a wrong command line; 130, interrupted, as shells have it.
"""

import contextlib
import os
import sys
from importlib import import_module


def run(module: str, name: str = "") -> None:
    """Import a program's module and call its `main`.

    Args:
        module: as it is imported.
        name: what messages begin with; by default the last part of the module's.

    Raises:
        SystemExit: it did not end well. What is no ValueError, OSError or FloatingPointError is a fault of the
            program's own and is raised as it is.
    """
    name = name or module.rpartition(".")[2]
    open_streams()
    # Figures are drawn in memory, without a backend. One that a notebook's environment names may not be installed here,
    # and matplotlib refuses to be imported then.
    os.environ.pop("MPLBACKEND", None)
    try:
        try:
            import_module(module).main()
        finally:
            flush()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever reads the output has seen enough of it: no error
        discard_output()
    except OSError as e:
        said = e.strerror or str(e)
        sys.exit(f"{name}: error: {said}: {e.filename}" if e.filename else f"{name}: error: {said}")
    except (ValueError, FloatingPointError) as e:
        sys.exit(f"{name}: error: {e}")


class Messages:
    """Standard error, but that a message that can't be written is dropped: what a program makes is worth more."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()


def open_streams() -> None:
    """Make sure that the standard streams are there: the number of one that is closed would go to the next file that
    is opened, and messages into that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if not isinstance(sys.stderr, Messages):
        sys.stderr = Messages(sys.stderr or os.fdopen(2, "w"))


def flush() -> None:
    """Write out what was printed.

    Raises:
        OSError: it can't be written; it is discarded, or the interpreter would try again at its end.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        discard_output()
        raise OSError(e.errno, f"could not write to standard output: {e.strerror}") from e


def discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
