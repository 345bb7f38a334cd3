"""The JSON files of diffusers folders, read as our config."""

import inspect
import json
import logging
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import transformers
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from ldm.config import ScheduleConfig
from tests.support.public_json import MODEL, SCHEDULER, TEXT, UNET, VAE, VQ
from tests.support.public_models import KINDS, public
from weights.files.diffusers_json import TABLES, autoencoder_config, model_config, schedule_config, unet_config


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_folder_is_read(kind, write):
    assert model_config(write(kind), kind) == public(kind).config


@pytest.mark.parametrize("kind", KINDS)
def test_folders_that_the_libraries_write_today_are_read(kind, write):
    """They say everything, and write down what the public files leave to be understood."""
    folder = write(kind)
    for part, module in public(kind).parts.items():
        said = module.config.to_json_string() if part == "text_encoder" else module.to_json_string()
        (folder / public(kind).folder_of(part) / "config.json").write_text(said)
    model = model_config(folder, kind)
    assert replace(model, image_size=public(kind).config.image_size) == public(kind).config


THEIRS = {name: getattr(diffusers, name) for name in TABLES if hasattr(diffusers, name)}
THEIRS |= {"clip_text_model": transformers.CLIPTextConfig, "clip_vision_model": transformers.CLIPVisionConfig}


@pytest.mark.parametrize("kind", THEIRS)
def test_what_is_not_said_is_as_in_the_libraries(kind):
    table, asked = TABLES[kind], inspect.signature(THEIRS[kind].__init__).parameters
    own = {"scaling_factor": 1.0} if kind == "VQModel" else {}  # the public models' own
    known = {"use_attention_mask": False, **{key: p.default for key, p in asked.items()}, **own}
    stated = table["default"] | table["fixed"]
    assert stated == {key: known[key] for key in stated}


@pytest.mark.parametrize(
    "kind, file, said, scale",
    [
        ("sd1", VAE, ..., 0.18215),
        ("sd1", VAE, 1, 1.0),
        ("celebahq", VQ, ..., 1.0),
        ("celebahq", VQ, 0.5, 0.5),
        ("celebahq", VQ, 0.18215, 1.0),  # which diffusers writes down when it saves such a model again
    ],
)
def test_scale(kind, file, said, scale, write, caplog):
    with caplog.at_level(logging.INFO, "weights"):
        assert model_config(write(kind, file, {"scaling_factor": said}), "it").autoencoder.scale == scale
    assert ("a scaling_factor of 0.18215 is a default; 1 is taken" in caplog.text) is (said not in (scale, ..., 1))


def test_a_setting_per_level_may_be_the_one_that_all_have(write):
    """`only_cross_attention` and its like are a value, or a list of one for each level."""
    path = write("sd1", UNET, {"only_cross_attention": [False] * 3, "transformer_layers_per_block": [1, 1, 1]}) / UNET
    assert unet_config(path) == public("sd1").config.unet


def test_what_is_left_out_is_the_default(write):
    path = write("sd1", UNET, dict.fromkeys(["attention_head_dim", "layers_per_block", "norm_num_groups"], ...)) / UNET
    assert unet_config(path) == public("sd1").config.unet
    path = write("celebahq", VQ, dict.fromkeys(["latent_channels", "layers_per_block", "num_vq_embeddings"], ...)) / VQ
    assert autoencoder_config(path) == replace(public("celebahq").config.autoencoder, layers=1, codebook=256)


