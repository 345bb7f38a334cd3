"""The JSON files of diffusers folders, read as our config."""

import inspect
import json
import logging
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from ldm.config import ScheduleConfig
from tests.support.public_json import MODEL, SCHEDULER, TEXT, UNET, VAE, VQ
from tests.support.public_models import MAKERS, public
from weights.files.diffusers_json import (
    TABLES,
    autoencoder_config,
    model_config,
    schedule_config,
    text_config,
    unet_config,
)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_public_folder_is_read(kind, write):
    assert model_config(write(kind), kind) == public(kind).config


@pytest.mark.parametrize("kind", MAKERS)
def test_folders_that_the_libraries_write_today_are_read(kind, write):
    """They say everything, and write down what the public files leave to be understood."""
    config, folder = public(kind).config, write(kind)
    read = {"unet": unet_config, "autoencoder": autoencoder_config}
    for part, module in public(kind).parts.items():
        path = folder / public(kind).folder_of(part) / "config.json"
        if part == "text_encoder":
            path.write_text(module.config.to_json_string())
            assert text_config(path, folder / "tokenizer") == config.text
            continue
        path.write_text(module.to_json_string())
        ours = read[part](path)
        if kind == "celebahq" and part == "autoencoder":  # the one thing that is not so: see test_scale
            assert json.loads(path.read_text())["scaling_factor"] == 0.18215
            ours = replace(ours, scale=1.0)
        assert ours == getattr(config, part)


@pytest.mark.parametrize(
    "kind, file, said, scale",
    [
        ("sd1", VAE, ..., 0.18215),
        ("sd1", VAE, 0.3, 0.3),
        ("sd1", VAE, 1, 1.0),
        ("celebahq", VQ, ..., 1.0),
        ("celebahq", VQ, 0.5, 0.5),
    ],
)
def test_scale(kind, file, said, scale, write):
    assert model_config(write(kind, file, {"scaling_factor": said}), "it").autoencoder.scale == scale


def test_a_setting_per_level_may_be_the_one_that_all_have(write):
    """`only_cross_attention` and its like are a value, or a list of one for each level."""
    path = write("sd1", UNET, {"only_cross_attention": [False] * 3, "transformer_layers_per_block": [1, 1, 1]}) / UNET
    assert unet_config(path) == public("sd1").config.unet


def test_what_is_not_said_is_as_in_diffusers(write):
    path = write("sd1", UNET, dict.fromkeys(["attention_head_dim", "layers_per_block", "norm_num_groups"], ...)) / UNET
    assert unet_config(path) == public("sd1").config.unet
    path = write("celebahq", VQ, dict.fromkeys(["latent_channels", "layers_per_block", "num_vq_embeddings"], ...)) / VQ
    assert autoencoder_config(path) == replace(
        public("celebahq").config.autoencoder, latent_channels=3, layers=1, codebook=256
    )


@pytest.mark.parametrize(
    "files, pad",
    [
        ({"special_tokens_map.json": "!", "tokenizer_config.json": "<|endoftext|>"}, "!"),  # Stable Diffusion 2's
        ({"special_tokens_map.json": {"content": "!", "normalized": True}}, "!"),
        ({"special_tokens_map.json": None, "tokenizer_config.json": "!"}, "!"),
        ({"tokenizer_config.json": {"__type": "AddedToken", "content": "!"}}, "!"),
        ({"tokenizer_config.json": None}, "<|endoftext|>"),
        ({}, "<|endoftext|>"),
    ],
)
def test_what_pads(files, pad, write):
    folder = write("sd1")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        (folder / "tokenizer" / name).unlink()
    for name, token in files.items():
        (folder / "tokenizer" / name).write_text(json.dumps({"pad_token": token}))
    assert model_config(folder, "it").text.pad == pad


LINEAR = dict(beta_start=0.001, beta_end=0.02, beta_schedule="linear")


