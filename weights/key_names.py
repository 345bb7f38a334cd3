"""Key maps: the name of each of our parameters in a public file.

Our names are those of current diffusers, so a diffusers folder needs little: a prefix, and older names of attention. A
CompVis file numbers its blocks consecutively, stores the first stage's attention as convolutions, and some queries,
keys and values as one matrix. Its names follow from ours by the rules in key_names.toml; there is no list of keys.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from einops import rearrange
from torch import Tensor

from ldm.config import AutoencoderConfig, BertConfig, TextConfig, UNetConfig
from weights.build import PartConfig, shapes

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
PREFIXES = TABLES["prefixes"]
OPEN_CLIP = tuple(prefix for prefix in PREFIXES["text_encoder"] if prefix.endswith(".model."))
TURBO = OPEN_CLIP[-1]

Rules = Mapping[str, str | Callable[..., str]]  # pattern -> replacement, or how to make it from the pattern's numbers


def whole(tensor: Tensor) -> Tensor:
    return tensor


def as_matrix(tensor: Tensor) -> Tensor:
    """Convert a 1x1 convolution to a matrix, which some files already have."""
    return tensor.flatten(1)


def per_head(tensor: Tensor, which: int, heads: int) -> Tensor:
    """Queries (0), keys (1) or values (2) of a joint matrix, whose rows hold all three of one head before the next; one
    head stands for rows of all queries, then all keys, then all values."""
    rows = rearrange(tensor, "(h three d) ... -> three (h d) ...", three=3, h=heads)[which]
    return rows if rows.dim() == 1 else as_matrix(rows)


class Source(NamedTuple):
    """A tensor of a file, and how to pick our parameter out of it."""

    name: str
    pick: Callable[[Tensor], Tensor] = whole
    instead_of: str | None = None  # another name in the file, which may be ignored


Layout = dict[str, Source]  # our parameter's name -> its source


def is_dropped(name: str, text: PartConfig | None = None) -> bool:
    """True if a tensor may be ignored; `text` is the text encoder's config."""
    # SD 2 uses the output of the last layer but one, so its config has one layer less than its CompVis file
    unused = [f"{prefix}transformer.resblocks.{text.layers}." for prefix in OPEN_CLIP if isinstance(text, TextConfig)]
    return name.startswith(tuple(unused)) or any(re.search(pattern, name) for pattern in TABLES["dropped"])


def renamed(name: str, rules: Rules) -> str:
    for pattern, new in rules.items():
        name = re.sub(pattern, new if isinstance(new, str) else lambda m: new(*map(int, m.groups())), name)
    return name


def in_diffusers(names: Collection[str], file: Collection[str]) -> Layout:
    """Map a part's `names` to a diffusers file: with a prefix and older names of attention if the file has them."""
    begins = lambda prefix, those: any(name.startswith(prefix) for name in those)
    prefix = next((p for p in ("text_model.", "model.") if begins(p, file) and not begins(p, names)), "")
    rules = TABLES["old_attention"] if any(re.search(r"attentions\.\d+\.query\.", name) for name in file) else {}
    return {name: Source(prefix + renamed(name, rules)) for name in names}


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
    rules = compvis_rules(config)
    return {name: Source(renamed(name, rules), compvis_pick(name, config)) for name in shapes(config)}


def compvis_pick(name: str, config: PartConfig) -> Callable[[Tensor], Tensor]:
    """How to pick a parameter out of its tensor in a CompVis file."""
    if is_open_clip(config) and (found := re.search(r"\.([qkv])_proj\.", name)):
        return partial(per_head, which="qkv".index(found[1]), heads=1)
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


def compvis_rules(config: PartConfig) -> Rules:
    """The rules for the names of a part's layers, and then for the numbers of its blocks."""
    match config:
        case UNetConfig():
            # blocks of a level, with the downsampling; and which part of the last one going up is the upsampling
            n, last = config.layers + 1, [1 + has for has in reversed(config.attention)]
            return TABLES["unet"] | {
                r"^down_blocks\.(\d+)\.downsamplers\.0\.conv\.": lambda i: f"input_blocks.{n * (i + 1)}.0.op.",
                r"^down_blocks\.(\d+)\.(\d+)\.(\d)\.": lambda i, j, k: f"input_blocks.{n * i + j + 1}.{k}.",
                r"^up_blocks\.(\d+)\.upsamplers\.0\.": lambda i: f"output_blocks.{n * i + n - 1}.{last[i]}.",
                r"^up_blocks\.(\d+)\.(\d+)\.(\d)\.": lambda i, j, k: f"output_blocks.{n * i + j}.{k}.",
            }
        case AutoencoderConfig():  # the decoder's levels are numbered in reverse: the last to run is 0
            last = len(config.channels) - 1
            return TABLES["autoencoder"] | {r"\.up_blocks\.(\d+)\.": lambda i: f".up.{last - i}."}
        case BertConfig():
            return TABLES["bert"] | {r"^layers\.(\d+)\.(\d)\.": lambda i, j: f"attn_layers.layers.{2 * i + j}."}
    return TABLES["open_clip"] if is_open_clip(config) else {}
