"""The same networks in diffusers and transformers, holding our parameters.

Parameters are shared, not copied, and loaded strictly under our own names: that a name agrees is part of the test.
Theirs is therefore built after ours has its final values and dtype.
"""

from collections.abc import Callable
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, DDIMScheduler, LDMSuperResolutionPipeline, UNet2DConditionModel, VQModel
from diffusers.pipelines.latent_diffusion import pipeline_latent_diffusion_superresolution as enlarging
from diffusers.schedulers import scheduling_ddim
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig
from ldm.pipeline import LatentDiffusion
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet
from p2p.speed import models
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
    return models.diffusers_unet(ours.config, ours.state_dict(), heads)


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


def exactly(scheduler: DDIMScheduler) -> DDIMScheduler:
    """Its alphas in float64, where its own float32 would hide all that differs by less than 1e-4 (test_samplers)."""
    c = scheduler.config
    power = {"scaled_linear": 2, "linear": 1}[c.beta_schedule]
    ends = c.beta_start ** (1 / power), c.beta_end ** (1 / power)
    scheduler.alphas_cumprod = (1 - torch.linspace(*ends, 1000, dtype=torch.float64) ** power).cumprod(0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    if not c.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


def enlarged_by_diffusers(pipeline: LDMSuperResolutionPipeline, x: Tensor, seed: int, steps: int, eta: float) -> Tensor:
    """A small image in [-1, 1] (3, h, w) to (1, 3, H, W) in [0, 1], with our noise: all from one stream, in float32."""
    stream = torch.Generator().manual_seed(seed)
    drawn = lambda shape, **_: torch.randn(shape, generator=stream).to(x.dtype)
    with patch.object(enlarging, "randn_tensor", drawn), patch.object(scheduling_ddim, "randn_tensor", drawn):
        return pipeline(x[None], num_inference_steps=steps, eta=eta, output_type="pt").images
