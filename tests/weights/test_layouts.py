"""Files with the names and shapes of the public ones, at full size, are recognised, and every parameter finds its
tensor in them. Nothing is loaded."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from ldm.presets import AUTOENCODERS, PRESETS
from tests.support.compvis_files import SCHEDULE_BUFFERS, compvis, compvis_autoencoder, save_checkpoint
from tests.support.model_files import assert_equal, tensors_of
from tests.support.public_files import public_names, write_tokenizer
from tests.support.public_models import public
from tests.support.public_shapes import (
    FIRST_STAGES,
    PATH,
    Shapes,
    as_file,
    compvis_file,
    first_stage,
    header,
    shapes_of,
)
from weights import detect
from weights.build import parts_of
from weights.key_names import is_dropped
from weights.load import load


@pytest.fixture
def opens(monkeypatch):
    return lambda tensors: monkeypatch.setattr(detect, "open_tensors", lambda path: as_file(tensors))


@pytest.mark.parametrize("preset", ["sd15", "ldm-text2im", "ldm-celebahq", "ldm-super-resolution-4x"])
def test_a_compvis_file_is_recognised_by_its_shapes(preset, opens):
    opens(compvis_file(preset))
    opened, config = detect.compvis_file(PATH, None, ema=True)
    assert parts_of(config) == parts_of(PRESETS[preset]) and config.schedule == PRESETS[preset].schedule
    # counters alone are no averages; and nothing in a file tells 1.4 from 1.5
    assert opened.what == f"{'sd14 or sd15' if preset == 'sd15' else preset}, a CompVis file" and not opened.misfit()
    opens(compvis_file(preset, averaged=True))
    for ema in (True, False):
        opened, _ = detect.compvis_file(PATH, None, ema=ema)
        assert ("averaged weights" in opened.what) is ema and not opened.misfit()
        ((_, _, layout),) = [piece for piece in opened.pieces if piece[0] == "unet"]
        assert all(name.startswith("model_ema." if ema else "model.diffusion_model.") for name, *_ in layout.values())


def test_averages_and_plain_weights_are_not_mixed(opens):
    tensors = compvis_file("ldm-celebahq", averaged=True)
    del tensors["model_ema.diffusion_modelout2bias"]
    opens(tensors)
    opened, _ = detect.compvis_file(PATH, "ldm-celebahq", ema=True)
    assert opened.misfit() == {"missing": ["'unet.conv_out.bias'"]}
    assert not detect.compvis_file(PATH, "ldm-celebahq", ema=False)[0].misfit()


def test_shapes_do_not_tell_stable_diffusion_2s_models_apart(opens):
    opens(compvis_file("sd21"))
    with pytest.raises(ValueError, match="may be any of several models") as error:
        detect.compvis_file(PATH, None, ema=True)
    named = re.findall(r"([\w-]+)=", str(error.value))
    assert named == ["sd21-base", "sd21", "sd-turbo"]
    for preset in named:
        opened, config = detect.compvis_file(PATH, preset, ema=True)
        assert config == PRESETS[preset] and not opened.misfit()


@pytest.mark.parametrize("name", FIRST_STAGES)
@pytest.mark.parametrize("kind", ["CompVis", "diffusers"])
def test_a_first_stage_is_recognised_by_its_shapes(name, kind, opens):
    opens(shapes_of({"CompVis": compvis_autoencoder, "diffusers": public_names}[kind](first_stage(name))))
    opened = detect.autoencoder_file(PATH)
    assert opened.parts == {"autoencoder": AUTOENCODERS[name]} and not opened.misfit()
    assert opened.what == f"{name}, an autoencoder in a {kind} file"


# ---------------------------------------------------------------------------------------------------------------------
# sd-turbo's file: the tensors of SD 2.1, those of the prompt model under other names


def in_turbo(compvis: Mapping, sigmas: object) -> dict:
    """Another prefix of the prompt model's, one buffer of noise levels in place of the schedule's twelve, no averages
    and nothing of the training."""
    left_out = (*SCHEDULE_BUFFERS, "model_ema.", "first_stage_model.loss.")
    kept = {name: tensor for name, tensor in compvis.items() if not name.startswith(left_out)}
    renamed = {name.replace("cond_stage_model.", "conditioner.embedders.0."): kept[name] for name in kept}
    return renamed | {"denoiser.sigmas": sigmas}


def test_sd_turbos_names_tell_it_from_models_of_the_same_shapes(opens):
    shapes: Shapes = in_turbo(compvis_file("sd21"), (torch.float32, (1000,)))
    text, end = header(dict(sorted(shapes.items())))
    assert 8 + -(-len(text) // 8) * 8 + end == 5_214_561_328  # the size on the hub, to the byte: see test_file_sizes
    opens(shapes)
    opened, config = detect.compvis_file(PATH, None, ema=True)
    assert (opened.what, config) == ("sd-turbo, a CompVis file", PRESETS["sd-turbo"]) and not opened.misfit()


@pytest.mark.parametrize("said", ["", "sd2="])
def test_the_same_tensors_load_as_from_a_compvis_file(said, monkeypatch, tmp_path):
    monkeypatch.setitem(PRESETS, "sd2", public("sd2").config)
    monkeypatch.setitem(PRESETS, "sd-turbo", public("sd2").config)
    write_tokenizer(public("sd2"), tmp_path / "tokenizer")
    turbo = in_turbo(compvis(public("sd2")), torch.full((1000,), float("nan")))
    assert_equal(tensors_of(load(f"{said}{save_checkpoint(turbo, tmp_path / 'turbo.ckpt')}")), public("sd2").tensors())


NAMES = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))


def test_only_what_is_no_part_of_the_model_is_dropped():
    dropped = SCHEDULE_BUFFERS + NAMES["dropped"]
    assert [name for name in dropped + NAMES["kept"] if is_dropped(name, PRESETS["sd21"].text)] == dropped
    assert not is_dropped(dropped[-1], None)  # without a prompt model no layer of one is unused
