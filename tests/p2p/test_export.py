"""Numbers of sweeps as CSV and JSON."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from p2p.alpha import Step, Window
from p2p.experiments.export import measurements, save_numbers
from p2p.experiments.sweeps import Sweep

FIELDS = ["source", "target", "seed", "setting", "start", "end", "preservation_db", "structure", "fidelity"]


@pytest.fixture
def sweep() -> Sweep:
    """Two seeds, three settings; the numbers tell which they are."""
    images, numbers = np.zeros((2, 3, 8, 8, 3), np.uint8), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, float("inf")]])
    settings = ("never", Window(end=0.5, start=0.75), Step(200))
    measured = dict(preservation=numbers, structure=-torch.arange(6.0).reshape(2, 3) / 8, fidelity=numbers.flip(0) / 16)
    originals = torch.tensor([-0.5, -0.25])
    return Sweep("a cat", "a dog, sitting", 1000, settings, images[:, 0], images, **measured,
                 fidelity_of_originals=originals, seeds=(7, 8))  # fmt: skip


def test_csv_has_a_row_per_seed_and_setting(sweep, tmp_path):
    path = tmp_path / "sweep.csv"
    save_numbers(path, measurements([sweep, sweep]), ".csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == FIELDS and len(rows) == 16
    assert rows[:8] == rows[8:]
    got = [[row[name] for name in FIELDS[2:]] for row in rows[:8]]
    assert got == [
        ["7", "source", "", "", "", "", "-0.5"],
        ["7", "never", "1.0", "never", "1.0", "-0.0", "0.25"],
        ["7", "0.75 T to 0.5 T", "0.75", "0.5", "2.0", "-0.125", "0.3125"],
        ["7", "tau: t = 200", "1.0", "t=200", "3.0", "-0.25", "inf"],
        ["8", "source", "", "", "", "", "-0.25"],
        ["8", "never", "1.0", "never", "4.0", "-0.375", "0.0625"],
        ["8", "0.75 T to 0.5 T", "0.75", "0.5", "5.0", "-0.5", "0.125"],
        ["8", "tau: t = 200", "1.0", "t=200", "inf", "-0.625", "0.1875"],
    ]
    assert {(row["source"], row["target"]) for row in rows} == {("a cat", "a dog, sitting")}


def test_of_a_real_image_the_source_has_its_distance_from_it(sweep):
    """The source is black, and the image 51 of 255 everywhere, a fifth of the range: 20 log10(5) dB."""
    one = replace(sweep, seeds=(7,), given=np.full((8, 8, 3), 51, np.uint8))
    source, first, *_ = measurements([one])
    assert source["setting"] == "source" and source["fidelity"] == -0.5
    assert source["preservation_db"] == pytest.approx(20 * math.log10(5))
    assert first["preservation_db"] == 1.0


def test_json_has_the_same_rows_and_null_for_what_is_infinite(sweep, tmp_path):
    path = tmp_path / "sweep.json"
    rows = measurements([sweep])
    save_numbers(path, rows, ".json")

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert [list(row) for row in found] == [FIELDS] * 8
    assert found[2]["preservation_db"] == 2.0 and found[2]["start"] == 0.75 and found[3]["end"] == "t=200"
    assert found[7]["preservation_db"] is None and found[0]["start"] is None
