"""Where each of our parameters lies in a public file.

Our names are diffusers' of today, so a diffusers folder needs little: a prefix, and older names of attention. A CompVis
file numbers its blocks through, keeps the first stage's attention as convolutions and some queries, keys and values as
one matrix. Both layouts are rules that follow from a config; no list of keys is kept.
"""

import re
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from ldm.config import AutoencoderConfig, BertConfig, TextConfig, UNetConfig
from weights.build import PartConfig


def whole(tensor: Tensor) -> Tensor:
    return tensor


class Source(NamedTuple):
    """A tensor of a file, and how ours is picked out of it."""

    name: str
    pick: Callable[[Tensor], Tensor] = whole
    instead_of: str | None = None  # another of the file's, which is left over by right


Layout = dict[str, Source]  # our parameter's name -> where it lies

TURBO = "conditioner.embedders.0.model."  # the prompt model in sd-turbo's file, whose trainer was a later one
OPEN_CLIP = ("cond_stage_model.model.", TURBO)  # where the prompt model of SD 2 lies

# What files hold beyond a model's parameters, and why it is not read.
DROPPED = {
    r"(^|\.)position_ids$": "a buffer, 0 1 2 ...",
    r"^(betas|alphas_cumprod(_prev)?|sqrt_\w+|log_one_minus_\w+|posterior_\w+|lvlb_weights)$": "the schedule, computed",
    r"^denoiser\.sigmas$": "the same, in the file of sd-turbo",
    r"^(scale_factor|logvar)$": "the training's",
    r"(^|\.)loss\.": "the first stage's training losses",
    r"^model_ema\.": "the averaged UNet, where it was not asked for, and its counters",
    r"^cond_stage_model\.model\.(text_projection|logit_scale|attn_mask)$": "for comparing with pictures",
    r"^conditioner\.embedders\.0\.model\.(text_projection|logit_scale|attn_mask)$": "the same, in the file of sd-turbo",
    r"(^|\.)to_logits\.": "the prompt model's training head",
}


def is_dropped(name: str, text: TextConfig | BertConfig | None = None) -> bool:
    """Whether a tensor is left over by right; `text` is the prompt model's config."""
    # the prompt of SD 2 is what leaves the last layer but one, so its config has one layer less than its CompVis file
    unused = tuple(f"{prefix}transformer.resblocks.{text.layers}." for prefix in OPEN_CLIP) if text else ()
    return name.startswith(unused) or any(re.search(pattern, name) for pattern in DROPPED)


def in_diffusers(names: Collection[str], file: Collection[str]) -> Layout:
    """A part in a diffusers file: `names` as ours, with a prefix and older names of attention where the file has."""
    begins = lambda prefix, those: any(name.startswith(prefix) for name in those)
    wrappers = ("text_model.", "model.")
    prefix = next((p for p in wrappers if begins(p, file) and not begins(p, names)), "")
    old = any(re.search(r"attentions\.\d+\.query\.", name) for name in file)
    return {name: Source(prefix + (old_attention(name) if old else name)) for name in names}


def old_attention(name: str) -> str:
    """Attention without a transformer around it had other names until diffusers 0.15."""
    for ours, old in {"to_q": "query", "to_k": "key", "to_v": "value", r"to_out\.0": "proj_attn"}.items():
        name = re.sub(rf"(attentions\.\d+)\.{ours}\.", rf"\1.{old}.", name)
    return name


def in_compvis(
    part: str, config: PartConfig, names: Collection[str], file: Collection[str], ema: bool = True
) -> Layout:
    """A part in a CompVis file.

    Args:
        part: "unet", "autoencoder" or "text_encoder".
        config, names: of the part.
        file: the names that the file holds.
        ema: take the UNet's averaged weights where the file has them.
    """
    source = partial(SOURCES[type(config)], config=config)
    averages = part == "unet" and ema and any(name.startswith("model_ema.diffusion_model") for name in file)
    layout = {}
    for name in names:
        found = source(name)
        prefixes = PREFIXES[part]
        prefix = next((p for p in prefixes if p + found.name in file), prefixes[0])
        found = found._replace(name=prefix + found.name)
        if averages:  # all or none: a mixture would be neither
            averaged = "model_ema." + found.name.removeprefix("model.").replace(".", "")
            found = found._replace(name=averaged, instead_of=found.name)
        layout[name] = found
    return layout


