"""Key maps: the name of each of our parameters in a public file.

Our names are those of current diffusers, so a diffusers folder needs little: a prefix, and older names of attention. A
CompVis file numbers its blocks consecutively, stores the first stage's attention as convolutions, and some queries,
keys and values as one matrix. Both layouts are computed from the config; there is no list of keys.
"""

import re
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from ldm.config import AutoencoderConfig, BertConfig, ClassConfig, TextConfig, UNetConfig
from weights.build import PartConfig


def whole(tensor: Tensor) -> Tensor:
    return tensor


class Source(NamedTuple):
    """A tensor of a file, and how to pick our parameter out of it."""

    name: str
    pick: Callable[[Tensor], Tensor] = whole
    instead_of: str | None = None  # another name in the file, which may be ignored


Layout = dict[str, Source]  # our parameter's name -> its source

TURBO = "conditioner.embedders.0.model."  # the text encoder in sd-turbo's file, written by a later trainer
OPEN_CLIP = ("cond_stage_model.model.", TURBO)  # the text encoder of SD 2

# Tensors in files that are not parameters of the model, and why they are ignored.
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


def is_dropped(name: str, text: TextConfig | BertConfig | ClassConfig | None = None) -> bool:
    """True if a tensor may be ignored; `text` is the text encoder's config."""
    if isinstance(text, TextConfig):
        # SD 2 uses the output of the last layer but one, so its config has one layer less than its CompVis file
        unused = tuple(f"{prefix}transformer.resblocks.{text.layers}." for prefix in OPEN_CLIP)
    else:  # of our models with a table of classes, the text encoder is another file's
        unused = ("text_encoder.",) if isinstance(text, ClassConfig) else ()
    return name.startswith(unused) or any(re.search(pattern, name) for pattern in DROPPED)


def in_diffusers(names: Collection[str], file: Collection[str]) -> Layout:
    """Map a part's `names` to a diffusers file: with a prefix and older names of attention if the file has them."""
    begins = lambda prefix, those: any(name.startswith(prefix) for name in those)
    wrappers = ("text_model.", "model.")
    prefix = next((p for p in wrappers if begins(p, file) and not begins(p, names)), "")
    old = any(re.search(r"attentions\.\d+\.query\.", name) for name in file)
    return {name: Source(prefix + (old_attention(name) if old else name)) for name in names}


def old_attention(name: str) -> str:
    """The name until diffusers 0.15 of attention outside a transformer."""
    for ours, old in {"to_q": "query", "to_k": "key", "to_v": "value", r"to_out\.0": "proj_attn"}.items():
        name = re.sub(rf"(attentions\.\d+)\.{ours}\.", rf"\1.{old}.", name)
    return name


def in_compvis(
    part: str, config: PartConfig, names: Collection[str], file: Collection[str], ema: bool = True
) -> Layout:
    """Map a part's names to a CompVis file.

    Args:
        part: "unet", "autoencoder" or "text_encoder".
        config, names: of the part.
        file: the names in the file.
        ema: take the UNet's averaged weights if the file has them.
    """
    source = partial(SOURCES[type(config)], config=config)
    averages = part == "unet" and ema and any(name.startswith("model_ema.diffusion_model") for name in file)
    layout = {}
    for name in names:
        found = source(name)
        prefixes = PREFIXES[part]
        prefix = next((p for p in prefixes if p + found.name in file), prefixes[0])
        found = found._replace(name=prefix + found.name)
        if averages:  # all or none: a mixture would be neither model
            averaged = "model_ema." + found.name.removeprefix("model.").replace(".", "")
            found = found._replace(name=averaged, instead_of=found.name)
        layout[name] = found
    return layout


PREFIXES = {
    "unet": ["model.diffusion_model."],
    "autoencoder": ["first_stage_model.", ""],  # without a prefix in a first stage's own file
    "text_encoder": [
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.transformer.",  # in some merged files, and for BERT
        "cond_stage_model.",  # for a table of classes
        *OPEN_CLIP,
    ],
}


def renamed(name: str, modules: dict[str, str]) -> str:
    """Replace the module that the name begins with, by this table."""
    begins = next((module for module in modules if name.startswith(f"{module}.")), None)
    return modules[begins] + name.removeprefix(begins) if begins else name


UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
QKV = ["to_q", "to_k", "to_v"]
ATTENTION = {"group_norm": "norm", "to_out.0": "proj_out"} | dict.fromkeys(
    QKV, "qkv"
)  # without a transformer around it


