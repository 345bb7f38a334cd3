"""Converts the JSON files of a diffusers folder to our config, by the tables of diffusers.toml.

Settings that our classes support are read; those that they fix are checked, and those that they lack must be off: a
model that would be computed wrongly is refused, never approximated.
"""

import logging
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

from ldm.config import AutoencoderConfig, BertConfig, CLIPConfig, ModelConfig, ScheduleConfig, TextConfig, UNetConfig
from weights.files.json_settings import Settings, named, settings, shown
from weights.files.tokenizers import Files, content

log = logging.getLogger(__name__)

TABLES = tomllib.loads(Path(__file__).with_name("diffusers.toml").read_text(encoding="utf-8"))
PARTS = TABLES["pipeline"]["parts"]  # our part -> the names that its folder may have
COMPONENTS = {*TABLES["pipeline"]["others"], *(name for names in PARTS.values() for name in names)}
SD_SCALE = TABLES["AutoencoderKL"]["default"]["scaling_factor"]


def attention_of(file: Settings, table: dict[str, Any]) -> tuple[bool, ...]:
    """Which levels have attention, by the names of their blocks down; those of the blocks up must mirror them."""
    down, up = (file.get(f"{way}_block_types", ..., tuple[str, ...]) for way in ("down", "up"))
    mirrored = tuple(block.replace("Down", "Up").replace("Encoder", "Decoder") for block in reversed(down))
    if up != mirrored or not table["blocks"].keys() >= set(down):
        raise ValueError(f"the levels here cannot have the blocks {shown(down)} down and {shown(up)} up")
    return tuple(table["blocks"][block] for block in down)


def unet_config(path: Path) -> UNetConfig:
    """Read the config of diffusers' UNet2DConditionModel, or of the UNet2DModel of a model without prompts."""
    with settings(path) as file:
        prompted = "AttnDownBlock2D" not in file["down_block_types"]
        table = TABLES["UNet2DConditionModel" if prompted else "UNet2DModel"]
        attention = attention_of(file, table)
        if (middle := file.get("mid_block_type", table["middle"])) not in (None, table["middle"]):
            raise ValueError(f"'mid_block_type' is {shown(middle)}, which the classes here do not have")
        condition = file.get("in_channels", ..., int) - file.get("out_channels", ..., int)
        if condition not in table["condition"]:
            raise ValueError(f"the UNet takes {condition} channels besides the latent's: give a model without them")
        fields = dict(heads=None, context_width=None)
        if prompted:  # named after the head size, but the number of heads in every UNet with prompts
            heads = file.get("attention_head_dim", 8)
            fields = dict(heads=heads if isinstance(heads, tuple) else (heads,) * len(attention))
        mid = middle is not None
        return file.made(table, attention=attention, condition_channels=condition, mid=mid, **fields)


def autoencoder_config(path: Path) -> AutoencoderConfig:
    """Read the config of diffusers' AutoencoderKL or VQModel.

    Without a scale, diffusers takes Stable Diffusion's, and writes it when it saves a model again. The public models
    with a codebook, whose files have none, were trained without a scale.
    """
    with settings(path) as file:
        kind = file.get("_class_name", "AutoencoderKL", Literal["AutoencoderKL", "VQModel"])
        fields, attention = {}, attention_of(file, TABLES[kind])
        if kind == "VQModel":
            if file.get("scaling_factor") == SD_SCALE:
                log.info("%s: with a codebook, a scaling_factor of %s is a default; 1 is taken", path, SD_SCALE)
                fields = dict(scale=1.0)
            if file.get("vq_embed_dim") not in (None, file.get("latent_channels", 3)):
                raise ValueError(f"'vq_embed_dim' is {shown(file['vq_embed_dim'])}, and not 'latent_channels'")
        levels = tuple(level for level, has in enumerate(attention) if has)
        return file.made(TABLES[kind], attention=levels, **fields)


def text_config(path: Path, tokenizer: Path) -> TextConfig | BertConfig:
    """Read the config of transformers' CLIPTextModel, or of latent diffusion's BERT. The padding token is in the folder
    of its tokenizer; Stable Diffusion 2's two files there differ in it."""
    pad = content(Files(tokenizer).settings.get("pad_token"))
    with settings(path) as file:
        kind = file.get("model_type", ..., Literal["clip_text_model", "ldmbert"])
        return file.made(TABLES[kind], **({"pad": pad} if pad else {}))


