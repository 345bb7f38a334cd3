"""How programs end: exit codes, one-line errors, and streams that fail or are closed.

Most are tried on programs of a few lines, each in a process of its own, which start in a tenth of a second.
"""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ldm.helpers.program import Messages, run

ROOT = Path(__file__).parents[1]
MANY = "def main():\n    print('line\\n' * 100_000)\n"  # more than a pipe holds
FEW = "import sys\ndef main():\n    print('told', file=sys.stderr)\n    print('made')\n"


@pytest.fixture
def start(tmp_path):
    """Start a program of a few lines; what it writes goes where the shell says."""

    def started(source: str, shell: str = '"$@"', **options) -> subprocess.Popen:
        (tmp_path / "tried.py").write_text(source)
        command = ["bash", "-c", shell, "-", sys.executable, "-c", "from ldm.helpers.program import run; run('tried')"]
        env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
        env.pop("PYTHONUNBUFFERED", None)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        # a run in the background of a shell is one that ignores interrupts, and so would the programs that it starts
        listens = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        programs.append(subprocess.Popen(command, env=env, cwd=tmp_path, text=True, preexec_fn=listens, **pipes))
        return programs[-1]

    programs: list[subprocess.Popen] = []
    yield started
    for program in programs:
        program.kill()
        program.communicate()


def test_a_reader_that_has_seen_enough_is_no_error(start):
    out, err = (program := start(MANY, '"$@" | head -1; exit ${PIPESTATUS[0]}')).communicate(timeout=60)
    assert (out, err, program.returncode) == ("line\n", "", 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("source", [FEW, MANY])
def test_output_that_is_lost_is_one_line_and_code_1(start, source):
    _, err = (program := start(source, '"$@" > /dev/full')).communicate(timeout=60)
    assert program.returncode == 1
    assert err.splitlines()[-1].endswith("No space left on device") and "Traceback" not in err


@pytest.mark.parametrize("shell", ['"$@" 2>&-', '"$@" 2> /dev/full', '"$@" 2> >(true)'])
def test_messages_that_are_lost_lose_nothing_else(start, shell):
    out, err = (program := start(FEW, shell)).communicate(timeout=60)
    assert (out, err, program.returncode) == ("made\n", "", 0)


@pytest.mark.parametrize("closed", ["0<&- 1>&- 2>&-", "1>&-", "2>&-"])
def test_a_file_never_takes_the_number_of_a_closed_stream(start, tmp_path, closed):
    source = """
import os, sys
def main():
    with open("made", "w") as file:
        os.write(1, b"stray"), os.write(2, b"stray")
        print("stray"), print("stray", file=sys.stderr)
        file.write("whole")
"""
    program = start(source, f'"$@" {closed}')
    program.communicate(timeout=60)
    assert program.returncode == 0 and (tmp_path / "made").read_text() == "whole"


@pytest.mark.parametrize("inside", ["def main():\n    ", ""], ids=["working", "importing"])
def test_an_interrupt_is_one_line_and_code_130(start, inside):
    program = start(f"import time\n{inside}print('ready', flush=True); time.sleep(60)\n", 'exec "$@"')
    assert program.stdout.readline() == "ready\n"
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert (err, program.returncode) == ("tried: interrupted\n", 130)


def ends(monkeypatch, error: BaseException | None) -> object:
    """The code or the message that a program exits with whose main raises this."""

    def main():
        if error:
            raise error

    monkeypatch.setitem(sys.modules, "tried", SimpleNamespace(main=main))
    try:
        run("tried", "name")
    except SystemExit as stopped:
        return stopped.code
    return None


NO_MEMORY = "name: error: there is not enough memory: make fewer images at a time"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, None),
        (ValueError("give another"), "name: error: give another"),
        (FloatingPointError("not finite"), "name: error: not finite"),
        (OSError(errno.ENOSPC, "No space left on device"), "name: error: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.png"), "name: error: No such file: x.png"),
        (SystemExit(2), 2),
        (MemoryError(), NO_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), NO_MEMORY),
    ],
)
def test_what_a_user_can_mend_is_one_line(monkeypatch, error, message):
    assert ends(monkeypatch, error) == message


def test_a_fault_of_our_own_is_not_hidden(monkeypatch):
    for error in (KeyError("x"), RuntimeError("shapes differ")):
        with pytest.raises(type(error)):
            ends(monkeypatch, error)


def test_no_backend_is_left_for_matplotlib_to_look_for(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    ends(monkeypatch, None)
    assert "MPLBACKEND" not in os.environ


def test_messages_are_as_the_stream_they_go_to():
    assert Messages(sys.__stderr__).encoding == sys.__stderr__.encoding


def test_every_program_is_started_before_it_imports():
    """So that an interrupt while it imports, and settings that its imports read, are looked after."""
    programs = 0
    for path in [path for package in ("ldm", "p2p", "weights") for path in (ROOT / package).rglob("*.py")]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        starts = [node for node in body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
        if not starts or path.name == "__main__.py":
            continue
        programs += 1
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert body.index(starts[0]) == 1, f"{path} imports before it is started"
        assert f"run('{module}')" in ast.unparse(starts[0]), path
    assert programs == 19
