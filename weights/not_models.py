"""Files and folders that are not models supported here, recognised by tensor names or by the class in their JSON."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from weights.files.json_settings import Settings, shown

Shapes = Mapping[str, tuple[int, ...]]


class Kind(NamedTuple):
    """A kind of file that is mistaken for a model."""

    what: str
    advice: str
    keys: tuple[str, ...] = ()  # patterns, each of which matches the name of a tensor
    classes: str | None = None  # a pattern that matches the name of a class or a `model_type`
    channels: int | None = None  # input channels of its UNet, if it has another number of output channels


ANOTHER = "give a Stable Diffusion 1 or 2, as sd15 or sd21"
WITHOUT = "give the model itself, without it"
MERGE = "in diffusers, and give the folder that `save_pretrained` writes"

EMBEDDING = Kind(
    "a textual-inversion embedding",
    "add it to its model by `load_textual_inversion` " + MERGE,
    (r"^(emb_params|string_to_param\..*|clip_[lg]|<.*>)$",),
)
KINDS = (  # the first match counts
    Kind(
        "a model with a LoRA in it that is not merged",
        "merge it by `fuse_lora` and `unload_lora_weights` " + MERGE,
        (r"\.base_layer\.",),
    ),
    Kind("a ControlNet", WITHOUT, (r"^(control_model|input_hint_block|zero_convs|lora_controlnet)\b",), "ControlNet"),
    Kind("a ControlNet", WITHOUT, (r"^controlnet_(cond_embedding|down_blocks|mid_block)\.",)),
    Kind("an IP-adapter", WITHOUT, (r"^(image_proj|ip_adapter)\.",)),
    Kind(
        "a LoRA, which changes a model and is none",
        "add it to its model by `load_lora_weights`, `fuse_lora` and `unload_lora_weights` " + MERGE,
        (r"^lora_(unet|te\d?|transformer)_|[._]lora(\.|_[AB]\.|_linear_layer\.)|\.(hada|lokr)_w\d|\.oft_blocks",),
    ),
    Kind(
        "a motion module, which makes videos with a model",
        WITHOUT,
        (r"\bmotion_modules\.|\btemporal_transformer\.",),
        "Animate|Motion",
    ),
    Kind("a T2I adapter", WITHOUT, (r"^(adapter\.)?body\.\d+\.",), "Adapter"),
    Kind("a video model", ANOTHER, (r"\.(temp_convs|temp_attentions|time_stack|time_mixer)\b",), "Video|3D|Temporal"),
    EMBEDDING,
    Kind("Stable Diffusion XL", ANOTHER, (r"^conditioner\.embedders\.1\.",), "XL"),
    Kind("the refiner of Stable Diffusion XL", ANOTHER, (r"^conditioner\.embedders\.0\.model\.", r"\.label_emb\.")),
    Kind("the UNet of Stable Diffusion XL", ANOTHER, (r"^add_embedding\.",)),
    Kind("Stable Diffusion 3", ANOTHER, (r"\bjoint_blocks\.",), "StableDiffusion3|SD3"),
    Kind("FLUX", ANOTHER, (r"\b(double_blocks|single_transformer_blocks)\.",), "^Flux"),
    Kind("Stable Diffusion 3", ANOTHER, (r"^transformer_blocks\.\d+\.attn\.add_q_proj\.",)),
    Kind("a diffusion transformer", ANOTHER, (r"^transformer_blocks\.",), "Transformer"),
    Kind("a latent consistency model", ANOTHER, (r"^time_embedding\.cond_proj\.",), "LatentConsistency"),
    Kind("an ONNX export", "give the model as .safetensors", classes="^Onnx"),
    Kind("an inpainting model", "give the model that it was made from, and confine edits by `--mask`", channels=9),
    Kind("an InstructPix2Pix model, or another that is shown an image", ANOTHER, channels=8),
    Kind("an upscaler", ANOTHER, channels=7),
    Kind("a depth model", ANOTHER, channels=5),
    Kind(
        "TAESD, a small approximation of an autoencoder",
        "give the autoencoder itself, sd-vae-ft-mse or the model's own",
        (r"^((encoder|decoder)\.layers\.)?\d+\.(weight|conv\.\d+\.weight)$",),
        "AutoencoderTiny",
    ),
    Kind(
        "a CLIP",
        "`weights.load.load_clip` loads its folder",
        (r"^text_model\.", r"^vision_model\."),
        "^(CLIPModel|clip)$",
    ),
    Kind("the image encoder of a CLIP", ANOTHER, (r"^(vision_model|visual)\.",), "^(CLIPVision|clip_vision_model)"),
    Kind(
        "a text encoder alone",
        "give the folder of the whole model",
        (r"^(text_model\.)?encoder\.layers\.\d+\.self_attn\.|^(model\.)?embed_tokens\.",),
        "^(CLIPTextModel|clip_text_model|ldmbert)",
    ),
    Kind(
        "the UNet alone of a diffusers folder",
        "give the folder with its model_index.json",
        (r"^down_blocks\.",),
        "^UNet2D",
    ),
    Kind(
        "an autoencoder alone",
        "`weights.load.load_autoencoder` loads it",
        (r"^encoder\.", r"^decoder\."),
        "^(AutoencoderKL|VQModel)$",
    ),
    Kind(
        "the weights of a model of ours, without its configuration", "give its folder", (r"^unet\.", r"^autoencoder\.")
    ),
)
AUTOENCODER, OURS = KINDS[-2:]


def by_tensors(shapes: Shapes) -> Kind | None:
    """The kind of a file with these tensors."""
    if [shape[-1:] for shape in shapes.values()] in ([(768,)], [(1024,)]):
        return EMBEDDING  # one or a few vectors, under a word chosen by the author
    channels = _channels(shapes)
    for kind in KINDS:
        if kind.keys and all(any(re.search(key, name) for name in shapes) for key in kind.keys):
            return kind
        if kind.channels and channels:
            return by_channels(channels)
    return None


def _channels(shapes: Shapes) -> int | None:
    """The input channels of a file's UNet, in either layout, if it has another number of output channels."""
    for first, last in (("input_blocks.0.0", "out.2"), ("conv_in", "conv_out")):
        for prefix in ("model.diffusion_model.", ""):
            into, out = (shapes.get(f"{prefix}{layer}.weight", ()) for layer in (first, last))
            if len(into) == len(out) == 4 and into[1] != out[0]:
                return into[1]
    return None


