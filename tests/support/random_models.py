"""Networks with random parameters."""

import torch

from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig
from ldm.pipeline import LatentDiffusion
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet


def randomise(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter random, norms and biases too, small enough that nothing overflows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.requires_grad_(False).named_parameters():
        is_norm_scale = parameter.dim() == 1 and name.endswith("weight")
        std = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
        parameter.normal_(1.0 if is_norm_scale else 0.0, std, generator=generator)
    return module


def random_model(config: ModelConfig, tokenizer: CLIPTokenizer) -> LatentDiffusion:
    return LatentDiffusion(
        config,
        tokenizer,
        randomise(TextEncoder(config.text), 1),
        randomise(UNet(config.unet), 2),
        randomise(Autoencoder(config.autoencoder), 3),
    )
