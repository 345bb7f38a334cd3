"""A contest: contestants in processes of their own, whose results are compared before any is timed.

All are loaded at once and take turns, so that a drift of the machine meets all alike, in another order in each round,
so that none always follows the same one, which may leave memory and caches in disorder; a ratio is that of two times
of one round.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from p2p.speed.contestants import Contestant
from p2p.speed.models import Setting

# Largest relative difference of two results of one case: the norm of the difference over the norm of the first. In
# float32 sums of up to ten thousand terms in another order, through a hundred layers; in bfloat16 each rounds by 2^-8:
# there every contestant was 4e-2 from its float32 result, and two were up to 5.3e-2 from each other. Over the steps of
# a whole run differences grow. An edit that is left out differs by more (0.3), which is checked too.
BOUNDS = {"float32": 1e-4, "bfloat16": 0.1}
RUN_BOUND = 1e-2


class Process:
    """A worker, which gets no signals of this terminal. A contestant ends with this process, since it reads from it."""

    def __init__(self, setting: Setting):
        self.setting = setting
        self.process = subprocess.Popen(
            [sys.executable, "-m", "p2p.speed.worker", json.dumps(asdict(setting))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def answer(self) -> dict:
        """Its next line.

        Raises:
            ValueError: it ended instead; what it wrote to standard error says why.
        """
        if not (line := self.process.stdout.readline()):
            raise ValueError(f"{self.setting.name} ended with code {self.process.wait()}, without a result")
        return json.loads(line)

    def ask(self, **request) -> dict:
        with suppress(BrokenPipeError):  # it ended: there is no answer
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()


@contextmanager
def started(setting: Setting) -> Iterator[Process]:
    process = Process(setting)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


def measured(setting: Setting) -> dict:
    """The result of a measurement that is no contest."""
    with started(setting) as process:
        return process.answer()


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def check(results: Mapping[str, np.ndarray], cases: Mapping[str, str], bound: float) -> dict[str, float]:
    """Compare each result with the first of its case; return the differences.

    Raises:
        ValueError: a result differs by more than the bound or is not finite, or two cases are equal within it, so that
            the comparison could not tell a wrong result.
    """
    first: dict[str, str] = {}
    found = {}
    for name, result in results.items():
        expected = first.setdefault(cases[name], name)
        found[name] = difference(result, results[expected])
        if not found[name] <= bound:  # also if it is NaN
            raise ValueError(
                f"{name} differs from {expected} by {found[name]:.1e}, allowed are {bound:.0e}: no contest"
            )
    for case, name in first.items():
        for other in list(first.values())[: list(first).index(case)]:
            if difference(results[name], results[other]) <= bound:
                raise ValueError(f"{name} and {other} compute the same, though one edits in another way: no contest")
    return found


def contest(
    contestants: Mapping[str, Contestant], setting: Setting, rounds: int, calls: int, bound: float, bar: tqdm
) -> dict[str, dict]:
    """Run a contest.

    Args:
        contestants: by name.
        setting: of all, but for the name.
        rounds: in which each contestant is timed once.
        calls: that are timed together, one after the other.
        bound: of the differences between results.
        bar: is moved on by one for the first call of each contestant, and for each timed one.

    Returns:
        For each contestant its case, its seconds in each round, the difference of its result from the first of its
        case, and its peak memory above what was resident when it had loaded, in bytes.

    Raises:
        ValueError: results differ, or a process failed.
    """
    bar.set_postfix_str("loading")
    with TemporaryDirectory() as folder, ExitStack() as stack:
        processes = {name: stack.enter_context(started(replace(setting, name=name))) for name in contestants}
        for process in processes.values():
            process.answer()
        results = {}
        for name, process in processes.items():
            bar.set_postfix_str(name)
            kept = Path(folder) / "result.npy"
            process.ask(keep=str(kept))  # also the warm-up
            results[name] = np.load(kept)
            bar.update()
        differences = check(results, {name: each.case for name, each in contestants.items()}, bound)
        answers: dict[str, list[dict]] = {name: [] for name in contestants}
        draw = random.Random(0)
        for _ in range(rounds):
            for name in draw.sample(list(processes), len(processes)):
                bar.set_postfix_str(name)
                answers[name].append(processes[name].ask(calls=calls))
                bar.update()
        return {
            name: {
                "case": each.case,
                "seconds": [answer["seconds"] for answer in answers[name]],
                "difference": differences[name],
                "above": answers[name][-1]["above"],
            }
            for name, each in contestants.items()
        }
