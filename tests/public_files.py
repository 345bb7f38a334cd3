"""Models as the hub has them, small and with random weights.

Their modules are diffusers' and transformers' own, made from the public JSON files with smaller numbers in them, and
saved under the names and in the kinds of files that public repositories use. tests/compvis_files.py has the other
layout.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import diffusers
import torch
from conftest import randomise
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel, VQModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from parity.test_tokenizer import BOS, EOS, public_clip, write_clip
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from ldm.config import (
    AutoencoderConfig,
    BertConfig,
    ModelConfig,
    ScheduleConfig,
    TextConfig,
    UNetConfig,
    VisionConfig,
)
from ldm.config import CLIPConfig as OurCLIPConfig

Tensors = dict[str, Tensor]


class Public(NamedTuple):
    """A model of the hub: what its JSON files say, what they mean in our terms, and its parts by our names."""

    files: dict[str, dict]
    config: ModelConfig
    parts: dict[str, nn.Module]

    def folder_of(self, part: str) -> str:
        names = {"unet": ("unet",), "autoencoder": ("vae", "vqvae"), "text_encoder": ("text_encoder", "bert")}
        return next(name for name in names[part] if f"{name}/config.json" in self.files)

    def tensors(self) -> Tensors:
        """What our model should hold."""
        return {
            f"{part}.{name}": tensor
            for part, module in self.parts.items()
            for name, tensor in our_tensors(module).items()
        }


def our_tensors(module: nn.Module) -> Tensors:
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("position_ids")}
    if isinstance(module, LDMBertModel):
        return {name.removeprefix("model."): t for name, t in tensors.items() if not name.startswith("to_logits.")}
    # before 5.6, transformers put one more module around the encoder
    return {name.removeprefix("text_model."): t for name, t in tensors.items()} if is_text(module) else tensors


def is_text(module: nn.Module) -> bool:
    return isinstance(module, CLIPTextModel)


# ---------------------------------------------------------------------------------------------------------------------
# tokenizers


@cache
def small_clip() -> tuple[dict[str, int], list[str]]:
    """The beginning of CLIP's vocabulary: bytes, bytes that end a word, the first merges; then the special tokens."""
    vocab, merges = public_clip()
    entries = [*list(vocab)[: 512 + 300], BOS, EOS]
    return {entry: i for i, entry in enumerate(entries)}, merges[:300]


def write_clip_tokenizer(folder: Path, pad: str) -> None:
    """The public file set. For Stable Diffusion 2 the two JSON files differ in what pads."""
    folder.mkdir(exist_ok=True)
    write_clip(folder, *small_clip())
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad}))
    config = {"pad_token": EOS, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | config))


LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
WORDPIECES += ["photo", "of", "cat", "on", "##ing", "paint"]


def write_bert_tokenizer(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*WORDPIECES, ""]))
    special = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"unk_token": "[UNK]"}))


# ---------------------------------------------------------------------------------------------------------------------
# what the JSON files say


def unet_json(down: list[str], up: list[str], widths: list[int], **more) -> dict:
    """Stable Diffusion 1's, as far as all have it."""
    return {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.12.0.dev0",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": widths,
        "center_input_sample": False,
        "down_block_types": down,
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 8,
        "up_block_types": up,
        **more,
    }


# in the files of later versions of diffusers: settings that are off, and others that say what is so anyway
LATER = {
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "mid_block_only_cross_attention": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "projection_class_embeddings_input_dim": None,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "upcast_attention": False,
}
WITH, WITHOUT = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")


def autoencoder_json(widths: list[int], **more) -> dict:
    """As in most repositories, without a scaling factor."""
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "out_channels": 3,
        "sample_size": 512,
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
        **more,
    }


def text_json(**more) -> dict:
    """With ids of special tokens that are not the vocabulary's, and kept so for their use in old code."""
    return {
        "_name_or_path": "openai/clip-vit-large-patch14",
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 32,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "pad_token_id": 1,
        "torch_dtype": "float32",
        "transformers_version": "4.22.0.dev0",
        "vocab_size": len(small_clip()[0]),
        **more,
    }


PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
DDIM_V = PNDM | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
FIRST_DDIM = {  # of diffusers' first release
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.0.4",
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "timestep_values": None,
    "trained_betas": None,
}
SD_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
NO_CHECKER = {"safety_checker": [None, None], "requires_safety_checker": False, "feature_extractor": [None, None]}


# ---------------------------------------------------------------------------------------------------------------------
# the models


def sd1(seed: int = 0) -> Public:
    """Stable Diffusion 1: OpenAI's text encoder, 1x1 convolutions around a transformer, the last level without."""
    files = {
        "model_index.json": SD_INDEX,
        "scheduler/scheduler_config.json": PNDM,
        "unet/config.json": unet_json(
            [WITH[0], WITH[0], WITHOUT[0]], [WITHOUT[1], WITH[1], WITH[1]], [32, 64, 64], cross_attention_dim=32
        ),
        "vae/config.json": autoencoder_json([32, 64, 64]),
        "text_encoder/config.json": text_json(),
    }
    config = ModelConfig(
        name="sd1",
        image_size=32,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1),
        autoencoder=AutoencoderConfig(widths=(32, 64, 64)),
        unet=UNetConfig(widths=(32, 64, 64), attention=(True, True, False), heads=(8, 8, 8), context_width=32),
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def sd2(seed: int = 0) -> Public:
    """Stable Diffusion 2.1: OpenCLIP's text encoder, Linear around a transformer, a number of heads per level, v."""
    files = {
        "model_index.json": SD_INDEX | NO_CHECKER | {"scheduler": ["diffusers", "DDIMScheduler"]},
        "scheduler/scheduler_config.json": DDIM_V,
        "unet/config.json": unet_json(
            [WITH[0], WITH[0], WITHOUT[0]],
            [WITHOUT[1], WITH[1], WITH[1]],
            [32, 64, 96],
            attention_head_dim=[2, 4, 6],
            cross_attention_dim=64,
            use_linear_projection=True,
            sample_size=12,
            **LATER | {"upcast_attention": True},
        ),
        "vae/config.json": autoencoder_json([32, 64], norm_num_groups=32, sample_size=768, scaling_factor=0.2),
        "text_encoder/config.json": text_json(
            hidden_act="gelu", hidden_size=64, intermediate_size=80, projection_dim=512, torch_dtype="float16"
        ),
    }
    config = ModelConfig(
        name="sd2",
        image_size=24,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1, parameterisation="v"),
        autoencoder=AutoencoderConfig(widths=(32, 64), scale=0.2),
        unet=UNetConfig(
            widths=(32, 64, 96),
            attention=(True, True, False),
            heads=(2, 4, 6),
            context_width=64,
            linear_projection=True,
        ),
        text=TextConfig(
            vocabulary=len(small_clip()[0]), width=64, layers=2, heads=4, hidden=80, activation="gelu", pad="!"
        ),
    )
    return Public(files, config, parts_of(files, seed))


