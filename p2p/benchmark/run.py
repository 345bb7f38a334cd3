"""The benchmark of edits whose right answer is known: `make benchmark`, or `python -m p2p.benchmark.run`.

Every method edits 120 rendered scenes, and images that the model makes of their captions. Its settings are chosen on
half of the scenes (`dev`), apart for edits of a noun and for all others, and reported on the other half (`test`), in
docs/benchmark.md, .json and .png.

What is measured is stored at once, in the user's cache, by code, weights and scenes: after an interruption the same
command goes on. `torchrun --nproc-per-node 2 -m p2p.benchmark.run` shares the scenes among two processes. Each process
computes on one thread, so that numbers do not depend on how many there are.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.benchmark.run"))

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
import torch.distributed
from tqdm import tqdm

import weights
from ldm.helpers.files import check_writable
from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import PromptTokenizer
from p2p import __version__
from p2p.benchmark import report
from p2p.benchmark.answers import Track, answer
from p2p.benchmark.attention import overlaps
from p2p.benchmark.measures import ByClip
from p2p.benchmark.methods import PUBLISHED, ROWS, SWEPT, Row, Setting, Work, frontier, mergers, on_track
from p2p.benchmark.scenes import FOLDER, BenchmarkScene, load_scenes
from p2p.benchmark.tables import choose, group_key
from weights.load import load, load_clip
from weights.training.art import cache_dir

TRACKS: tuple[Track, ...] = get_args(Track)
ATTENDED = ("noun", "colour", "place")  # kinds whose images the attention is compared in: others are alike
QUICK = 2  # scenes of each kind
TOLD = ("tables.py", "report.py", "switch_times.py")  # which change what is measured, or told of it, but no measurement
WAIT = timedelta(hours=6)  # for the slowest process


class Task(NamedTuple):
    """The edits of one scene by one method."""

    scene: BenchmarkScene
    track: Track
    row: Row
    settings: tuple[Setting, ...]

    @property
    def keys(self) -> list[str]:
        return [key(self.scene.index, self.track, self.row.name, setting) for setting in self.settings]


def key(scene: int, track: str, method: str, setting: Setting) -> str:
    return f"{track} / {scene} / {method} / {setting}"


@dataclass(frozen=True)
class Processes:
    """How many processes share the work, and which one this is: as torchrun says, or one alone."""

    rank: int = 0
    number: int = 1

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator["Processes"]:
        if "RANK" not in os.environ:
            yield cls()
            return
        torch.distributed.init_process_group("gloo", timeout=WAIT)
        try:
            yield cls(torch.distributed.get_rank(), torch.distributed.get_world_size())
        finally:
            torch.distributed.destroy_process_group()

    def share(self, scenes: Iterable[BenchmarkScene]) -> set[int]:
        """The scenes of this process, by index; pairs stay together, since some methods do every second one only."""
        indices = dict.fromkeys(scene.index for scene in scenes)
        return {index for i, index in enumerate(indices) if i // 2 % self.number == self.rank}

    def wait(self) -> None:
        """Until every process is here."""
        if self.number > 1:
            torch.distributed.barrier()


class Store:
    """What was measured so far, a JSON object a line, by key; each process appends to a file of its own.

    A last line that an interruption cut is dropped.
    """

    def __init__(self, folder: Path, rank: int = 0):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file, self.found = folder, folder / f"{rank}.jsonl", {}
        if self.file.exists() and not (written := self.file.read_bytes()).endswith(b"\n"):
            self.file.write_bytes(written[: written.rfind(b"\n") + 1])
        self.read()

    def read(self) -> None:
        """Read what all processes have stored."""
        for file in sorted(self.folder.glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    entry = json.loads(line)
                    self.found[entry["key"]] = entry

    def add(self, entries: list[dict]) -> None:
        """Store entries together, in one write."""
        self.found |= {entry["key"]: entry for entry in entries}
        with self.file.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in entries))


def dev_tasks(scenes: list[BenchmarkScene], tokenizer: PromptTokenizer) -> Iterator[Task]:
    """The settings to choose from, and the mergers."""
    for scene in scenes:
        for track in TRACKS:
            for row in ROWS:
                if row.applies(scene, track) and row.every and scene.index % row.every == 0:
                    settings = row.settings(track) + (mergers(scene, tokenizer) if row.merged else ())
                    yield Task(scene, track, row, tuple(dict.fromkeys(settings)))


def test_tasks(
    scenes: list[BenchmarkScene], tokenizer: PromptTokenizer, chosen: dict[str, Setting], quick: bool
) -> Iterator[Task]:
    """The chosen settings, those that were published, those of a sweep over tau, the mergers, and reconstruction at
    guidance 1."""
    kinds: dict[str, int] = {}
    for scene in scenes:
        place = kinds[scene.kind] = kinds.get(scene.kind, -1) + 1
        for track in TRACKS:
            for row in ROWS:
                slow = row.first is not None and (quick or place >= row.first)
                if not row.applies(scene, track) or slow:
                    continue
                best = chosen.get(group_key(track, row.name, scene.kind), on_track(PUBLISHED, track))
                settings = [best, on_track(PUBLISHED, track)]
                if not quick:
                    settings += frontier(row, best) if scene.kind in SWEPT else []
                    settings += mergers(scene, tokenizer) if row.merged else ()
                    settings += [setting for setting in row.grid if setting.guidance == 1]
                yield Task(scene, track, row, tuple(dict.fromkeys(settings)))


class Measuring:
    """Measures tasks; what the edits of one scene share is kept while they follow each other."""

    def __init__(self, model: LatentDiffusion, by_clip: ByClip):
        self.model, self.by_clip, self.work = model, by_clip, None

    def __call__(self, task: Task) -> list[dict]:
        """The entries of a task."""
        if self.work is None or (self.work.scene, self.work.track) != (task.scene, task.track):
            self.work = Work(self.model, task.scene, task.track)
        entries = []
        with redirect_stderr(StringIO()):  # inversions have bars of their own, of a second each
            for made in task.row.run(self.work, task.settings):
                found = answer(task.scene, task.track, self.work.source, made.image, self.by_clip)
                entries.append(entry_of(task, made.setting, found._asdict() | {"returned": made.returned}))
        return entries


def entry_of(task: Task, setting: Setting, values: dict[str, float]) -> dict:
    """What is stored of one edit: null for NaN, which JSON lacks, and at most 99 dB."""
    entry = {"key": key(task.scene.index, task.track, task.row.name, setting), "scene": task.scene.index}
    entry |= {"kind": task.scene.kind, "split": task.scene.split, "track": task.track, "method": task.row.name}
    plain = {measure: None if np.isnan(value) else min(value, 99.0) for measure, value in values.items()}
    return entry | {"setting": asdict(setting)} | plain


def work_through(
    tasks: Iterable[Task], measure: Callable[[Task], list[dict]], store: Store, processes: Processes, name: str
) -> None:
    """Do this process's share of the tasks, except what is stored; then wait for the others and read theirs."""
    tasks = list(tasks)
    share = processes.share(task.scene for task in tasks)
    own = [task for task in tasks if task.scene.index in share]
    left = [task for task in own if any(key not in store.found for key in task.keys)]
    edits = lambda tasks: sum(len(task.settings) for task in tasks)
    how = {"desc": name, "unit": "edit", "file": sys.stderr, "disable": processes.rank > 0}
    with tqdm(total=edits(own), initial=edits(own) - edits(left), **how) as bar:
        for task in left:
            store.add(measure(task))
            bar.update(len(task.settings))
    processes.wait()
    store.read()


