"""Threads that wait leave the cores to other programs: what libgomp says it was told. tests/busy.py has the times."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not list((Path(torch.__file__).parent / "lib").glob("libgomp*")),
    reason="torch has no libgomp here",
)
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def turns(module: str, **user: str) -> int:
    """How often a thread turns before it sleeps, in a program of ours, with these settings of the user's."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | user
    run = subprocess.run([sys.executable, "-m", module, "--help"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(re.search(r"GOMP_SPINCOUNT = '(\d+)'", run.stderr)[1])


@pytest.mark.parametrize("module", ["p2p", "ldm.explain", "weights.stickers.train"])
def test_threads_sleep_soon(module):
    """In a program of each package; the last one's first import is torch."""
    assert turns(module) == 3000


@pytest.mark.parametrize(
    ("user", "expected"), [({"GOMP_SPINCOUNT": "70"}, 70), ({"OMP_WAIT_POLICY": "passive"}, 0)], ids=str
)
def test_the_users_own_setting_holds(user, expected):
    assert turns("ldm.explain", **user) == expected
