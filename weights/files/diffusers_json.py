"""Converts the JSON files of a diffusers folder to our config.

Settings that our classes support are read; those that they fix are checked, and those that they lack must be off: a
model that would be computed wrongly is refused, never approximated.
"""

import logging
import re
from pathlib import Path
from typing import Any

from ldm.config import AutoencoderConfig, BertConfig, CLIPConfig, ModelConfig, ScheduleConfig, TextConfig, UNetConfig
from weights.files.json_settings import Settings, Size, made, settings, shown
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


FIXED = {  # in UNets and autoencoders
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
UNET_MIDDLES = {True: "UNetMidBlock2DCrossAttn", False: "UNetMidBlock2D"}  # attends to a prompt or not


def levels_of(file: Settings) -> list[tuple[bool, bool | None]]:
    """Look up each level by the names of its down block and its up block (in reverse order)."""
    down, up = (file.get(f"{way}_block_types", ..., tuple) for way in ("down", "up"))
    if not len(down) == len(up) == len(file.get("block_out_channels", ..., tuple)):
        raise ValueError("as many blocks down and up as levels are needed")
    pairs = list(zip(map(str, down), map(str, reversed(up))))
    if unknown := [pair for pair in pairs if pair not in LEVELS]:
        raise ValueError(f"no level here has the blocks {shown(unknown[0])}")
    return [LEVELS[pair] for pair in pairs]


def unet_config(path: Path) -> UNetConfig:
    """Read the config of diffusers' UNet2DConditionModel, or of the UNet2DModel of a model without prompts."""
    with settings(path) as file:
        levels = levels_of(file)
        prompted, *others = {to_prompt for has, to_prompt in levels if has} or {True}
        if others:
            raise ValueError("levels with and without attention to a prompt in one model")
        if file.get("mid_block_type") not in (None, UNET_MIDDLES[prompted]):
            raise ValueError(f"'mid_block_type' is {shown(file['mid_block_type'])}, which the classes here do not have")
        channels_in, latent_channels = (file.get(key, ..., Size) for key in ("in_channels", "out_channels"))
        if kind := by_channels(channels_in, latent_channels):
            raise ValueError(f"it is {kind.what}: {kind.advice}")
        # named after the head size, but the number of heads in every UNet with prompts
        heads = file.get("attention_head_dim", 8)
        config = made(
            UNetConfig,
            channels=file["block_out_channels"],
            layers=file.get("layers_per_block", 2),
            attention=tuple(has for has, _ in levels),
            heads=(heads if isinstance(heads, tuple) else (heads,) * len(levels)) if prompted else None,
            head_size=None if prompted else heads,
            context_width=file.get("cross_attention_dim", 1280, Size) if prompted else None,
            latent_channels=latent_channels,
            condition_channels=channels_in - latent_channels,
            linear_projection=file.get("use_linear_projection", False),
            groups=file.get("norm_num_groups", 32),
            mid=file.get("mid_block_type", "") is not None,
        )
        file.refuse_others(FIXED)
        return config


# diffusers' default for files without a scale, which it writes when it saves the model again. It is Stable Diffusion's;
# the public models with a codebook, whose files have none, were trained without a scale.
SD_SCALE = 0.18215


def autoencoder_config(path: Path) -> AutoencoderConfig:
    """Read the config of diffusers' AutoencoderKL or VQModel."""
    with settings(path) as file:
        vq = file.get("_class_name", "AutoencoderKL", str) == "VQModel"
        latent_channels = file.get("latent_channels", 3 if vq else 4, Size)
        if vq and file.get("vq_embed_dim") not in (None, latent_channels):
            raise ValueError(
                f"entries of the codebook have {latent_channels} numbers here, not {shown(file['vq_embed_dim'])}"
            )
        scale = file.get("scaling_factor", 1.0 if vq else SD_SCALE)
        if vq and scale == SD_SCALE:
            log.info("%s: with a codebook, a scaling_factor of %s is the library's default; 1 is taken", path, SD_SCALE)
            scale = 1.0
        config = made(
            AutoencoderConfig,
            channels=file["block_out_channels"],
            layers=file.get("layers_per_block", 1),
            latent_channels=latent_channels,
            groups=file.get("norm_num_groups", 32),
            scale=scale,
            codebook=file.get("num_vq_embeddings", 256, Size) if vq else None,
            attention=tuple(i for i, (has, _) in enumerate(levels_of(file)) if has),
        )
        file.refuse_others(FIXED)
        return config


TEXT = {
    "vocabulary": "vocab_size",
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "length": "max_position_embeddings",
    "activation": "hidden_act",
}
BERT = {
    "vocabulary": "vocab_size",
    "width": "d_model",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "head_size": "head_dim",
    "hidden": "encoder_ffn_dim",
    "length": "max_position_embeddings",
}
FIXED_IN_TEXT = {"layer_norm_eps": (1e-5,), "use_attention_mask": (None, False)}
FIXED_IN_BERT = {"activation_function": ("gelu",)}


def text_config(path: Path, tokenizer: Path) -> TextConfig | BertConfig:
    """Read the config of transformers' CLIPTextModel, or of latent diffusion's BERT. The padding token is in the folder
    of its tokenizer."""
    pad = pad_token(tokenizer)
    with settings(path) as file:
        kinds = {
            "clip_text_model": (TextConfig, TEXT, FIXED_IN_TEXT),
            "ldmbert": (BertConfig, BERT, FIXED_IN_BERT),
        }
        if (model_type := str(file["model_type"])) not in kinds:
            raise ValueError(f"'model_type' is {shown(model_type)}; here it can be {' or '.join(kinds)}")
        config, names, fixed = kinds[model_type]
        for key, known in fixed.items():
            if file.get(key, known[0]) not in known:
                raise ValueError(f"{key!r} is {shown(file[key])}, which the classes here do not have")
        fields = {ours: file[theirs] for ours, theirs in names.items()}
        return made(config, **fields | ({"pad": pad} if pad else {}))


def refuse_other_clip(path: Path, ours: CLIPConfig) -> None:
    """Raises ValueError if the config.json of transformers' CLIPModel differs from ours in a setting that shapes do not
    show.

    Some files describe both towers twice, by `text_config` and by `text_config_dict`, and each may omit transformers'
    defaults. Every stated setting must equal ours, and so must the default of one that is not stated at all.
    """
    always = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # transformers' defaults, and ours
    heads, patch = "num_attention_heads", "patch_size"
    with settings(path) as file:
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


def schedule_config(path: Path, repaired: bool = True) -> ScheduleConfig:
    """Read the noise schedule and the visited timesteps of any diffusers scheduler.

    The caller chooses the sampler, so settings of the file's own sampler are ignored, and a spacing that no sampler
    here has is not an error.

    Args:
        path: of scheduler_config.json.
        repaired: replace outdated values as Stable Diffusion's pipelines do when they load the file: steps_offset
            becomes 1 and clip_sample false. The pipelines of latent diffusion keep both.
    """
    with settings(path) as file:
        sampler = file.get("_class_name", "DDIMScheduler", str)
        spacing = file.get("timestep_spacing", "leading" if sampler.startswith(LEADING) else "linspace")
        prediction = file.get("prediction_type", "epsilon")
        to_one = file.get("set_alpha_to_one", not sampler.startswith("PNDM"), bool)
        offset = file.get("steps_offset", 0, int)
        if file.get("clip_sample", sampler.startswith(CLIPPING), bool | None) and not repaired:
            raise ValueError("'clip_sample' is true, which the samplers here do not have")
        if spacing == "linspace":
            log.info("%s: %s spaces its time steps by linspace; here they are trailing", path, shown(sampler))
            spacing = "trailing"
        if own := [key for key in SAMPLERS_OWN_SPACING if file.get(key)]:
            log.info("%s: %s has %s; here time steps are %s", path, shown(sampler), ", ".join(own), spacing)
        if repaired and spacing == "leading" and offset != 1:
            log.info("%s: steps_offset %d is outdated; 1 is taken, as by diffusers", path, offset)
            offset = 1
        config = made(
            ScheduleConfig,
            T=file.get("num_train_timesteps", 1000),
            beta_start=file["beta_start"],
            beta_end=file["beta_end"],
            beta_schedule=file["beta_schedule"],
            parameterisation={"epsilon": "eps", "v_prediction": "v"}.get(str(prediction), prediction),
            spacing=spacing,
            offset=offset if spacing == "leading" else 0,
            last=0 if to_one or sampler.startswith(SIGMAS) else 1,
        )
        file.read |= SAMPLERS_OWN | SAMPLERS_OWN_SPACING
        file.refuse_others({})
        return config


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
    if (index.get("image_encoder") or [None])[-1]:
        log.info("%s: the image encoder is not read; it serves an IP-adapter alone, which is not here", folder)


def component(folder: Path, part: str) -> Path | None:
    """The folder of a part, under any of its names."""
    return next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)


def model_config(folder: Path, name: str) -> ModelConfig:
    """Read the config of a diffusers folder.

    Raises:
        ValueError: a file is missing or unreadable, or requires what these classes do not support.
    """
    with settings(folder / "model_index.json") as index:
        index = dict(index)
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
    with settings(path) as file:
        side, version = (
            file.get("sample_size", 64, Size),
            file.get("_diffusers_version", "", str),
        )
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if repaired and side < 64 and numbers and tuple(map(int, numbers.groups())) < (0, 9):
        log.info("%s: sample_size %d of diffusers %s is outdated; 64 is taken", path, side, shown(version))
        return 64
    return side
