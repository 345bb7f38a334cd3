"""Converts the JSON files of a diffusers folder to our config.

Settings that our classes support are read; those that they fix are checked, and those that they lack must be off: a
model that would be computed wrongly is refused, never approximated.
"""

import logging
import re
from pathlib import Path

from ldm.config import AutoencoderConfig, BertConfig, CLIPConfig, ModelConfig, ScheduleConfig, TextConfig, UNetConfig
from ldm.helpers.limits import DEEPEST, LONGEST
from weights.files.json_settings import Settings, shown
from weights.files.tokenizers import pad_token
from weights.not_models import WITHOUT, by_channels, by_class, wrong

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

UNET_BLOCKS = {  # (down, up) -> (has attention, to a prompt)
    ("DownBlock2D", "UpBlock2D"): (False, None),
    ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"): (True, True),
    ("AttnDownBlock2D", "AttnUpBlock2D"): (True, False),
}
UNET_MIDDLES = {True: "UNetMidBlock2DCrossAttn", False: "UNetMidBlock2D"}  # attends to a prompt or not
AUTOENCODER_BLOCKS = {
    ("DownEncoderBlock2D", "UpDecoderBlock2D"): False,
    ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"): True,
}
FIXED_IN_UNET = {
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "downsample_type": "conv",
    "upsample_type": "conv",
    "add_attention": True,
    "transformer_layers_per_block": 1,
}
FIXED_IN_AUTOENCODER = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "norm_type": "group",
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "mid_block_add_attention": True,
}

# diffusers' default for files without a scale, which it writes when it saves the model again. It is Stable Diffusion's;
# the public models with a codebook, whose files have none, were trained without a scale.
SD_SCALE = 0.18215

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


def unet_config(path: Path) -> UNetConfig:
    """Read the config of diffusers' UNet2DConditionModel, or of the UNet2DModel of a model without prompts."""
    ask = Settings(path)
    channels = ask.sizes("block_out_channels")
    levels = ask.blocks(UNET_BLOCKS, len(channels))
    prompted = {to_prompt for has, to_prompt in levels if has} or {True}
    if len(prompted) > 1:
        raise ValueError(f"{path}: levels with and without attention to a prompt in one model")
    prompted = prompted.pop()
    latent_channels = ask.size("in_channels")
    if ask.size("out_channels") != latent_channels:
        raise ValueError(wrong(path, by_channels(latent_channels)))
    # the key is named after the head size, but is the number of heads in every UNet with prompts
    heads = None
    if prompted:
        per_level = isinstance(ask("attention_head_dim", (int, list), 8), list)
        heads = ask.sizes("attention_head_dim") if per_level else (ask.size("attention_head_dim", 8),) * len(channels)
    middle = ask.one_of("mid_block_type", (None, UNET_MIDDLES[prompted]), UNET_MIDDLES[prompted])
    config = ask.make(
        UNetConfig,
        channels=channels,
        layers=ask.size("layers_per_block", 2, DEEPEST),
        attention=tuple(has for has, _ in levels),
        heads=heads,
        head_size=None if prompted else ask.size("attention_head_dim", 8),
        context_width=ask.size("cross_attention_dim", 1280) if prompted else None,
        latent_channels=latent_channels,
        linear_projection=ask("use_linear_projection", bool, False),
        groups=ask.size("norm_num_groups", 32),
        mid=middle is not None,
    )
    ask.finish(FIXED_IN_UNET)
    return config


def autoencoder_config(path: Path) -> AutoencoderConfig:
    """Read the config of diffusers' AutoencoderKL or VQModel."""
    ask = Settings(path)
    channels = ask.sizes("block_out_channels")
    levels = ask.blocks(AUTOENCODER_BLOCKS, len(channels))
    vq = ask("_class_name", str, "AutoencoderKL") == "VQModel"
    latent_channels = ask.size("latent_channels", 3 if vq else 4)
    if vq and ask("vq_embed_dim", int, None) not in (None, latent_channels):
        raise ValueError(
            f"{path}: entries of the codebook have {latent_channels} numbers here, not {ask('vq_embed_dim', int)}"
        )
    scale = ask.number("scaling_factor", 1.0 if vq else SD_SCALE)
    if vq and scale == SD_SCALE:
        log.info("%s: with a codebook, a scaling_factor of %s is the library's default; 1 is taken", path, SD_SCALE)
        scale = 1.0
    config = ask.make(
        AutoencoderConfig,
        channels=channels,
        layers=ask.size("layers_per_block", 1, DEEPEST),
        latent_channels=latent_channels,
        groups=ask.size("norm_num_groups", 32),
        scale=scale,
        codebook=ask.size("num_vq_embeddings", 256) if vq else None,
        attention=tuple(i for i, has in enumerate(levels) if has),
    )
    ask.finish(FIXED_IN_AUTOENCODER)
    return config


