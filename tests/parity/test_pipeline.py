"""Prompt to picture: our pipeline equals a sampling loop written here on diffusers' and transformers' networks."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.config import AutoencoderConfig, ModelConfig, ScheduleConfig, UNetConfig
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from tests.support.oracles import diffusers_autoencoder, diffusers_unet, random_pipeline, transformers_text_encoder

PROMPTS = ["a photo of a red car on the beach", "a painting of a cat"]
SEEDS = [3, 4]
GUIDANCE = 4.0
VISITED = [1000, 667, 333, 0]  # three steps from T to 0


def alpha_bar(t: int) -> float:
    """Stable Diffusion's, in Python's own float64: the square roots of beta are evenly spaced."""
    low, high = math.sqrt(0.00085), math.sqrt(0.012)
    return math.prod(1 - (low + (high - low) * i / 999) ** 2 for i in range(t))


@pytest.fixture(params=["eps", "v"])
def model(tokenizer, request) -> LatentDiffusion:
    """A small random model in float64."""
    config = ModelConfig(
        name="small",
        image_size=32,
        schedule=ScheduleConfig(parameterisation=request.param),
        autoencoder=AutoencoderConfig(channels=(16, 32), layers=1, latent_channels=4, groups=8, scale=0.3),
        unet=UNetConfig(channels=(16, 32), layers=1, attention=(True, False), heads=(2, 4), context_width=24, groups=8),
        text=dataclasses.replace(PRESETS["stickers"].text, width=24, layers=2, heads=3, hidden=48),
    )
    return random_pipeline(config, tokenizer)


@torch.no_grad()
def test_generate_equals_loop_over_diffusers(model):
    unet = diffusers_unet(model.unet, (2, 4))
    autoencoder = diffusers_autoencoder(model.autoencoder)
    text_encoder = transformers_text_encoder(model.text_encoder)
    ids = model.tokenizer.batch([*PROMPTS, "", ""])
    context = text_encoder(ids).last_hidden_state
    latents = [torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    z = torch.stack(latents).double()

    expected = []
    for t, t_prev in pairwise(VISITED):
        signal, noise = math.sqrt(alpha_bar(t)), math.sqrt(1 - alpha_bar(t))
        conditional, empty = unet(torch.cat([z, z]), torch.tensor(t - 1), context).sample.chunk(2)
        output = GUIDANCE * conditional + (1 - GUIDANCE) * empty
        eps = signal * output + noise * z if model.config.schedule.parameterisation == "v" else output
        z_0 = (z - noise * eps) / signal
        z = math.sqrt(alpha_bar(t_prev)) * z_0 + math.sqrt(1 - alpha_bar(t_prev)) * eps
        expected.append(z)
    pictures = (autoencoder.decode(z / 0.3).sample.permute(0, 2, 3, 1).numpy() + 1) / 2 * 255

    sampling = dict(steps=3, guidance=GUIDANCE)
    states = list(model.denoise(model.encode_prompts(PROMPTS), SEEDS, **sampling))
    assert [state.t for state in states] == VISITED[1:]
    for state, z_t in zip(states, expected, strict=True):
        # float64: 1e-14 from a small UNet (see its test), times 4 + 3 from guidance and 1 / sqrt(alpha_bar_T) = 15,
        # times what the later passes through a random network make of it
        assert_close(state.z_t, z_t, rtol=0, atol=1e-10)
    generated = model.generate(PROMPTS, SEEDS, **sampling)
    assert generated.dtype == np.uint8 and generated.shape == (2, 32, 32, 3)
    assert ((generated > 0) & (generated < 255)).mean() > 0.2  # or most of the comparison is between clamped values
    # half a grey level from rounding to bytes, and what float32 loses just before it
    assert np.abs(generated - pictures.clip(0, 255)).max() < 0.501
