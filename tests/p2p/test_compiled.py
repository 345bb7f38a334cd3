"""The UNet can be compiled by PyTorch, as docs/editing.md says."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_edit_compiles_to_one_graph_for_each_kind_of_step():
    """One for the first step, in which equal rows share the unconditional prediction; one for steps with the source's
    self- and cross-attention; with its cross-attention alone; with neither. Another seed, pair and switch time need no
    others. The graphs call what the layers call: images are equal to the bit."""
    command = [sys.executable, "-W", "error", "-m", "tests.support.compiled_edit"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == 2 * [{"equal": True, "graphs": 4}]