def by_channels(channels: int) -> Kind:
    """The kind of a UNet with this number of input channels, and another of output channels."""
    other = Kind(f"a model with {channels} input channels and others to come out", ANOTHER)
    return next((kind for kind in KINDS if kind.channels == channels), other)


def by_class(name: str) -> Kind | None:
    """The kind of a folder, by a class in its JSON."""
    return next((kind for kind in KINDS if kind.classes and re.search(kind.classes, name)), None)


def wrong(path: Path, kind: Kind) -> str:
    """The message that refuses a path."""
    return f"{path} is {kind.what}: {kind.advice}"


def refuse_folder(folder: Path, but: Collection[Kind] = ()) -> None:
    """Raises ValueError, with the remedy, for a folder without a model_index.json whose config.json has a class of
    another kind."""
    try:
        values = Settings(folder / "config.json").values
    except ValueError:
        return  # the file's reader reports what is wrong with it
    for key in ("_class_name", "model_type"):
        kind = by_class(value) if isinstance(value := values.get(key), str) else None
        if kind and kind not in but:
            raise ValueError(wrong(folder, kind))


def refuse_file(path: Path, shapes: Shapes, but: Collection[Kind] = ()) -> None:
    """Raises ValueError, with the remedy, for a file of another kind, or one that is part of a model."""
    if re.search(r"-\d{5}-of-\d{5}\.", path.name):
        raise ValueError(f"{path} is one of several shards: give the folder of the model, or the shards' index.json")
    kind = by_tensors(shapes)
    if kind and kind not in but:
        raise ValueError(wrong(path, kind))
    starts = {name.split(".")[0] for name in shapes}
    if not but and not starts & {"model", "first_stage_model", "cond_stage_model"}:
        first = ", ".join(shown(start) for start in sorted(starts)[:3])
        raise ValueError(f"{path} holds no latent diffusion model: its tensors begin {first}")
