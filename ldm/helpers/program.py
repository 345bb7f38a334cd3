"""Running a program: its messages and exit codes when something around it fails.

A program's file begins like this, so that heavy imports happen inside `run`:

    if __name__ == "__main__":
        from ldm.helpers.program import run

        raise SystemExit(run("p2p.cli.demo"))

Exit codes: 0, done; 1, an error, reported in one line; 2, a wrong command line; 130, interrupted, as in shells.
"""

import atexit
import contextlib
import gc
import os
import sys
from importlib import import_module


def run(module: str, name: str = "") -> None:
    """Import a program's module and call its `main`.

    Args:
        module: its full name.
        name: the prefix of messages; by default the last part of the module's name.

    Raises:
        SystemExit: the program failed. Exceptions other than ValueError, OSError, FloatingPointError and those of
            memory are bugs in the program and are not caught.
    """
    name = name or module.rpartition(".")[2]
    # PyTorch's modules are some hundred thousand objects that last until the end: looking among them for garbage takes
    # a tenth of a second as they are imported, and a third at exit.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    open_streams()
    # Figures are drawn in memory, without a backend. A notebook's environment may name one that is not installed here,
    # and matplotlib then fails to import.
    os.environ.pop("MPLBACKEND", None)
    try:
        try:
            import_module(module).main()
        finally:
            flush()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does: not an error
        discard_output()
    except OSError as e:
        reason = e.strerror or str(e)
        sys.exit(f"{name}: error: {reason}: {e.filename}" if e.filename else f"{name}: error: {reason}")
    except (ValueError, FloatingPointError) as e:
        sys.exit(f"{name}: error: {e}")
    except (MemoryError, RuntimeError) as e:
        if not is_out_of_memory(e):
            raise
        sys.exit(f"{name}: error: there is not enough memory: make fewer images at a time")


def is_out_of_memory(e: Exception) -> bool:
    """Whether memory was refused by Python, by torch on a GPU, or by torch on the processor, which has no class for
    it."""
    return isinstance(e, MemoryError) or type(e).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(e)


class Messages:
    """Standard error that drops messages it can't write, so that the program can finish its work."""

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
    """Open any standard stream that is closed: otherwise the next opened file would get its number, and messages would
    be written into that file."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if not isinstance(sys.stderr, Messages):
        sys.stderr = Messages(sys.stderr or os.fdopen(2, "w"))


def flush() -> None:
    """Flush standard output.

    Raises:
        OSError: it can't be written; the output is discarded, or the interpreter would try again at exit.
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