PREFIXES = {
    "unet": ["model.diffusion_model."],
    "autoencoder": ["first_stage_model.", ""],  # without, in a first stage's own file
    "text_encoder": [
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.transformer.",  # as some merged files have it; and BERT
        *OPEN_CLIP,
    ],
}


def renamed(name: str, modules: dict[str, str]) -> str:
    """The name with its longest module that is in the table replaced."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:depth])
        if module in modules:
            return ".".join([modules[module], *parts[depth:]])
    return name


RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
QKV = ["to_q", "to_k", "to_v"]


@cache
def unet_modules(config: UNetConfig) -> dict[str, str]:
    """A block of the way down or up is a residual block, its attention and a change of resolution, as far as it has
    them: 0, 1, 2. Blocks are numbered through the levels."""
    table = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }

    def residual(ours: str, theirs: str) -> None:
        table.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in RESIDUAL.items()})

    def attention(ours: str, theirs: str) -> None:
        table[ours] = theirs
        table[f"{ours}.group_norm"] = f"{theirs}.norm"
        table[f"{ours}.to_out.0"] = f"{theirs}.proj_out"
        table.update({f"{ours}.{x}": f"{theirs}.qkv" for x in QKV})

    n, levels = config.layers + 1, len(config.widths)  # blocks of a level on the way up; one of the way down halves
    for i in range(levels):
        for j in range(config.layers):
            residual(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{n * i + j + 1}.0")
            attention(f"down_blocks.{i}.attentions.{j}", f"input_blocks.{n * i + j + 1}.1")
        table[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n * (i + 1)}.0.op"
        for j in range(n):
            residual(f"up_blocks.{i}.resnets.{j}", f"output_blocks.{n * i + j}.0")
            attention(f"up_blocks.{i}.attentions.{j}", f"output_blocks.{n * i + j}.1")
        after = 1 + config.attention[levels - 1 - i]
        table[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{n * (i + 1) - 1}.{after}.conv"
    for j in range(2):
        residual(f"mid_block.resnets.{j}", f"middle_block.{2 * j}")
    attention("mid_block.attentions.0", "middle_block.1")
    return table


def unet_source(name: str, config: UNetConfig) -> Source:
    theirs, leaf = renamed(name, unet_modules(config)), name.rsplit(".", 2)[-2]
    if ".qkv." in theirs:
        return Source(theirs, partial(per_head, which=QKV.index(leaf), heads=heads_of(name, config)))
    if config.context_width is None and theirs.endswith(".proj_out.weight"):
        return Source(theirs, as_matrix)
    return Source(theirs)


def heads_of(name: str, config: UNetConfig) -> int:
    """Of the attention that a parameter belongs to."""
    place, index, *_ = name.split(".")
    last = len(config.widths) - 1
    level = {"down_blocks": lambda: int(index), "mid_block": lambda: last, "up_blocks": lambda: last - int(index)}
    return config.heads_at(level[place]())


def per_head(tensor: Tensor, which: int, heads: int) -> Tensor:
    """Queries (0), keys (1) or values (2), out of rows that hold all three of a head before the next head's."""
    rows = rearrange(tensor, "(h three d) ... -> three (h d) ...", three=3, h=heads)[which]
    return rows if rows.dim() == 1 else as_matrix(rows)


def as_matrix(tensor: Tensor) -> Tensor:
    """A convolution over single positions is a matrix, and some files already have it as one."""
    return tensor.flatten(1)


