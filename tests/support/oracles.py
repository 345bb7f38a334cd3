"""The same networks in diffusers and transformers, holding our parameters.

Parameters are shared, not copied, and loaded strictly under our own names: that a name agrees is part of the test.
Theirs is therefore built after ours has its final values and dtype.
"""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig
from ldm.pipeline import LatentDiffusion
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet
from tests.support.random_models import randomise


def random_network(make: Callable[[], nn.Module], dtype: torch.dtype, seed: int = 0) -> nn.Module:
    """A network with every parameter random. Built without PyTorch's own initialisation, slow at public sizes."""
    with torch.device("meta"):
        module = make()
    return randomise(module.to_empty(device="cpu"), seed).to(dtype).eval()


def random_pipeline(config: ModelConfig, tokenizer: CLIPTokenizer) -> LatentDiffusion:
    """A whole model in float64, every parameter random."""
    return LatentDiffusion(
        config,
        tokenizer,
        random_network(lambda: TextEncoder(config.text), torch.float64, seed=1),
        random_network(lambda: UNet(config.unet), torch.float64, seed=2),
        random_network(lambda: Autoencoder(config.autoencoder), torch.float64, seed=3),
    )


def number_of_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def diffusers_autoencoder(ours: Autoencoder) -> AutoencoderKL:
    c = ours.config
    levels = len(c.channels)
    with torch.device("meta"):
        theirs = AutoencoderKL(
            block_out_channels=c.channels,
            layers_per_block=c.layers,
            latent_channels=c.latent_channels,
            norm_num_groups=c.groups,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return theirs.eval()


def diffusers_vq(ours: Autoencoder) -> VQModel:
    c = ours.config
    levels = len(c.channels)
    with torch.device("meta"):
        theirs = VQModel(
            block_out_channels=c.channels,
            layers_per_block=c.layers,
            latent_channels=c.latent_channels,
            norm_num_groups=c.groups,
            num_vq_embeddings=c.codebook,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        )
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return theirs.eval()


def diffusers_unet(ours: UNet, heads: tuple[int, ...]) -> UNet2DConditionModel:
    """`heads`, per level, is for the caller to say: what our config makes of it is under test."""
    c = ours.config
    with torch.device("meta"):
        theirs = UNet2DConditionModel(
            in_channels=c.latent_channels,
            out_channels=c.latent_channels,
            block_out_channels=c.channels,
            layers_per_block=c.layers,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in c.attention),
            up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(c.attention)),
            attention_head_dim=heads,  # diffusers' name for the number of heads; see its issue 2011
            cross_attention_dim=c.context_width,
            use_linear_projection=c.linear_projection,
            norm_num_groups=c.groups,
        )
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return theirs.eval()


def transformers_text_encoder(ours: TextEncoder) -> CLIPTextModel:
    c = ours.config
    theirs = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=c.vocabulary,
            hidden_size=c.width,
            intermediate_size=c.hidden,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            max_position_embeddings=c.length,
            hidden_act=c.activation,
            bos_token_id=c.vocabulary - 2,
            eos_token_id=c.vocabulary - 1,
        )
    )
    # before 5.6, transformers put one more module around the encoder
    prefix = "text_model." if any(name.startswith("text_model.") for name in theirs.state_dict()) else ""
    parameters = {prefix + name: parameter for name, parameter in ours.state_dict().items()}
    theirs.load_state_dict(parameters, strict=True, assign=True)
    return theirs.eval()
