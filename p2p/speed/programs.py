"""How long programs take from the shell, beside the import of PyTorch that an edit needs."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from p2p.speed.models import Setting

ROUNDS = 5
IMPORT, HELP, EDIT = "import torch", "p2p --help", "p2p edit"
SOURCE, TARGET = "a photo of a cat on the grass", "a photo of a dog on the grass"


def commands(setting: Setting, file: Path) -> dict[str, Sequence[str]]:
    """Arguments of the interpreter; the edit is by the setting's model, which is included, and writes the file."""
    options = ("--model", setting.model, "--device", setting.device, "--steps", str(setting.steps), "-o", str(file))
    return {
        IMPORT: ("-c", IMPORT),
        HELP: ("-m", "p2p", "--help"),
        EDIT: ("-m", "p2p", "edit", SOURCE, TARGET, *options),
    }


def seconds_of(command: Sequence[str]) -> float:
    """From the start of an interpreter to its end.

    Raises:
        ValueError: the program failed.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise ValueError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr}")
    return seconds


def measure(setting: Setting) -> dict[str, list[float]]:
    """The seconds of each program in each round, after one that is not counted: it reads the files into memory."""
    with TemporaryDirectory() as folder:
        programs = commands(setting, Path(folder, "edit.png"))
        rounds = [[seconds_of(command) for command in programs.values()] for _ in range(ROUNDS + 1)][1:]
    return dict(zip(programs, map(list, zip(*rounds))))
