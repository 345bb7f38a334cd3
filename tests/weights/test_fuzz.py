"""2,000 damaged files of tensors: each is refused with one clear error or read correctly; none crashes, none runs code,
none fills memory.

The files are read in processes of their own, with a limit of memory and of time, so that a crash fails a test and does
not end the tests. "Correctly" is what the library that wrote the file reads from it after the damage; where that gives
up and we do not, the damage must have hit nothing that counts, and the tensors are the original ones.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
import warnings
from collections import Counter
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
SECONDS = 40

ANYWHERE = dict(flip_elsewhere=120, flip_several=30, cut=50, insert_or_drop=40, overwrite=40)
HEADERS = dict(lying_safetensors=120, renamed_or_reshaped=60, said_twice=20, lying_length=20)
INDEXES = dict(flip_elsewhere=70, flip_several=10, cut=30, lying_index=70, lie_in_index=20, damaged_shard=50)
GROUPS = {  # group -> kind of file, and how many of which damage
    "safetensors": ("safetensors", dict(flip_a_number=120) | ANYWHERE | HEADERS),
    "shards": ("shards", INDEXES),
    "zip": ("zip", dict(flip_a_number=80, lying_pickle=80, bomb=10, repacked=70) | ANYWHERE),
    "legacy": ("legacy", dict(flip_a_number=80, lying_pickle=40, bomb=10) | ANYWHERE),
    "calls": ("zip", dict(trap=100)),
    "something else": ("zip", dict(something_else=100)),
}
REFUSED = {"cut", "something_else", "lying_length", "lying_index", "damaged_shard", "bomb", "trap"}


# ---------------------------------------------------------------------------------------------------------------------
# reading them


def alike(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    """Equal in shape, dtype and numbers, of which some may be no number."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    return bool(((found == wanted) | ((found != found) & (wanted != wanted))).all())


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
    if whole.library is not None and not one_changed:
        try:
            expected = whole.library(whole.path)
        except Exception:  # any: the library gives up on this file in a way of its own
            expected = whole.tensors
    assert found.keys() == expected.keys(), f"{sorted(found)} instead of {sorted(expected)}"
    changed = [name for name in expected if not alike(found[name], expected[name])]
    assert len(changed) == one_changed, f"{changed} differ"
    return "read"


def run(group: str, folder: Path) -> dict:
    """Makes and reads the files of a group; what came of them."""
    kind, damages = GROUPS[group]
    outcomes, failures = Counter(), []
    whole = Whole.write(kind, folder)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    for how, count in damages.items():
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
    return {"outcomes": outcomes, "failures": failures, "ran code": whole.sentinel.exists()}


def in_a_process(group: str, folder: Path) -> dict:
    """Runs a group in a copy of this process, within limits."""
    folder.mkdir()
    report = folder.with_suffix(".json")
    if (child := os.fork()) == 0:
        signal.alarm(SECONDS)
        addresses, resident = (
            int(n) * resource.getpagesize() for n in Path("/proc/self/statm").read_text().split()[:2]
        )
        resource.setrlimit(resource.RLIMIT_AS, (addresses + MEMORY, addresses + MEMORY))
        came = run(group, folder)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident
        report.write_text(json.dumps(came | {"grown": grown}))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        return {"ended with": code}
    return json.loads(report.read_text())


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, dict]:
    """What came of each group."""
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, "-m", "tests.weights.test_fuzz", str(folder)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS * len(GROUPS))
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_there_are_two_thousand():
    assert sum(sum(damages.values()) for _, damages in GROUPS.values()) == 2000


@pytest.mark.skipif(sys.platform != "linux", reason="measures with /proc")
@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_are_refused_or_read_correctly(group, reports):
    report = reports[group]
    assert "ended with" not in report, f"crashed: {report}"
    assert not report["failures"], "\n".join(report["failures"])
    assert not report["ran code"]
    assert report["grown"] < GROWTH
    assert sum(report["outcomes"].values()) == sum(GROUPS[group][1].values())
    # the files were not all refused for one and the same reason, such as a mistake in this test
    if group in ("safetensors", "zip", "legacy"):
        for damage in ("flip_elsewhere", "overwrite"):
            assert all(report["outcomes"].get(f"{damage} {came}", 0) > 0 for came in ("refused", "read")), damage


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # torch's, of damaged files
    torch.set_num_threads(1)  # a process that forks shall have no threads
    print(json.dumps({group: in_a_process(group, Path(sys.argv[1]) / group) for group in GROUPS}))
