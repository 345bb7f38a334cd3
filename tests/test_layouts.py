"""Names and shapes at the public sizes, without any weights: the numbers that the hub records of its files.

A .safetensors file is a header, which holds each tensor's name, kind, shape and place, and the numbers. So its size
follows from names and shapes; that the sizes of public files come out to the byte says that ours are theirs.
"""

import json
import re
from collections import Counter
from math import prod
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ldm.config import AUTOENCODERS, CLIP_PRESETS, PRESETS, AutoencoderConfig, UNetConfig
from weights import load, recognise
from weights.build import PartConfig, parts_of, shapes
from weights.layouts import Layout, in_compvis, in_diffusers, is_dropped
from weights.stored import Stored, TensorFile

Tensors = dict[str, tuple[torch.dtype, tuple[int, ...]]]
PATH = Path("model.safetensors")

SD1, SD2, TEXT2IM, CELEBAHQ = (PRESETS[name] for name in ("sd15", "sd21", "ldm-text2im", "ldm-celebahq"))


@pytest.mark.parametrize(
    "config, parameters, tensors",
    [
        (SD1.unet, 859_520_964, 686),
        (SD2.unet, 865_910_724, 686),
        (TEXT2IM.unet, 872_300_484, 686),
        (CELEBAHQ.unet, 274_056_163, 432),
        (PRESETS["bk-sdm-base"].unet, 579_384_964, None),
        (PRESETS["bk-sdm-small"].unet, 482_346_884, None),
        (PRESETS["bk-sdm-tiny"].unet, 323_384_964, None),
        (SD1.autoencoder, 83_653_863, 248),
        (CELEBAHQ.autoencoder, 55_322_782, 205),
        (AUTOENCODERS["vq-f8"], 67_717_295, None),
        (SD1.text, 123_060_480, 196),
        (SD2.text, 340_387_840, 372),
        # the file has a head besides, which training alone uses: weight and bias, a row per entry
        (TEXT2IM.text, 581_994_042 - 30_522 * (1280 + 1), 422 - 2),
        (CLIP_PRESETS["clip-vit-l"], 427_616_513, None),
    ],
    ids=[
        *("sd1", "sd2", "text2im", "celebahq", "bk-base", "bk-small", "bk-tiny"),
        *("kl-f8", "vq-f4", "vq-f8", "clip-l", "open-clip-h", "bert", "clip"),
    ],
)
def test_numbers_of_parameters_are_those_of_the_public_models(config, parameters, tensors):
    assert sum(map(prod, shapes(config).values())) == parameters
    assert tensors is None or len(shapes(config)) == tensors


# ---------------------------------------------------------------------------------------------------------------------
# sizes of files

