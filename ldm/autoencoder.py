"""The first stage [B1]: an encoder to a small latent, a decoder back, and a Gaussian [B2] or a codebook [B3] between.

Latents outside this file are always scaled: `encode` multiplies by `config.scale`, `decode` divides, and nothing else
in the project knows of the scale. Parameter names are those of the public checkpoint files.
"""

from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.attention import SelfAttentionBlock
from ldm.checks import check_latents
from ldm.config import AutoencoderConfig
from ldm.quantize import Codebook

EPS = 1e-6  # of every GroupNorm in the first stage (the UNet's differ)
BYTES_FROM = 16  # numbers above this are bytes that nobody scaled; noise in a picture's place stays below


class Gaussian(NamedTuple):
    """[B2] q(z given x) = N(mean, diag(exp(log_var)))."""

    mean: Float[Tensor, "b c h w"]
    log_var: Float[Tensor, "b c h w"]

    def sample(self, eps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """mean + sigma * eps, for eps ~ N(0, I)."""
        check_latents(mean=self.mean, eps=eps)
        return self.mean + (0.5 * self.log_var).exp() * eps

    def kl(self) -> Float[Tensor, "b c h w"]:
        """[B2] KL(q || N(0, 1)) of each latent number, in nats."""
        return 0.5 * (self.mean**2 + self.log_var.exp() - 1 - self.log_var)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice; added to the input."""

    def __init__(self, width_in: int, width_out: int, groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, width_in, eps=EPS)
        self.conv1 = nn.Conv2d(width_in, width_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(groups, width_out, eps=EPS)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        if width_in != width_out:
            self.conv_shortcut = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class Downsample(nn.Module):
    """Halves the side. The padding is to the right and below only, as the public weights were trained."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the side: nearest neighbour, then a convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """Residual blocks at one resolution, some levels with attention after each; then a change of resolution, except
    at the last level."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        layers: int,
        groups: int,
        attention: bool,
        resample: tuple[str, nn.Module] | None,
    ):
        super().__init__()
        widths = [width_in] + [width_out] * layers
        self.resnets = nn.ModuleList(ResidualBlock(i, o, groups) for i, o in pairwise(widths))
        if attention:
            self.attentions = nn.ModuleList(SelfAttentionBlock(width_out, 1, groups, EPS) for _ in range(layers))
        self.resample = None
        if resample:
            name, module = resample  # the public files call it downsamplers.0 or upsamplers.0
            self.resample = name
            self.add_module(name, nn.Sequential(module))

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h2 w2"]:
        for i, block in enumerate(self.resnets):
            x = block(x)
            if hasattr(self, "attentions"):
                x = self.attentions[i](x)
        return getattr(self, self.resample)(x) if self.resample else x


class Mid(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(width, width, groups) for _ in range(2))
        self.attentions = nn.ModuleList([SelfAttentionBlock(width, 1, groups, EPS)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    """Picture to the latent's c channels [B3], or to the 2c of the Gaussian's mean and log-variance [B2]."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths, groups = config.widths, config.groups
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            down = ("downsamplers", Downsample(width)) if i + 1 < len(widths) else None
            attention = i in config.attention
            self.down_blocks.append(Level(widths[max(i - 1, 0)], width, config.layers, groups, attention, down))
        self.mid_block = Mid(widths[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], config.encoder_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b k h w"]:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latent to picture: the encoder's levels in reverse, each with one more residual block."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        widths, groups = config.widths[::-1], config.groups
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.mid_block = Mid(widths[0], groups)
        self.up_blocks = nn.ModuleList()
        for i, width in enumerate(widths):
            up = ("upsamplers", Upsample(width)) if i + 1 < len(widths) else None
            attention = len(widths) - 1 - i in config.attention  # levels are counted as in the encoder
            self.up_blocks.append(Level(widths[max(i - 1, 0)], width, config.layers + 1, groups, attention, up))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], eps=EPS)
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """[B1] Encoder and decoder with one of two bottlenecks: KL [B2], or a codebook [B3] where the config has one."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        k, c = config.encoder_channels, config.latent_channels
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = nn.Conv2d(k, k, 1)
        self.post_quant_conv = nn.Conv2d(c, c, 1)
        if config.codebook:
            self.quantize = Codebook(config.codebook, c)

    def posterior(self, x: Float[Tensor, "b 3 H W"]) -> Gaussian:
        """[B2] The Gaussian of a picture's unscaled latent. Pictures are in [-1, 1].

        Raises:
            ValueError: the bottleneck is a codebook.
        """
        if self.config.codebook:
            raise ValueError("an autoencoder with a codebook has no Gaussian to sample from: encode without eps")
        mean, log_var = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return Gaussian(mean, log_var.clamp(-30, 20))

    def latent(
        self, x: Float[Tensor, "b 3 H W"], eps: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The unscaled latent of a picture in [-1, 1], not yet quantised [B3], or the Gaussian's mean or sample [B2].

        Raises:
            ValueError: eps is given and the bottleneck is a codebook.
        """
        if self.config.codebook and eps is None:
            return self.quant_conv(self.encoder(x))
        q = self.posterior(x)
        return q.mean if eps is None else q.sample(eps)

    def reconstruct(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """The picture of an unscaled latent, which a codebook quantises first [B3]."""
        if self.config.codebook:
            z = self.quantize(z)
        return self.decoder(self.post_quant_conv(z))

    def encode(
        self, x: Float[Tensor, "b 3 H W"], eps: Float[Tensor, "b c h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """z_0 of a picture in [-1, 1]: the Gaussian's mean, or the sample that eps ~ N(0, I) picks; scaled.

        With a codebook, the encoder's output; it is `decode` that quantises [B3].

        Raises:
            ValueError: the picture is not (b, 3, H, W) in about [-1, 1], its sides are not multiples of the compression
                factor, or eps is given and the bottleneck is a codebook.
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(
                f"x must be pictures in [-1, 1], (b, 3, H, W), got {x.dtype} of the shape {tuple(x.shape)}: "
                "ldm.pictures.to_tensor makes them of bytes (b, H, W, 3)"
            )
        if (largest := x.abs().amax()) > BYTES_FROM:
            raise ValueError(
                f"x must be pictures in [-1, 1], its numbers go up to {largest:g}: "
                "for bytes write ldm.pictures.to_tensor(pictures), or x / 127.5 - 1"
            )
        if x.shape[-1] % self.config.factor or x.shape[-2] % self.config.factor:
            raise ValueError(
                f"picture is {x.shape[-1]}x{x.shape[-2]}; both sides must be multiples of {self.config.factor}"
            )
        return self.config.scale * self.latent(x, eps)

    def decode(self, z_0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Picture of a scaled latent, about in [-1, 1].

        Raises:
            ValueError: z_0 is not (b, c, h, w), with as many channels as the config says.
        """
        check_latents(z_0=z_0)
        if z_0.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"this model's latents have {self.config.latent_channels} channels, z_0 is {tuple(z_0.shape)}"
            )
        return self.reconstruct(z_0 / self.config.scale)
