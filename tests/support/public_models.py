"""Models as the hub has them, small and with random weights.

Their modules are diffusers' and transformers' own, made from the public JSON files with smaller numbers in them.
public_files.py and compvis_files.py have the two layouts of files that they are published in.
"""

import json
from functools import cache
from typing import NamedTuple

import diffusers
import pydantic
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from ldm import config
from tests.support.public_json import DATA
from tests.support.random_models import randomise

Tensors = dict[str, Tensor]
KINDS = [*DATA["small"]]
FOLDERS = {"unet": ("unet",), "autoencoder": ("vae", "vqvae"), "text_encoder": ("text_encoder", "bert")}


class Public(NamedTuple):
    """A model of the hub: what its JSON files say, what they mean in our terms, and its parts by our names."""

    files: dict[str, dict]
    config: config.ModelConfig
    parts: dict[str, nn.Module]

    def folder_of(self, part: str) -> str:
        return next(name for name in FOLDERS[part] if f"{name}/config.json" in self.files)

    def tensors(self) -> Tensors:
        """What our model should hold."""
        parts = {part: our_tensors(module) for part, module in self.parts.items()}
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def our_tensors(module: nn.Module) -> Tensors:
    tensors = {name: tensor for name, tensor in module.state_dict().items() if not name.endswith("position_ids")}
    if isinstance(module, LDMBertModel):
        return {name.removeprefix("model."): t for name, t in tensors.items() if not name.startswith("to_logits.")}
    # before 5.6, transformers put one more module around the encoder
    return {name.removeprefix("text_model."): t for name, t in tensors.items()} if is_text(module) else tensors


def is_text(module: nn.Module) -> bool:
    return isinstance(module, CLIPTextModel)


@cache
def public(kind: str, seed: int = 0) -> Public:
    files = DATA["small"][kind]["files"]
    parts = enumerate(modules_of(files).items())
    random = {part: randomise(module, seed + i).eval() for i, (part, module) in parts}
    return Public(files, ours(config.ModelConfig, DATA["small"][kind]["ours"]), random)


def ours(kind: type, content: dict) -> object:
    return pydantic.TypeAdapter(kind).validate_json(json.dumps(content))


def modules_of(files: dict[str, dict]) -> dict[str, nn.Module]:
    """Made by the libraries from the JSON alone."""
    found = {part: [f"{folder}/config.json" for folder in folders] for part, folders in FOLDERS.items()}
    return {part: module_of(files[path]) for part, paths in found.items() for path in paths if path in files}


def module_of(content: dict) -> nn.Module:
    kind = content.get("model_type") or content["_class_name"]
    if kind == "clip_text_model":
        return CLIPTextModel(CLIPTextConfig.from_dict(content))
    if kind == "ldmbert":
        return LDMBertModel(LDMBertConfig.from_dict(content))
    return getattr(diffusers, kind).from_config(content)


def vq_with_attention() -> tuple[dict, config.AutoencoderConfig, nn.Module]:
    """VQ-f8, but for its channels: attention at the last level too, and a codebook."""
    content, means = DATA["vq"]["file"], DATA["vq"]["ours"]
    return content, ours(config.AutoencoderConfig, means), randomise(module_of(content)).eval()


def clip(**text: object) -> tuple[config.CLIPConfig, CLIPModel]:
    """CLIP with both towers; what else the file says of the text encoder."""
    content = DATA["clip"]["file"] | {"text_config": DATA["clip"]["file"]["text_config"] | text}
    return ours(config.CLIPConfig, DATA["clip"]["ours"]), randomise(CLIPModel(CLIPConfig.from_dict(content))).eval()
