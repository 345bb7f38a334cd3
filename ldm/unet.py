"""The noise predictor eps_theta(z_t, t, tau_theta(y)): a UNet with spatial transformers.

Levels go down, each halving the resolution, through a middle, and back up, each level taking the matching features
from the way down. A UNet without prompts has plain self-attention in the transformers' places. Parameter names are
those of the public checkpoint files.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.attention import AttentionEdit, SelfAttentionBlock, SpatialTransformer
from ldm.checks import check_context, check_latents, check_rows
from ldm.config import UNetConfig


def timestep_embedding(timestep: Int[Tensor, " b"], width: int) -> Float[Tensor, "b width"]:
    """cos and sin of the time step at half = width/2 frequencies, 10000^(-k/half); cosines come first."""
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


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, with the time added between; added to the input."""

    def __init__(self, width_in: int, width_out: int, time_width: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=1e-5)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_width, width_out)
        self.norm2 = nn.GroupNorm(groups, width_out, eps=1e-5)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        if width_in != width_out:
            self.conv_shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "#b d"]) -> Float[Tensor, "b o h w"]:
        y = self.conv1(F.silu(self.norm1(x)))
        y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Downsample(nn.Module):
    """Halves the side by a strided convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(x)


class Upsample(nn.Module):
    """Brings the features to a given size, nearest neighbour, then convolves.

    The size is given, not doubled: a latent side that is not a multiple of 2^levels was rounded on the way down.
    """

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.interpolate(x, size=size, mode="nearest"))


class UNet(nn.Module):
    """Predicts eps (or v) from a noisy latent, the time step and the prompt."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths, levels = config.widths, len(config.widths)
        time_width = 4 * widths[0]
        self.attentions = 0  # counted while they are made, in the order they run
        self.time_embedding = TimeMLP(widths[0], time_width)
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)

        skips = [widths[0]]  # widths of the features kept for the way up
        self.down_blocks = nn.ModuleList()
        width = widths[0]
        for level in range(levels):
            inputs = [width] + [widths[level]] * (config.layers - 1)
            width = widths[level]
            down = Downsample(width) if level + 1 < levels else None
            self.down_blocks.append(self._block("down", level, inputs, "downsamplers", down))
            skips += [width] * (config.layers + (down is not None))

        if config.mid:
            self.mid_block = nn.Module()
            self.mid_block.resnets = nn.ModuleList([self._resnet(width, width) for _ in range(2)])
            self.mid_block.attentions = nn.ModuleList([self._attention("mid", levels - 1)])

        self.up_blocks = nn.ModuleList()
        for level in reversed(range(levels)):
            inputs = [width] + [widths[level]] * config.layers
            inputs = [i + skips.pop() for i in inputs]
            width = widths[level]
            up = Upsample(width) if level > 0 else None
            self.up_blocks.append(self._block("up", level, inputs, "upsamplers", up))

        self.conv_norm_out = nn.GroupNorm(config.groups, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], config.latent_channels, 3, padding=1)

    def _resnet(self, width_in: int, width_out: int) -> ResidualBlock:
        return ResidualBlock(width_in, width_out, 4 * self.config.widths[0], self.config.groups)

    def _attention(self, place: str, level: int) -> SpatialTransformer | SelfAttentionBlock:
        c, layer = self.config, self.attentions
        self.attentions += 1
        if c.context_width is None:
            return SelfAttentionBlock(c.widths[level], c.heads_at(level), c.groups, 1e-5, place, layer)
        return SpatialTransformer(
            c.widths[level], c.context_width, c.heads_at(level), c.linear_projection, c.groups, place, layer
        )

    def _block(self, place: str, level: int, inputs: list[int], name: str, resample: nn.Module | None) -> nn.Module:
        """One level: a residual block per input width, attention after each if the level has it."""
        block = nn.Module()
        block.resnets = nn.ModuleList([self._resnet(i, self.config.widths[level]) for i in inputs])
        if self.config.attention[level]:
            block.attentions = nn.ModuleList([self._attention(place, level) for _ in inputs])
        if resample is not None:
            block.add_module(name, nn.ModuleList([resample]))
        return block

    def _check(self, z_t: Tensor, timestep: Tensor, context: Tensor) -> None:
        """Raises ValueError for what `forward` does not take."""
        check_latents(z_t=z_t)
        if z_t.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"this model's latents have {self.config.latent_channels} channels, z_t is {tuple(z_t.shape)}"
            )
        if not isinstance(timestep, Tensor) or timestep.ndim != 1 or timestep.is_floating_point():
            raise ValueError(
                f"timestep must be a tensor of whole numbers, counted from 0, got {timestep!r}: "
                "for the lecture's t write torch.tensor([t - 1])"
            )
        check_rows(z_t, "timesteps", len(timestep))
        if self.config.context_width is None:
            return
        check_context(context)
        if len(context) != len(z_t):
            raise ValueError(f"there are {len(z_t)} latents and {len(context)} prompts: give one for each")
        if context.shape[2] != self.config.context_width:
            raise ValueError(
                f"this model's tokens have {self.config.context_width} numbers, the context is {tuple(context.shape)}"
            )

    def forward(
        self,
        z_t: Float[Tensor, "b c h w"],
        timestep: Int[Tensor, " #b"],
        context: Float[Tensor, "b m e"],
        edit: AttentionEdit | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """The prediction for each latent of the batch: eps, or v where the schedule's config says so, as the shipped
        model's does. `Schedule.predict` makes eps and z_0 of either; `LatentDiffusion.predict` does all of it.

        Args:
            z_t: noisy latents.
            timestep: counted from 0, as the public weights were trained: the lecture's t less one. Either one per row,
                as in training, or a single one that all rows share.
            context: tau_theta(y), the prompt's tokens; ignored by a UNet without prompts.
            edit: called in place of plain attention in every attention layer; see `ldm.attention`.

        Raises:
            ValueError: something is of another kind or shape.
        """
        self._check(z_t, timestep, context)
        # A shared timestep is embedded once and broadcast: some BLAS round the equal rows of a short stack differently,
        # and equal rows of a batch would then give unequal results.
        time = self.time_embedding(timestep_embedding(timestep, self.config.widths[0]).to(z_t.dtype))
        x = self.conv_in(z_t)
        skips = [x]
        for block in self.down_blocks:
            for i, resnet in enumerate(block.resnets):
                x = resnet(x, time)
                if hasattr(block, "attentions"):
                    x = block.attentions[i](x, context, edit)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)

        if self.config.mid:
            x = self.mid_block.resnets[0](x, time)
            x = self.mid_block.attentions[0](x, context, edit)
            x = self.mid_block.resnets[1](x, time)

        for block in self.up_blocks:
            for i, resnet in enumerate(block.resnets):
                x = resnet(torch.cat([x, skips.pop()], dim=1), time)
                if hasattr(block, "attentions"):
                    x = block.attentions[i](x, context, edit)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, tuple(skips[-1].shape[-2:]))
        return self.conv_out(F.silu(self.conv_norm_out(x)))