@pytest.mark.parametrize(
    "files, pad",
    [
        ({"special_tokens_map.json": "!", "tokenizer_config.json": "<|endoftext|>"}, "!"),  # Stable Diffusion 2's
        ({"special_tokens_map.json": {"content": "!", "normalized": True}}, "!"),
        ({"special_tokens_map.json": None, "tokenizer_config.json": "!"}, "!"),
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
CLIPPED = LINEAR | dict(clip_sample=False)
LEADING = dict(spacing="leading")


@pytest.mark.parametrize(
    "scheduler, expected",
    [
        (DDIMScheduler(**CLIPPED), LEADING),
        (DDIMScheduler(**CLIPPED, set_alpha_to_one=False, steps_offset=3), LEADING | dict(offset=3, last=1)),
        (DDIMScheduler(**CLIPPED, timestep_spacing="trailing", steps_offset=1), {}),
        (
            DDIMScheduler(**CLIPPED, prediction_type="v_prediction", num_train_timesteps=500),
            LEADING | dict(parameterisation="v", T=500),
        ),
        (PNDMScheduler(**LINEAR, steps_offset=1), LEADING | dict(offset=1, last=1)),
        (PNDMScheduler(**LINEAR, set_alpha_to_one=True), LEADING),
        (EulerDiscreteScheduler(**LINEAR, timestep_spacing="leading"), LEADING),
        # linspace, by default or in so many words
        (DPMSolverMultistepScheduler(**LINEAR), {}),
        (DDIMScheduler(**CLIPPED, timestep_spacing="linspace"), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedulers_as_diffusers_saves_them(scheduler, expected, tmp_path):
    """As they are for the pipelines of latent diffusion; repaired: tests/parity/public/test_repairs.py."""
    scheduler.save_pretrained(tmp_path)
    config = schedule_config(tmp_path / "scheduler_config.json", repaired=False)
    assert config == ScheduleConfig(**LINEAR, **expected)


SCHEDULERS = [*KarrasDiffusionSchedulers.__members__, "LCMScheduler", "TCDScheduler", "SASolverScheduler"]
ASKED = {name: inspect.signature(getattr(diffusers, name).__init__).parameters for name in SCHEDULERS}


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if "timestep_spacing" in ASKED[name]])
def test_a_file_silent_on_spacing_means_its_classs_own(name, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "weights"):
        config = schedule_config(write_scheduler(tmp_path, {"_class_name": name, "use_karras_sigmas": True}))
    own = ASKED[name]["timestep_spacing"].default
    assert config.spacing == {"leading": "leading", "linspace": "trailing"}[own]
    assert ("linspace; here they are trailing" in caplog.text) is (own == "linspace")
    assert f"has use_karras_sigmas; here time steps are {config.spacing}" in caplog.text
    # without set_alpha_to_one a class ends at alpha_bar_0, and so do those that count in sigma whatever is in the file
    stale = {"_class_name": name, "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading"}
    to_zero = "set_alpha_to_one" not in ASKED[name] and name != "DDPMScheduler"
    assert schedule_config(write_scheduler(tmp_path, stale)).last == (0 if to_zero else 1)


def test_all_settings_of_diffusers_schedulers_are_read_or_known():
    """A sampler's own are passed over; any other must be off, and one of tomorrow is refused as long as it is on."""
    read = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing"}
    read |= {"steps_offset", "set_alpha_to_one", "clip_sample", "self", "args", "kwargs"}
    off = {"trained_betas", "thresholding", "rescale_betas_zero_snr", "use_flow_sigmas", "use_dynamic_shifting"}
    others = {key for keys in ASKED.values() for key in keys} - read - off - {"shift_terminal", "tau_func"}
    assert others == {*TABLES["scheduler"]["ignored"], *TABLES["scheduler"]["spacings"]}


def write_scheduler(folder: Path, content: dict) -> Path:
    (folder / "scheduler_config.json").write_text(json.dumps(LINEAR | content))
    return folder / "scheduler_config.json"


def test_an_unknown_scheduler_is_read_by_its_keys(tmp_path):
    read = lambda **content: schedule_config(write_scheduler(tmp_path, {"_class_name": "OfTomorrow", **content}))
    assert read() == ScheduleConfig(**LINEAR)
    leading = read(timestep_spacing="leading", set_alpha_to_one=False, solver_order=2)
    assert leading == ScheduleConfig(**LINEAR, spacing="leading", offset=1, last=1)


def test_paths_and_classes_in_the_files_mean_nothing(write, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    index = {"unet": ["../elsewhere", "os.system"], "vae": [elsewhere, "Model"], "_name_or_path": elsewhere}
    assert model_config(write("sd1", MODEL, index), "sd1") == public("sd1").config
    for file in (UNET, VAE, TEXT, SCHEDULER):
        assert model_config(write("sd1", file, {"_name_or_path": elsewhere}), "sd1") == public("sd1").config
