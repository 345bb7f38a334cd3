"""The first stage [B1]: an encoder, a bottleneck (Gaussian [B2] or codebook [B3]) and a decoder.

Latents outside this file are always scaled: `encode` multiplies by `config.scale` and `decode` divides by it; no other
code uses the scale. Parameter names are those of the public checkpoint files.
"""

from collections.abc import Iterator
from itertools import chain, pairwise, zip_longest
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.attention import SelfAttentionBlock
from ldm.blocks import Downsample, ResidualBlock, Upsample
from ldm.config import AutoencoderConfig
from ldm.helpers.checks import check_latents
from ldm.quantize import Codebook
from ldm.shapes import Latent

EPS = 1e-6  # of every GroupNorm in the first stage (the UNet's differ)
BYTES_FROM = 16  # larger values are unscaled bytes; noise passed as an image stays below


class Gaussian(NamedTuple):
    """[B2] q(z given x) = N(mean, diag(exp(log_var)))."""

    mean: Latent
    log_var: Latent

    def sample(self, eps: Latent) -> Latent:
        """mean + sigma * eps, for eps ~ N(0, I)."""
        check_latents(mean=self.mean, eps=eps)
        return self.mean + (0.5 * self.log_var).exp() * eps

    def kl(self) -> Latent:
        """[B2] KL(q || N(0, 1)) of each latent value, in nats."""
        return 0.5 * (self.mean**2 + self.log_var.exp() - 1 - self.log_var)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention if the level has it.

    A level is run layer by layer, by encoder and decoder: a call of the level would keep its input in memory until its
    end, and at the decoder's last level that is the largest tensor of the model.
    """

    def __init__(self, channels_in: int, channels_out: int, layers: int, groups: int, attention: bool):
        super().__init__()
        channels = [channels_in] + [channels_out] * layers
        self.resnets = nn.ModuleList(ResidualBlock(i, o, groups, EPS) for i, o in pairwise(channels))
        attentions = layers if attention else 0
        self.attentions = nn.ModuleList(SelfAttentionBlock(channels_out, 1, groups, EPS) for _ in range(attentions))

    def layers(self) -> Iterator[nn.Module]:
        """In the order in which they are applied."""
        for block, attention in zip_longest(self.resnets, self.attentions):
            yield block
            if attention:
                yield attention


class DownLevel(Level):
    """A level of the encoder; downsamples at its end, except the last level."""

    def __init__(self, *level, down: bool):
        super().__init__(*level)
        channels = level[1]
        self.downsamplers = nn.ModuleList([Downsample(channels, all_sides=False)] if down else [])

    def layers(self) -> Iterator[nn.Module]:
        yield from (*super().layers(), *self.downsamplers)


class UpLevel(Level):
    """A level of the decoder; upsamples at its end, except the last level."""

    def __init__(self, *level, up: bool):
        super().__init__(*level)
        channels = level[1]
        self.upsamplers = nn.ModuleList([Upsample(channels)] if up else [])

    def layers(self) -> Iterator[nn.Module]:
        yield from (*super().layers(), *self.upsamplers)


class Mid(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, groups, EPS) for _ in range(2))
        self.attentions = nn.ModuleList([SelfAttentionBlock(channels, 1, groups, EPS)])

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    """Maps an image to the c channels of the latent [B3], or to the 2c of the Gaussian's mean and log-variance [B2]."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        channels, groups = config.channels, config.groups
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for i, c in enumerate(channels):
            level = channels[max(i - 1, 0)], c, config.layers, groups, i in config.attention
            self.down_blocks.append(DownLevel(*level, down=i + 1 < len(channels)))
        self.mid_block = Mid(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], config.encoder_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b k h w"]:
        x = self.conv_in(x)
        for layer in chain.from_iterable(level.layers() for level in self.down_blocks):
            x = layer(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x)), inplace=True))


