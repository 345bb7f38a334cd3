"""Settings that our classes would compute wrongly, and files that are no configuration, are refused."""

import re
from pathlib import Path

import pytest

from tests.support.public_json import BERT, SCHEDULER, TEXT, UNET, VAE, VQ, WITH, WITHOUT
from weights.files.diffusers_json import model_config


def refused(match: str, folder: Path) -> str:
    with pytest.raises(ValueError, match=match) as error:
        model_config(folder, "it")
    assert error.type is ValueError
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    return message


def one_by_one(**settings: object) -> list[dict]:
    return [{key: value} for key, value in settings.items()]


# ---------------------------------------------------------------------------------------------------------------------
# settings and combinations that our classes do not have


UNET_LACKS = one_by_one(
    act_fn="gelu",
    norm_eps=1e-6,
    flip_sin_to_cos=False,
    freq_shift=1,
    downsample_padding=0,
    mid_block_scale_factor=2,
    conv_in_kernel=1,
    center_input_sample=True,
    only_cross_attention=[False, True, False],
    dual_cross_attention=True,
    resnet_time_scale_shift="scale_shift",
    time_embedding_type="fourier",
    num_class_embeds=1000,
    addition_embed_type="text_time",  # Stable Diffusion XL's, as is the next
    transformer_layers_per_block=[1, 2, 10],
    num_attention_heads=8,
    mid_block_type="UNetMidBlock2D",
    a_setting_of_tomorrow="on",
)
VAE_LACKS = one_by_one(
    act_fn="relu",
    in_channels=4,
    use_quant_conv=False,
    use_post_quant_conv=False,
    mid_block_add_attention=False,
    shift_factor=0.1,
    latents_mean=[0.1, 0.2, 0.3, 0.4],
)
VQ_LACKS = one_by_one(norm_type="spatial", lookup_from_codebook=True)
FACES_LACK = one_by_one(add_attention=False, downsample_type="resnet", mid_block_type="UNetMidBlock2DCrossAttn")
TEXT_LACKS = one_by_one(layer_norm_eps=1e-6, use_attention_mask=True)
SCHEDULERS_LACK = one_by_one(
    use_flow_sigmas=True,
    a_setting_of_tomorrow=2,
    thresholding=True,
    trained_betas=[0.1],
    rescale_betas_zero_snr=True,
)
LACKS = {
    ("sd1", UNET): UNET_LACKS,
    ("sd1", VAE): VAE_LACKS,
    ("celebahq", VQ): VQ_LACKS,
    ("celebahq", UNET): FACES_LACK,
    ("sd1", TEXT): TEXT_LACKS,
    ("sd1", SCHEDULER): SCHEDULERS_LACK,
    ("text2im", BERT): one_by_one(activation_function="relu"),
    # what Stable Diffusion's pipelines repair, and latent diffusion's do not
    ("text2im", SCHEDULER): one_by_one(clip_sample=True) + one_by_one(clip_sample=...),
}


@pytest.mark.parametrize("kind, file, setting", [(*where, s) for where, them in LACKS.items() for s in them], ids=str)
def test_a_setting_that_our_classes_do_not_have_is_refused(kind, file, setting, write):
    message = refused("which the (classes|samplers) here do not have", write(kind, file, setting))
    assert file in message and f"'{next(iter(setting))}' is " in message


SEVENTEEN = dict(
    block_out_channels=[32] * 17,
    down_block_types=["DownEncoderBlock2D"] * 17,
    up_block_types=["UpDecoderBlock2D"] * 17,
)
# three heads of 20 are 60 numbers, which diffusers makes of 66; ours would be heads of 22
UNEVEN = dict(block_out_channels=[22, 66, 88], norm_num_groups=22, attention_head_dim=20)
MIXED = dict(
    down_block_types=["AttnDownBlock2D", WITH[0], WITHOUT[0]], up_block_types=[WITHOUT[1], WITH[1], "AttnUpBlock2D"]
)


