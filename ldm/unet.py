"""The noise predictor eps_theta(z_t, t, tau_theta(y)): a UNet with spatial transformers.

The down levels each halve the resolution; after the middle block, the up levels double it again, and concatenate the
skip connections of the matching down level. A UNet without prompts has plain self-attention instead of spatial
transformers. Parameter names are those of the public checkpoint files.
"""

import math
from itertools import zip_longest

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.attention import AttentionFn, Place, SelfAttentionBlock, SpatialTransformer
from ldm.blocks import Downsample, ResidualBlock, Upsample
from ldm.config import UNetConfig
from ldm.helpers.checks import check_context, check_latents, check_rows
from ldm.shapes import Latent


def timestep_embedding(timestep: Int[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """cos and sin of the timestep at half = width/2 frequencies, 10000^(-k/half); cosines first."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timestep.device) / half)
    angles = timestep[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeMLP(nn.Module):
    """Linear, SiLU, Linear on the time embedding."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Float[Tensor, "b c"]) -> Float[Tensor, "b d"]:
        return self.linear_2(F.silu(self.linear_1(x)))


class DownLevel(nn.Module):
    """One resolution of the encoder half: residual blocks, each followed by attention if the level has it, then
    downsampling (except at the last level)."""

    def __init__(self, blocks: list[ResidualBlock], attentions: list[nn.Module], down: list[Downsample]):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.downsamplers = nn.ModuleList(down)

    def forward(
        self,
        x: Float[Tensor, "b i h w"],
        time: Float[Tensor, "#b d"],
        context: Float[Tensor, "b m e"],
        attn_fn: AttentionFn | None,
    ) -> list[Tensor]:
        """The features after each block and after downsampling: all are skips; the last go on to the next level."""
        features = []
        for block, attention in zip_longest(self.resnets, self.attentions):
            x = block(x, time)
            if attention:
                x = attention(x, context, attn_fn)
            features.append(x)
        return features + [down(x) for down in self.downsamplers]


class Mid(nn.Module):
    """Residual block, attention, residual block, at the lowest resolution."""

    def __init__(self, blocks: list[ResidualBlock], attention: nn.Module):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(blocks), nn.ModuleList([attention])

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        time: Float[Tensor, "#b d"],
        context: Float[Tensor, "b m e"],
        attn_fn: AttentionFn | None,
    ) -> Float[Tensor, "b c h w"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, time), context, attn_fn), time)


class UpLevel(nn.Module):
    """One resolution of the decoder half: residual blocks, each with a skip connection (latest first) and followed by
    attention if the level has it, then upsampling to the next level (except at the last).

    Its input and, below that, the skip connections are taken off a stack, so that no caller keeps them in memory.
    """

    def __init__(self, blocks: list[ResidualBlock], attentions: list[nn.Module], up: list[Upsample]):
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)
        self.upsamplers = nn.ModuleList(up)

    def forward(
        self,
        features: list[Tensor],
        time: Float[Tensor, "#b d"],
        context: Float[Tensor, "b m e"],
        attn_fn: AttentionFn | None,
    ) -> Float[Tensor, "b o h2 w2"]:
        x = features.pop()
        for block, attention in zip_longest(self.resnets, self.attentions):
            x = torch.cat([x, features.pop()], dim=1)
            x = block(x, time)
            if attention:
                x = attention(x, context, attn_fn)
        for up in self.upsamplers:  # to the skip connection's size, not twice its own: downsampling rounded odd sizes
            x = up(x, tuple(features[-1].shape[-2:]))
        return x