class Decoder(nn.Module):
    """Maps a latent to an image: the encoder's levels in reverse, each with one more residual block."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        channels, groups = config.channels[::-1], config.groups
        self.conv_in = nn.Conv2d(config.latent_channels, channels[0], 3, padding=1)
        self.mid_block = Mid(channels[0], groups)
        self.up_blocks = nn.ModuleList()
        for i, c in enumerate(channels):
            attention = len(channels) - 1 - i in config.attention  # levels are counted as in the encoder
            level = channels[max(i - 1, 0)], c, config.layers + 1, groups, attention
            self.up_blocks.append(UpLevel(*level, up=i + 1 < len(channels)))
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, z: Latent) -> Float[Tensor, "b 3 H W"]:
        x = self.mid_block(self.conv_in(z))
        for layer in chain.from_iterable(level.layers() for level in self.up_blocks):
            x = layer(x)
        return self.conv_out(F.silu(self.conv_norm_out(x), inplace=True))


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
        """[B2] The Gaussian of the unscaled latent of an image in [-1, 1].

        Raises:
            ValueError: the bottleneck is a codebook.
        """
        if self.config.codebook:
            raise ValueError("an autoencoder with a codebook has no Gaussian to sample from: encode without eps")
        mean, log_var = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return Gaussian(mean, log_var.clamp(-30, 20))

    def latent(self, x: Float[Tensor, "b 3 H W"], eps: Latent | None = None) -> Latent:
        """The unscaled latent of an image in [-1, 1]: before quantisation [B3], or the Gaussian's mean or sample [B2].

        Raises:
            ValueError: eps is given and the bottleneck is a codebook.
        """
        if self.config.codebook and eps is None:
            return self.quant_conv(self.encoder(x))
        q = self.posterior(x)
        return q.mean if eps is None else q.sample(eps)

    def reconstruct(self, z: Latent) -> Float[Tensor, "b 3 H W"]:
        """Decode an unscaled latent, quantised first if there is a codebook [B3]."""
        if self.config.codebook:
            z = self.quantize(z)
        return self.decoder(self.post_quant_conv(z))

    def encode(self, x: Float[Tensor, "b 3 H W"], eps: Latent | None = None) -> Latent:
        """Encode an image in [-1, 1] to z_0: the Gaussian's mean, or its sample for eps ~ N(0, I); scaled.

        With a codebook, z_0 is the encoder's output; `decode` quantises [B3].

        Raises:
            ValueError: the image is not (b, 3, H, W) in about [-1, 1], its sides are not multiples of the compression
                factor, or eps is given and the bottleneck is a codebook.
        """
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(
                f"x must be images in [-1, 1], (b, 3, H, W), got {x.dtype} of shape {tuple(x.shape)}: "
                "ldm.helpers.images.to_tensor converts bytes (b, H, W, 3)"
            )
        if (largest := x.abs().amax()) > BYTES_FROM:
            raise ValueError(
                f"x must be images in [-1, 1], got values up to {largest:g}: "
                "for bytes write ldm.helpers.images.to_tensor(images), or x / 127.5 - 1"
            )
        if x.shape[-1] % self.config.factor or x.shape[-2] % self.config.factor:
            raise ValueError(
                f"image is {x.shape[-1]}x{x.shape[-2]}; both sides must be multiples of {self.config.factor}"
            )
        return self.config.scale * self.latent(x, eps)

    def decode(self, z_0: Latent) -> Float[Tensor, "b 3 H W"]:
        """Decode a scaled latent to an image in about [-1, 1].

        Raises:
            ValueError: z_0 is not (b, c, h, w), or its number of channels is not the config's.
        """
        check_latents(z_0=z_0)
        if z_0.shape[1] != self.config.latent_channels:
            raise ValueError(
                f"this model's latents have {self.config.latent_channels} channels, z_0 is {tuple(z_0.shape)}"
            )
        return self.reconstruct(z_0 / self.config.scale)