@pytest.mark.parametrize(
    "kind, file, change, said",
    [
        ("sd1", UNET, dict(in_channels=9), "it is an inpainting model: give the model that it was made from"),
        ("sd1", UNET, dict(out_channels=8), "a model with 4 input channels and others to come out"),
        ("sd1", UNET, dict(down_block_types=["DownBlock2D"] * 4), "as many blocks down and up as levels are needed"),
        ("sd1", UNET, dict(up_block_types=["UpBlock2D"]), "as many blocks down and up as levels are needed"),
        ("sd1", UNET, dict(down_block_types=["K"] * 3), "no level here has the blocks ('K', 'CrossAttnUpBlock2D')"),
        ("sd1", UNET, dict(down_block_types=[WITH[0]] * 3), "no level here has the blocks ('CrossAttnDownBlock2D', '"),
        ("sd1", UNET, MIXED, "levels with and without attention to a prompt in one model"),
        ("sd1", UNET, dict(attention_head_dim=5), "a level of 32 channels cannot have 5 heads"),
        (
            "sd1",
            UNET,
            dict(attention_head_dim=[8, 8, 5]),
            "a level of 64 channels cannot have 5 heads",
        ),  # of the middle
        ("sd1", UNET, dict(attention_head_dim=[8, 8]), "heads names 2 levels, channels 3"),
        ("sd1", UNET, dict(norm_num_groups=24), "channels of (32, 64, 64) cannot all be cut into 24 groups"),
        ("sd1", UNET, dict(cross_attention_dim=64), "attends to tokens of width 64, the prompt model makes 32"),
        ("sd1", VAE, SEVENTEEN, "a model has 1 to 16 levels, channels names 17"),
        ("sd1", VAE, dict(latent_channels=8), "the autoencoder's latents have 8 channels, the UNet's 4"),
        ("sd1", TEXT, dict(model_type="t5"), "'model_type' is 't5'; here it can be clip_text_model or ldmbert"),
        ("sd1", TEXT, dict(hidden_act="relu"), "'activation' is 'relu': Input should be 'quick_gelu' or 'gelu'"),
        ("sd1", TEXT, dict(num_attention_heads=5), "a text encoder of width 32 cannot have 5 heads"),
        (
            "sd1",
            SCHEDULER,
            dict(beta_schedule="squaredcos_cap_v2"),
            "'beta_schedule' is 'squaredcos_cap_v2': Input",
        ),
        ("sd1", SCHEDULER, dict(prediction_type="sample"), "'parameterisation' is 'sample': Input should be 'eps' or "),
        ("sd1", SCHEDULER, dict(timestep_spacing="logspace"), "'spacing' is 'logspace': Input should be 'trailing' or"),
        ("sd1", SCHEDULER, dict(beta_start=0.5), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        ("sd1", SCHEDULER, dict(beta_end=float("nan")), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        ("celebahq", VQ, dict(vq_embed_dim=8), "entries of the codebook have 3 numbers here, not 8"),
        ("celebahq", UNET, dict(attention_head_dim=20), "a level of 64 channels cannot have heads of 20"),
        ("celebahq", UNET, UNEVEN, "a level of 66 channels cannot have heads of 20"),
        ("text2im", SCHEDULER, dict(set_alpha_to_one=False), "the offset must lie in 1..999, got 0"),
        ("text2im", SCHEDULER, dict(steps_offset=1000), "the offset must lie in 0..999, got 1000"),
    ],
    ids=str,
)
def test_what_our_classes_cannot_be_is_refused(kind, file, change, said, write):
    refused(re.escape(said), write(kind, file, change))


# ---------------------------------------------------------------------------------------------------------------------
# values that are none, and files that are missing


SIZES = {
    UNET: ["in_channels", "out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim", "sample_size"],
    VAE: ["latent_channels", "layers_per_block", "norm_num_groups"],
    TEXT: ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"],
    SCHEDULER: ["num_train_timesteps"],
}


@pytest.mark.parametrize("file, key", [(file, key) for file, keys in SIZES.items() for key in keys])
@pytest.mark.parametrize("value", ["4", [4], 4.0, 0, -4, True, None, {}, 2**20 + 1, 10**30])
def test_a_size_is_a_positive_number(file, key, value, write):
    refused(file, write("sd1", file, {key: value}))


@pytest.mark.parametrize("key", ["block_out_channels", "attention_head_dim"])
@pytest.mark.parametrize(
    "value", [[], ["32", "64", "64"], [32, 64, -1], [32, 64, 0], [32, True, 64], [[32], 64], "32", [32, 64, 10**30]]
)
def test_sizes_are_a_list_of_positive_numbers(key, value, write):
    refused(UNET, write("sd1", UNET, {key: value}))


@pytest.mark.parametrize(
    "file, key, value, said",
    [
        (UNET, "layers_per_block", 65, "layers must lie in 1..64, got 65"),
        (VAE, "layers_per_block", 10**9, "layers must lie in 1..64"),
        (TEXT, "num_hidden_layers", 10**9, "layers must lie in 1..64"),
        (SCHEDULER, "num_train_timesteps", 10**12, "a schedule has at most 100000 steps"),
    ],
)
def test_depths_and_steps_have_bounds_of_their_own(file, key, value, said, write):
    assert file in refused(said, write("sd1", file, {key: value}))


@pytest.mark.parametrize(
    "key, value",
    [("act_fn", "\x1b[2J" * 1_000_000), ("a" * 1_000_000, "\x1b"), ("attention_head_dim", [0] * 100_000)],
    ids=["string", "key", "list"],
)
def test_a_value_of_a_megabyte_is_cut(key, value, write):
    refused(UNET, write("sd1", UNET, {key: value}))


OTHER_KINDS = {
    (UNET, "down_block_types"): ["CrossAttnDownBlock2D", [1, 2, 3]],
    (UNET, "up_block_types"): [[["UpBlock2D"], {}, None]],
    (UNET, "use_linear_projection"): ["true", 1],
    (UNET, "mid_block_type"): [3],
    (VAE, "_class_name"): [["VQModel"]],
    (VAE, "scaling_factor"): ["0.18215", True, 0, -0.18215, float("nan"), float("inf"), 10**400],
    (TEXT, "model_type"): [["clip_text_model"]],
    (TEXT, "hidden_act"): [["gelu"]],
    (TEXT, "layer_norm_eps"): ["1e-5"],
    (SCHEDULER, "beta_start"): ["0.00085", 10**400],
    (SCHEDULER, "beta_end"): [[0.012], 10**400],
    (SCHEDULER, "beta_schedule"): [["linear"]],
    (SCHEDULER, "prediction_type"): [["epsilon"], None],
    (SCHEDULER, "steps_offset"): ["1", True],
    (SCHEDULER, "set_alpha_to_one"): [1],
    (SCHEDULER, "clip_sample"): [[False]],
    (SCHEDULER, "_class_name"): [None],
}


@pytest.mark.parametrize("file, key, value", [(*where, v) for where, values in OTHER_KINDS.items() for v in values])
def test_a_value_of_another_kind_is_refused(file, key, value, write):
    refused(re.escape(file), write("sd1", file, {key: value}))


@pytest.mark.parametrize(
    "file, key",
    [
        *((UNET, key) for key in ("block_out_channels", "down_block_types", "in_channels")),
        *((TEXT, key) for key in ("model_type", "hidden_size")),
        *((SCHEDULER, key) for key in ("beta_start", "beta_schedule")),
    ],
)
def test_a_value_that_must_be_said_is_named(file, key, write):
    assert file in refused(f"lacks '{key}'", write("sd1", file, {key: ...}))


@pytest.mark.parametrize("file", [UNET, VAE, TEXT, SCHEDULER, "tokenizer/special_tokens_map.json"])
@pytest.mark.parametrize(
    "junk",
    [b"{", b"\xff\xfe", b"<!DOCTYPE html>", b"null", b"[]", b'"config"', b"[" * 100_000, b'{"a": ' * 100_000],
    ids=["cut short", "no text", "web page", "null", "list", "string", "deep list", "deep object"],
)
def test_what_is_no_json_object_is_refused(file, junk, write):
    message = refused("is not a configuration: (Invalid JSON|Input should be an object)", write("sd1", file, junk))
    assert message.startswith(str(write("sd1") / file))


@pytest.mark.parametrize(
    "file, part", [(UNET, "unet"), (VAE, "vae or vqvae"), (TEXT, "text_encoder or bert"), (SCHEDULER, "scheduler_")]
)
def test_a_missing_file_or_part_is_named(file, part, write):
    folder = write("sd1")
    (folder / file).unlink()
    assert str(folder / file) in refused(f"the model folder lacks {Path(file).name}", folder)
    (folder / file).parent.rmdir()
    refused(f"the model folder.* lacks {part}", folder)
