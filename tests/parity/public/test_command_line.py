"""`p2p edit --model` with a path: a CompVis file and a diffusers folder of one model make one picture."""

import sys

import numpy as np
import pytest
from PIL import Image

from p2p.__main__ import main
from p2p.call import Call
from weights.load import load

EDIT = ("edit", "a photo of a cat", "a photo of a dog", "--steps", "2", "--guidance", "7.5", "--seed", "3")


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_a_file_and_a_folder_are_edited_alike(kind, single, folder, tmp_path, monkeypatch):
    made = {}
    for path in (single(kind), folder(kind)):
        output = tmp_path / f"{path.name}.png"
        monkeypatch.setattr(sys, "argv", ["p2p", *EDIT, "--model", str(path), "-o", str(output)])
        main()
        with Image.open(output) as picture:
            made[path] = np.asarray(picture), Call.from_json(picture.info["p2p"])
    (of_file, call), (of_folder, other_call) = made.values()
    assert np.array_equal(of_file, of_folder)
    assert [call.model, other_call.model] == [str(path) for path in made]  # and that is all they differ in
    # beside the source its edit, as the call makes them in Python
    model = load(single(kind))
    *_, last = call.start(model)
    source, target = model.decode(last.z_t)
    assert np.array_equal(of_file, np.concatenate([source, target], axis=1))
    assert not np.array_equal(source, target)
