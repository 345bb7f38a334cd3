"""Settings that our classes would compute wrongly, and files that are no configuration, are refused."""

import re
from pathlib import Path

import pytest

from tests.support.public_json import BERT, MODEL, SCHEDULER, TEXT, UNET, VAE, VQ, WITH, WITHOUT
from weights.files.diffusers_json import model_config


def refused(match: str, folder: Path) -> str:
    with pytest.raises(ValueError, match=match) as error:
        model_config(folder, "it")
    assert error.type is ValueError
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    return message


LACKS = {  # settings that our classes do not have
    ("sd1", UNET): dict(
        act_fn="gelu",
        norm_eps=1e-6,
        flip_sin_to_cos=None,
        freq_shift=1,
        downsample_padding=0,
        mid_block_scale_factor=2,
        conv_in_kernel=1,
        center_input_sample=True,
        only_cross_attention=[False, True, False],
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        time_cond_proj_dim=256,  # a latent consistency model's
        num_class_embeds=1000,
        addition_embed_type="text_time",  # Stable Diffusion XL's, as is the next
        transformer_layers_per_block=[1, 2, 10],
        num_attention_heads=8,
        mid_block_type="UNetMidBlock2D",
        a_setting_of_tomorrow="on",
    ),
    ("sd1", VAE): dict(
        act_fn="relu",
        in_channels=4,
        use_quant_conv=False,
        mid_block_add_attention=False,
        shift_factor=0.1,
        latents_mean=[0.1, 0.2, 0.3, 0.4],
    ),
    ("celebahq", VQ): dict(norm_type="spatial", lookup_from_codebook=True),
    ("celebahq", UNET): dict(
        add_attention=False, downsample_type="resnet", mid_block_type="UNetMidBlock2DCrossAttn", cross_attention_dim=8
    ),
    ("sd1", TEXT): dict(layer_norm_eps=1e-6, use_attention_mask=True),
    ("sd1", SCHEDULER): dict(
        use_flow_sigmas=True,
        a_setting_of_tomorrow=2,
        thresholding=True,
        trained_betas=[0.1],
        rescale_betas_zero_snr=True,
    ),
    ("text2im", BERT): dict(activation_function="relu"),
    ("text2im", SCHEDULER): dict(clip_sample=...),  # what Stable Diffusion's pipelines repair, and these do not
}


@pytest.mark.parametrize("where, key", [(where, key) for where, them in LACKS.items() for key in them], ids=str)
def test_a_setting_that_our_classes_do_not_have_is_refused(where, key, write):
    message = refused("which the (classes|samplers) here do not have", write(*where, {key: LACKS[where][key]}))
    assert where[1] in message and f"'{key}' is " in message


@pytest.mark.parametrize("part", ["controlnet", "text_encoder_2", "transformer", "motion_adapter", "tomorrow"])
def test_a_pipeline_with_more_than_a_model_is_refused(part, write):
    refused(f"has a part that changes its images .*'{part}' is 'K'", write("sd1", MODEL, {part: ["library", "K"]}))


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
BLOCKS = "the levels here cannot have the blocks"


@pytest.mark.parametrize(
    "kind, file, change, said",
    [
        ("sd1", UNET, dict(in_channels=9), "the UNet takes 5 channels besides the latent's: give a model without"),
        ("sd1", UNET, dict(down_block_types=["DownBlock2D"] * 4), BLOCKS),
        ("sd1", UNET, dict(up_block_types=["UpBlock2D"]), BLOCKS),
        ("sd1", UNET, dict(down_block_types=["K"] * 3, up_block_types=["K"] * 3), BLOCKS),
        ("sd1", UNET, dict(down_block_types=[WITH[0]] * 3), BLOCKS),
        ("sd1", UNET, MIXED, BLOCKS),
        ("sd1", UNET, dict(down_block_types=[WITH[0]] * 2, up_block_types=[WITH[1]] * 2), "attention names 2 levels"),
        ("sd1", UNET, dict(attention_head_dim=5), "a level of 32 channels cannot have 5 heads"),
        ("sd1", UNET, dict(attention_head_dim=[8, 8, 5]), "a level of 64 channels cannot have 5 heads"),  # the middle
        ("sd1", UNET, dict(attention_head_dim=[8, 8]), "heads names 2 levels, channels 3"),
        ("sd1", UNET, dict(norm_num_groups=24), "channels of (32, 64, 64) cannot all be cut into 24 groups"),
        ("sd1", UNET, dict(cross_attention_dim=64), "attends to tokens of width 64, the prompt model makes 32"),
        ("sd1", VAE, SEVENTEEN, "a model has 1 to 16 levels, channels names 17"),
        ("sd1", VAE, dict(latent_channels=8), "the autoencoder's latents have 8 channels, the UNet's 4"),
        ("sd1", VAE, dict(_class_name="AutoencoderTiny"), "'_class_name' is 'AutoencoderTiny'; here it can be"),
        ("sd1", TEXT, dict(model_type="t5"), "'model_type' is 't5'; here it can be clip_text_model or ldmbert"),
        ("sd1", TEXT, dict(hidden_act="relu"), "'activation' is 'relu': Input should be 'quick_gelu' or 'gelu'"),
        ("sd1", TEXT, dict(num_attention_heads=5), "a text encoder of width 32 cannot have 5 heads"),
        ("sd1", SCHEDULER, dict(beta_schedule="squaredcos_cap_v2"), "'beta_schedule' is 'squaredcos_cap_v2': Input"),
        ("sd1", SCHEDULER, dict(prediction_type="sample"), "'parameterisation' is 'sample': Input should be 'eps' or "),
        ("sd1", SCHEDULER, dict(timestep_spacing="logspace"), "'spacing' is 'logspace': Input should be 'trailing' or"),
        ("sd1", SCHEDULER, dict(beta_end=float("nan")), "a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1"),
        ("celebahq", VQ, dict(vq_embed_dim=8), "'vq_embed_dim' is 8, and not 'latent_channels'"),
        ("celebahq", UNET, UNEVEN, "a level of 66 channels cannot have heads of 20"),
        ("text2im", SCHEDULER, dict(set_alpha_to_one=False), "the offset must lie in 1..999, got 0"),
    ],
    ids=str,
)
def test_what_our_classes_cannot_be_is_refused(kind, file, change, said, write):
    refused(re.escape(said), write(kind, file, change))


