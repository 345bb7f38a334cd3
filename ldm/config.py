"""Model configurations.

All models, from the small one included here to Stable Diffusion, use the same classes and differ only in their
`ModelConfig`: see `ldm.presets`. Configurations are frozen dataclasses and are stored as JSON.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic

from ldm.helpers.checks import check_fields
from ldm.helpers.limits import LARGEST, LONGEST, check_levels, check_sizes

STRICT = pydantic.ConfigDict(extra="forbid", strict=True)  # for configurations read from files


def _once(name: str, former: str) -> Any:
    """A field that files may also give by its former name."""
    return pydantic.Field(validation_alias=pydantic.AliasChoices(name, former))


Channels = Annotated[tuple[int, ...], _once("channels", "widths")]  # of each level's feature maps
BetaSchedule = Annotated[Literal["scaled_linear", "linear"], _once("beta_schedule", "betas")]


@dataclass(frozen=True)
class ScheduleConfig:
    """The noise schedule [D4], the UNet's prediction type [D12], and the timesteps that sampling visits.

    The last three fields concern sampling only: see `ldm.samplers.times`. Stable Diffusion 1 and 2 have leading
    spacing, an offset of 1, and end at 1.
    """

    __pydantic_config__ = STRICT

    T: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: BetaSchedule = "scaled_linear"  # sqrt(beta) is evenly spaced, or beta itself
    parameterisation: Literal["eps", "v"] = "eps"
    spacing: Literal["trailing", "leading"] = "trailing"  # trailing starts at T; leading ends at offset + 1
    offset: int = 0  # added to every timestep of leading spacing; diffusers' steps_offset
    last: Literal[0, 1] = 0  # the timestep at which sampling ends; 1 is diffusers' set_alpha_to_one = false

    def __post_init__(self):
        check_fields(self)
        if self.T > LONGEST:
            raise ValueError(f"a schedule has at most {LONGEST} steps, T is {self.T}")
        if self.T < 1 or not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                f"a schedule needs T >= 1 and 0 < beta_start <= beta_end < 1, "
                f"got {self.T}, {self.beta_start} and {self.beta_end}"
            )
        if self.spacing == "trailing" and self.offset:
            raise ValueError(f"trailing spacing has no offset, got {self.offset}: leave it out")
        if self.spacing == "leading" and not self.last <= self.offset < self.T:
            raise ValueError(
                f"with leading spacing the last step begins at t = offset + 1 and ends at {self.last}: "
                f"the offset must lie in {self.last}..{self.T - 1}, got {self.offset}"
            )


@dataclass(frozen=True)
class AutoencoderConfig:
    """Encoder and decoder: one level per number of channels; every level except the last halves the resolution."""

    __pydantic_config__ = STRICT

    channels: Channels = (128, 256, 512, 512)
    layers: int = 2  # residual blocks per encoder level; the decoder has one more
    latent_channels: int = 4
    groups: int = 32
    scale: float = 0.18215  # z_0 = scale * (encoder output), so that z_0 has about unit variance
    codebook: int | None = None  # number of entries [B3]; None for the KL bottleneck [B2]
    attention: tuple[int, ...] = ()  # levels with self-attention, from 0; the middle always has it

    def __post_init__(self):
        check_fields(self)
        if self.codebook is not None and self.codebook < 1:
            raise ValueError(f"a codebook cannot have {self.codebook} entries: give at least 1, or None for KL")
        check_sizes(self, "attention")
        check_levels(self.channels, self.groups)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"latents cannot be scaled by {self.scale}: a scale is positive and finite")
        if not all(0 <= level < len(self.channels) for level in self.attention):
            raise ValueError(f"attention names levels {self.attention}, channels are those of {len(self.channels)}")

    @property
    def factor(self) -> int:
        """Pixels per latent position, along one side."""
        return 2 ** (len(self.channels) - 1)

    @property
    def encoder_channels(self) -> int:
        """Channels of the encoder's output: the latent's [B3], or a mean and a log-variance for each of them [B2]."""
        return self.latent_channels if self.codebook else 2 * self.latent_channels

    @property
    def compression(self) -> float:
        """[B1] Values in an image, three per pixel, per value in its latent."""
        return 3 * self.factor**2 / self.latent_channels

    @property
    def bits(self) -> float:
        """Bits per latent position: an entry's index [B3], or values in half precision [B2]."""
        return math.log2(self.codebook) if self.codebook else 16.0 * self.latent_channels


