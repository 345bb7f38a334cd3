"""What the JSON files of a diffusers folder say, as our config.

They are read for what our classes can vary. What these classes do in one way only is checked against that way, and a
setting that they do not have must be off: a model that we would compute wrongly is refused, never approximated.
"""

import logging
from pathlib import Path

from ldm.config import AutoencoderConfig, BertConfig, CLIPConfig, ModelConfig, ScheduleConfig, TextConfig, UNetConfig
from ldm.limits import DEEPEST, LONGEST
from weights.settings import Settings, cut

log = logging.getLogger(__name__)

# The part of ours that each component is; a folder's own name for it may differ.
PARTS = {
    "unet": ("unet",),
    "autoencoder": ("vae", "vqvae"),
    "text_encoder": ("text_encoder", "bert"),
}

UNET_BLOCKS = {  # (down, up) -> (has attention, to a prompt)
    ("DownBlock2D", "UpBlock2D"): (False, None),
    ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"): (True, True),
    ("AttnDownBlock2D", "AttnUpBlock2D"): (True, False),
}
UNET_MIDDLES = {True: "UNetMidBlock2DCrossAttn", False: "UNetMidBlock2D"}  # whether it attends to a prompt
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

# What diffusers takes where a file is silent, and writes down when it saves the model again. It is Stable Diffusion's;
# the public models with a codebook, whose files are silent, were trained without a scale.
SD_SCALE = 0.18215

# schedulers whose files, where silent on spacing, mean leading; of the others here, and of unknown ones, linspace
LEADING = ("DDIM", "DDPM", "LCM", "PNDM", "TCD")
# schedulers that count in sigma, which falls to 0 at the end whatever else their files say
SIGMAS = ("DEIS", "DPM", "Euler", "Heun", "KDPM2", "LMS", "SASolver", "UniPC")


def unet_config(path: Path) -> UNetConfig:
    """Of diffusers' UNet2DConditionModel, or of the UNet2DModel of a model without prompts."""
    ask = Settings(path)
    widths = ask.sizes("block_out_channels")
    levels = ask.blocks(UNET_BLOCKS, len(widths))
    prompted = {to_prompt for has, to_prompt in levels if has} or {True}
    if len(prompted) > 1:
        raise ValueError(f"{path}: levels with and without attention to a prompt in one model")
    prompted = prompted.pop()
    channels = ask.size("in_channels")
    if ask.size("out_channels") != channels:
        raise ValueError(f"{path}: {channels} channels in; an inpainting or depth model needs classes of its own")
    # the key is called a head's size and is their number in every UNet with prompts
    heads = None
    if prompted:
        per_level = isinstance(ask("attention_head_dim", (int, list), 8), list)
        heads = ask.sizes("attention_head_dim") if per_level else (ask.size("attention_head_dim", 8),) * len(widths)
    middle = ask("mid_block_type", (str, type(None)), UNET_MIDDLES[prompted])
    if middle not in (None, UNET_MIDDLES[prompted]):
        raise ValueError(f"{path}: 'mid_block_type' is {cut(middle)}, which these classes do not have")
    config = ask.make(
        UNetConfig,
        widths=widths,
        layers=ask.size("layers_per_block", 2, DEEPEST),
        attention=tuple(has for has, _ in levels),
        heads=heads,
        head_size=None if prompted else ask.size("attention_head_dim", 8),
        context_width=ask.size("cross_attention_dim", 1280) if prompted else None,
        latent_channels=channels,
        linear_projection=ask("use_linear_projection", bool, False),
        groups=ask.size("norm_num_groups", 32),
        mid=middle is not None,
    )
    ask.finish(FIXED_IN_UNET)
    return config


def autoencoder_config(path: Path) -> AutoencoderConfig:
    """Of diffusers' AutoencoderKL or VQModel."""
    ask = Settings(path)
    widths = ask.sizes("block_out_channels")
    levels = ask.blocks(AUTOENCODER_BLOCKS, len(widths))
    vq = ask("_class_name", str, "AutoencoderKL") == "VQModel"
    channels = ask.size("latent_channels", 3 if vq else 4)
    if vq and ask("vq_embed_dim", int, None) not in (None, channels):
        raise ValueError(
            f"{path}: entries of the codebook have {channels} numbers here, not {ask('vq_embed_dim', int)}"
        )
    scale = ask.number("scaling_factor", 1.0 if vq else SD_SCALE)
    if vq and scale == SD_SCALE:
        log.info("%s: with a codebook, a scaling_factor of %s is the library's default; 1 is taken", path, SD_SCALE)
        scale = 1.0
    config = ask.make(
        AutoencoderConfig,
        widths=widths,
        layers=ask.size("layers_per_block", 1, DEEPEST),
        latent_channels=channels,
        groups=ask.size("norm_num_groups", 32),
        scale=scale,
        codebook=ask.size("num_vq_embeddings", 256) if vq else None,
        attention=tuple(i for i, has in enumerate(levels) if has),
    )
    ask.finish(FIXED_IN_AUTOENCODER)
    return config


