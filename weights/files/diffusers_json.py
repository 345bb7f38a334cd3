"""Converts the JSON files of a diffusers folder to our config.

Settings that our classes support are read; those that they fix are checked, and those that they lack must be off: a
model that would be computed wrongly is refused, never approximated.
"""

import logging
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field

from ldm.config import AutoencoderConfig, BertConfig, CLIPConfig, ModelConfig, ScheduleConfig, TextConfig, UNetConfig
from ldm.helpers.limits import LONGEST
from weights.files.json_settings import AllSettings, Depth, Settings, Size, named, shown, values
from weights.files.tokenizers import pad_token
from weights.not_models import by_channels, by_class, wrong

log = logging.getLogger(__name__)

# Our part for each component, whose name in a folder may differ.
PARTS = {
    "unet": ("unet",),
    "autoencoder": ("vae", "vqvae"),
    "text_encoder": ("text_encoder", "bert"),
}

# Components that a pipeline may list: those, checks of the final image, and an image encoder, for an IP-adapter.
COMPONENTS = {name for names in PARTS.values() for name in names} | {
    *("tokenizer", "scheduler", "safety_checker", "requires_safety_checker", "feature_extractor", "image_encoder"),
}


LEVELS = {  # the blocks of a level, down and up -> (has attention, to a prompt)
    ("DownBlock2D", "UpBlock2D"): (False, None),
    ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"): (True, True),
    ("AttnDownBlock2D", "AttnUpBlock2D"): (True, False),
    ("DownEncoderBlock2D", "UpDecoderBlock2D"): (False, None),
    ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"): (True, False),
}


class Blocks(AllSettings):
    """What the UNet and the autoencoder have in common."""

    FIXED: ClassVar = {
        "act_fn": "silu",
        "norm_eps": 1e-5,
        "norm_type": "group",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 3,
        "out_channels": 3,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "downsample_padding": 1,
        "downsample_type": "conv",
        "upsample_type": "conv",
        "mid_block_scale_factor": 1,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "transformer_layers_per_block": 1,
        "add_attention": True,
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    }
    widths: list[Size] = Field(alias="block_out_channels", min_length=1)
    groups: Size = Field(32, alias="norm_num_groups")
    down: list[str] = Field(alias="down_block_types")
    up: list[str] = Field(alias="up_block_types")

    def levels(self) -> list[tuple[bool, bool | None]]:
        """Look up each level by the names of its down block and its up block (in reverse order)."""
        if not len(self.down) == len(self.up) == len(self.widths):
            raise ValueError(f"as many blocks down and up as levels are needed, {len(self.widths)}")
        pairs = list(zip(self.down, reversed(self.up)))
        if unknown := [pair for pair in pairs if pair not in LEVELS]:
            raise ValueError(f"no level here has the blocks {shown(unknown[0])}")
        return [LEVELS[pair] for pair in pairs]


class UNetFile(Blocks):
    """diffusers' UNet2DConditionModel, or the UNet2DModel of a model without prompts."""

    layers: Depth = Field(2, alias="layers_per_block")
    # named after the head size, but the number of heads in every UNet with prompts
    heads: Size | list[Size] = Field(8, alias="attention_head_dim")
    context_width: Size = Field(1280, alias="cross_attention_dim")
    latent_channels: Size = Field(alias="in_channels")
    out_channels: Size
    linear_projection: bool = Field(False, alias="use_linear_projection")
    middle: str | None = Field("", alias="mid_block_type")
    sample_size: Size = 64
    version: str = Field("", alias="_diffusers_version")


UNET_MIDDLES = {True: "UNetMidBlock2DCrossAttn", False: "UNetMidBlock2D"}  # attends to a prompt or not