@pytest.mark.parametrize(
    "scheduler, expected",
    [
        (DDIMScheduler(**LINEAR, clip_sample=False), dict(spacing="leading")),
        (
            DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=False, steps_offset=3),
            dict(spacing="leading", offset=3, last=1),
        ),
        (DDIMScheduler(**LINEAR, clip_sample=False, steps_offset=1), dict(spacing="leading", offset=1)),
        (
            DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing="trailing", steps_offset=1),
            dict(spacing="trailing"),
        ),
        (
            DDIMScheduler(**LINEAR, clip_sample=False, prediction_type="v_prediction", num_train_timesteps=500),
            dict(spacing="leading", parameterisation="v", T=500),
        ),
        (PNDMScheduler(**LINEAR, steps_offset=1), dict(spacing="leading", offset=1, last=1)),
        (PNDMScheduler(**LINEAR, set_alpha_to_one=True), dict(spacing="leading")),
        (EulerDiscreteScheduler(**LINEAR, timestep_spacing="trailing", steps_offset=1), dict(spacing="trailing")),
        (EulerDiscreteScheduler(**LINEAR, timestep_spacing="leading"), dict(spacing="leading")),
        # linspace, by default or in so many words
        (EulerDiscreteScheduler(**LINEAR), dict(spacing="trailing")),
        (DPMSolverMultistepScheduler(**LINEAR), dict(spacing="trailing")),
        (DDIMScheduler(**LINEAR, clip_sample=False, timestep_spacing="linspace"), dict(spacing="trailing")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedulers_as_diffusers_saves_them(scheduler, expected, tmp_path):
    """As they are for the pipelines of latent diffusion; repaired: tests/parity/public/test_repairs.py."""
    scheduler.save_pretrained(tmp_path)
    config = schedule_config(tmp_path / "scheduler_config.json", repaired=False)
    assert config == ScheduleConfig(beta_start=0.001, beta_end=0.02, beta_schedule="linear", **expected)


@pytest.mark.parametrize(
    "name",
    [
        *("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "PNDMScheduler", "TCDScheduler"),
        *("DEISMultistepScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"),
        *("EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler"),
        *("SASolverScheduler", "UniPCMultistepScheduler"),
    ],
)
def test_a_file_silent_on_spacing_means_its_classs_own(name, tmp_path, caplog):
    asked = inspect.signature(getattr(diffusers, name).__init__).parameters
    with caplog.at_level(logging.INFO, "weights"):
        config = schedule_config(write_scheduler(tmp_path, {"_class_name": name}))
    own = asked["timestep_spacing"].default
    assert config.spacing == {"leading": "leading", "linspace": "trailing"}[own]
    assert ("linspace; here they are trailing" in caplog.text) is (own == "linspace")
    # without set_alpha_to_one a class ends at alpha_bar_0, and so do those that count in sigma whatever is in the file
    stale = {"_class_name": name, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
    to_zero = "set_alpha_to_one" not in asked and name != "DDPMScheduler"
    assert schedule_config(write_scheduler(tmp_path, stale)).last == (0 if to_zero else 1)


def test_all_settings_of_diffusers_schedulers_are_read_or_known():
    """A sampler's own are passed over; any other must be off, and one of tomorrow is refused as long as it is on."""
    names = [*KarrasDiffusionSchedulers.__members__, "LCMScheduler", "TCDScheduler", "SASolverScheduler"]
    known = {name: inspect.signature(getattr(diffusers, name).__init__).parameters for name in names}
    read = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing"}
    read |= {"steps_offset", "set_alpha_to_one", "clip_sample"}
    off = {"trained_betas", "thresholding", "rescale_betas_zero_snr", "use_flow_sigmas", "use_dynamic_shifting"}
    others = {key for keys in known.values() for key in keys} - read - off - {"self", "args", "kwargs"}
    assert others - {"shift_terminal", "tau_func"} == {*TABLES['scheduler']['ignored'], *TABLES['scheduler']['spacings']}


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_a_sampler_of_the_files_own_is_passed_over_and_named(name, tmp_path, caplog):
    asked = inspect.signature(getattr(diffusers, name).__init__).parameters
    karras = {"use_karras_sigmas": True} if "use_karras_sigmas" in asked else {}
    getattr(diffusers, name)(**LINEAR, **karras, timestep_spacing="leading", steps_offset=1).save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO, "weights"):
        config = schedule_config(tmp_path / "scheduler_config.json")
    assert config == ScheduleConfig(
        beta_start=0.001, beta_end=0.02, beta_schedule="linear", spacing="leading", offset=1
    )
    assert ("has use_karras_sigmas; here time steps are leading" in caplog.text) is bool(karras)


def write_scheduler(folder: Path, content: dict) -> Path:
    (folder / "scheduler_config.json").write_text(json.dumps(LINEAR | content))
    return folder / "scheduler_config.json"


def test_an_offset_of_old_is_corrected_and_said(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "weights"):
        config = schedule_config(write_scheduler(tmp_path, {"_class_name": "PNDMScheduler"}))
    assert (config.offset, config.last) == (1, 1)
    assert "steps_offset 0 is outdated" in caplog.text


def test_an_unknown_scheduler_is_read_by_its_keys(tmp_path):
    read = lambda **content: schedule_config(write_scheduler(tmp_path, {"_class_name": "OfTomorrow", **content}))
    assert read() == ScheduleConfig(beta_start=0.001, beta_end=0.02, beta_schedule="linear")
    leading = read(timestep_spacing="leading", set_alpha_to_one=False, steps_offset=1)
    assert (leading.spacing, leading.offset, leading.last) == ("leading", 1, 1)


def test_paths_and_classes_in_the_files_mean_nothing(write, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    index = {"unet": ["../elsewhere", "os.system"], "vae": [elsewhere, "Model"], "_name_or_path": elsewhere}
    assert model_config(write("sd1", MODEL, index), "sd1") == public("sd1").config
    for file in (UNET, VAE, TEXT, SCHEDULER):
        assert model_config(write("sd1", file, {"_name_or_path": elsewhere}), "sd1") == public("sd1").config
