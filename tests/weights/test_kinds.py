"""Files and folders mistaken for a model are named, with the remedy, in the same words for a file and for a folder."""

import json
import shutil
from collections.abc import Callable
from functools import cache

import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    ControlNetModel,
    FluxTransformer2DModel,
    MotionAdapter,
    SD3Transformer2DModel,
    StableDiffusionPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import refused
from tests.support.public_files import write_folder, write_json
from tests.support.public_json import MODEL, SD_INDEX, UNET
from tests.support.public_models import MAKERS, public
from tests.support.public_shapes import compvis_file
from weights.load import load, load_autoencoder
from weights.not_models import KINDS, kind_of
from types import SimpleNamespace
def by_tensors(s):
    k = kind_of(s)
    return k and SimpleNamespace(**KINDS[k])


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DOWN, UP = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
SMALL = dict(block_out_channels=(32, 64), down_block_types=DOWN, cross_attention_dim=32)
UNET_2D = SMALL | dict(up_block_types=UP, attention_head_dim=8)
XL = dict(addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=80)
ATTENDS = dict(attention_head_dim=16, num_attention_heads=2)
VISION = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)
THREE_D = dict(
    down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D")
)

MODULES: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "controlnet": ("a ControlNet", lambda: ControlNetModel(**SMALL)),
    "t2i adapter": ("an adapter", lambda: T2IAdapter(channels=[32, 64, 64, 64])),
    "motion": ("an adapter", lambda: MotionAdapter(block_out_channels=(32, 64))),
    "sd3": (
        "Stable Diffusion 3",
        lambda: SD3Transformer2DModel(
            num_layers=2, **ATTENDS, joint_attention_dim=16, caption_projection_dim=32, pooled_projection_dim=16
        ),
    ),
    "flux": (
        "FLUX",
        lambda: FluxTransformer2DModel(
            num_layers=1, num_single_layers=1, **ATTENDS, joint_attention_dim=16, axes_dims_rope=(4, 4, 8)
        ),
    ),
    "sdxl": ("Stable Diffusion XL", lambda: UNet2DConditionModel(**UNET_2D, **XL)),
    "lcm": ("a latent consistency model", lambda: UNet2DConditionModel(**UNET_2D, time_cond_proj_dim=16)),
    "inpainting": ("an inpainting model", lambda: UNet2DConditionModel(**UNET_2D, in_channels=9)),
    "ip2p": ("a model with 8 input", lambda: UNet2DConditionModel(**UNET_2D, in_channels=8)),
    "clip": ("a CLIP", lambda: CLIPModel(CLIPConfig(vision_config=VISION | {"patch_size": 14}))),
}


@cache
def shapes_of(kind: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in MODULES[kind][1]().state_dict().items()}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_of_the_libraries_is_told_by_its_names(kind):
    assert by_tensors(shapes_of(kind)).what.startswith(MODULES[kind][0])


TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
KOHYA = "lora_unet_down_blocks_0_attentions_0_proj_in"
NAMES = {  # as other programs write them
    "a LoRA": [
        [f"unet.{TO_K}.lora.down.weight", f"unet.{TO_K}.lora.up.weight"],
        [f"unet.{TO_K}.lora_A.weight", f"unet.{TO_K}.lora_B.weight"],
        [f"base_model.model.{TO_K}.lora_A.weight"],
        ["transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"],
        ["down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight"],
        [f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight", f"{KOHYA}.alpha"],
        ["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"],
        [f"{KOHYA}.hada_w1_a"],
    ],
    "a model with a LoRA in it": [[f"{TO_K}.base_layer.weight", f"{TO_K}.lora_A.default_0.weight"]],
    "a ControlNet": [
        ["control_model.input_blocks.0.0.weight", "control_model.zero_convs.0.0.weight"],
        ["control_model.input_hint_block.0.weight", "model.diffusion_model.input_blocks.0.0.weight"],
        ["input_hint_block.0.weight", "zero_convs.0.0.weight"],
    ],
    "an adapter, which": [
        ["image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"],
        ["conv_in.weight", "body.0.in_conv.weight", "body.0.block1.weight"],
        ["down_blocks.0.motion_modules.0.temporal_transformer.norm.weight"],
    ],
    "a textual-inversion embedding": [["emb_params"], ["clip_l", "clip_g"], ["<cat-toy>"], ["string_to_param.*"]],
    "Stable Diffusion XL": [
        ["model.diffusion_model.label_emb.0.0.weight", "conditioner.embedders.1.model.ln_final.weight"],
        ["model.diffusion_model.label_emb.0.0.weight", "conditioner.embedders.0.model.ln_final.weight"],
    ],
    "Stable Diffusion 3": [["model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight"]],
    "FLUX": [["double_blocks.0.img_attn.qkv.weight"], ["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"]],
    "the weights of a model of ours": [["unet.conv_in.weight", "autoencoder.decoder.conv_in.weight"]],
}


@pytest.mark.parametrize("what, names", [(what, names) for what, lists in NAMES.items() for names in lists])
def test_a_file_of_another_kind_is_named_with_what_to_do(what, names, tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({name: torch.zeros(2) for name in names}, path)
    message = refused(f"file.safetensors is {what}", path)
    assert "\n" not in message and message.count(": ") == 1 and len(message) < 400


@pytest.mark.parametrize(
    "held, what",
    [
        ({"string_to_token": {"*": torch.zeros(1)}, "string_to_param": {"*": torch.zeros(2, 768)}}, "a textual-inv"),
        ({"sks": torch.zeros(768)}, "a textual-inversion embedding"),
        (
            {"image_proj": {"proj.weight": torch.zeros(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)}},
            "an adapter",
        ),
    ],
)
def test_a_pickle_of_another_kind_is_named(held, what, tmp_path):
    torch.save(held, tmp_path / "file.pt")
    refused(what, tmp_path / "file.pt")


def test_a_shard_is_named(tmp_path):
    path = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"model.diffusion_model.out.0.weight": torch.zeros(2)}, path)
    refused("is one of several shards: give the folder", path)


# ---------------------------------------------------------------------------------------------------------------------
# what is a model is taken for nothing else


@pytest.mark.parametrize("preset", ["sd15", "sd21", "ldm-text2im", "ldm-celebahq"])
@pytest.mark.parametrize("averaged", [False, True])
def test_a_whole_model_is_of_no_other_kind(preset, averaged):
    assert by_tensors({name: shape for name, (_, shape) in compvis_file(preset, averaged).items()}) is None


@pytest.mark.parametrize("kind", MAKERS)
def test_parts_of_models_are_named_as_what_they_are(kind):
    said = {"unet": "the UNet alone", "autoencoder": "an autoencoder alone", "text_encoder": "a text encoder alone"}
    for part, module in public(kind).parts.items():
        found = by_tensors({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()})
        assert found.what.startswith(said[part])


# ---------------------------------------------------------------------------------------------------------------------
# folders


