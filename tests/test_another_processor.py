"""Equal rows of a batch are computed equally, on every processor."""

import numpy as np
import pytest
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


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_source_of_an_edit_is_what_generate_makes_to_the_byte(count, tmp_path, monkeypatch):
    """With the shipped model and no target's influence: 4, 6 and 12 rows, with the empty prompt's, beside 2."""
    monkeypatch.chdir(tmp_path)
    for args in (["generate", CAT, "-o", "alone.png"], ["edit", CAT, *TARGETS[:count], "-o", "edit.png"]):
        monkeypatch.setattr("sys.argv", ["p2p", *args, "--seed", "7", "--steps", "4"])
        main()
    alone, edit = (np.asarray(Image.open(name)).astype(int) for name in ("alone.png", "edit.png"))
    source, *targets = np.split(edit, 1 + count, axis=1)
    assert abs(source - alone).max() == 0
    assert all(abs(target - alone).max() > 50 for target in targets)