def unet_config(path: Path) -> UNetConfig:
    with named(path):
        file = UNetFile.read(path)
        levels = file.levels()
        prompted, *others = {to_prompt for has, to_prompt in levels if has} or {True}
        if others:
            raise ValueError("levels with and without attention to a prompt in one model")
        if file.middle not in ("", None, UNET_MIDDLES[prompted]):
            raise ValueError(f"'mid_block_type' is {shown(file.middle)}, which the classes here do not have")
        per_level = isinstance(file.heads, list)
        if per_level and not prompted:
            raise ValueError(f"'attention_head_dim' is {shown(file.heads)}, not one size of heads")
        if file.out_channels != file.latent_channels:
            raise ValueError(f"it is {by_channels(file.latent_channels)}")
        return UNetConfig(
            **file.shared(UNetConfig, "heads", "context_width"),
            attention=[has for has, _ in levels],
            heads=(file.heads if per_level else [file.heads] * len(levels)) if prompted else None,
            head_size=None if prompted else file.heads,
            context_width=file.context_width if prompted else None,
            mid=file.middle is not None,
        )


# diffusers' default for files without a scale, which it writes when it saves the model again. It is Stable Diffusion's;
# the public models with a codebook, whose files have none, were trained without a scale.
SD_SCALE = 0.18215


class AutoencoderFile(Blocks):
    """diffusers' AutoencoderKL or VQModel."""

    kind: str = Field("AutoencoderKL", alias="_class_name")
    layers: Depth = Field(1, alias="layers_per_block")
    latent_channels: Size = 0  # by the class
    vq_embed_dim: int | None = None
    scale: float = Field(SD_SCALE, alias="scaling_factor")
    codebook: Size = Field(256, alias="num_vq_embeddings")


def autoencoder_config(path: Path) -> AutoencoderConfig:
    with named(path):
        file = AutoencoderFile.read(path)
        vq = file.kind == "VQModel"
        channels = file.latent_channels or (3 if vq else 4)
        if vq and file.vq_embed_dim not in (None, channels):
            raise ValueError(f"entries of the codebook have {channels} numbers here, not {file.vq_embed_dim}")
        unscaled = vq and file.scale == SD_SCALE
        if unscaled and "scale" in file.model_fields_set:
            log.info("%s: with a codebook, a scaling_factor of %s is the library's default; 1 is taken", path, SD_SCALE)
        return AutoencoderConfig(
            **file.shared(AutoencoderConfig, "latent_channels", "codebook", "scale"),
            latent_channels=channels,
            scale=1.0 if unscaled else file.scale,
            codebook=file.codebook if vq else None,
            attention=[i for i, (has, _) in enumerate(file.levels()) if has],
        )


class CLIPTextFile(Settings):
    """transformers' CLIPTextModel."""

    model_type: Literal["clip_text_model"]
    vocabulary: Size = Field(alias="vocab_size")
    width: Size = Field(alias="hidden_size")
    layers: Depth = Field(alias="num_hidden_layers")
    heads: Size = Field(alias="num_attention_heads")
    hidden: Size = Field(alias="intermediate_size")
    length: Size = Field(alias="max_position_embeddings")
    activation: Literal["quick_gelu", "gelu"] = Field(alias="hidden_act")
    layer_norm_eps: float = Field(1e-5, ge=1e-5, le=1e-5)
    use_attention_mask: Literal[False] | None = None  # padding is not masked here


class BertFile(Settings):
    """Latent diffusion's BERT."""

    vocabulary: Size = Field(alias="vocab_size")
    width: Size = Field(alias="d_model")
    layers: Depth = Field(alias="encoder_layers")
    heads: Size = Field(alias="encoder_attention_heads")
    head_size: Size = Field(alias="head_dim")
    hidden: Size = Field(alias="encoder_ffn_dim")
    length: Size = Field(alias="max_position_embeddings")
    activation_function: Literal["gelu"] = "gelu"


def text_config(path: Path, tokenizer: Path) -> TextConfig | BertConfig:
    """Read the config of a text encoder; the padding token is in the folder of its tokenizer."""
    bert = values(path).get("model_type") == "ldmbert"
    config, kind, pad = (BertConfig, BertFile, "[PAD]") if bert else (TextConfig, CLIPTextFile, "<|endoftext|>")
    with named(path):
        return config(**kind.read(path).shared(config), pad=pad_token(tokenizer, pad))