SIZES = {
    UNET: ["in_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim", "sample_size"],
    VAE: ["latent_channels", "layers_per_block", "norm_num_groups"],
    TEXT: ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"],
    SCHEDULER: ["num_train_timesteps"],
}
NO_SIZES = ["4", [4], 4.5, 0, -4, True, None, {}, 2**20 + 1, 10**30]
NO_LISTS = [[], ["32", "64", "64"], [32, 64, -1], [32, True, 64], [[32], 64], "32", [32, 64, 10**30], [0] * 100_000]
OTHER_KINDS = {(file, key): NO_SIZES for file, keys in SIZES.items() for key in keys}
OTHER_KINDS |= {(UNET, "block_out_channels"): NO_LISTS, (UNET, "attention_head_dim"): NO_LISTS}
OTHER_KINDS |= {
    (UNET, "act_fn"): ["\x1b[2J" * 1_000_000],
    (UNET, "a" * 1_000_000): ["\x1b"],
    (UNET, "down_block_types"): ["CrossAttnDownBlock2D", [1, 2, 3], 3],
    (UNET, "up_block_types"): [[["UpBlock2D"], {}, None]],
    (UNET, "use_linear_projection"): ["true", 1],
    (UNET, "mid_block_type"): [3],
    (VAE, "_class_name"): [["VQModel"]],
    (VAE, "scaling_factor"): ["0.18215", True, 0, -0.18215, float("nan"), float("inf"), 10**400],
    (TEXT, "model_type"): [["clip_text_model"]],
    (TEXT, "layer_norm_eps"): ["1e-5"],
    (SCHEDULER, "beta_start"): ["0.00085", 10**400],
    (SCHEDULER, "prediction_type"): [["epsilon"], None],
    (SCHEDULER, "steps_offset"): ["1", True],
    (SCHEDULER, "set_alpha_to_one"): [1],
    (SCHEDULER, "clip_sample"): [[False]],
    (SCHEDULER, "_class_name"): [None],
    # depths and steps have bounds of their own
    (VAE, "layers_per_block"): [*NO_SIZES, 65],
    (SCHEDULER, "num_train_timesteps"): [*NO_SIZES, 100_001],
    # what must be said
    **{(UNET, key): [...] for key in ("up_block_types", "out_channels")},
    **{(file, key): [...] for file, key in ((TEXT, "model_type"), (SCHEDULER, "beta_end"))},
}


@pytest.mark.parametrize("file, key, value", [(*where, v) for where, values in OTHER_KINDS.items() for v in values])
def test_a_value_of_another_kind_is_refused(file, key, value, write):
    folder = write("sd1", file, {key: value})
    assert refused("lacks" if value is ... else ": ", folder).startswith(str(folder))


JUNK = {"cut": b"{", "no text": b"\xff\xfe", "web": b"<!DOCTYPE html>", "null": b"null", "list": b"[]", "text": b'"a"'}
JUNK |= {"deep list": b"[" * 100_000, "deep object": b'{"a": ' * 100_000}


@pytest.mark.parametrize("file", [UNET, SCHEDULER, "tokenizer/special_tokens_map.json"])
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
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
