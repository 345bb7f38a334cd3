"""The benchmark: its answers, its methods on two steps, its choice of settings, and runs that are shared or go on."""

import dataclasses
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps

import p2p
from ldm.helpers.likeness import psnr
from p2p.benchmark import measures, methods, report, run
from p2p.benchmark.answers import answer
from p2p.benchmark.attention import overlaps
from p2p.benchmark.measures import ByClip
from p2p.benchmark.methods import PUBLISHED, ROWS, Setting, Work
from p2p.benchmark.run import Processes, Store, dev_tasks, work_through
from p2p.benchmark.scenes import KINDS, load_scenes, stickers
from p2p.benchmark.tables import MEASURES, choose, group_key
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS, switch_times
from tests.support.random_models import random_model
from tests.support.scenes import SyntheticArt
from weights.load import load
from weights.training.sticker_fit import fit
from weights.training.world import NOUNS, Thing

TRACKS = run.TRACKS


@pytest.fixture(scope="module")
def by_clip() -> ByClip:
    return ByClip(*p2p.load_clip("stickers-clip", device="cpu"))


@pytest.fixture(scope="module")
def model():
    return load("stickers", device="cpu")


# ---------------------------------------------------------------------------------------------------------------------
# answers


@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_is_right_and_the_source_is_not(kind, track, by_clip):
    for scene in load_scenes("test", [kind])[:2]:
        true, none = (answer(scene, track, scene.image, image, by_clip) for image in (scene.target, scene.image))
        assert (true.right, none.right) == (1, 0)
        assert true.edited > none.edited + 3 and true.whole > none.whole  # dB; fog has 3.9, all others 10 and more
        if kind not in ("fog", "style"):
            assert true.kept > 38  # rounding alone leaves 58.9; where a new thing's edge is soft, less
            assert true.shift < (1 if track == "real image" else 7)  # an inserted thing makes the first one smaller


def test_the_whole_is_the_psnr_to_the_target(by_clip):
    rng = np.random.default_rng(0)
    for scene in load_scenes("dev")[::13]:
        noise = rng.integers(-30, 30, scene.image.shape)
        image = (scene.image + noise).clip(0, 255).astype(np.uint8)
        found = answer(scene, "real image", scene.image, image, by_clip)
        assert found.whole == pytest.approx(psnr(image, scene.target), abs=1e-6)


class Patches(SyntheticArt):
    """A disc of sixteen patches of any colour, for every noun."""

    def sticker(self, noun: str) -> Image.Image:
        patches = np.random.default_rng(list(NOUNS).index(noun)).uniform(0, 1, (4, 4, 3))
        y, x = np.mgrid[-1:1:100j, -1:1:100j]
        alpha = np.clip(12 * (1 - np.hypot(x, y)), 0, 1)[..., None]
        rgba = np.concatenate([patches.repeat(25, 0).repeat(25, 1), alpha], axis=-1)
        return Image.fromarray((255 * rgba).round().astype(np.uint8))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_sticker_fits_where_it_is(mirrored):
    art, picture = Patches(), Image.new("RGB", (128, 128), (191, 191, 191))
    cat = art.sticker("cat").resize((66, 66), Image.Resampling.BILINEAR)
    cat = ImageOps.mirror(cat) if mirrored else cat
    picture.paste(cat, (40, 30), cat)
    picture = np.array(picture)
    found = fit(picture, art, Thing("cat"))
    assert (found.x, found.y, found.mirrored) == (pytest.approx(73, abs=1), pytest.approx(63, abs=1), mirrored)
    assert found.side == pytest.approx(66, rel=0.03)  # the sizes that are tried are 2.9% apart
    assert found.dB > fit(picture, art, Thing("ball")).dB + 5


# ---------------------------------------------------------------------------------------------------------------------
# methods


@pytest.mark.parametrize("track", TRACKS)
def test_every_method_edits_at_every_setting(track, tiny, monkeypatch):
    """By two steps, on a random model of the scenes' size."""
    monkeypatch.setattr(methods, "STEPS", dict.fromkeys(TRACKS, 2))
    eighth = dataclasses.replace(tiny.config.autoencoder, channels=(16,) * 4)
    model = random_model(dataclasses.replace(tiny.config, image_size=128, autoencoder=eighth), tiny.tokenizer)
    scene = load_scenes("dev", ["noun"])[0]
    work = Work(model, scene, track)
    for row in ROWS:
        if row.applies(scene, track):
            settings = row.settings(track)[:2]
            made = list(row.run(work, settings))
            assert {m.setting for m in made} == set(settings) and len(made) == len(settings), row.name
            assert all(m.image.shape == (128, 128, 3) for m in made)
            assert all(math.isnan(m.returned) for m in made) or track == "real image"


