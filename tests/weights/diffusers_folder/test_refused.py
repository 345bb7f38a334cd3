"""Settings that our classes would compute wrongly, and files that are no configuration, are refused."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.public_json import MODEL, SCHEDULER, TEXT, UNET, VAE
from weights.files.diffusers_json import model_config


def refused(match: str, folder: Path) -> str:
    with pytest.raises(ValueError, match=match) as error:
        model_config(folder, "it")
    assert error.type is ValueError
    message = str(error.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 1000
    return message


TABLE = tomllib.loads(Path(__file__).with_name("refused.toml").read_text(encoding="utf-8"))
LACKS = [(*where.split(), key, value) for where, them in TABLE["lacks"].items() for key, value in them.items()]
LACKS += [("sd1", UNET, "flip_sin_to_cos", None)]
LACKS += [("text2im", SCHEDULER, "clip_sample", ...)]  # what Stable Diffusion's pipelines repair, and these do not


@pytest.mark.parametrize("kind, file, key, value", LACKS, ids=str)
def test_a_setting_that_our_classes_do_not_have_is_refused(kind, file, key, value, write):
    message = refused(f"'{key}' is .*, which the (classes|samplers) here do not have", write(kind, file, {key: value}))
    assert file in message


@pytest.mark.parametrize("part", ["controlnet", "text_encoder_2", "transformer", "motion_adapter", "tomorrow"])
def test_a_pipeline_with_more_than_a_model_is_refused(part, write):
    refused(f"has a part that changes its images .*'{part}' is 'K'", write("sd1", MODEL, {part: ["library", "K"]}))


@pytest.mark.parametrize("case", TABLE["cannot"], ids=lambda case: case["said"])
def test_what_our_classes_cannot_be_is_refused(case, write):
    refused(re.escape(case["said"]), write(*case["where"].split(), case["change"]))


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
