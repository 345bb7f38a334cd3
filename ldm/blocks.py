"""Convolutional blocks of the first stage and the UNet.

Parameter names are those of the public checkpoint files; an `nn.Identity` has no parameters, and no name there.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice, plus the input. With `time_width`, the time embedding is added in between."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, eps: float, time_width: int | None = None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        if time_width is not None:
            self.time_emb_proj = nn.Linear(time_width, channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=eps)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(
        self, x: Float[Tensor, "b i h w"], time: Float[Tensor, "#b d"] | None = None
    ) -> Float[Tensor, "b o h w"]:
        y = self.conv1(F.silu(self.norm1(x), inplace=True))
        if time is not None:
            y = y + self.time_emb_proj(F.silu(time))[:, :, None, None]
        # in place, and under one name: a decoder's last block, of its largest tensors, holds two fewer
        y = self.conv2(F.silu(self.norm2(y), inplace=True))
        y += self.conv_shortcut(x)
        return y


class Downsample(nn.Module):
    """Halves the resolution by a strided convolution.

    The public UNets were trained with padding on all sides, the first stages with padding to the right and below only.
    """

    def __init__(self, channels: int, all_sides: bool):
        super().__init__()
        self.all_sides = all_sides
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if all_sides else 0)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(x if self.all_sides else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Resizes by nearest neighbour, to twice the size or to a given one, then convolves."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None = None) -> Float[Tensor, "b c h2 w2"]:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"))
