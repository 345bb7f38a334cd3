"""Key maps: the name of each of our parameters in a public file.

Our names are those of current diffusers, so a diffusers folder needs little: a prefix, and older names of attention. A
CompVis file numbers its blocks consecutively, stores the first stage's attention as convolutions, and some queries,
keys and values as one matrix. Its names follow from ours by rules, applied in order; there is no list of keys.
"""

import re
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from ldm.config import AutoencoderConfig, BertConfig, ClassConfig, TextConfig, UNetConfig
from weights.build import PartConfig, shapes

Rules = dict[str, str | Callable[[re.Match], str]]  # pattern -> replacement


def whole(tensor: Tensor) -> Tensor:
    return tensor


def as_matrix(tensor: Tensor) -> Tensor:
    """Convert a 1x1 convolution to a matrix, which some files already have."""
    return tensor.flatten(1)


def per_head(tensor: Tensor, which: int, heads: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of a joint matrix, whose rows hold all three of one head before the next."""
    rows = rearrange(tensor, "(h three d) ... -> three (h d) ...", three=3, h=heads)[which]
    return rows if rows.dim() == 1 else as_matrix(rows)


def third(tensor: Tensor, which: int) -> Tensor:
    return tensor.chunk(3)[which]


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
    r"^(cond_stage_model|conditioner\.embedders\.0)\.model\.(text_projection|logit_scale|attn_mask)$": "for comparing",
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


def renamed(name: str, rules: Rules) -> str:
    for pattern, new in rules.items():
        name = re.sub(pattern, new, name)
    return name


OLD_ATTENTION = {  # until diffusers 0.15, outside a transformer
    rf"(attentions\.\d+)\.{today}\.": rf"\1.{old}."
    for today, old in {"to_q": "query", "to_k": "key", "to_v": "value", r"to_out\.0": "proj_attn"}.items()
}


def in_diffusers(names: Collection[str], file: Collection[str]) -> Layout:
    """Map a part's `names` to a diffusers file: with a prefix and older names of attention if the file has them."""
    begins = lambda prefix, those: any(name.startswith(prefix) for name in those)
    wrappers = ("text_model.", "model.")
    prefix = next((p for p in wrappers if begins(p, file) and not begins(p, names)), "")
    rules = OLD_ATTENTION if any(re.search(r"attentions\.\d+\.query\.", name) for name in file) else {}
    return {name: Source(prefix + renamed(name, rules)) for name in names}


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


def in_compvis(part: str, config: PartConfig, file: Collection[str], ema: bool = True) -> Layout:
    """Map a part's names to a CompVis file.

    Args:
        part: "unet", "autoencoder" or "text_encoder".
        config: of the part.
        file: the names in the file.
        ema: take the UNet's averaged weights if the file has them.
    """
    averages = part == "unet" and ema and any(name.startswith("model_ema.diffusion_model") for name in file)
    layout = {}
    for ours, (name, pick, _) in compvis_sources(config).items():
        theirs = next((p + name for p in PREFIXES[part] if p + name in file), PREFIXES[part][0] + name)
        # all or none: a mixture would be neither model
        averaged = "model_ema." + theirs.removeprefix("model.").replace(".", "")
        layout[ours] = Source(averaged, pick, instead_of=theirs) if averages else Source(theirs, pick)
    return layout


@cache
def compvis_sources(config: PartConfig) -> Layout:
    """The sources of a part's parameters, without their prefix."""
    rules = RULES[type(config)](config)
    return {name: Source(renamed(name, rules), compvis_pick(name, config)) for name in shapes(config)}


def compvis_pick(name: str, config: PartConfig) -> Callable[[Tensor], Tensor]:
    """How to pick a parameter out of its tensor in a CompVis file."""
    if is_open_clip(config) and (found := re.search(r"\.([qkv])_proj\.", name)):
        return partial(third, which="qkv".index(found[1]))
    if not (found := re.search(r"(down|mid|up)_blocks?\.(\d*)\.?attentions\.\d+\.to_(q|k|v|out)\b", name)):
        return whole
    way, i, layer = found.groups()
    if isinstance(config, UNetConfig) and layer != "out":
        last = len(config.channels) - 1
        level = {"down": int(i or 0), "mid": last, "up": last - int(i or 0)}[way]
        return partial(per_head, which="qkv".index(layer), heads=config.heads_at(level))
    return as_matrix if name.endswith(".weight") else whole


def is_open_clip(config: PartConfig) -> bool:
    """True for SD 2's text encoder, which has the exact GELU; SD 1's is OpenAI's, with our names."""
    return isinstance(config, TextConfig) and config.activation == "gelu"


def unet_rules(config: UNetConfig) -> Rules:
    """A block is a residual block, its attention and a change of resolution, as far as it has them, numbered 0, 1, 2;
    blocks are numbered consecutively across levels."""
    n = config.layers + 1  # blocks of a level, with the downsampling
    kinds = {"resnets": 0, "attentions": 1}
    return {
        r"^time_embedding\.linear_1\.": "time_embed.0.",
        r"^time_embedding\.linear_2\.": "time_embed.2.",
        r"^conv_in\.": "input_blocks.0.0.",
        r"^conv_norm_out\.": "out.0.",
        r"^conv_out\.": "out.2.",
        r"(resnets\.\d+)\.norm1\.": r"\1.in_layers.0.",
        r"(resnets\.\d+)\.conv1\.": r"\1.in_layers.2.",
        r"(resnets\.\d+)\.time_emb_proj\.": r"\1.emb_layers.1.",
        r"(resnets\.\d+)\.norm2\.": r"\1.out_layers.0.",
        r"(resnets\.\d+)\.conv2\.": r"\1.out_layers.3.",
        r"(resnets\.\d+)\.conv_shortcut\.": r"\1.skip_connection.",
        # attention without a transformer around it
        r"(attentions\.\d+)\.group_norm\.": r"\1.norm.",
        r"(attentions\.\d+)\.to_[qkv]\.": r"\1.qkv.",
        r"(attentions\.\d+)\.to_out\.0\.": r"\1.proj_out.",
        r"^mid_block\.attentions\.0\.": "middle_block.1.",
        r"^mid_block\.resnets\.(\d)\.": lambda m: f"middle_block.{2 * int(m[1])}.",
        r"^down_blocks\.(\d+)\.downsamplers\.0\.conv\.": lambda m: f"input_blocks.{n * (int(m[1]) + 1)}.0.op.",
        r"^down_blocks\.(\d+)\.(\w+)\.(\d+)\.": lambda m: (
            f"input_blocks.{n * int(m[1]) + int(m[3]) + 1}.{kinds[m[2]]}."
        ),
        r"^up_blocks\.(\d+)\.upsamplers\.0\.": lambda m: (
            f"output_blocks.{n * int(m[1]) + n - 1}.{1 + config.attention[-1 - int(m[1])]}."
        ),
        r"^up_blocks\.(\d+)\.(\w+)\.(\d+)\.": lambda m: f"output_blocks.{n * int(m[1]) + int(m[3])}.{kinds[m[2]]}.",
    }


def autoencoder_rules(config: AutoencoderConfig) -> Rules:
    """The decoder's levels are numbered in reverse: the last to run is 0."""
    last = len(config.channels) - 1
    return {
        r"\.conv_norm_out\.": ".norm_out.",
        r"\.down_blocks\.": ".down.",
        r"\.up_blocks\.(\d+)\.": lambda m: f".up.{last - int(m[1])}.",
        r"\.mid_block\.(\w+)\.(\d)\.": lambda m: f".mid.{m[1]}_{int(m[2]) + 1}.",
        r"\.(down|up)samplers\.0\.": r".\1sample.",
        r"\.resnets": ".block",
        r"\.attentions": ".attn",
        r"\.conv_shortcut\.": ".nin_shortcut.",
        r"\.group_norm\.": ".norm.",
        r"\.to_([qkv])\.": r".\1.",
        r"\.to_out\.0\.": ".proj_out.",
    }


OPEN_CLIP_RULES = {
    r"^embeddings\.token_embedding\.": "token_embedding.",
    r"^embeddings\.position_embedding\.weight": "positional_embedding",
    r"^final_layer_norm\.": "ln_final.",
    r"^encoder\.layers\.": "transformer.resblocks.",
    r"\.layer_norm([12])\.": r".ln_\1.",
    r"\.mlp\.fc1\.": ".mlp.c_fc.",
    r"\.mlp\.fc2\.": ".mlp.c_proj.",
    r"\.self_attn\.out_proj\.": ".attn.out_proj.",
    r"\.self_attn\.[qkv]_proj\.": ".attn.in_proj_",
}
BERT_RULES = {  # attention and feed-forward are numbered as separate layers, each with its norm
    r"^embed_tokens\.": "token_emb.",
    r"^embed_positions\.": "pos_emb.emb.",
    r"^layer_norm\.": "norm.",
    r"\.self_attn_layer_norm\.": ".0.0.",
    r"\.self_attn\.([qkv])_proj\.": r".0.1.to_\1.",
    r"\.self_attn\.out_proj\.": ".0.1.to_out.",
    r"\.final_layer_norm\.": ".1.0.",
    r"\.fc1\.": ".1.1.net.0.0.",
    r"\.fc2\.": ".1.1.net.2.",
    r"^layers\.(\d+)\.(\d)\.": lambda m: f"attn_layers.layers.{2 * int(m[1]) + int(m[2])}.",
}
RULES: dict[type, Callable[..., Rules]] = {
    UNetConfig: unet_rules,
    AutoencoderConfig: autoencoder_rules,
    TextConfig: lambda config: OPEN_CLIP_RULES if is_open_clip(config) else {},
    BertConfig: lambda config: BERT_RULES,
    ClassConfig: lambda config: {},
}