@dataclass(frozen=True)
class UNetConfig:
    """The noise predictor. Set exactly one of `heads` (per level) and `head_size`."""

    __pydantic_config__ = STRICT

    channels: Channels = (320, 640, 1280, 1280)
    layers: int = 2  # residual blocks per level on the way down; one more on the way up
    attention: tuple[bool, ...] = (True, True, True, False)  # per level
    heads: tuple[int, ...] | None = (8, 8, 8, 8)
    head_size: int | None = None
    context_width: int | None = 768  # e; None for a model without prompts, whose attention is all self-attention
    latent_channels: int = 4
    condition_channels: int = 0  # of an image that is concatenated to z_t, as in super-resolution; 0 for none
    linear_projection: bool = False  # project into and out of spatial transformers by Linear instead of 1x1 convolution
    groups: int = 32
    mid: bool = True  # has a middle block

    def __post_init__(self):
        check_fields(self)
        if len(self.attention) != len(self.channels):
            raise ValueError(f"attention names {len(self.attention)} levels, channels {len(self.channels)}")
        if (self.heads is None) == (not self.head_size):
            raise ValueError("give exactly one of heads (a number per level) and head_size")
        if self.heads is not None and len(self.heads) != len(self.channels):
            raise ValueError(f"heads names {len(self.heads)} levels, channels {len(self.channels)}")
        check_sizes(self, "condition_channels")
        if not 0 <= self.condition_channels <= LARGEST:
            raise ValueError(f"condition_channels must lie in 0..{LARGEST}, got {self.condition_channels}")
        check_levels(self.channels, self.groups)
        if self.channels[0] % 2:
            raise ValueError(
                f"the first level needs an even number of channels, for sines and cosines of t: {self.channels}"
            )
        attends = *self.attention[:-1], self.attention[-1] or self.mid  # the middle is as wide as the last level
        for level in (i for i, has in enumerate(attends) if has):
            if self.channels[level] % (self.heads[level] if self.heads else self.head_size):
                by = f"{self.heads[level]} heads" if self.heads else f"heads of {self.head_size}"
                raise ValueError(f"a level of {self.channels[level]} channels cannot have {by}")

    def heads_at(self, level: int) -> int:
        """The number of attention heads at a level."""
        return self.heads[level] if self.heads else self.channels[level] // self.head_size


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
        check_fields(self)
        check_sizes(self)
        if self.width % self.heads:
            raise ValueError(f"a text encoder of width {self.width} cannot have {self.heads} heads")


@dataclass(frozen=True)
class BertConfig:
    """The prompt model tau_theta [C9] of the latent diffusion paper, and its tokenizer's special tokens."""

    __pydantic_config__ = STRICT

    vocabulary: int = 30522
    width: int = 1280
    layers: int = 32
    heads: int = 8
    head_size: int = 64  # heads * head_size need not be the width
    hidden: int = 5120  # width inside the feed-forward
    length: int = 77  # m, the fixed number of tokens
    bos: str = "[CLS]"
    eos: str = "[SEP]"
    pad: str = "[PAD]"

    def __post_init__(self):
        check_fields(self)
        check_sizes(self)


@dataclass(frozen=True)
class ClassConfig:
    """The prompt model tau_theta [C9] where y is a class: a table with `length` rows for each class, and as many for no
    class."""

    __pydantic_config__ = STRICT

    classes: int
    width: int
    length: int = 1  # m, the number of tokens of a class

    def __post_init__(self):
        check_fields(self)
        check_sizes(self)


@dataclass(frozen=True)
class VisionConfig:
    """CLIP's image tower, a transformer over the square patches of a square image."""

    __pydantic_config__ = STRICT

    image_size: int = 224
    patch: int = 14  # a patch's side, in pixels
    width: int = 1024
    layers: int = 24
    heads: int = 16
    hidden: int = 4096  # width inside the feed-forward
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"

    def __post_init__(self):
        check_fields(self)
        check_sizes(self)
        if self.image_size % self.patch:
            raise ValueError(f"{self.image_size} pixels cannot be cut into patches of {self.patch}")
        if self.width % self.heads:
            raise ValueError(f"an image tower of width {self.width} cannot have {self.heads} heads")

    @property
    def positions(self) -> int:
        """The number of patches, plus one for the class token."""
        return (self.image_size // self.patch) ** 2 + 1


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers of a CLIP model, and the width of their common embedding space."""

    __pydantic_config__ = STRICT

    text: TextConfig
    vision: VisionConfig
    embedding: int

    def __post_init__(self):
        check_fields(self)
        check_sizes(self)


@dataclass(frozen=True)
class ModelConfig:
    """A whole latent diffusion model."""

    __pydantic_config__ = STRICT

    name: str
    image_size: int
    schedule: ScheduleConfig
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    text: TextConfig | BertConfig | ClassConfig | None  # None for a model without prompts

    def __post_init__(self):
        check_fields(self)
        check_sizes(self)
        if self.image_size % self.autoencoder.factor:
            raise ValueError(
                f"an image size of {self.image_size} pixels is not a multiple of the autoencoder's factor "
                f"{self.autoencoder.factor}"
            )
        if self.autoencoder.latent_channels != self.unet.latent_channels:
            raise ValueError(
                f"the autoencoder's latents have {self.autoencoder.latent_channels} channels, "
                f"the UNet's {self.unet.latent_channels}"
            )
        if (self.text and self.text.width) != self.unet.context_width:
            raise ValueError(
                f"the UNet attends to tokens of width {self.unet.context_width}, "
                f"the prompt model makes {self.text.width if self.text else 'none'}"
            )

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ModelConfig":
        """Parse the JSON that `to_json` returns.

        Raises:
            ValueError: not JSON; an unknown or missing field, or one of the wrong type; or inconsistent values.
        """
        return pydantic.TypeAdapter(cls).validate_json(text)
