"""What our classes would compute wrongly, and what is no configuration at all, is refused."""

import re
from pathlib import Path

import pytest

from tests.support.public_json import BERT, SCHEDULER, TEXT, UNET, VAE, VQ, WITH, WITHOUT
from weights.files.diffusers_json import model_config


def refused(match: str, folder: Path) -> str:
    with pytest.raises(ValueError, match=match) as error:
        model_config(folder, "it")
    assert error.type is ValueError
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# settings and combinations that our classes do not have


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
    message = refused("which these classes do not have|here it can be", write("sd1", UNET, setting))
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
    message = refused("which these classes do not have|here it can be", write(kind, file, setting))
    assert file in message and next(iter(setting)) in message


@pytest.mark.parametrize(
    "file, change, said",
    [
        (UNET, dict(in_channels=9), "unet/config.json is an inpainting model: give the model that it was made from"),
        (UNET, dict(out_channels=8), "a model with 4 input channels and others to come out"),
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
        (UNET, dict(attention_head_dim=5), "unet/config.json: a level of 32 channels cannot have 5 heads"),
        (UNET, dict(attention_head_dim=[8, 5, 8]), "a level of 64 channels cannot have 5 heads"),
        (UNET, dict(attention_head_dim=[8, 8, 5]), "a level of 64 channels cannot have 5 heads"),  # of the middle
        (UNET, dict(norm_num_groups=24), "channels of (32, 64, 64) cannot all be cut into 24 groups"),
        (VAE, dict(norm_num_groups=64), "channels of (32, 64, 64) cannot all be cut into 64 groups"),
        (
            VAE,
            dict(
                block_out_channels=[32] * 17,
                down_block_types=["DownEncoderBlock2D"] * 17,
                up_block_types=["UpDecoderBlock2D"] * 17,
            ),
            "a model has 1 to 16 levels, channels names 17",
        ),
        (UNET, dict(attention_head_dim=[8, 8]), "heads names 2 levels, channels 3"),
        (UNET, dict(cross_attention_dim=64), "the UNet attends to tokens of width 64, the prompt model makes 32"),
        (VAE, dict(latent_channels=8), "the autoencoder's latents have 8 channels, the UNet's 4"),
        (VAE, dict(down_block_types=["DownEncoderBlock2D"] * 2), "as many blocks down and up as levels are needed, 3"),
        (TEXT, dict(model_type="t5"), "'model_type' is 't5'; here it can be 'clip_text_model' or 'ldmbert'"),
        (TEXT, dict(hidden_act="relu"), "'hidden_act' is 'relu'; here it can be 'quick_gelu' or 'gelu'"),
        (TEXT, dict(layer_norm_eps=1e-6), "'layer_norm_eps' is 1e-06; here it can be 1e-05"),
        (TEXT, dict(use_attention_mask=True), "'use_attention_mask' is True; here it can be None or False"),
        (SCHEDULER, dict(use_flow_sigmas=True), "'use_flow_sigmas' is True, which the samplers here do not have"),
        (SCHEDULER, dict(a_setting_of_tomorrow=2), "'a_setting_of_tomorrow' is 2, which the samplers here do not have"),
        (
            UNET,
            dict(only_cross_attention=[False, True, False]),
            "'only_cross_attention' is [False, True, False], which",
        ),
        (TEXT, dict(num_attention_heads=5), "a text encoder of width 32 cannot have 5 heads"),
        (SCHEDULER, dict(beta_schedule="squaredcos_cap_v2"), "'squaredcos_cap_v2'; here it can be 'scaled_linear' or"),
        (SCHEDULER, dict(prediction_type="sample"), "'sample'; here it can be 'epsilon' or 'v_prediction'"),
        (SCHEDULER, dict(timestep_spacing="logspace"), "'logspace'; here it can be 'leading' or 'trailing' or"),
        (SCHEDULER, dict(thresholding=True), "'thresholding' is True, which the samplers here do not have"),
        (SCHEDULER, dict(trained_betas=[0.1]), "'trained_betas' is [0.1], which the samplers here do not have"),
        (SCHEDULER, dict(rescale_betas_zero_snr=True), "'rescale_betas_zero_snr' is True, which the samplers here do"),
        (SCHEDULER, dict(beta_start=0.5), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        (SCHEDULER, dict(beta_end=float("nan")), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
    ],
)
def test_what_our_classes_cannot_be_is_refused(file, change, said, write):
    refused(re.escape(said), write("sd1", file, change))


@pytest.mark.parametrize(
    "kind, file, change, said",
    [
        ("celebahq", VQ, dict(vq_embed_dim=8), "entries of the codebook have 3 numbers here, not 8"),
        ("celebahq", UNET, dict(attention_head_dim=65), "a level of 64 channels cannot have heads of 65"),
        ("celebahq", UNET, dict(attention_head_dim=20), "a level of 64 channels cannot have heads of 20"),
        # three heads of 20 are 60 numbers, which diffusers makes of 66; ours would be heads of 22
        (
            "celebahq",
            UNET,
            dict(block_out_channels=[22, 66, 88], norm_num_groups=22, attention_head_dim=20),
            "a level of 66 channels cannot have heads of 20",
        ),
        ("text2im", BERT, dict(activation_function="relu"), "'activation_function' is 'relu'; here it can be 'gelu'"),
        # what Stable Diffusion's pipelines repair, and latent diffusion's do not
        ("text2im", SCHEDULER, dict(clip_sample=True), "'clip_sample' is true, which the samplers here do not have"),
        ("text2im", SCHEDULER, dict(clip_sample=...), "'clip_sample' is true, which the samplers here do not have"),
        ("text2im", SCHEDULER, dict(set_alpha_to_one=False), "the offset must lie in 1..999, got 0"),
        ("text2im", SCHEDULER, dict(steps_offset=-1), "the offset must lie in 0..999, got -1"),
        ("text2im", SCHEDULER, dict(steps_offset=1000), "the offset must lie in 0..999, got 1000"),
    ],
)
def test_what_the_classes_of_latent_diffusion_cannot_be_is_refused(kind, file, change, said, write):
    refused(re.escape(said), write(kind, file, change))


# ---------------------------------------------------------------------------------------------------------------------
# values that are none, and files that are missing


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
