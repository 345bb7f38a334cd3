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
    for name, parameter in module.named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        noise = torch.randn(parameter.shape, generator=generator) * (fan_in**-0.5 if parameter.dim() > 1 else 0.1)
        is_norm_scale = parameter.dim() == 1 and name.endswith("weight")
        parameter.data = noise + 1 if is_norm_scale else noise
    return module.requires_grad_(False)


def random_model(config: ModelConfig, tokenizer: CLIPTokenizer) -> LatentDiffusion:
    return LatentDiffusion(
        config,
        tokenizer,
        randomise(TextEncoder(config.text), 1),
        randomise(UNet(config.unet), 2),
        randomise(Autoencoder(config.autoencoder), 3),
    )