@cache
def autoencoder_modules(config: AutoencoderConfig) -> dict[str, str]:
    """The decoder's levels are numbered from the last, the one that it runs last is 0."""
    table, levels = {}, len(config.widths)

    def residual(ours: str, theirs: str) -> None:
        table[ours] = theirs
        table[f"{ours}.conv_shortcut"] = f"{theirs}.nin_shortcut"

    def attention(ours: str, theirs: str) -> None:
        names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        table.update({f"{ours}.{a}": f"{theirs}.{b}" for a, b in names.items()})

    for side, down, layers in (("encoder", "down", config.layers), ("decoder", "up", config.layers + 1)):
        for i in range(levels):
            ours, theirs = f"{side}.{down}_blocks.{i}", f"{side}.{down}.{i if down == 'down' else levels - 1 - i}"
            for j in range(layers):
                residual(f"{ours}.resnets.{j}", f"{theirs}.block.{j}")
                attention(f"{ours}.attentions.{j}", f"{theirs}.attn.{j}")
            table[f"{ours}.{down}samplers.0"] = f"{theirs}.{down}sample"
        for j in range(2):
            residual(f"{side}.mid_block.resnets.{j}", f"{side}.mid.block_{j + 1}")
        attention(f"{side}.mid_block.attentions.0", f"{side}.mid.attn_1")
        table[f"{side}.conv_norm_out"] = f"{side}.norm_out"
    return table


def autoencoder_source(name: str, config: AutoencoderConfig) -> Source:
    theirs = renamed(name, autoencoder_modules(config))
    is_matrix = re.search(r"attentions\.\d+\.to_\w+(\.0)?\.weight$", name)
    return Source(theirs, as_matrix) if is_matrix else Source(theirs)


@cache
def open_clip_modules(config: TextConfig) -> dict[str, str]:
    table = {"embeddings.token_embedding": "token_embedding", "final_layer_norm": "ln_final"}
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for i in range(config.layers):
        table.update({f"encoder.layers.{i}.{a}": f"transformer.resblocks.{i}.{b}" for a, b in names.items()})
    return table


def clip_source(name: str, config: TextConfig) -> Source:
    """SD 1's prompt model is OpenAI's, whose names are ours; SD 2's is OpenCLIP's, which has the exact GELU."""
    if config.activation == "quick_gelu":
        return Source(name)
    if name == "embeddings.position_embedding.weight":
        return Source("positional_embedding")
    in_attention = re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", name)
    if in_attention:
        layer, which, leaf = in_attention.groups()
        return Source(f"transformer.resblocks.{layer}.attn.in_proj_{leaf}", partial(third, which="qkv".index(which)))
    return Source(renamed(name, open_clip_modules(config)))


def third(tensor: Tensor, which: int) -> Tensor:
    return tensor.chunk(3)[which]


@cache
def bert_modules(config: BertConfig) -> dict[str, str]:
    """Attention and feed-forward are numbered as layers of their own, each with its norm."""
    table = {"embed_tokens": "token_emb", "embed_positions": "pos_emb.emb", "layer_norm": "norm"}
    names = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
    for i in range(config.layers):
        first, second = f"attn_layers.layers.{2 * i}", f"attn_layers.layers.{2 * i + 1}"
        table.update({f"layers.{i}.self_attn.{a}": f"{first}.1.{b}" for a, b in names.items()})
        table[f"layers.{i}.self_attn_layer_norm"] = f"{first}.0"
        table[f"layers.{i}.final_layer_norm"] = f"{second}.0"
        table[f"layers.{i}.fc1"], table[f"layers.{i}.fc2"] = f"{second}.1.net.0.0", f"{second}.1.net.2"
    return table


def bert_source(name: str, config: BertConfig) -> Source:
    return Source(renamed(name, bert_modules(config)))


SOURCES: dict[type, Callable[..., Source]] = {
    UNetConfig: unet_source,
    AutoencoderConfig: autoencoder_source,
    TextConfig: clip_source,
    BertConfig: bert_source,
}
