"""Equal rows of a batch are computed equally, on every processor; tests/machines.py has the processors."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from machines import MACHINES
from PIL import Image

from p2p.__main__ import main

CAT = "a photo of a cat on the grass"
TARGETS = (
    "a photo of a dog on the grass",
    "a photo of a cat on the beach",
    "a photo of an owl on the grass",
    "a photo of a red cat on the grass",
    "a pencil drawing of a cat on the grass",
)


COMPUTED = """
import zlib
import torch
numbers = (torch.arange(2**14) ** 2 % 97) / 97  # equal everywhere
matrix, image = numbers.view(128, 128), numbers.view(2, 8, 32, 32)
for result in (matrix @ matrix, torch.conv2d(image, numbers[:1152].view(16, 8, 3, 3)), matrix.softmax(dim=1)):
    print(zlib.crc32(result.numpy()))
"""


@pytest.mark.machine
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_source_of_an_edit_equals_generate_to_the_byte(count, tmp_path, monkeypatch):
    """With the shipped model and no target's influence: 4, 6 and 12 rows, with the empty prompt's, beside 2."""
    monkeypatch.chdir(tmp_path)
    for args in (["generate", CAT, "-o", "alone.png"], ["edit", CAT, *TARGETS[:count], "-o", "edit.png"]):
        monkeypatch.setattr("sys.argv", ["p2p", *args, "--seed", "7", "--steps", "3"])
        main()
    alone, edit = (np.asarray(Image.open(name)).astype(int) for name in ("alone.png", "edit.png"))
    source, *targets = np.split(edit, 1 + count, axis=1)
    assert abs(source - alone).max() == 0
    assert all(abs(target - alone).max() > 50 for target in targets)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the settings are for x86")
def test_the_settings_make_another_processor():
    """MKL's products, oneDNN's convolutions and ATen's functions round otherwise; each setting changes its own."""

    def results(settings: dict[str, str]) -> list[str]:
        run = [sys.executable, "-c", COMPUTED]
        return subprocess.run(run, env=os.environ | settings, capture_output=True, text=True, check=True).stdout.split()

    here, other = results(MACHINES["this one"]), MACHINES["SSE4.1"]
    for i, name in enumerate(("MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")):
        changed = [a != b for a, b in zip(results(MACHINES["this one"] | {name: other[name]}), here)]
        assert changed == [i == 0, i == 1, i == 2], name
