"""The model of a contest in both libraries, with the same weights, and the inputs of one step of an edit.

Random weights are drawn once, into a file that every contestant's process maps, so that many processes share one copy.
The file holds convolutions channels-last, as our models and most contestants want them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig, UNetConfig
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from ldm.shapes import Latent
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet
from weights.load import SHIPPED, load

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

Layout = Literal["contiguous", "channels-last"]


@dataclass(frozen=True)
class Setting:
    """What is measured, as a process is told it.

    Args:
        name: of the contestant, or of another measurement.
        model: a preset: the included one, or one with random weights.
        side: positions a side of the latents.
        weights: the file of random weights.
        dtype, device: of the network's computation.
        steps: of a whole edit.
        sizes: sides of latents to measure the growth over.
    """

    name: str
    model: str
    side: int
    weights: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    steps: int = 30
    sizes: tuple[int, ...] = ()

    @property
    def config(self) -> ModelConfig:
        return PRESETS[self.model]

    @property
    def precision(self) -> torch.dtype:
        return getattr(torch, self.dtype)


class Inputs(NamedTuple):
    """Of one step: the source's row, then the targets'. Only the networks compute in the setting's dtype."""

    z_t: Latent
    context: Float[Tensor, "b m e"]
    empty: Float[Tensor, "1 m e"]


def inputs(setting: Setting, rows: int = 2, side: int | None = None) -> Inputs:
    """Random inputs, the same for every contestant. The latents differ, as they do after the first step."""
    generator, config = torch.Generator().manual_seed(0), setting.config
    side = side or setting.side
    draw = lambda *shape: torch.randn(shape, generator=generator)
    z_t = draw(rows, config.unet.latent_channels, side, side)
    empty, context = draw(rows + 1, config.text.length, config.unet.context_width).split((1, rows))
    move = lambda x: x.to(setting.device, setting.precision)
    return Inputs(z_t.to(setting.device), move(context), move(empty))


def draw_weights(config: UNetConfig, file: Path, dtype: torch.dtype) -> None:
    """Write random weights of a UNet, small enough that nothing overflows."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in UNet(config).named_parameters()}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensor *= shape[1:].numel() ** -0.5
        else:
            tensor = 0.1 * tensor + name.endswith("weight")  # the scales of norms are near 1
        stored = tensor.permute(0, 2, 3, 1) if len(shape) == 4 else tensor  # a file holds no strides
        tensors[name] = stored.to(dtype).contiguous()
    save_file(tensors, file)


def weights_of(setting: Setting) -> dict[str, Tensor]:
    """The drawn weights, mapped from their file and read once, so that they are resident."""
    stored = load_file(setting.weights, setting.device)
    tensors = {name: x.permute(0, 3, 1, 2) if x.ndim == 4 else x for name, x in stored.items()}
    for tensor in tensors.values():
        tensor.sum()
    return tensors


def filled(make: type[nn.Module], tensors: dict[str, Tensor], **config) -> nn.Module:
    """A network with these weights themselves, not copies; the names are the same in both libraries."""
    with torch.device("meta"):
        network = make(**config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def around(unet: UNet, config: ModelConfig) -> LatentDiffusion:
    """A model of a UNet alone, for inputs that take the place of latents and encoded prompts.

    Edits need tokens, whose number is the model's own, and whose ids are never read: they are the included model's.
    """
    text = replace(PRESETS["stickers"].text, length=config.text.length)
    tokenizer = CLIPTokenizer.from_file(SHIPPED["stickers"] / "tokenizer.json", text)
    with torch.device("meta"):  # nothing is decoded
        autoencoder = Autoencoder(config.autoencoder)
    return LatentDiffusion(config, tokenizer, None, unet, autoencoder)


def ours(setting: Setting) -> LatentDiffusion:
    """Our model."""
    if setting.model in SHIPPED:
        return load(setting.model, setting.device, setting.dtype)
    return around(filled(UNet, weights_of(setting), config=setting.config.unet), setting.config)


def without_weights(setting: Setting) -> LatentDiffusion:
    """Our model, to compile edits with."""
    with torch.device("meta"):
        return around(UNet(setting.config.unet), setting.config)


def theirs(setting: Setting, layout: Layout) -> "UNet2DConditionModel":
    """The same UNet in diffusers."""
    c = setting.config.unet
    if setting.model in SHIPPED:
        tensors = load(setting.model, setting.device, setting.dtype).unet.state_dict()  # channels-last, as ours are
    else:
        tensors = weights_of(setting)
    if layout == "contiguous":
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return diffusers_unet(c, tensors, tuple(map(c.heads_at, range(len(c.channels)))))


def diffusers_unet(c: UNetConfig, tensors: dict[str, Tensor], heads: tuple[int, ...]) -> "UNet2DConditionModel":
    """A UNet of diffusers with these weights, and this number of heads at each level."""
    from diffusers import UNet2DConditionModel

    return filled(
        UNet2DConditionModel,
        tensors,
        in_channels=c.latent_channels,
        out_channels=c.latent_channels,
        block_out_channels=c.channels,
        layers_per_block=c.layers,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in c.attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(c.attention)),
        attention_head_dim=heads,  # diffusers' name for the number of heads; see its issue 2011
        cross_attention_dim=c.context_width,
        use_linear_projection=c.linear_projection,
        norm_num_groups=c.groups,
    )
