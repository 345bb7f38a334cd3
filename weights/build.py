"""The parts of a model: the class of each, and the shapes of its parameters."""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from ldm.autoencoder import Autoencoder
from ldm.class_embedder import ClassEmbedder
from ldm.config import AutoencoderConfig, BertConfig, ClassConfig, CLIPConfig, ModelConfig, TextConfig, UNetConfig
from ldm.text_encoder import TextEncoder
from ldm.unet import UNet
from ldm.zoo.bert import BertEncoder
from ldm.zoo.clip import CLIP

PartConfig = UNetConfig | AutoencoderConfig | TextConfig | BertConfig | ClassConfig | CLIPConfig

CLASSES: dict[type, Callable[..., nn.Module]] = {
    UNetConfig: UNet,
    AutoencoderConfig: Autoencoder,
    TextConfig: TextEncoder,
    BertConfig: BertEncoder,
    ClassConfig: ClassEmbedder,
    CLIPConfig: CLIP,
}


def parts_of(config: ModelConfig) -> dict[str, PartConfig]:
    """The configs of a model's parts, by their names in `LatentDiffusion`."""
    parts = {"text_encoder": config.text, "unet": config.unet, "autoencoder": config.autoencoder}
    return {name: part for name, part in parts.items() if part is not None}


def empty(parts: dict[str, PartConfig]) -> nn.ModuleDict:
    """Create modules on the meta device, whose parameters are then filled from a file."""
    with torch.device("meta"):
        return nn.ModuleDict({name: CLASSES[type(part)](part) for name, part in parts.items()})


@cache
def shapes(part: PartConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a part's parameters, by name."""
    return {name: tuple(tensor.shape) for name, tensor in empty({"it": part})["it"].state_dict().items()}