KIND = {torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16"}  # as they are sorted


def size(tensors: Tensors, first_version: bool) -> int:
    """Bytes of a .safetensors file: the header's length in 8 bytes, the header, the numbers.

    Tensors lie by kind, then by name, and spaces fill the header up to a multiple of 8 bytes. The library's first
    versions, which wrote many of the public files, sorted by name alone and filled nothing up.
    """
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors, key=lambda name: (0 if first_version else list(KIND).index(tensors[name][0]), name)):
        dtype, shape = tensors[name]
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": KIND[dtype], "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + (length if first_version else -(-length // 8) * 8) + end


@pytest.mark.parametrize("length", range(1, 9))
def test_the_size_is_what_the_library_writes(length):
    tensors = {
        "b" * length: (torch.float32, (3, 5)),
        "c.weight": (torch.float16, (7,)),
        "a": (torch.int32, ()),
        "z.position_ids": (torch.int64, (1, 77)),
        "z.bias": (torch.float32, (1000,)),
    }
    written = {name: torch.zeros(shape, dtype=dtype) for name, (dtype, shape) in tensors.items()}
    content = safetensors.torch.save(written, metadata={"format": "pt"})
    assert size(tensors, first_version=False) == len(content)
    end = 8 + int.from_bytes(content[:8], "little")
    places = {name: entry["data_offsets"][0] for name, entry in json.loads(content[8:end]).items() if name in tensors}
    by_kind = sorted(tensors, key=lambda name: (list(KIND).index(tensors[name][0]), name))
    assert sorted(places, key=places.get) == by_kind


def in_file(config: PartConfig, layout: Layout, dtype: torch.dtype = torch.float32) -> Tensors:
    """What a file of this layout holds: here and there three of our matrices in one, or one as a convolution."""
    takers, tensors = Counter(source.name for source in layout.values()), {}
    without_prompts = isinstance(config, UNetConfig) and config.context_width is None
    for ours, source in layout.items():
        name, shape = source.name, shapes(config)[ours]
        if takers[name] == 3:
            shape = (3 * shape[0], *shape[1:])
        if isinstance(config, AutoencoderConfig) and re.search(r"attn(_1|\.\d)\.(q|k|v|proj_out)\.weight$", name):
            shape = (*shape, 1, 1)
        if without_prompts and re.search(r"1\.(qkv|proj_out)\.weight$", name):
            shape = (*shape, 1)
        tensors[name] = (dtype, shape)
    return tensors


POSITION_IDS = (torch.int64, (1, 77))


def diffusers_file(config: PartConfig, public_names: list[str], dtype: torch.dtype) -> Tensors:
    """`public_names`: some of the file, by which the others are told."""
    tensors = in_file(config, in_diffusers(shapes(config), public_names), dtype)
    return tensors | {name: POSITION_IDS for name in public_names if name.endswith("position_ids")}


TEXT_NAMES = ["text_model.embeddings.position_ids"]
OLD_NAMES = ["encoder.mid_block.attentions.0.query.weight"]


@pytest.mark.parametrize(
    "config, names, dtype, first_version, expected",
    [
        pytest.param(SD1.unet, [], torch.float32, True, 3_438_167_534, id="sd14 unet"),
        pytest.param(SD1.unet, [], torch.float32, False, 3_438_167_536, id="sd14 unet, not averaged"),
        pytest.param(SD1.unet, [], torch.float16, False, 1_719_125_304, id="sd14 unet, half"),
        pytest.param(SD2.unet, [], torch.float32, True, 3_463_726_498, id="sd21 unet"),
        pytest.param(SD1.text, TEXT_NAMES, torch.float32, True, 492_265_879, id="sd14 text_encoder"),
        pytest.param(SD1.text, TEXT_NAMES, torch.float16, False, 246_144_864, id="sd14 text_encoder, half"),
        pytest.param(SD2.text, TEXT_NAMES, torch.float32, True, 1_361_597_018, id="sd21 text_encoder"),
        pytest.param(SD1.autoencoder, OLD_NAMES, torch.float32, True, 334_643_276, id="sd14, sd15, sd21 vae"),
        pytest.param(SD1.autoencoder, [], torch.float16, False, 167_335_342, id="sd14 vae, half: with the new names"),
    ],
)
def test_diffusers_files_have_the_sizes_that_the_hub_records(config, names, dtype, first_version, expected):
    assert size(diffusers_file(config, names, dtype), first_version) == expected


SCHEDULE = """betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod
    log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod posterior_variance
    posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2"""
COUNTERS = {"model_ema.decay": (torch.float32, ()), "model_ema.num_updates": (torch.int32, ())}
TEXT_PREFIX = {
    "sd15": "cond_stage_model.transformer.text_model.",
    "sd21": "cond_stage_model.model.",
    "ldm-text2im": "cond_stage_model.transformer.",
}


def compvis_layout(preset: str) -> Layout:
    """Of a whole model, ours named within their parts."""
    layout = {}
    for part, config in parts_of(PRESETS[preset]).items():
        ours = shapes(config)
        found = in_compvis(part, config, ours, [])
        if part == "text_encoder":  # three kinds of files have three prefixes, and the file's names tell which
            bare = [source.name.removeprefix(TEXT_PREFIX["sd15"]) for source in found.values()]
            found = in_compvis(part, config, ours, [TEXT_PREFIX[preset] + name for name in bare])
        layout |= {f"{part}.{name}": source for name, source in found.items()}
    return layout


def compvis_file(preset: str) -> Tensors:
    """What the public file has: the model and the schedule, and what a prompt model has besides."""
    tensors = {name: (torch.float32, (1000,)) for name in SCHEDULE.split()}
    for part, config in parts_of(PRESETS[preset]).items():
        layout = compvis_layout(preset)
        of_part = {name.removeprefix(f"{part}."): s for name, s in layout.items() if name.startswith(f"{part}.")}
        tensors |= in_file(config, of_part)
    if preset == "sd15":
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = POSITION_IDS
    if preset == "sd21":  # a last layer, which is not used, and what compares with pictures
        block = "cond_stage_model.model.transformer.resblocks.{}."
        last = {name: tensor for name, tensor in tensors.items() if name.startswith(block.format(22))}
        tensors |= {name.replace(block.format(22), block.format(23)): tensor for name, tensor in last.items()}
        tensors["cond_stage_model.model.text_projection"] = (torch.float32, (1024, 1024))
        tensors["cond_stage_model.model.logit_scale"] = (torch.float32, ())
    return tensors


def with_averages(tensors: Tensors) -> Tensors:
    """The UNet twice; the averages' names have no dots inside."""
    unet = {name: tensor for name, tensor in tensors.items() if name.startswith("model.diffusion_model.")}
    averages = {"model_ema." + name.removeprefix("model.").replace(".", ""): tensor for name, tensor in unet.items()}
    assert len(averages) == len(unet)
    return tensors | COUNTERS | averages


def test_compvis_files_have_the_sizes_that_the_hub_records():
    sd1, sd2 = compvis_file("sd15"), compvis_file("sd21")
    assert (len(sd1 | COUNTERS), size(sd1 | COUNTERS, True)) == (1145, 4_265_146_304)  # v1-5-pruned-emaonly
    assert (len(sd2), size(sd2, True)) == (1240, 5_214_604_312)  # v2-1_*-nonema-pruned
    assert size(sd2 | COUNTERS, True) == 5_214_604_494  # v2-1_*-ema-pruned
    # v1-5-pruned: in another order, hence with a few digits more or less in its tensors' places; without the dots'
    # removal, it would be thousands
    assert len(with_averages(sd1)) == 1831
    assert size(with_averages(sd1), True) == pytest.approx(7_703_324_286, rel=0, abs=8)


# ---------------------------------------------------------------------------------------------------------------------
# files of the public shapes are recognised, and fit


def as_file(tensors: Tensors) -> TensorFile:
    stored = {name: Stored(PATH, dtype, shape, (1,) * len(shape), 0) for name, (dtype, shape) in tensors.items()}
    return TensorFile(PATH, stored)


@pytest.fixture
def opens(monkeypatch):
    def opens(tensors: Tensors) -> None:
        for module in (load, recognise):
            monkeypatch.setattr(module, "open_tensors", lambda path: as_file(tensors))

    return opens


@pytest.mark.parametrize("preset", ["sd15", "ldm-text2im", "ldm-celebahq"])
def test_a_compvis_file_is_recognised_by_its_shapes(preset, opens):
    opens(compvis_file(preset) | COUNTERS)
    opened, config = recognise.compvis_file(PATH, None, ema=True)
    assert parts_of(config) == parts_of(PRESETS[preset]) and config.schedule == PRESETS[preset].schedule
    assert not opened.misfit(), str(opened.misfit())
    # counters alone are no averages; and nothing in a file tells 1.4 from 1.5
    names = "sd14 or sd15 (the same model)" if preset == "sd15" else preset
    assert opened.what == f"{names}, a CompVis file"
    opens(with_averages(compvis_file(preset)))
    for ema in (True, False):
        opened, _ = recognise.compvis_file(PATH, None, ema=ema)
        assert not opened.misfit(), str(opened.misfit())
        assert ("averaged weights" in opened.what) is ema
        names = [s.name for ours, s in opened.pieces[0].layout.items() if ours.startswith("unet.")]
        assert all(name.startswith("model_ema." if ema else "model.diffusion_model.") for name in names)


def test_averages_and_plain_weights_are_not_mixed(opens):
    tensors = with_averages(compvis_file("ldm-celebahq"))
    del tensors["model_ema.diffusion_modelout2bias"]
    opens(tensors)
    opened, _ = recognise.compvis_file(PATH, "ldm-celebahq", ema=True)
    assert opened.misfit().missing == ["unet.conv_out.bias"]
    opened, _ = recognise.compvis_file(PATH, "ldm-celebahq", ema=False)
    assert not opened.misfit()


def test_shapes_do_not_tell_the_models_of_stable_diffusion_2_apart(opens):
    opens(compvis_file("sd21"))
    with pytest.raises(ValueError, match="may be any of several models") as error:
        recognise.compvis_file(PATH, None, ema=True)
    named = re.findall(r"([\w-]+)=", str(error.value))
    assert named == ["sd21-base", "sd21", "sd-turbo"]
    for preset in named:
        opened, config = recognise.compvis_file(PATH, preset, ema=True)
        assert config == PRESETS[preset] and not opened.misfit()


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize("compvis", [True, False])
def test_a_first_stage_is_recognised_by_its_shapes(name, compvis, opens):
    config = AUTOENCODERS[name]
    names = shapes(config)
    layout = in_compvis("autoencoder", config, names, list(names)) if compvis else in_diffusers(names, OLD_NAMES)
    tensors = in_file(config, layout)
    # a first stage's own file has no prefix
    opens({name.removeprefix("first_stage_model."): tensor for name, tensor in tensors.items()})
    opened = load.autoencoder_file(PATH)
    assert opened.parts == {"autoencoder": config} and not opened.misfit()
    assert f"{name}, an autoencoder in a {'CompVis' if compvis else 'diffusers'} file" == opened.what


# ---------------------------------------------------------------------------------------------------------------------
# names


NAMES = {  # preset, our part, the file's -> names within them
    ("sd15", "unet.", "model.diffusion_model."): {
        "time_embedding.linear_2.bias": "time_embed.2.bias",
        "conv_in.weight": "input_blocks.0.0.weight",
        "down_blocks.0.resnets.0.conv1.weight": "input_blocks.1.0.in_layers.2.weight",
        "down_blocks.0.resnets.1.time_emb_proj.weight": "input_blocks.2.0.emb_layers.1.weight",
        "down_blocks.1.attentions.1.norm.bias": "input_blocks.5.1.norm.bias",
        "down_blocks.2.downsamplers.0.conv.bias": "input_blocks.9.0.op.bias",
        "down_blocks.3.resnets.1.norm2.bias": "input_blocks.11.0.out_layers.0.bias",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": (
            "middle_block.1.transformer_blocks.0.attn2.to_k.weight"
        ),
        "mid_block.resnets.1.conv2.bias": "middle_block.2.out_layers.3.bias",
        "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.1.conv.bias",
        "up_blocks.1.upsamplers.0.conv.bias": "output_blocks.5.2.conv.bias",
        "up_blocks.3.attentions.2.proj_in.bias": "output_blocks.11.1.proj_in.bias",
        "up_blocks.3.resnets.2.conv_shortcut.bias": "output_blocks.11.0.skip_connection.bias",
        "conv_out.weight": "out.2.weight",
    },
    ("sd15", "autoencoder.", "first_stage_model."): {
        "encoder.down_blocks.2.resnets.0.conv_shortcut.bias": "encoder.down.2.block.0.nin_shortcut.bias",
        "encoder.mid_block.attentions.0.to_out.0.bias": "encoder.mid.attn_1.proj_out.bias",
        "decoder.up_blocks.0.upsamplers.0.conv.bias": "decoder.up.3.upsample.conv.bias",
        "decoder.up_blocks.3.resnets.2.norm1.bias": "decoder.up.0.block.2.norm1.bias",
        "decoder.conv_norm_out.bias": "decoder.norm_out.bias",
    },
    ("sd15", "text_encoder.", "cond_stage_model.transformer.text_model."): {
        "encoder.layers.11.mlp.fc1.bias": "encoder.layers.11.mlp.fc1.bias"
    },
    ("sd21", "text_encoder.", "cond_stage_model.model."): {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "encoder.layers.22.self_attn.v_proj.bias": "transformer.resblocks.22.attn.in_proj_bias",
        "encoder.layers.0.self_attn.out_proj.bias": "transformer.resblocks.0.attn.out_proj.bias",
        "encoder.layers.0.mlp.fc2.bias": "transformer.resblocks.0.mlp.c_proj.bias",
    },
    ("ldm-text2im", "text_encoder.", "cond_stage_model.transformer."): {
        "embed_positions.weight": "pos_emb.emb.weight",
        "layers.3.self_attn_layer_norm.bias": "attn_layers.layers.6.0.bias",
        "layers.3.self_attn.q_proj.weight": "attn_layers.layers.6.1.to_q.weight",
        "layers.3.final_layer_norm.bias": "attn_layers.layers.7.0.bias",
        "layers.3.fc1.bias": "attn_layers.layers.7.1.net.0.0.bias",
        "layer_norm.bias": "norm.bias",
    },
    ("ldm-celebahq", "unet.", "model.diffusion_model."): {
        "down_blocks.1.attentions.0.to_k.bias": "input_blocks.4.1.qkv.bias",
        "mid_block.attentions.0.group_norm.bias": "middle_block.1.norm.bias",
        "up_blocks.0.upsamplers.0.conv.bias": "output_blocks.2.2.conv.bias",
        "up_blocks.2.upsamplers.0.conv.bias": "output_blocks.8.2.conv.bias",
    },
    ("ldm-celebahq", "autoencoder.", "first_stage_model."): {
        "quantize.embedding.weight": "quantize.embedding.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.bias": "decoder.up.2.upsample.conv.bias",
    },
}


@pytest.mark.parametrize("preset, part, prefix", NAMES)
def test_names_in_compvis_files(preset, part, prefix):
    layout = compvis_layout(preset)
    for ours, theirs in NAMES[preset, part, prefix].items():
        assert layout[part + ours].name == prefix + theirs


@pytest.mark.parametrize(
    "name",
    [
        *SCHEDULE.split(),
        "lvlb_weights",
        "logvar",
        "scale_factor",
        "first_stage_model.loss.perceptual_loss.net.slice1.0.weight",
        "loss.discriminator.main.0.weight",
        "model_ema.decay",
        "model_ema.diffusion_modelout2bias",
        "text_model.embeddings.position_ids",
        "cond_stage_model.transformer.embeddings.position_ids",
        "cond_stage_model.transformer.to_logits.weight",
        "cond_stage_model.model.logit_scale",
        "cond_stage_model.model.transformer.resblocks.23.ln_1.weight",
    ],
)
def test_what_is_no_part_of_the_model_is_dropped(name):
    assert is_dropped(name, SD2.text)


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.betas",
        "model.diffusion_model.out.2.bias",
        "control_model.zero_convs.0.0.weight",
        "text_projection.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
        "cond_stage_model.model.transformer.resblocks.22.ln_1.weight",
        "cond_stage_model.model.transformer.resblocks.24.ln_1.weight",
        "cond_stage_model.model.transformer.resblocks.230.ln_1.weight",
        "embeddings.position_ids_of_another.weight",
        "glossary.weight",
    ],
)
def test_nothing_else_is_dropped(name):
    assert not is_dropped(name, SD2.text)


def test_without_a_prompt_model_no_layer_of_one_is_dropped():
    assert not is_dropped("cond_stage_model.model.transformer.resblocks.23.ln_1.weight", None)
