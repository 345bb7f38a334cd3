"""What the JSON files of a diffusers folder say, as our config; and whatever we would compute wrongly, refused."""

import inspect
import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import diffusers
import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler
from public_files import Public, bk_sdm, celebahq, sd1, sd2, text2im, write_json, write_tokenizer

from ldm.config import ScheduleConfig
from weights.folders import autoencoder_config, model_config, schedule_config, text_config, unet_config

MAKERS = {"sd1": sd1, "sd2": sd2, "bk-sdm": bk_sdm, "text2im": text2im, "celebahq": celebahq}
MODEL, UNET, VAE, VQ = "model_index.json", "unet/config.json", "vae/config.json", "vqvae/config.json"
TEXT, BERT, SCHEDULER = "text_encoder/config.json", "bert/config.json", "scheduler/scheduler_config.json"


@cache
def public(kind: str) -> Public:
    return MAKERS[kind]()


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes a folder without weights, one of its files changed or replaced; a value of ... takes the key out."""

    def folder(kind: str, file: str = MODEL, /, change: dict | bytes = b"") -> Path:
        write_json(public(kind), tmp_path)
        write_tokenizer(public(kind), tmp_path / "tokenizer")
        if isinstance(change, dict):
            content = {key: value for key, value in (public(kind).files[file] | change).items() if value is not ...}
            (tmp_path / file).write_text(json.dumps(content))
        elif change:
            (tmp_path / file).write_bytes(change)
        return tmp_path

    return folder


def refused(match: str, folder: Path) -> str:
    with pytest.raises(ValueError, match=match) as error:
        model_config(folder, "it")
    assert error.type is ValueError
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# what is read


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
            assert text_config(path, config.text.pad) == config.text
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
        # outdated, and corrected by the pipelines of diffusers
        (PNDMScheduler(**LINEAR), dict(spacing="leading", offset=1, last=1)),
        (
            DDIMScheduler(**LINEAR, clip_sample=False, set_alpha_to_one=False),
            dict(spacing="leading", offset=1, last=1),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedulers_as_diffusers_saves_them(scheduler, expected, tmp_path):
    scheduler.save_pretrained(tmp_path)
    config = schedule_config(tmp_path / "scheduler_config.json")
    assert config == ScheduleConfig(beta_start=0.001, beta_end=0.02, betas="linear", **expected)


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
    assert read() == ScheduleConfig(beta_start=0.001, beta_end=0.02, betas="linear")
    leading = read(timestep_spacing="leading", set_alpha_to_one=False, steps_offset=2)
    assert (leading.spacing, leading.offset, leading.last) == ("leading", 2, 1)


def test_paths_and_classes_in_the_files_mean_nothing(write, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    index = {"unet": ["../elsewhere", "os.system"], "vae": [elsewhere, "Model"], "_name_or_path": elsewhere}
    assert model_config(write("sd1", MODEL, index), "sd1") == public("sd1").config
    for file in (UNET, VAE, TEXT, SCHEDULER):
        assert model_config(write("sd1", file, {"_name_or_path": elsewhere}), "sd1") == public("sd1").config


# ---------------------------------------------------------------------------------------------------------------------
# what is refused


@pytest.mark.parametrize(
    "setting",
    [
        dict(act_fn="gelu"),
        dict(norm_eps=1e-6),
        dict(flip_sin_to_cos=False),
        dict(freq_shift=1),
        dict(downsample_padding=0),
        dict(mid_block_scale_factor=2),
        dict(conv_in_kernel=1),
        dict(center_input_sample=True),
        dict(only_cross_attention=True),
        dict(dual_cross_attention=True),
        dict(resnet_time_scale_shift="scale_shift"),
        dict(time_embedding_type="fourier"),
        dict(class_embed_type="timestep"),
        dict(num_class_embeds=1000),
        dict(addition_embed_type="text_time"),  # Stable Diffusion XL's, as is the next
        dict(transformer_layers_per_block=[1, 2, 10]),
        dict(encoder_hid_dim=64),
        dict(num_attention_heads=8),
        dict(mid_block_type="UNetMidBlock2DSimpleCrossAttn"),
        dict(mid_block_type="UNetMidBlock2D"),
        dict(attention_type="gated"),
        dict(a_setting_of_tomorrow="on"),
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_our_unet_does_not_have_is_refused(setting, write):
    ((key, value),) = setting.items()
    message = refused("which these classes do not have", write("sd1", UNET, setting))
    assert UNET in message and f"{key!r} is {value!r}" in message


@pytest.mark.parametrize(
    "kind, file, setting",
    [
        ("sd1", VAE, dict(act_fn="relu")),
        ("sd1", VAE, dict(in_channels=4)),
        ("sd1", VAE, dict(use_quant_conv=False)),
        ("sd1", VAE, dict(use_post_quant_conv=False)),
        ("sd1", VAE, dict(mid_block_add_attention=False)),
        ("sd1", VAE, dict(shift_factor=0.1)),
        ("sd1", VAE, dict(latents_mean=[0.1, 0.2, 0.3, 0.4])),
        ("celebahq", VQ, dict(norm_type="spatial")),
        ("celebahq", VQ, dict(lookup_from_codebook=True)),
        ("celebahq", UNET, dict(add_attention=False)),
        ("celebahq", UNET, dict(downsample_type="resnet")),
        ("celebahq", UNET, dict(mid_block_type="UNetMidBlock2DCrossAttn")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_setting_that_our_other_parts_do_not_have_is_refused(kind, file, setting, write):
    message = refused("which these classes do not have", write(kind, file, setting))
    assert file in message and next(iter(setting)) in message


WITH, WITHOUT = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


@pytest.mark.parametrize(
    "file, change, said",
    [
        (UNET, dict(in_channels=9), "9 channels in; an inpainting or depth model needs classes of its own"),
        (UNET, dict(out_channels=8), "4 channels in"),
        (UNET, dict(down_block_types=["DownBlock2D"] * 4), "as many blocks down and up as levels are needed, 3"),
        (UNET, dict(up_block_types=["UpBlock2D"]), "as many blocks down and up as levels are needed, 3"),
        (UNET, dict(down_block_types=["K"] * 3), "no level here has the blocks ('K', 'CrossAttnUpBlock2D')"),
        (UNET, dict(down_block_types=[WITH[0]] * 3), "no level here has the blocks ('CrossAttnDownBlock2D', 'UpBlock"),
        (
            UNET,
            dict(
                down_block_types=["AttnDownBlock2D", WITH[0], WITHOUT[0]],
                up_block_types=[WITHOUT[1], WITH[1], "AttnUpBlock2D"],
            ),
            "levels with and without attention to a prompt in one model",
        ),
        (UNET, dict(attention_head_dim=5), "unet/config.json: a level of width 32 cannot have 5 heads"),
        (UNET, dict(attention_head_dim=[8, 5, 8]), "a level of width 64 cannot have 5 heads"),
        (UNET, dict(attention_head_dim=[8, 8, 5]), "a level of width 64 cannot have 5 heads"),  # of the middle
        (UNET, dict(norm_num_groups=24), "widths of (32, 64, 64) cannot all be cut into 24 groups"),
        (VAE, dict(norm_num_groups=64), "widths of (32, 64, 64) cannot all be cut into 64 groups"),
        (
            VAE,
            dict(
                block_out_channels=[32] * 17,
                down_block_types=["DownEncoderBlock2D"] * 17,
                up_block_types=["UpDecoderBlock2D"] * 17,
            ),
            "a model has 1 to 16 levels, widths names 17",
        ),
        (UNET, dict(attention_head_dim=[8, 8]), "heads names 2 levels, widths 3"),
        (UNET, dict(cross_attention_dim=64), "the UNet attends to tokens of width 64, the prompt model makes 32"),
        (VAE, dict(latent_channels=8), "the autoencoder's latents have 8 channels, the UNet's 4"),
        (VAE, dict(down_block_types=["DownEncoderBlock2D"] * 2), "as many blocks down and up as levels are needed, 3"),
        (TEXT, dict(model_type="t5"), "'model_type' is 't5'; prompts are read by clip_text_model or ldmbert here"),
        (TEXT, dict(hidden_act="relu"), "'hidden_act' is 'relu', not 'quick_gelu' or 'gelu'"),
        (TEXT, dict(layer_norm_eps=1e-6), "'layer_norm_eps' is 1e-06, not 1e-5"),
        (TEXT, dict(num_attention_heads=5), "a text encoder of width 32 cannot have 5 heads"),
        (SCHEDULER, dict(beta_schedule="squaredcos_cap_v2"), "'squaredcos_cap_v2'; here it can be scaled_linear or"),
        (SCHEDULER, dict(prediction_type="sample"), "'sample'; here it can be epsilon or v_prediction"),
        (SCHEDULER, dict(timestep_spacing="logspace"), "'logspace'; here it can be leading or trailing or linspace"),
        (SCHEDULER, dict(clip_sample=True), "'clip_sample' is True, which the samplers here do not have"),
        (SCHEDULER, dict(thresholding=True), "'thresholding' is True, which the samplers here do not have"),
        (SCHEDULER, dict(trained_betas=[0.1]), "'trained_betas' is [0.1], which the samplers here do not have"),
        (SCHEDULER, dict(rescale_betas_zero_snr=True), "'rescale_betas_zero_snr' is True, which the samplers here do"),
        (SCHEDULER, dict(beta_start=0.5), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        (SCHEDULER, dict(beta_end=float("nan")), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        (SCHEDULER, dict(steps_offset=-1), "the offset must lie in 1..999, got -1"),
        (SCHEDULER, dict(steps_offset=1000), "the offset must lie in 1..999, got 1000"),
    ],
)
def test_what_our_classes_cannot_be_is_refused(file, change, said, write):
    refused(re.escape(said), write("sd1", file, change))


@pytest.mark.parametrize(
    "kind, file, change, said",
    [
        ("celebahq", VQ, dict(vq_embed_dim=8), "entries of the codebook have 3 numbers here, not 8"),
        ("celebahq", UNET, dict(attention_head_dim=65), "a level of width 64 cannot have heads of 65"),
        ("celebahq", UNET, dict(attention_head_dim=20), "a level of width 64 cannot have heads of 20"),
        # three heads of 20 are 60 numbers, which diffusers makes of 66; ours would be heads of 22
        (
            "celebahq",
            UNET,
            dict(block_out_channels=[33, 66, 99], norm_num_groups=33, attention_head_dim=20),
            "a level of width 66 cannot have heads of 20",
        ),
        ("text2im", BERT, dict(activation_function="relu"), "'activation_function' is 'relu', not 'gelu'"),
    ],
)
def test_what_the_classes_of_latent_diffusion_cannot_be_is_refused(kind, file, change, said, write):
    refused(re.escape(said), write(kind, file, change))


NUMBERS = {
    UNET: ["in_channels", "out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim", "sample_size"],
    VAE: ["latent_channels", "layers_per_block", "norm_num_groups"],
    TEXT: ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"],
    SCHEDULER: ["num_train_timesteps"],
}


@pytest.mark.parametrize("file, key", [(file, key) for file, keys in NUMBERS.items() for key in keys])
@pytest.mark.parametrize("value", ["4", "/etc/passwd", [4], 4.0, 0, -4, True, None, {}, 2**20 + 1, 10**30])
def test_a_size_is_a_positive_number(file, key, value, write):
    message = refused(f"'{key}' is ", write("sd1", file, {key: value}))
    assert file in message and f"{key!r} is {value!r}" in message


@pytest.mark.parametrize("key", ["block_out_channels", "attention_head_dim"])
@pytest.mark.parametrize(
    "value",
    [[], ["32", "64", "64"], [32, 64, -1], [32, 64, 0], [32, True, 64], [[32], 64], "32", [32, 64, 10**30]],
)
def test_sizes_are_a_list_of_positive_numbers(key, value, write):
    assert UNET in refused(f"'{key}' is ", write("sd1", UNET, {key: value}))


@pytest.mark.parametrize(
    "file, key, value, most",
    [
        (UNET, "layers_per_block", 65, 64),
        (VAE, "layers_per_block", 10**9, 64),
        (TEXT, "num_hidden_layers", 10**9, 64),
        (SCHEDULER, "num_train_timesteps", 10**12, 10**5),
    ],
)
def test_depths_and_steps_have_bounds_of_their_own(file, key, value, most, write):
    said = f"'{key}' is {value}, which is not a size from 1 to {most}"
    assert file in refused(said, write("sd1", file, {key: value}))


@pytest.mark.parametrize(
    "key, value",
    [("act_fn", "\x1b[2J" * 1_000_000), ("a" * 1_000_000, "\x1b"), ("block_out_channels", [0] * 100_000)],
    ids=["string", "key", "list"],
)
def test_a_value_of_a_megabyte_is_cut(key, value, write):
    message = refused(" is ", write("sd1", UNET, {key: value}))
    assert len(message) < 1000 and "\x1b" not in message


@pytest.mark.parametrize(
    "file, key, value",
    [
        (UNET, "down_block_types", "CrossAttnDownBlock2D"),
        (UNET, "down_block_types", [1, 2, 3]),
        (UNET, "up_block_types", [["UpBlock2D"], {}, None]),
        (UNET, "use_linear_projection", "true"),
        (UNET, "use_linear_projection", 1),
        (UNET, "mid_block_type", 3),
        (VAE, "_class_name", ["VQModel"]),
        (VAE, "scaling_factor", "0.18215"),
        (VAE, "scaling_factor", True),
        (VAE, "scaling_factor", 0),
        (VAE, "scaling_factor", -0.18215),
        (VAE, "scaling_factor", float("nan")),
        (VAE, "scaling_factor", float("inf")),
        (VAE, "scaling_factor", 10**400),
        (SCHEDULER, "beta_start", 10**400),
        (SCHEDULER, "beta_end", 10**400),
        (TEXT, "model_type", ["clip_text_model"]),
        (TEXT, "hidden_act", ["gelu"]),
        (TEXT, "layer_norm_eps", "1e-5"),
        (SCHEDULER, "beta_start", "0.00085"),
        (SCHEDULER, "beta_end", [0.012]),
        (SCHEDULER, "beta_schedule", ["linear"]),
        (SCHEDULER, "steps_offset", "1"),
        (SCHEDULER, "steps_offset", True),
        (SCHEDULER, "set_alpha_to_one", 1),
        (SCHEDULER, "clip_sample", [False]),
        (SCHEDULER, "_class_name", None),
    ],
)
def test_a_value_of_another_kind_is_refused(file, key, value, write):
    refused(re.escape(file), write("sd1", file, {key: value}))


@pytest.mark.parametrize(
    "file, key",
    [
        (UNET, "block_out_channels"),
        (UNET, "down_block_types"),
        (UNET, "in_channels"),
        (VAE, "up_block_types"),
        (TEXT, "model_type"),
        (TEXT, "hidden_size"),
        (SCHEDULER, "beta_start"),
        (SCHEDULER, "beta_schedule"),
    ],
)
def test_a_value_that_must_be_said_is_named(file, key, write):
    assert refused(f"lacks '{key}'", write("sd1", file, {key: ...})).startswith(str(write("sd1") / file))


@pytest.mark.parametrize("file", [UNET, VAE, TEXT, SCHEDULER, "tokenizer/special_tokens_map.json"])
@pytest.mark.parametrize(
    "junk",
    [b"{", b"\xff\xfe", b"<!DOCTYPE html>", b"null", b"[]", b'"config"', b"[" * 100_000, b'{"a": ' * 100_000],
    ids=["cut short", "no text", "web page", "null", "list", "string", "deep list", "deep object"],
)
def test_what_is_no_json_object_is_refused(file, junk, write):
    message = refused("is not JSON: |is not a configuration: it holds no object", write("sd1", file, junk))
    assert message.startswith(str(write("sd1") / file))


@pytest.mark.parametrize("file", [UNET, VAE, TEXT, SCHEDULER])
def test_a_missing_file_is_named(file, write):
    folder = write("sd1")
    (folder / file).unlink()
    assert str(folder / file) in refused(f"the model folder lacks {Path(file).name}", folder)


@pytest.mark.parametrize(
    "file, said", [(UNET, "unet"), (VAE, "vae or vqvae"), (TEXT, "text_encoder or bert"), (SCHEDULER, "scheduler_")]
)
def test_a_missing_part_is_named(file, said, write):
    folder = write("sd1")
    (folder / file).unlink()
    (folder / file).parent.rmdir()
    refused(f"the model folder.* lacks {said}", folder)