def text_config(path: Path, pad: str) -> TextConfig | BertConfig:
    """Of transformers' CLIPTextModel, or of the BERT of latent diffusion. `pad` is the tokenizer's to say."""
    ask = Settings(path)
    kind = ask("model_type", str)
    if kind == "ldmbert":
        if ask("activation_function", str, "gelu") != "gelu":
            raise ValueError(f"{path}: 'activation_function' is {ask('activation_function', str)!r}, not 'gelu'")
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
    if kind != "clip_text_model":
        raise ValueError(f"{path}: 'model_type' is {cut(kind)}; prompts are read by clip_text_model or ldmbert here")
    if ask("layer_norm_eps", float, 1e-5) != 1e-5:
        raise ValueError(f"{path}: 'layer_norm_eps' is {ask('layer_norm_eps', float)!r}, not 1e-5")
    activation = ask("hidden_act", str)
    if activation not in ("quick_gelu", "gelu"):
        raise ValueError(f"{path}: 'hidden_act' is {cut(activation)}, not 'quick_gelu' or 'gelu'")
    return ask.make(
        TextConfig,
        vocabulary=ask.size("vocab_size"),
        width=ask.size("hidden_size"),
        layers=ask.size("num_hidden_layers", most=DEEPEST),
        heads=ask.size("num_attention_heads"),
        hidden=ask.size("intermediate_size"),
        length=ask.size("max_position_embeddings"),
        activation=activation,
        pad=pad,
    )


def refuse_other_clip(path: Path, ours: CLIPConfig) -> None:
    """Raises ValueError if the config.json of transformers' CLIPModel has what shapes do not show otherwise than ours.

    Both towers are described twice in some files, by `text_config` and by `text_config_dict`, and each may leave out
    what is transformers' default. What is said, must be ours each time; what is not said at all, by default.
    """
    ask = Settings(path)
    if (kind := ask("model_type", str, "clip")) != "clip":
        raise ValueError(f"{path}: 'model_type' is {cut(kind)}, not 'clip'")
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
                raise ValueError(f"{path}: {key!r} of {tower} is {cut(wrong[0])}; the CLIP here has {value!r}")


def pad_token(tokenizer: Path, default: str) -> str:
    """special_tokens_map.json has the last word: Stable Diffusion 2's tokenizer_config.json names another."""
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (tokenizer / name).is_file():
            said = Settings(tokenizer / name)("pad_token", (str, dict), None)
            said = said.get("content") if isinstance(said, dict) else said
            if isinstance(said, str):
                return said
    return default


def schedule_config(path: Path) -> ScheduleConfig:
    """Of any diffusers scheduler: the noise schedule, and the time steps that it visits.

    Which sampler to use is the caller's choice, so what else a file says of its own is not read, and spacing that no
    sampler here has is no reason to refuse the model.
    """
    ask = Settings(path)
    sampler = ask("_class_name", str, "DDIMScheduler")
    off = {"clip_sample": False, "thresholding": False, "trained_betas": None, "rescale_betas_zero_snr": False}
    for key, value in off.items():
        if ask.values.get(key, value) not in (value, None):
            raise ValueError(f"{path}: {key!r} is {cut(ask.values[key])}, which the samplers here do not have")
    predicted = {"epsilon": "eps", "v_prediction": "v"}
    spacing = ask("timestep_spacing", str, "leading" if sampler.startswith(LEADING) else "linspace")
    betas, prediction = ask("beta_schedule", str), ask("prediction_type", str, "epsilon")
    for key, value, known in (
        ("prediction_type", prediction, tuple(predicted)),
        ("timestep_spacing", spacing, ("leading", "trailing", "linspace")),
        ("beta_schedule", betas, ("scaled_linear", "linear")),
    ):
        if value not in known:
            raise ValueError(f"{path}: {key!r} is {cut(value)}; here it can be {' or '.join(known)}")
    if spacing == "linspace":
        log.info("%s: %s spaces its time steps by linspace; here they are trailing", path, cut(sampler))
        spacing = "trailing"
    to_one = ask("set_alpha_to_one", bool, not sampler.startswith("PNDM")) or sampler.startswith(SIGMAS)
    offset = ask("steps_offset", int, 0) if spacing == "leading" else 0
    if spacing == "leading" and not to_one and not offset:
        # as diffusers' own pipelines do: sampling would end where the last step begins
        log.info("%s: steps_offset 0 is outdated beside set_alpha_to_one false; 1 is taken", path)
        offset = 1
    return ask.make(
        ScheduleConfig,
        T=ask.size("num_train_timesteps", 1000, LONGEST),
        beta_start=ask.number("beta_start"),
        beta_end=ask.number("beta_end"),
        betas=betas,
        parameterisation=predicted[prediction],
        spacing=spacing,
        offset=offset,
        last=0 if to_one else 1,
    )


def component(folder: Path, part: str) -> Path | None:
    """The folder of a part, by whichever of its names."""
    return next((folder / name for name in PARTS[part] if (folder / name).is_dir()), None)


def model_config(folder: Path, name: str) -> ModelConfig:
    """Of a diffusers folder.

    Raises:
        ValueError: a file is missing or unreadable, or asks for what these classes do not have.
    """
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
    side = Settings(folder / "unet" / "config.json").size("sample_size", 64)
    schedule = schedule_config(folder / "scheduler" / "scheduler_config.json")
    return ModelConfig(name, side * autoencoder.factor, schedule, autoencoder, unet, text)