def unet_source(name: str, config: UNetConfig) -> Source:
    """The source of a UNet parameter. A block is a residual block, its attention and a change of resolution, as far as
    it has them, numbered 0, 1, 2; blocks are numbered consecutively across levels."""
    found = re.fullmatch(r"(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
    if not found:
        return Source(renamed(name, UNET))
    way, what, rest = found[1], found[3], found[5]
    i, j, n = int(found[2] or 0), int(found[4]), config.layers + 1  # blocks of a level, with the downsampling
    if what == "downsamplers":
        return Source(f"input_blocks.{n * (i + 1)}.0.{renamed(rest, {'conv': 'op'})}")
    if what == "upsamplers":
        return Source(f"output_blocks.{n * (i + 1) - 1}.{1 + config.attention[-1 - i]}.{rest}")
    block = {"down": f"input_blocks.{n * i + j + 1}", "mid": "middle_block", "up": f"output_blocks.{n * i + j}"}[way]
    if what == "resnets":
        return Source(f"{block}.{2 * j if way == 'mid' else 0}.{renamed(rest, RESIDUAL)}")
    theirs = f"{block}.1.{renamed(rest, ATTENTION)}"
    if ".qkv." in theirs:
        last = len(config.widths) - 1
        heads = config.heads_at({"down": i, "mid": last, "up": last - i}[way])
        return Source(theirs, partial(per_head, which=QKV.index(rest.split(".")[0]), heads=heads))
    if config.context_width is None and theirs.endswith(".proj_out.weight"):
        return Source(theirs, as_matrix)
    return Source(theirs)


def per_head(tensor: Tensor, which: int, heads: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of a joint matrix, whose rows hold all three of one head before the next."""
    rows = rearrange(tensor, "(h three d) ... -> three (h d) ...", three=3, h=heads)[which]
    return rows if rows.dim() == 1 else as_matrix(rows)


def as_matrix(tensor: Tensor) -> Tensor:
    """Convert a 1x1 convolution to a matrix, which some files already have."""
    return tensor.flatten(1)


def autoencoder_source(name: str, config: AutoencoderConfig) -> Source:
    """The source of a first-stage parameter. The decoder's levels are numbered in reverse: the last to run is 0."""
    found = re.fullmatch(r"(encoder|decoder)\.(down|mid|up)_blocks?(?:\.(\d+))?\.(\w+)\.(\d+)\.(.+)", name)
    if not found:
        return Source(name.replace("conv_norm_out", "norm_out"))
    side, way, level, what, j, rest = found.groups()
    i = int(level or 0) if way != "up" else len(config.widths) - 1 - int(level)
    place, number = (f"{side}.mid", f"_{int(j) + 1}") if way == "mid" else (f"{side}.{way}.{i}", f".{j}")
    if what.endswith("samplers"):
        return Source(f"{place}.{way}sample.{rest}")
    if what == "resnets":
        return Source(f"{place}.block{number}.{rest.replace('conv_shortcut', 'nin_shortcut')}")
    names = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    is_matrix = rest.startswith("to_") and rest.endswith(".weight")
    return Source(f"{place}.attn{number}.{renamed(rest, names)}", as_matrix if is_matrix else whole)


OPEN_CLIP_NAMES = {
    "embeddings.token_embedding": "token_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def clip_source(name: str, config: TextConfig) -> Source:
    """The source of a CLIP parameter. SD 1's text encoder is OpenAI's, with our names; SD 2's is OpenCLIP's, which has
    the exact GELU."""
    if config.activation == "quick_gelu":
        return Source(name)
    if name == "embeddings.position_embedding.weight":
        return Source("positional_embedding")
    if not (found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name)):
        return Source(renamed(name, OPEN_CLIP_NAMES))
    layer, rest = found.groups()
    if in_attention := re.fullmatch(r"self_attn\.([qkv])_proj\.(weight|bias)", rest):
        which, leaf = in_attention.groups()
        return Source(f"transformer.resblocks.{layer}.attn.in_proj_{leaf}", partial(third, which="qkv".index(which)))
    return Source(f"transformer.resblocks.{layer}.{renamed(rest, OPEN_CLIP_NAMES)}")


def third(tensor: Tensor, which: int) -> Tensor:
    return tensor.chunk(3)[which]


BERT = {"embed_tokens": "token_emb", "embed_positions": "pos_emb.emb", "layer_norm": "norm"}
BERT_LAYER = {  # attention and feed-forward are numbered as separate layers, each with its norm
    "self_attn_layer_norm": "{first}.0",
    "self_attn.q_proj": "{first}.1.to_q",
    "self_attn.k_proj": "{first}.1.to_k",
    "self_attn.v_proj": "{first}.1.to_v",
    "self_attn.out_proj": "{first}.1.to_out",
    "final_layer_norm": "{second}.0",
    "fc1": "{second}.1.net.0.0",
    "fc2": "{second}.1.net.2",
}


def bert_source(name: str, config: BertConfig) -> Source:
    if not (found := re.fullmatch(r"layers\.(\d+)\.(.+)", name)):
        return Source(renamed(name, BERT))
    first, theirs = 2 * int(found[1]), renamed(found[2], BERT_LAYER)
    return Source("attn_layers.layers." + theirs.format(first=first, second=first + 1))


SOURCES: dict[type, Callable[..., Source]] = {
    UNetConfig: unet_source,
    AutoencoderConfig: autoencoder_source,
    TextConfig: clip_source,
    BertConfig: bert_source,
    ClassConfig: lambda name, config: Source(name),
}
