"""The single file that sd-turbo is published as: the tensors of SD 2.1, those of the prompt model under other names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from ldm.config import ScheduleConfig
from ldm.presets import PRESETS
from tests.support.compvis_files import SCHEDULE_BUFFERS, compvis, save_checkpoint
from tests.support.public_files import write_tokenizer
from tests.support.public_models import public
from tests.support.public_shapes import Shapes, as_file, compvis_file, header
from weights import detect
from weights.load import load


def in_turbo(compvis: Mapping, sigmas: object) -> dict:
    """What stands under which name, given a CompVis file of SD 2.1: another prefix of the prompt model's, one buffer of
    noise levels in place of the schedule's twelve, no averages and nothing of the training."""
    left_out = (*SCHEDULE_BUFFERS, "model_ema.", "first_stage_model.loss.")
    kept = {name: tensor for name, tensor in compvis.items() if not name.startswith(left_out)}
    renamed = {name.replace("cond_stage_model.", "conditioner.embedders.0."): kept[name] for name in kept}
    return renamed | {"denoiser.sigmas": sigmas}


def public_shapes() -> Shapes:
    return in_turbo(compvis_file("sd21"), (torch.float32, (1000,)))


def test_the_names_make_a_file_of_the_size_that_the_hub_records():
    """To the byte, as those of the other models: see test_file_sizes. This file has no metadata."""
    text, end = header(dict(sorted(public_shapes().items())))
    assert 8 + -(-len(text) // 8) * 8 + end == 5_214_561_328


def test_its_names_tell_it_from_models_of_the_same_shapes(monkeypatch):
    path = Path("sd_turbo.safetensors")
    monkeypatch.setattr(detect, "open_tensors", lambda path: as_file(public_shapes()))
    opened, config, _ = detect.compvis_file(path, None, ema=True)
    assert (opened.what, config) == ("sd-turbo, a CompVis file", PRESETS["sd-turbo"])
    assert not opened.misfit(), str(opened.misfit())


@pytest.fixture
def small_models_are_known():
    sd2 = public("sd2").config
    with patch.dict(PRESETS, {"sd2": sd2, "sd-turbo": replace(sd2, name="sd-turbo", schedule=ScheduleConfig())}):
        yield


@pytest.mark.parametrize("said", ["", "sd2="])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_the_same_tensors_load_as_from_a_compvis_file(small_models_are_known, tmp_path, said, suffix):
    write_tokenizer(public("sd2"), tmp_path / "tokenizer")
    tensors = compvis(public("sd2"))
    turbo = save_checkpoint(in_turbo(tensors, torch.full((1000,), float("nan"))), tmp_path / f"turbo{suffix}")
    model = load(f"{said}{turbo}")  # what it is said to be counts before what its names say
    assert model.config == PRESETS["sd2" if said else "sd-turbo"]
    other = load(f"sd2={save_checkpoint(tensors, tmp_path / 'sd2.safetensors')}")
    for name, expected in public("sd2").tensors().items():
        part, _, rest = name.partition(".")
        for loaded in (model, other):
            assert torch.equal(getattr(loaded, part).state_dict()[rest], expected), name