def refuse_other_clip(path: Path, ours: CLIPConfig) -> None:
    """Raises ValueError if the config.json of transformers' CLIPModel differs from ours in a setting that shapes do not
    show.

    Some files describe both towers twice, by `text_config` and by `text_config_dict`, and each may omit transformers'
    defaults. Every stated setting must equal ours, and so must the default of one that is not stated at all.
    """
    file = values(path)
    always = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # transformers' defaults, and ours
    heads, patch = "num_attention_heads", "patch_size"
    with named(path):
        if file.get("model_type", "clip") != "clip":
            raise ValueError(f"'model_type' is {shown(file['model_type'])}; here it can be 'clip'")
        for tower, default, wanted in (
            ("text_config", {heads: 8}, {heads: ours.text.heads}),
            ("vision_config", {heads: 12, patch: 32}, {heads: ours.vision.heads, patch: ours.vision.patch}),
        ):
            first, second = (file.get(name) or {} for name in (tower, f"{tower}_dict"))
            if not (isinstance(first, dict) and isinstance(second, dict)):
                raise ValueError(f"{tower!r} or its copy is not an object")
            for said in (always | default | second | first, second):
                for key, value in (always | wanted).items():
                    if said.get(key, value) != value:
                        raise ValueError(f"{key!r} of {tower} is {shown(said[key])}; the CLIP here has {value!r}")


# schedulers whose default spacing is leading; that of the others here, and of unknown ones, is linspace
LEADING = ("DDIM", "DDPM", "LCM", "PNDM", "TCD")
# schedulers that count in sigma, which always ends at 0, whatever their files have
SIGMAS = ("DEIS", "DPM", "Euler", "Heun", "KDPM2", "LMS", "SASolver", "UniPC")
# schedulers that clip z_0 to -1..1 by default
CLIPPING = ("DDIM", "DDPM")

# Settings of one scheduler's steps, which do not apply to other samplers: ignored, those of spacing with a message.
SAMPLERS_OWN_SPACING = {"use_beta_sigmas", "use_exponential_sigmas", "use_karras_sigmas", "use_lu_lambdas"}
SAMPLERS_OWN = {
    *("algorithm_type", "clip_sample_range", "corrector_order", "disable_corrector", "dynamic_thresholding_ratio"),
    *("euler_at_final", "final_sigmas_type", "flow_shift", "interpolation_type", "lambda_min_clipped"),
    *("lower_order_final", "original_inference_steps", "predict_x0", "predictor_order", "rho", "sample_max_value"),
    *("sigma_data", "sigma_max", "sigma_min", "sigma_schedule", "skip_prk_steps", "solver_order", "solver_p"),
    *("solver_type", "time_shift_type", "timestep_scaling", "timestep_type", "variance_type"),
}


class SchedulerFile(AllSettings):
    """Any diffusers scheduler. The caller chooses the sampler, so settings of the file's own sampler are ignored."""

    IGNORED: ClassVar = SAMPLERS_OWN | SAMPLERS_OWN_SPACING
    sampler: str = Field(alias="_class_name")
    T: Annotated[int, Field(ge=1, le=LONGEST)] = Field(1000, alias="num_train_timesteps")
    beta_start: float
    beta_end: float
    betas: Literal["scaled_linear", "linear"] = Field(alias="beta_schedule")
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"
    spacing: Literal["leading", "trailing", "linspace"] = Field(alias="timestep_spacing")
    offset: int = Field(0, alias="steps_offset")
    clips: bool | None = Field(alias="clip_sample")
    to_one: bool = Field(alias="set_alpha_to_one")

    @pydantic.model_validator(mode="before")
    @classmethod
    def defaults_of_its_class(cls, file: Any) -> Any:
        if not isinstance(file, dict):
            return file
        sampler = str(file.get("_class_name", "DDIMScheduler"))
        return {
            "_class_name": sampler,
            "timestep_spacing": "leading" if sampler.startswith(LEADING) else "linspace",
            "clip_sample": sampler.startswith(CLIPPING),
            "set_alpha_to_one": not sampler.startswith("PNDM"),
            **file,
        }