def text_config(path: Path, pad: str) -> TextConfig | BertConfig:
    """Read the config of transformers' CLIPTextModel, or of latent diffusion's BERT. `pad` comes from the tokenizer."""
    ask = Settings(path)
    if ask("model_type", str) == "ldmbert":
        ask.one_of("activation_function", ("gelu",), "gelu")
        return ask.make(
            BertConfig,
            vocabulary=ask.size("vocab_size"),
            width=ask.size("d_model"),
            layers=ask.size("encoder_layers", most=DEEPEST),
            heads=ask.size("encoder_attention_heads"),
            head_size=ask.size("head_dim"),
            hidden=ask.size("encoder_ffn_dim"),
            length=ask.size("max_position_embeddings"),
            pad=pad,
        )
    ask.one_of("model_type", ("clip_text_model", "ldmbert"))
    ask.one_of("use_attention_mask", (None, False), None)  # padding is not masked here
    ask.one_of("layer_norm_eps", (1e-5,), 1e-5)
    return ask.make(
        TextConfig,
        vocabulary=ask.size("vocab_size"),
        width=ask.size("hidden_size"),
        layers=ask.size("num_hidden_layers", most=DEEPEST),
        heads=ask.size("num_attention_heads"),
        hidden=ask.size("intermediate_size"),
        length=ask.size("max_position_embeddings"),
        activation=ask.one_of("hidden_act", ("quick_gelu", "gelu")),
        pad=pad,
    )


def refuse_other_clip(path: Path, ours: CLIPConfig) -> None:
    """Raises ValueError if the config.json of transformers' CLIPModel differs from ours in a setting that shapes do not
    show.

    Some files describe both towers twice, by `text_config` and by `text_config_dict`, and each may omit transformers'
    defaults. Every stated setting must equal ours, and so must the default of one that is not stated at all.
    """
    ask = Settings(path)
    ask.one_of("model_type", ("clip",), "clip")
    always = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}  # transformers' defaults, and ours
    for tower, silent, wanted in (
        ("text_config", {"num_attention_heads": 8}, {"num_attention_heads": ours.text.heads}),
        (
            "vision_config",
            {"num_attention_heads": 12, "patch_size": 32},
            {"num_attention_heads": ours.vision.heads, "patch_size": ours.vision.patch},
        ),
    ):
        copies = [ask(name, (dict, type(None)), None) or {} for name in (tower, f"{tower}_dict")]
        for key, value in (always | wanted).items():
            said = [copy[key] for copy in copies if key in copy] or [(always | silent)[key]]
            if wrong := [other for other in said if other != value]:
                raise ValueError(f"{path}: {key!r} of {tower} is {shown(wrong[0])}; the CLIP here has {value!r}")