def clip_config(path: Path) -> CLIPConfig:
    """Read the config of transformers' CLIPModel. Some files describe a tower twice, for example by `text_config` and
    by `text_config_dict`, and each may omit defaults; where both state a setting, they must agree."""
    with settings(path) as file:
        file.get("model_type", "clip", Literal["clip"])
        towers = {}
        for tower in ("text", "vision"):
            one, other = (file.get(f"{tower}_config{copy}", None, dict | None) or {} for copy in ("", "_dict"))
            table = TABLES[f"clip_{tower}_model"]
            towers[tower], again = (Settings(said).made(table) for said in (one | other, other | one))
            if again != towers[tower]:
                raise ValueError(f"'{tower}_config' and '{tower}_config_dict' differ")
        return CLIPConfig(**towers, embedding=file.get("projection_dim", 512, int))


def schedule_config(path: Path, repaired: bool = True) -> ScheduleConfig:
    """Read the noise schedule and the visited timesteps of any diffusers scheduler.

    The caller chooses the sampler, so settings of the file's own sampler are ignored, and a spacing that no sampler
    here has is not an error.

    Args:
        path: of scheduler_config.json.
        repaired: replace outdated values as Stable Diffusion's pipelines do when they load the file: steps_offset
            becomes 1 and clip_sample false. The pipelines of latent diffusion keep both.
    """
    table = TABLES["scheduler"]
    with settings(path) as file:
        sampler = file.get("_class_name", "DDIMScheduler", str)
        leading, clipping, sigmas = (sampler.startswith(tuple(table[of])) for of in ("leading", "clipping", "sigmas"))
        spacing = file.get("timestep_spacing", "leading" if leading else "linspace")
        predicts = file.get("prediction_type", "epsilon")
        predicts = {"epsilon": "eps", "v_prediction": "v"}.get(str(predicts), predicts)
        to_one = file.get("set_alpha_to_one", not sampler.startswith("PNDM"), bool)
        offset = file.get("steps_offset", 0, int)
        if file.get("clip_sample", clipping, bool | None) and not repaired:
            raise ValueError("'clip_sample' is true, which the samplers here do not have")
        if spacing == "linspace":
            log.info("%s: %s spaces its time steps by linspace; here they are trailing", path, shown(sampler))
            spacing = "trailing"
        if own := [key for key in table["spacings"] if file.get(key)]:
            log.info("%s: %s has %s; here time steps are %s", path, shown(sampler), ", ".join(own), spacing)
        if spacing != "leading":
            offset = 0
        elif repaired and offset != 1:
            log.info("%s: steps_offset %d is outdated; 1 is taken, as by diffusers", path, offset)
            offset = 1
        last = 0 if to_one or sigmas else 1
        return file.made(table, parameterisation=predicts, spacing=spacing, offset=offset, last=last)


def component(folder: Path, part: str) -> Path | None:
    """The folder of a part, under any of its names."""
    return next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)


def model_config(folder: Path, name: str) -> ModelConfig:
    """Read the config of a diffusers folder.

    Raises:
        ValueError: a file is missing or unreadable, or requires what these classes do not support.
    """
    with settings(folder / "model_index.json") as index:
        pipeline = str(index.get("_class_name"))
    for key, value in index.items():
        part = value[-1] if isinstance(value, list) and value else value
        if not (key.startswith("_") or key in COMPONENTS or part in (None, False)):
            raise ValueError(
                f"{folder} has a part that changes its images (model_index.json: {shown(key)} is {shown(part)}), which "
                "is not supported: give a Stable Diffusion 1 or 2 without it"
            )
    paths = {part: component(folder, part) for part in PARTS}
    unet = paths["unet"] and unet_config(paths["unet"] / "config.json")
    optional = () if unet and unet.context_width else ("text_encoder",)
    if missing := [" or ".join(PARTS[part]) for part in PARTS if not paths[part] and part not in optional]:
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}")
    autoencoder = autoencoder_config(paths["autoencoder"] / "config.json")
    text = paths["text_encoder"] and text_config(paths["text_encoder"] / "config.json", folder / "tokenizer")
    repaired = not pipeline.startswith("LDM")
    side = latent_side(paths["unet"] / "config.json", repaired)
    schedule = schedule_config(folder / "scheduler" / "scheduler_config.json", repaired)
    with named(folder):
        return ModelConfig(name, side * autoencoder.factor, schedule, autoencoder, unet, text)


def latent_side(path: Path, repaired: bool) -> int:
    """Positions a side of the latents that a UNet was trained on. diffusers before 0.9 wrote 32 instead of Stable
    Diffusion's 64, which its pipelines repair."""
    with settings(path) as file:
        side, version = file.get("sample_size", 64, int), file.get("_diffusers_version", "", str)
    if repaired and side < 64 and re.match(r"0\.[0-8](\.|$)", version):
        log.info("%s: sample_size %d of diffusers %s is outdated; 64 is taken", path, side, shown(version))
        return 64
    return side