def bk_sdm(seed: int = 0) -> Public:
    """BK-SDM-Tiny: three levels, all with attention, one residual block in each, no middle."""
    files = {
        "model_index.json": SD_INDEX | NO_CHECKER,
        "scheduler/scheduler_config.json": PNDM,
        "unet/config.json": unet_json(
            [WITH[0]] * 3,
            [WITH[1]] * 3,
            [32, 64, 64],
            cross_attention_dim=32,
            layers_per_block=1,
            mid_block_type=None,
            use_linear_projection=False,
            **LATER,
        ),
        "vae/config.json": autoencoder_json([32, 64], scaling_factor=0.18215),
        "text_encoder/config.json": text_json(),
    }
    config = ModelConfig(
        name="bk-sdm",
        image_size=16,
        schedule=ScheduleConfig(spacing="leading", offset=1, last=1),
        autoencoder=AutoencoderConfig(widths=(32, 64)),
        unet=UNetConfig(
            widths=(32, 64, 64), layers=1, attention=(True,) * 3, heads=(8, 8, 8), context_width=32, mid=False
        ),
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def text2im(seed: int = 0) -> Public:
    """The latent diffusion paper's text to image: its own BERT, folders of other names, nothing said of the prompt's
    width, which is then 1280."""
    files = {
        "model_index.json": {
            "_class_name": "LDMTextToImagePipeline",
            "_diffusers_version": "0.0.4",
            "bert": ["latent_diffusion", "LDMBertModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "tokenizer": ["transformers", "BertTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vqvae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": FIRST_DDIM,
        "unet/config.json": unet_json([WITH[0], WITHOUT[0]], [WITHOUT[1], WITH[1]], [32, 64]),
        "vqvae/config.json": autoencoder_json([32, 32, 32, 64], sample_size=256),
        "bert/config.json": {
            "_name_or_path": "fusing/latent-diffusion-text2im-large",
            "activation_dropout": 0.0,
            "activation_function": "gelu",
            "architectures": ["LDMBertModel"],
            "attention_dropout": 0.0,
            "classifier_dropout": 0.0,
            "d_model": 1280,
            "dropout": 0.1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "encoder_layerdrop": 0.0,
            "encoder_layers": 2,
            "head_dim": 16,
            "init_std": 0.02,
            "max_position_embeddings": 77,
            "model_type": "ldmbert",
            "num_hidden_layers": 2,
            "pad_token_id": 0,
            "scale_embedding": False,
            "torch_dtype": "float32",
            "transformers_version": "4.21.0.dev0",
            "use_cache": True,
            "vocab_size": len(WORDPIECES),
        },
    }
    config = ModelConfig(
        name="text2im",
        image_size=64,
        schedule=ScheduleConfig(betas="linear", spacing="leading"),
        autoencoder=AutoencoderConfig(widths=(32, 32, 32, 64)),
        unet=UNetConfig(widths=(32, 64), attention=(True, False), heads=(8, 8), context_width=1280),
        text=BertConfig(vocabulary=len(WORDPIECES), layers=2, heads=2, head_size=16, hidden=48),
    )
    return Public(files, config, parts_of(files, seed))


def celebahq(seed: int = 0) -> Public:
    """The latent diffusion paper's faces: no prompt, self-attention alone, a codebook."""
    files = {
        "model_index.json": {
            "_class_name": "LDMPipeline",
            "_diffusers_version": "0.0.4",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "unet": ["diffusers", "UNet2DModel"],
            "vqvae": ["diffusers", "VQModel"],
        },
        "scheduler/scheduler_config.json": FIRST_DDIM
        | {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"},
        "unet/config.json": unet_json(
            ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
            ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
            [32, 64, 96],
            _class_name="UNet2DModel",
            attention_head_dim=16,
            in_channels=3,
            out_channels=3,
        ),
        "vqvae/config.json": autoencoder_json(
            [32, 64, 64], _class_name="VQModel", latent_channels=3, num_vq_embeddings=40, sample_size=256
        ),
    }
    config = ModelConfig(
        name="celebahq",
        image_size=32,
        schedule=ScheduleConfig(beta_start=0.0015, beta_end=0.0195, spacing="leading"),
        autoencoder=AutoencoderConfig(widths=(32, 64, 64), latent_channels=3, codebook=40, scale=1.0),
        unet=UNetConfig(
            widths=(32, 64, 96),
            attention=(False, True, True),
            heads=None,
            head_size=16,
            context_width=None,
            latent_channels=3,
        ),
        text=None,
    )
    return Public(files, config, parts_of(files, seed))


def parts_of(files: dict[str, dict], seed: int) -> dict[str, nn.Module]:
    """Made by the libraries from the JSON alone."""
    parts = {"unet": module_of(files["unet/config.json"])}
    for part, folders in {"autoencoder": ("vae", "vqvae"), "text_encoder": ("text_encoder", "bert")}.items():
        for folder in folders:
            if f"{folder}/config.json" in files:
                parts[part] = module_of(files[f"{folder}/config.json"])
    return {part: randomise(module, seed + i).eval() for i, (part, module) in enumerate(parts.items())}


def module_of(content: dict) -> nn.Module:
    kind = content.get("model_type") or content["_class_name"]
    if kind == "clip_text_model":
        return CLIPTextModel(CLIPTextConfig.from_dict(content))
    if kind == "ldmbert":
        return LDMBertModel(LDMBertConfig.from_dict(content))
    classes = {c.__name__: c for c in (AutoencoderKL, VQModel, UNet2DConditionModel, UNet2DModel)}
    return classes[kind].from_config(content)


def vq_with_attention(seed: int = 0) -> tuple[dict, AutoencoderConfig, VQModel]:
    """VQ-f8, but for its widths: attention at the last level too, and a codebook."""
    content = autoencoder_json(
        [32, 64],
        _class_name="VQModel",
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        num_vq_embeddings=50,
        vq_embed_dim=4,
    )
    config = AutoencoderConfig(widths=(32, 64), codebook=50, scale=1.0, attention=(1,))
    return content, config, randomise(module_of(content), seed).eval()


def clip(seed: int = 0) -> tuple[OurCLIPConfig, CLIPModel]:
    """CLIP with both towers."""
    text = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    vision = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6)
    theirs = CLIPConfig(
        text_config=text | {"vocab_size": len(small_clip()[0]), "bos_token_id": 0, "eos_token_id": 2},
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    ours = OurCLIPConfig(
        text=TextConfig(vocabulary=len(small_clip()[0]), width=32, layers=2, heads=4, hidden=48),
        vision=VisionConfig(image_size=32, patch=8, width=48, layers=2, heads=6, hidden=64),
        embedding=24,
    )
    return ours, randomise(CLIPModel(theirs), seed).eval()


# ---------------------------------------------------------------------------------------------------------------------
# diffusers' layout


def public_names(module: nn.Module) -> Tensors:
    """As in the files that were uploaded when the models came out."""
    tensors = dict(module.state_dict())
    if is_text(module):
        tensors = {f"text_model.{name}": tensor for name, tensor in our_tensors(module).items()}
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    if isinstance(module, CLIPModel):
        tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    if isinstance(module, AutoencoderKL | VQModel | UNet2DModel):
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items():
            tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
    return tensors


def names_of_today(module: nn.Module) -> Tensors:
    return dict(module.state_dict())


def save(tensors: Tensors, path: Path) -> None:
    """A .safetensors file as the libraries write it, or a pickle."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata={"format": "pt"})
    else:
        torch.save(tensors, path)


def save_in_shards(tensors: Tensors, path: Path) -> None:
    """Two files, every other tensor in each, and an index of them."""
    shards = {}
    for i in range(2):
        shard = f"{path.stem}-{i + 1:05}-of-00002.safetensors"
        names = sorted(tensors)[i::2]
        save({name: tensors[name] for name in names}, path.with_name(shard))
        shards |= dict.fromkeys(names, shard)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = json.dumps({"metadata": {"total_size": size}, "weight_map": shards})
    path.with_name(f"{path.name}.index.json").write_text(index)


def stem(module: nn.Module, suffix: str) -> str:
    if isinstance(module, diffusers.ModelMixin):
        return "diffusion_pytorch_model"
    return "model" if suffix == ".safetensors" else "pytorch_model"


def write_json(public: Public, folder: Path) -> None:
    for name, content in public.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def write_tokenizer(public: Public, folder: Path) -> None:
    if isinstance(public.config.text, BertConfig):
        write_bert_tokenizer(folder)
    elif public.config.text:
        write_clip_tokenizer(folder, public.config.text.pad)


def write_folder(
    public: Public,
    folder: Path,
    suffix: str = ".safetensors",
    names: Callable[[nn.Module], Tensors] = public_names,
    shards: bool = False,
) -> Path:
    """The whole repository."""
    write_json(public, folder)
    write_tokenizer(public, folder / "tokenizer")
    for part, module in public.parts.items():
        path = folder / public.folder_of(part) / (stem(module, suffix) + suffix)
        (save_in_shards if shards else save)(names(module), path)
    return folder
