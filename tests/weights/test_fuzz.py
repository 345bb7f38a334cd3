"""2,000 damaged files of tensors: each is refused with one clear error or read correctly; none crashes, none runs code,
none fills memory.

The files are read in a process of its own, with a limit of memory and of time, so that a crash fails the test and does
not end the tests. "Correctly" is what the library that wrote the file reads from it after the damage; where that gives
up and we do not, the damage must have hit nothing that counts, and the tensors are the original ones.
"""

import json
import re
import resource
import subprocess
import sys
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
import torch

from tests.support import damage
from tests.support.damage import Whole
from tests.support.tensor_files import read_all

ROOT = Path(__file__).parents[2]

# A file that is believed could ask for up to 2^63 bytes. Far below that, and far above what files of some
# kilobytes need.
MEMORY = 2 * 2**30  # bytes of addresses beyond those of torch itself
GROWTH = 200e6  # bytes in memory
SECONDS = 200

ANYWHERE = dict(flip_elsewhere=130, replace_a_run=110, cut=50)
GROUPS = {  # kind of file -> how many of which damage
    "safetensors": dict(flip_a_number=120, lying_header=180) | ANYWHERE,
    "shards": dict(lying_index=120) | ANYWHERE,
    "zip": dict(flip_a_number=80, lying_pickle=60, repacked=70, trap=90) | ANYWHERE,
    "legacy": dict(flip_a_number=80, lying_pickle=40) | ANYWHERE,
}
REFUSED = {"cut", "lying_index", "trap"}


def alike(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Equal in shape, dtype and numbers, of which some may be no number."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    return not found.numel() or bool(((found == wanted) | ((found != found) & (wanted != wanted))).all())


def outcome(how: str, whole: Whole) -> str:
    """What came of a damaged file: "refused" or "read".

    Raises:
        AssertionError: it is not what may come of this damage.
    """
    one_changed = how == "flip_a_number" and whole.kind != "zip"  # which has checksums
    try:
        found = read_all(whole.path)
    except ValueError as e:
        assert not one_changed, f"refused: {e}"
        assert type(e) is ValueError and str(whole.path.parent) in str(e) and len(str(e)) < 1000, f"not clear: {e}"
        return "refused"
    assert how not in REFUSED and (how != "flip_a_number" or one_changed), "read"
    expected = whole.tensors
    if not one_changed:
        with suppress(Exception):  # any: the library gives up on this file in a way of its own
            expected = whole.by_the_library()
    assert found.keys() == expected.keys(), f"{sorted(found)} instead of {sorted(expected)}"
    changed = [name for name in expected if not alike(found[name], expected[name])]
    assert len(changed) == one_changed, f"{changed} differ"
    return "read"


def run(group: str, folder: Path) -> dict:
    """Makes and reads the files of a group; what came of them."""
    folder.mkdir()
    outcomes, failures = Counter(), []
    whole = Whole.write(group, folder)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for how, count in GROUPS[group].items():
        for number in range(count):
            for path, content in files.items():
                path.write_bytes(content)
            try:
                getattr(damage, how)(Random(f"{group} {how} {number}"), whole)
                came = outcome(how, whole)
            except Exception as e:
                came = "failed"
                where = traceback.extract_tb(e.__traceback__)[-1]
                failures.append(f"{how} {number}: {e!r:.300} at {where.filename}:{where.lineno}")
            outcomes[f"{how} {came}"] += 1
    return {"group": group, "outcomes": outcomes, "failures": failures, "ran code": whole.sentinel.exists()}


@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
def test_damaged_files_are_refused_or_read_correctly(tmp_path):
    assert sum(sum(damages.values()) for damages in GROUPS.values()) == 2000
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.weights.test_fuzz", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, f"crashed in {ran.stdout.splitlines()[-1:]}: {ran.stderr}"
    grown, *reports = map(json.loads, ran.stdout.splitlines()[::-1])
    assert [report for report in reports if report["failures"] or report["ran code"]] == []
    assert grown < GROWTH
    for report in reports:
        assert sum(report["outcomes"].values()) == sum(GROUPS[report["group"]].values())
        # the files were not all refused for one and the same reason, such as a mistake in this test
        if report["group"] != "shards":
            assert all(report["outcomes"].get(f"flip_elsewhere {came}", 0) > 0 for came in ("refused", "read"))


def memory(what: str) -> int:
    """Of this process, in bytes."""
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch's, of damaged files
    resident, addresses = memory("VmRSS"), memory("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    for name in GROUPS:
        print(json.dumps(run(name, Path(sys.argv[1]) / name)), flush=True)
    print(memory("VmHWM") - resident)