def schedule_config(path: Path, repaired: bool = True) -> ScheduleConfig:
    """Read the noise schedule and the visited timesteps of any diffusers scheduler.

    The caller chooses the sampler, so settings of the file's own sampler are ignored, and a spacing that no sampler
    here has is not an error.

    Args:
        path: of scheduler_config.json.
        repaired: replace outdated values as Stable Diffusion's pipelines do when they load the file: steps_offset
            becomes 1 and clip_sample false. The pipelines of latent diffusion keep both.
    """
    ask = Settings(path)
    sampler = ask("_class_name", str, "DDIMScheduler")
    clips = ask("clip_sample", (bool, type(None)), sampler.startswith(CLIPPING))
    predicted = {"epsilon": "eps", "v_prediction": "v"}
    prediction = ask.one_of("prediction_type", tuple(predicted), "epsilon")
    usual_spacing = "leading" if sampler.startswith(LEADING) else "linspace"
    spacing = ask.one_of("timestep_spacing", ("leading", "trailing", "linspace"), usual_spacing)
    beta_schedule = ask.one_of("beta_schedule", ("scaled_linear", "linear"))
    if clips and not repaired:
        raise ValueError(f"{path}: 'clip_sample' is true, which the samplers here do not have")
    if ask.values.get("clip_sample"):
        log.info("%s: clip_sample true is outdated; false is taken, as by diffusers' StableDiffusionPipeline", path)
    if spacing == "linspace":
        log.info("%s: %s spaces its time steps by linspace; here they are trailing", path, shown(sampler))
        spacing = "trailing"
    if own := [key for key in SAMPLERS_OWN_SPACING if ask.values.get(key)]:
        log.info("%s: %s has %s; here time steps are %s", path, shown(sampler), ", ".join(own), spacing)
    to_one = ask("set_alpha_to_one", bool, not sampler.startswith("PNDM")) or sampler.startswith(SIGMAS)
    offset = ask("steps_offset", int, 0)
    if repaired and spacing == "leading" and offset != 1:
        log.info("%s: steps_offset %d is outdated; 1 is taken, as by diffusers' StableDiffusionPipeline", path, offset)
        offset = 1
    config = ask.make(
        ScheduleConfig,
        T=ask.size("num_train_timesteps", 1000, LONGEST),
        beta_start=ask.number("beta_start"),
        beta_end=ask.number("beta_end"),
        beta_schedule=beta_schedule,
        parameterisation=predicted[prediction],
        spacing=spacing,
        offset=offset if spacing == "leading" else 0,
        last=0 if to_one else 1,
    )
    ask.read |= SAMPLERS_OWN | SAMPLERS_OWN_SPACING
    ask.finish({}, "the samplers here")
    return config


def refuse_components(folder: Path, index: Settings) -> None:
    """Raises ValueError if a pipeline is of another kind, or has an unsupported part that changes its images."""
    if kind := by_class(str(index.values.get("_class_name"))):
        raise ValueError(wrong(folder, kind))
    for key, value in index.values.items():
        part = value[-1] if isinstance(value, list) and value else value
        if key.startswith("_") or key in COMPONENTS or part in (None, False):
            continue
        kind = by_class(str(part))
        what = kind.what if kind and kind.advice == WITHOUT else "a part that changes its images"
        raise ValueError(
            f"{folder} has {what} (model_index.json: {shown(key)} is {shown(part)}), not read here: {WITHOUT}"
        )
    if (index.values.get("image_encoder") or [None])[-1]:
        log.info("%s: the image encoder is not read; it serves an IP-adapter alone, which is not here", folder)


def component(folder: Path, part: str) -> Path | None:
    """The folder of a part, under any of its names."""
    return next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)


def model_config(folder: Path, name: str) -> ModelConfig:
    """Read the config of a diffusers folder.

    Raises:
        ValueError: a file is missing or unreadable, or requires what these classes do not support.
    """
    index = Settings(folder / "model_index.json")
    refuse_components(folder, index)
    unet, autoencoder, text = (component(folder, part) for part in PARTS)
    missing = [" or ".join(PARTS[part]) for part, at in (("unet", unet), ("autoencoder", autoencoder)) if at is None]
    if missing:
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}")
    unet, autoencoder = unet_config(unet / "config.json"), autoencoder_config(autoencoder / "config.json")
    if unet.context_width is not None and text is None:
        raise ValueError(f"the model folder {folder} lacks {' or '.join(PARTS['text_encoder'])}")
    if text is not None:
        bert = Settings(text / "config.json")("model_type", str, "") == "ldmbert"
        pad = pad_token(folder / "tokenizer", "[PAD]" if bert else "<|endoftext|>")
        text = text_config(text / "config.json", pad)
    repaired = not str(index.values.get("_class_name")).startswith("LDM")
    side = latent_side(folder / "unet" / "config.json", repaired)
    schedule = schedule_config(folder / "scheduler" / "scheduler_config.json", repaired)
    return ModelConfig(name, side * autoencoder.factor, schedule, autoencoder, unet, text)


def latent_side(path: Path, repaired: bool) -> int:
    """Positions a side of the latents that a UNet was trained on. diffusers before 0.9 wrote 32 instead of Stable
    Diffusion's 64, which its pipelines repair."""
    ask = Settings(path)
    side, version = ask.size("sample_size", 64), ask("_diffusers_version", str, "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if repaired and side < 64 and numbers and tuple(map(int, numbers.groups())) < (0, 9):
        log.info("%s: sample_size %d of diffusers %s is outdated; 64 is taken", path, side, shown(version))
        return 64
    return side