@pytest.mark.parametrize("steps", methods.STEPS.values())
def test_a_time_is_as_many_steps_for_the_reference_as_it_says(steps):
    """In floats, (1 - 0.8) * 20 is less than 4."""
    for time in {time for row in ROWS for s in row.grid for time in (s.tau, s.until)}:
        assert int(methods.fraction(time) * steps) == math.floor((1 - Fraction(str(time))) * steps)
    assert methods.fraction("never") == 0


def test_direct_inversion_returns_to_the_limit_and_blending_keeps_more(model, monkeypatch):
    monkeypatch.setattr(methods, "STEPS", dict.fromkeys(TRACKS, 4))
    scene = load_scenes("dev", ["colour"])[1]
    work, rows = Work(model, scene, "real image"), {row.name: row for row in ROWS}
    limit = psnr(work.decoded(work.z_0)[0], scene.image)
    (ours,), (plain,), (blended,) = (
        rows[name].run(work, [PUBLISHED]) for name in ("ours", "ours, DDIM inversion", "ours, local blend")
    )
    assert ours.returned == limit > plain.returned + 1
    kept = lambda made: psnr(made.image[:30], scene.image[:30])  # the sky
    assert kept(blended) > kept(ours)


def test_attention_is_compared_at_every_resolution(model, monkeypatch):
    monkeypatch.setattr(methods, "STEPS", dict.fromkeys(TRACKS, 2))
    scene = load_scenes("dev", ["place"])[3]
    found = overlaps(model, scene)
    assert {(o["side"], o["noun"]) for o in found} == {(s, t.noun) for s in (16, 8, 4) for t in scene.things}
    assert all(0 <= o["iou"] <= 1 for o in found) and max(o["iou"] for o in found) > 0.2


# ---------------------------------------------------------------------------------------------------------------------
# runs


def invented(task: run.Task) -> list[dict]:
    """Entries of a task, whose measures follow from its scene and its setting."""
    entries = []
    for setting in task.settings:
        score = task.scene.index % 7 + setting.guidance + 10 * (setting.tau == 0.5)
        values = dict.fromkeys((*MEASURES, "returned"), score)
        values["kept"] = float("nan") if task.scene.kind == "fog" else score
        entries.append(run.entry_of(task, setting, values))
    return entries


class Recorder:
    """Measures nothing, and remembers the keys of what it was asked for."""

    def __init__(self):
        self.keys: list[str] = []

    def __call__(self, task: run.Task) -> list[dict]:
        self.keys += task.keys
        return invented(task)


class Alone(Processes):
    """One of several processes, which does not wait for the others."""

    def wait(self) -> None:
        pass


def test_processes_share_the_work_to_the_same_entries(model, tmp_path):
    tasks, measure = list(dev_tasks(load_scenes("dev"), model.tokenizer)), Recorder()
    for rank, number in ((0, 1), (0, 3), (1, 3), (2, 3)):
        work_through(tasks, measure, Store(tmp_path / str(number), rank), Alone(rank, number), "dev")
    shares = [Processes(rank, 3).share(load_scenes("dev")) for rank in range(3)]
    assert [len(share) for share in shares] == [20, 20, 20] and len(set.union(*shares)) == 60
    alone, shared = Store(tmp_path / "1").found, Store(tmp_path / "3").found
    assert alone == shared and len(alone) == sum(len(task.settings) for task in tasks)
    assert len(measure.keys) == 2 * len(alone)


def test_nothing_is_measured_twice_after_an_interruption(model, tmp_path):
    tasks, measure = list(dev_tasks(load_scenes("dev"), model.tokenizer))[:40], Recorder()
    work_through(tasks[:25], measure, Store(tmp_path), Alone(), "dev")
    file = tmp_path / "0.jsonl"
    first, cut = len(measure.keys), file.read_bytes()[:-10]  # within the last line
    file.write_bytes(cut)
    work_through(tasks, measure, Store(tmp_path), Alone(), "dev")
    again = measure.keys[first:]
    assert again[: len(tasks[24].keys)] == tasks[24].keys  # that which was cut, whole
    assert set(again) == {key for task in tasks[24:] for key in task.keys}
    before = len(measure.keys)
    work_through(tasks, measure, Store(tmp_path), Alone(), "dev")
    assert len(measure.keys) == before
    assert all(json.loads(line) for line in file.read_text().splitlines())


