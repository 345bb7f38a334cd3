"""The cost of a call of a UNet on latents, and on pixels: floating-point operations, counted."""

from dataclasses import replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ldm.config import UNetConfig
from ldm.unet import UNet


@cache
def flops(config: UNetConfig, channels: int, side: int, tokens: int) -> int:
    """Floating-point operations of one call on (channels, side, side) and a prompt of so many tokens.

    A multiplication with its addition counts as two. Nothing is computed: the tensors have shapes and no values.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet = UNet(replace(config, latent_channels=channels))
        x, context = torch.empty(1, channels, side, side), torch.empty(1, tokens, config.context_width)
        unet(x, torch.zeros(1, dtype=torch.long), context)
    return counter.get_total_flops()