class UNet(nn.Module):
    """Predicts eps (or v) from a noisy latent, the timestep and the prompt."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        channels, levels = config.channels, len(config.channels)
        time_width = 4 * channels[0]
        self.attention_layers = 0  # counted as they are built, in execution order
        self.time_embedding = TimeMLP(channels[0], time_width)
        self.conv_in = nn.Conv2d(config.latent_channels + config.condition_channels, channels[0], 3, padding=1)

        skips = [channels[0]]  # channels of the skip connections
        self.down_blocks = nn.ModuleList()
        c = channels[0]
        for level in range(levels):
            inputs = [c] + [channels[level]] * (config.layers - 1)
            c = channels[level]
            down = [Downsample(c, all_sides=True)] if level + 1 < levels else []
            self.down_blocks.append(DownLevel(*self._level("down", level, inputs), down))
            skips += [c] * (config.layers + len(down))

        if config.mid:
            blocks = [self._residual(c, c) for _ in range(2)]
            self.mid_block = Mid(blocks, self._attention("mid", levels - 1))

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(levels)):
            inputs = [c] + [channels[level]] * config.layers
            inputs = [i + skips.pop() for i in inputs]
            c = channels[level]
            self.up_blocks.append(UpLevel(*self._level("up", level, inputs), [Upsample(c)] if level > 0 else []))

        self.conv_norm_out = nn.GroupNorm(config.groups, channels[0], eps=1e-5)
        self.conv_out = nn.Conv2d(channels[0], config.latent_channels, 3, padding=1)

    def _residual(self, channels_in: int, channels_out: int) -> ResidualBlock:
        return ResidualBlock(channels_in, channels_out, self.config.groups, 1e-5, 4 * self.config.channels[0])

    def _attention(self, place: Place, level: int) -> SpatialTransformer | SelfAttentionBlock:
        c, layer = self.config, self.attention_layers
        self.attention_layers += 1
        if c.context_width is None:
            return SelfAttentionBlock(c.channels[level], c.heads_at(level), c.groups, 1e-5, place, layer)
        return SpatialTransformer(
            c.channels[level], c.context_width, c.heads_at(level), c.linear_projection, c.groups, place, layer
        )

    def _level(self, place: Place, level: int, inputs: list[int]) -> tuple[list[ResidualBlock], list[nn.Module]]:
        """A residual block per number of input channels, and as many attention layers if the level has any."""
        blocks = [self._residual(i, self.config.channels[level]) for i in inputs]
        return blocks, [self._attention(place, level) for _ in inputs] if self.config.attention[level] else []

    def _check(self, z_t: Tensor, timestep: Tensor, context: Tensor) -> None:
        """Check the arguments of `forward`. Raises ValueError."""
        check_latents(z_t=z_t)
        channels, more = self.config.latent_channels, self.config.condition_channels
        if z_t.shape[1] != channels + more:
            condition = f", and {more} of a condition follow them" if more else ""
            raise ValueError(f"this model's latents have {channels} channels{condition}, z_t is {tuple(z_t.shape)}")
        if not isinstance(timestep, Tensor) or timestep.ndim != 1 or timestep.is_floating_point():
            raise ValueError(
                f"timestep must be a tensor of whole numbers, counted from 0, got {timestep!r}: "
                "for the lecture's t write torch.tensor([t - 1])"
            )
        check_rows(z_t, "timesteps", len(timestep))
        if self.config.context_width is None:
            return
        check_context(context)
        if context.shape[0] != z_t.shape[0]:
            raise ValueError(f"there are {len(z_t)} latents and {len(context)} prompts: give one for each")
        if context.shape[2] != self.config.context_width:
            raise ValueError(
                f"this model's tokens have {self.config.context_width} numbers, the context is {tuple(context.shape)}"
            )

    def forward(
        self,
        z_t: Float[Tensor, "b i h w"],
        timestep: Int[Tensor, " #b"],
        context: Float[Tensor, "b m e"],
        attn_fn: AttentionFn | None = None,
    ) -> Latent:
        """The prediction for each latent of the batch: eps, or v if the schedule's config has that parameterisation, as
        in the included model. `Schedule.predict` converts either to eps and z_0; `LatentDiffusion.predict` does both.

        Args:
            z_t: noisy latents; for a UNet with a condition, [z_t, condition] along the channels.
            timestep: counted from 0, as the public weights were trained: the lecture's t minus one. One per row, as in
                training, or a single one for all rows.
            context: tau_theta(y), the prompt's tokens; ignored by a UNet without prompts.
            attn_fn: called in place of plain attention in every attention layer; see `ldm.attention`.

        Raises:
            ValueError: an argument has the wrong type or shape.
        """
        self._check(z_t, timestep, context)
        # A shared timestep is embedded once and broadcast: some BLAS libraries round equal rows of a small matrix
        # differently, and equal rows of a batch would then give unequal results.
        time = self.time_embedding(timestep_embedding(timestep, self.config.channels[0]).to(z_t.dtype))
        features = [self.conv_in(z_t)]  # a stack
        for level in self.down_blocks:
            features += level(features[-1], time, context, attn_fn)
        features.append(self.mid_block(features[-1], time, context, attn_fn) if self.config.mid else features[-1])
        for level in self.up_blocks:
            features.append(level(features, time, context, attn_fn))
        return self.conv_out(F.silu(self.conv_norm_out(features.pop()), inplace=True))