def test_settings_are_chosen_on_dev_by_the_whole_image(model, tmp_path):
    """The invented score is highest at tau 0.5, and then at the highest guidance."""
    work_through(dev_tasks(load_scenes("dev"), model.tokenizer), Recorder(), store := Store(tmp_path), Alone(), "dev")
    best = choose(store.found.values())
    for kind in ("noun", "colour"):
        ours = best[group_key("real image", "ours", kind)]
        assert (ours.guidance, ours.tau, ours.merge, ours.renormalise) == (4.0, 0.5, "sum", False)
    misleading = [entry | {"split": "test", "whole": -100 * entry["whole"]} for entry in store.found.values()]
    more = [entry | {"scene": entry["scene"] + 1000} for entry in misleading]
    assert choose([*store.found.values(), *more]) == best


def test_the_report_has_every_method_and_its_means(model, tmp_path, monkeypatch):
    monkeypatch.setattr(measures, "DRAWS", 100)  # of each of some thousand intervals
    store = Store(tmp_path / "store")
    work_through(dev_tasks(load_scenes("dev"), model.tokenizer), Recorder(), store, Alone(), "dev")
    best, test = choose(store.found.values()), load_scenes("test")
    work_through(run.test_tasks(test, model.tokenizer, best, quick=False), Recorder(), store, Alone(), "test")
    overlap = {"side": 16, "noun": "cat", "threshold": 0.3, "iou": 0.5}
    store.add(
        [{"key": f"attention / {s.index}", "scene": s.index, "split": s.split, "overlaps": [overlap]} for s in test]
    )
    for file in report.write(tmp_path, store.found.values(), best, test, "a commit", "a command"):
        assert file.stat().st_size > 1000
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert (found["commit"], found["command"]) == ("a commit", "a command") and "cores" in found["processor"]
    for track in TRACKS:
        for kind in KINDS:
            rows = found["tables"][track][kind]
            assert list(rows) == [r.name for r in ROWS if kind in r.kinds and track in r.tracks]
    ours = found["tables"]["real image"]["noun"]["ours"]
    mean = np.mean([scene.index % 7 + 4 + 10 for scene in test if scene.kind == "noun"])  # as the score above
    assert ours["scenes"] == 10 and ours["kept"][0] == pytest.approx(mean)
    assert ours["kept"][1] < mean < ours["kept"][2]
    assert found["tables"]["real image"]["fog"]["ours"]["kept"] is None
    assert found["differences"]["real image"]["random noise"]["edited"] == pytest.approx([10, 10, 10])
    assert found["attention"] == {"16x16": {"threshold 0.3": [0.5, 0.5, 0.5]}}
    page = (tmp_path / "benchmark.md").read_text()
    assert all(f"| {row.name} |" in page for row in ROWS) and "nan" not in page


def test_a_quick_run_takes_published_settings_and_leaves_out_what_is_slow(model):
    tasks = list(run.test_tasks(load_scenes("test"), model.tokenizer, {}, quick=True))
    assert {setting for task in tasks for setting in task.settings} == {PUBLISHED}
    assert not [task for task in tasks if task.row.first]
    whole = run.test_tasks(load_scenes("test"), model.tokenizer, {}, quick=False)
    slow = [task for task in whole if task.row.name == "ours, null text"]
    assert len(slow) == 2 * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_are_those_by_which_defaults_differ(kind, model):
    for scene in load_scenes(kinds=[kind]):
        times = switch_times(*map(model.tokenizer.encode, scene.captions[:2]))
        assert times == (FOR_OBJECTS if kind == "noun" else FOR_OTHERS), scene.captions[:2]


def test_mergers_are_compared_where_they_differ(model):
    compared = [s for s in load_scenes() if len(methods.mergers(s, model.tokenizer)) > 2]
    assert [(s.words, s.edited_words) for s in compared if s.kind == "noun"] == [
        (("strawberry",), ("panda",)),  # words of two tokens and of one
        (("butterfly",), ("cat",)),
        (("hat",), ("butterfly",)),
        (("octopus",), ("fish",)),
    ]
    for scene in compared:
        work = Work(model, scene, "generated")
        edits = [methods.edit_of(work, setting) for setting in methods.mergers(scene, model.tokenizer)]
        compiled = [edit.compile(*work.tokens, 1000) for edit in edits]
        sums, _, means, _, copies, _ = (matrices(900).P for matrices in compiled)
        assert not (sums.equal(means) and sums.equal(copies))


def test_the_stickers_are_those_of_the_scenes():
    assert max(stickers().sticker("cat").size) == 104
    assert Setting() == PUBLISHED and str(Setting(tau=0.5)) == "tau 0.5"
