"""How long an edit takes alone, and beside another program that computes on the same cores.

    python tests/busy.py

OpenMP's threads wait for each other by turning in place, and turn through the time that others could use. Each way of
waiting takes its turn in every round, so that what else the machine does meets all of them alike; what counts is the
ratio of medians to libgomp's own way.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from ldm.helpers.machine import processor

ROOT = Path(__file__).parents[1]
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
WAYS = {
    "libgomp's own": {"GOMP_SPINCOUNT": "300000"},
    "ours": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
EDIT = """
import sys, time
from p2p.algorithm import PromptToPrompt
from p2p.edits import Swap
from weights.load import load

model = load("stickers")
edit = PromptToPrompt(model, "a photo of a cat on the grass", ("a photo of a dog on the grass",), (Swap("cat", "dog"),))
list(edit.denoise(7, steps=2))
while True:
    start = time.perf_counter()
    *_, last = edit.denoise(7, steps=30)
    model.decode(last.z_t)
    print(time.perf_counter() - start, flush=True)
"""


def editing(way: dict[str, str]) -> subprocess.Popen:
    """A process that makes one edit after the other, and writes down the seconds of each; one is made already."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | way
    process = subprocess.Popen([sys.executable, "-c", EDIT], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def seconds(way: dict[str, str]) -> float:
    with editing(way) as process:
        taken = float(process.stdout.readline())
        process.kill()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    args = parser.parse_args()
    taken = {(state, name): [] for state in ("alone", "busy") for name in WAYS}
    for _ in range(args.rounds):
        for name, way in WAYS.items():
            taken["alone", name].append(seconds(way))
            with editing(WAYS["libgomp's own"]) as other:
                taken["busy", name].append(seconds(way))
                other.kill()
    print(processor())
    for (state, name), times in taken.items():
        ratio = median(times) / median(taken[state, "libgomp's own"])
        print(f"{state:6} {name:14} {median(times):6.1f} s ({min(times):.1f} to {max(times):.1f}), {ratio:.2f}")


if __name__ == "__main__":
    main()