def attend(scenes: list[BenchmarkScene], model: LatentDiffusion, store: Store, processes: Processes) -> None:
    """Store how well the words' attention maps agree with their things, for this process's share of the scenes."""
    share = processes.share(scenes)
    own = [scene for scene in scenes if scene.index in share]
    bar = tqdm(own, "attention", unit="scene", file=sys.stderr, disable=processes.rank > 0)
    for scene in bar:
        if (name := f"attention / {scene.index}") not in store.found:
            with redirect_stderr(StringIO()):
                found = overlaps(model, scene)
            store.add([{"key": name, "scene": scene.index, "split": scene.split, "overlaps": found}])
    processes.wait()
    store.read()


def commit() -> str:
    """The commit of the working tree, with a mark if files differ from it; outside a repository the version."""
    ask = lambda *command: subprocess.run(
        ["git", *command], cwd=FOLDER, capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        differs = ask("status", "--porcelain", "--untracked-files=no", "--", ":/*.py", ":/*.safetensors")
        return ask("rev-parse", "HEAD") + "+changes" * bool(differs)
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"


def store_folder() -> Path:
    """Where measurements by this code, these weights and these scenes are stored: what only draws or tells them may
    change."""
    root, digest = Path(weights.__file__).parents[1], hashlib.sha256()
    code = [file for package in ("ldm", "p2p", "weights") for file in (root / package).rglob("*.py")]
    code = [file for file in code if not file.is_relative_to(root / "p2p" / "figures") and file.name not in TOLD]
    for file in sorted([*code, *(root / "weights" / "stickers").glob("*.safetensors"), *FOLDER.iterdir()]):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return cache_dir() / "benchmark" / digest.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"the settings that were published, on {QUICK} scenes of each kind, instead of chosen ones: minutes",
    )
    parser.add_argument("--output", type=Path, default=Path("docs"), help="folder of the report (default: %(default)s)")
    given = parser.parse_args()
    for name in report.FILES:
        check_writable(given.output / name)
    torch.set_num_threads(1)
    with Processes.joined() as processes:
        store = Store(store_folder(), processes.rank)
        model = load("stickers", device="cpu")
        measure = Measuring(model, ByClip(*load_clip("stickers-clip", device="cpu")))
        dev, test = load_scenes("dev"), load_scenes("test")
        chosen: dict[str, Setting] = {}
        if given.quick:
            test = [scene for scene in test if scene.index % 10 < QUICK]
        else:
            work_through(dev_tasks(dev, model.tokenizer), measure, store, processes, "dev")
            chosen = choose(store.found.values())
        work_through(test_tasks(test, model.tokenizer, chosen, given.quick), measure, store, processes, "test")
        shown = test if given.quick else dev + test
        attend([scene for scene in shown if scene.kind in ATTENDED], model, store, processes)
        if processes.rank == 0:
            command = "python -m p2p.benchmark.run" + " --quick" * given.quick
            for file in report.write(given.output, store.found.values(), chosen, test, commit(), command):
                print(file)
