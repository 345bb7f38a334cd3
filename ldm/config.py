"""The numbers that tell one latent diffusion model from another.

Every model here, the tiny one that ships and Stable Diffusion alike, is the same set of classes; a model is one
`ModelConfig`. Configurations are plain frozen dataclasses and travel as JSON.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Literal

import pydantic

STRICT = pydantic.ConfigDict(extra="forbid", strict=True)  # how configurations are read from files


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule [D4] and what the UNet predicts [D12]."""

    __pydantic_config__ = STRICT

    T: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    parameterisation: Literal["eps", "v"] = "eps"


@dataclass(frozen=True)
class AutoencoderConfig:
    """Encoder and decoder: one level per width, each level but the last halving the picture's side."""

    __pydantic_config__ = STRICT

    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2  # residual blocks per encoder level; the decoder has one more
    latent_channels: int = 4
    groups: int = 32
    scale: float = 0.18215  # z_0 = scale * (encoder output), so that z_0 has about unit variance
    codebook: int | None = None  # its number of entries [B3]; None for the KL bottleneck [B2]

    def __post_init__(self):
        if self.codebook is not None and self.codebook < 1:
            raise ValueError(f"a codebook cannot have {self.codebook} entries: give at least 1, or None for KL")

    @property
    def factor(self) -> int:
        """Pixels per latent position, along one side."""
        return 2 ** (len(self.widths) - 1)

    @property
    def encoder_channels(self) -> int:
        """Numbers per position that leave the encoder: the latent's [B3], or a mean and a log-variance of each [B2]."""
        return self.latent_channels if self.codebook else 2 * self.latent_channels

    @property
    def compression(self) -> float:
        """[B1] Numbers of a picture, three a pixel, per number of its latent."""
        return 3 * self.factor**2 / self.latent_channels

    @property
    def bits(self) -> float:
        """Bits to store a latent position in: an entry's index [B3], or numbers in half precision [B2]."""
        return math.log2(self.codebook) if self.codebook else 16.0 * self.latent_channels


@dataclass(frozen=True)
class UNetConfig:
    """The noise predictor. Exactly one of `heads` (per level) and `head_size` is given."""

    __pydantic_config__ = STRICT

    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2  # residual blocks per level on the way down; one more on the way up
    attention: tuple[bool, ...] = (True, True, True, False)  # which levels have spatial transformers
    heads: tuple[int, ...] | None = (8, 8, 8, 8)
    head_size: int | None = None
    context_width: int = 768
    latent_channels: int = 4
    linear_projection: bool = False  # spatial transformer enters and leaves by Linear rather than 1x1 convolution
    groups: int = 32

    def __post_init__(self):
        if len(self.attention) != len(self.widths):
            raise ValueError(f"attention names {len(self.attention)} levels, widths {len(self.widths)}")
        if (self.heads is None) == (not self.head_size):
            raise ValueError("give either heads (a number per level) or head_size, not both and not neither")
        if self.heads is not None and len(self.heads) != len(self.widths):
            raise ValueError(f"heads names {len(self.heads)} levels, widths {len(self.widths)}")

    def heads_at(self, level: int) -> int:
        """Number of attention heads at a level."""
        return self.heads[level] if self.heads else self.widths[level] // self.head_size


@dataclass(frozen=True)
class TextConfig:
    """The prompt model tau_theta [C9], a CLIP text transformer, and its tokenizer's special tokens."""

    __pydantic_config__ = STRICT

    vocabulary: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072  # width inside the feed-forward
    length: int = 77  # m, the fixed number of tokens
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    bos: str = "<|startoftext|>"
    eos: str = "<|endoftext|>"
    pad: str = "<|endoftext|>"

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"a text encoder of width {self.width} cannot have {self.heads} heads")


@dataclass(frozen=True)
class ModelConfig:
    """A whole latent diffusion model."""

    __pydantic_config__ = STRICT

    name: str
    image_size: int
    schedule: ScheduleConfig
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    text: TextConfig

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelConfig":
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON; a field unknown, missing or of the wrong kind; or numbers that do not fit together.
        """
        return pydantic.TypeAdapter(cls).validate_json(text)


PRESETS = {
    "stickers": ModelConfig(
        name="stickers",
        image_size=128,
        # v: on 16x16 latents the prompt decides at noise levels where the loss in eps is a hundredth and teaches little
        schedule=ScheduleConfig(parameterisation="v"),
        autoencoder=AutoencoderConfig(widths=(16, 48, 96, 128), layers=1, latent_channels=8, groups=8, scale=1.0),
        unet=UNetConfig(
            widths=(64, 128, 192),
            layers=1,
            attention=(True, True, True),
            heads=None,
            head_size=32,
            context_width=160,
            latent_channels=8,
            groups=16,
        ),
        text=TextConfig(vocabulary=723, width=160, layers=3, heads=5, hidden=640, length=32),
    ),
    "sd15": ModelConfig(
        name="sd15",
        image_size=512,
        schedule=ScheduleConfig(),
        autoencoder=AutoencoderConfig(),
        unet=UNetConfig(),
        text=TextConfig(),
    ),
}