@pytest.mark.parametrize(
    "component, what",
    [
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "has a part that changes its images"),
        ({"controlnet": ["diffusers", "MultiControlNetModel"]}, "has a part that changes its images"),
        ({"adapter": ["diffusers", "T2IAdapter"]}, "has a part that changes its images"),
        ({"motion_adapter": ["diffusers", "MotionAdapter"]}, "has a part that changes its images"),
        ({"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "has a part that changes its images"),
        ({"depth_estimator": ["transformers", "DPTForDepthEstimation"]}, "has a part that changes its images"),
        ({"a_setting_of_tomorrow": True}, "has a part that changes its images"),
        ({"_class_name": "StableDiffusionControlNetPipeline"}, "is a ControlNet"),
        ({"_class_name": "StableDiffusionXLPipeline"}, "is Stable Diffusion XL"),
        ({"_class_name": "StableDiffusion3Pipeline"}, "is Stable Diffusion 3"),
        ({"_class_name": "FluxPipeline"}, "is FLUX"),
        ({"_class_name": "AnimateDiffPipeline"}, "is an adapter"),
        ({"_class_name": "LatentConsistencyModelPipeline"}, "is a latent consistency model"),
        ({"_class_name": "OnnxStableDiffusionPipeline"}, "is an ONNX export"),
    ],
    ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else None,
)
def test_a_pipeline_with_more_than_a_model_is_refused(component, what, tmp_path):
    write_json(public("sd1"), tmp_path)
    (tmp_path / MODEL).write_text(json.dumps(SD_INDEX | component))
    refused(what, tmp_path)


def test_safety_checkers_and_absent_parts_are_passed_over(tmp_path, caplog):
    write_folder(public("sd1"), tmp_path)
    index = SD_INDEX | {"controlnet": [None, None], "image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    (tmp_path / MODEL).write_text(json.dumps(index | {"requires_safety_checker": True}))
    with caplog.at_level("INFO", "weights"):
        load(tmp_path)
    assert "the image encoder is not read" in caplog.text


@pytest.mark.parametrize("channels", [9, 8])
def test_a_folder_and_a_file_are_told_in_the_same_words(channels, tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file.safetensors"
    write_json(public("sd1"), folder)
    (folder / UNET).write_text(json.dumps(public("sd1").files[UNET] | {"in_channels": channels}))
    tensors = compvis(public("sd1"))
    name = "model.diffusion_model.input_blocks.0.0.weight"
    save_checkpoint(tensors | {name: torch.zeros(32, channels, 3, 3)}, file)
    of_folder, of_file = (refused(" is ", path).partition(" is ")[2] for path in (folder, file))
    assert of_folder == of_file
    assert of_folder.startswith("an inpainting model" if channels == 9 else f"a model with {channels} input")


@pytest.mark.parametrize(
    "config, what",
    [
        ({"_class_name": "ControlNetModel"}, "is a ControlNet"),
        ({"_class_name": "T2IAdapter"}, "is an adapter"),
        ({"_class_name": "SD3Transformer2DModel"}, "is Stable Diffusion 3"),
        ({"_class_name": "UNet3DConditionModel"}, "is a 'UNet3DConditionModel', which is no model supported here"),
        ({"architectures": ["BertModel"], "model_type": "bert"}, "is a 'bert', which is no model supported here"),
    ],
)
def test_a_folder_of_a_component_is_named_by_its_class(config, what, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(what, tmp_path)


def test_a_folder_of_a_lora_is_named(tmp_path):
    save_file({f"unet.{TO_K}.lora_A.weight": torch.zeros(2)}, tmp_path / "pytorch_lora_weights.safetensors")
    refused("pytorch_lora_weights.safetensors is a LoRA", tmp_path)


def test_an_autoencoder_of_another_class_is_refused_by_its_class(tmp_path):
    (tmp_path / "config.json").write_text(AutoencoderTiny().to_json_string())
    with pytest.raises(ValueError, match="is a 'AutoencoderTiny', which is no model supported here"):
        load_autoencoder(tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# a part is missing


@pytest.mark.parametrize(
    "prefixes, said",
    [
        (["first_stage_model."], "lacks the autoencoder (VAE): take .* vae=...)"),
        (["cond_stage_model."], "lacks the text encoder: take .* text_encoder=...)"),
        (["first_stage_model.", "cond_stage_model."], "lacks the autoencoder (VAE) and the text encoder: take"),
        (["model.", "model_ema."], "lacks the UNet: take"),
    ],
)
def test_a_file_without_a_part_says_which(prefixes, said, tmp_path):
    tensors = {n: t for n, t in compvis(public("sd1")).items() if not n.startswith(tuple(prefixes))}
    said = said.replace("(", r"\(").replace(")", r"\)")
    assert "\n" not in refused(said, save_checkpoint(tensors, tmp_path / "model.safetensors"))


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_file_completed_as_advised_is_read(part, tmp_path):
    prefix = {"vae": "first_stage_model.", "text_encoder": "cond_stage_model."}[part]
    tensors = {n: t for n, t in compvis(public("sd1")).items() if not n.startswith(prefix)}
    file = save_checkpoint(tensors, tmp_path / "model.safetensors")
    given = {"vae": "autoencoder", "text_encoder": "text_encoder"}
    config = write_folder(public("sd1"), tmp_path / "config")
    StableDiffusionPipeline.from_single_file(
        str(file),
        config=str(config),
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        **{part: public("sd1").parts[given[part]]},
    ).save_pretrained(tmp_path / "whole")
    shutil.rmtree(config)
    model = load(tmp_path / "whole")
    expected = public("sd1").parts["unet"].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.unet.state_dict().items())