def schedule_config(path: Path, repaired: bool = True) -> ScheduleConfig:
    """Read the noise schedule and the visited timesteps. A spacing that no sampler here has is not an error.

    Args:
        path: of scheduler_config.json.
        repaired: replace outdated values as Stable Diffusion's pipelines do when they load the file: steps_offset
            becomes 1 and clip_sample false. The pipelines of latent diffusion keep both.
    """
    with named(path):
        file = SchedulerFile.read(path)
        spacing, offset = file.spacing, file.offset
        if file.clips and not repaired:
            raise ValueError("'clip_sample' is true, which the samplers here do not have")
        if spacing == "linspace":
            log.info("%s: %s spaces its time steps by linspace; here they are trailing", path, shown(file.sampler))
            spacing = "trailing"
        if own := [key for key in SAMPLERS_OWN_SPACING if file.model_extra.get(key)]:
            log.info("%s: %s has %s; here time steps are %s", path, shown(file.sampler), ", ".join(own), spacing)
        if repaired and spacing == "leading" and offset != 1:
            log.info("%s: steps_offset %d is outdated; 1 is taken, as by diffusers", path, offset)
            offset = 1
        return ScheduleConfig(
            **file.shared(ScheduleConfig, "spacing", "offset"),
            parameterisation={"epsilon": "eps", "v_prediction": "v"}[file.prediction_type],
            spacing=spacing,
            offset=offset if spacing == "leading" else 0,
            last=0 if file.to_one or file.sampler.startswith(SIGMAS) else 1,
        )


def refuse_components(folder: Path, index: dict[str, Any]) -> None:
    """Raises ValueError if a pipeline is of another kind, or has an unsupported part that changes its images."""
    if kind := by_class(str(index.get("_class_name"))):
        raise ValueError(wrong(folder, kind))
    for key, value in index.items():
        part = value[-1] if isinstance(value, list) and value else value
        if not (key.startswith("_") or key in COMPONENTS or part in (None, False)):
            raise ValueError(
                f"{folder} has a part that changes its images (model_index.json: {shown(key)} is {shown(part)}), which "
                "is not supported: give the model itself, without it"
            )


def component(folder: Path, part: str) -> Path | None:
    """The folder of a part, under any of its names."""
    return next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)


def model_config(folder: Path, name: str) -> ModelConfig:
    """Read the config of a diffusers folder.

    Raises:
        ValueError: a file is missing or unreadable, or requires what these classes do not support.
    """
    index = values(folder / "model_index.json")
    refuse_components(folder, index)
    paths = {part: component(folder, part) for part in PARTS}
    missing = [" or ".join(PARTS[part]) for part in ("unet", "autoencoder") if paths[part] is None]
    if not missing:
        unet = unet_config(paths["unet"] / "config.json")
        if unet.context_width is not None and paths["text_encoder"] is None:
            missing = [" or ".join(PARTS["text_encoder"])]
    if missing:
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}")
    autoencoder = autoencoder_config(paths["autoencoder"] / "config.json")
    text = paths["text_encoder"] and text_config(paths["text_encoder"] / "config.json", folder / "tokenizer")
    repaired = not str(index.get("_class_name")).startswith("LDM")
    side = latent_side(paths["unet"] / "config.json", repaired)
    schedule = schedule_config(folder / "scheduler" / "scheduler_config.json", repaired)
    return ModelConfig(name, side * autoencoder.factor, schedule, autoencoder, unet, text)


def latent_side(path: Path, repaired: bool) -> int:
    """Positions a side of the latents that a UNet was trained on. diffusers before 0.9 wrote 32 instead of Stable
    Diffusion's 64, which its pipelines repair."""
    with named(path):
        file = UNetFile.read(path)
    numbers = re.match(r"(\d+)\.(\d+)", file.version)
    if repaired and file.sample_size < 64 and numbers and tuple(map(int, numbers.groups())) < (0, 9):
        log.info("%s: sample_size %d of diffusers %s is outdated; 64 is taken", path, file.sample_size, file.version)
        return 64
    return file.sample_size
