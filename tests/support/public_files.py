"""The small public models in folders, under the names and in the kinds of files that public repositories use."""

import json
from collections.abc import Callable
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DModel, VQModel
from parity.test_tokenizer import BOS, EOS, write_clip
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPModel

from ldm.config import BertConfig
from tests.support.public_json import WORDPIECES, small_clip
from tests.support.public_models import Public, Tensors, is_text, our_tensors
from tests.support.tensor_files import write_shards

# ---------------------------------------------------------------------------------------------------------------------
# tokenizers


def write_clip_tokenizer(folder: Path, pad: str) -> None:
    """The public file set. For Stable Diffusion 2 the two JSON files differ in what pads."""
    folder.mkdir(exist_ok=True)
    write_clip(folder, *small_clip())
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad}))
    config = {"pad_token": EOS, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | config))


def write_bert_tokenizer(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*WORDPIECES, ""]))
    special = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"unk_token": "[UNK]"}))


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
        write_shards(names(module), path, save) if shards else save(names(module), path)
    return folder
