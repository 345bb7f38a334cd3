"""Files and folders that are mistaken for a model supported here, recognised by tensor names or by the class in their
JSON. Rarer ones are refused without their name, since they do not fit."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from weights.files.json_settings import settings, shown

Shapes = Mapping[str, tuple[int, ...]]


class Kind(NamedTuple):
    """A kind of file that is mistaken for a model."""

    what: str
    advice: str
    tensors: str | None = None  # a pattern that matches the sorted names of the tensors, one a line
    classes: str | None = None  # a pattern that matches the name of a class or a `model_type`


ANOTHER = "give a Stable Diffusion 1 or 2, as sd15 or sd21"
WITHOUT = "give the model itself, without it"
MERGE = "in diffusers, and give the folder that `save_pretrained` writes"

EMBEDDING = Kind(
    "a textual-inversion embedding",
    f"add it to its model by `load_textual_inversion` {MERGE}",
    r"\A(emb_params|string_to_param\..*|clip_[lg](\nclip_[lg])?|<.*>)\Z",
)
AUTOENCODER = Kind(
    "an autoencoder alone",
    "`weights.load.load_autoencoder` loads it",
    r"^decoder\..*^encoder\.",
    "^(AutoencoderKL|VQModel)$",
)
IMAGE_TO_IMAGE = 6, 3  # channels of a latent and of the image to enlarge; of the latent
OURS = Kind("the weights of a model of ours, without its configuration", "give its folder", r"^autoencoder\..*^unet\.")
KINDS = (  # the first match counts
    Kind(
        "a model with a LoRA in it that is not merged",
        f"merge it by `fuse_lora` and `unload_lora_weights` {MERGE}",
        r"\.base_layer\.",
    ),
    Kind(
        "a ControlNet",
        WITHOUT,
        r"^(control_model|input_hint_block|zero_convs|lora_controlnet|controlnet_\w+)\.",
        "ControlNet",
    ),
    Kind(
        "a LoRA, which changes a model and is none",
        f"add it to its model by `load_lora_weights`, `fuse_lora` and `unload_lora_weights` {MERGE}",
        r"^lora_(unet|te\d?|transformer)_|[._]lora(\.|_[AB]\.|_linear_layer\.)|\.(hada|lokr)_w\d|\.oft_blocks",
    ),
    EMBEDDING,
    Kind(
        "an adapter, which changes a model and is none",
        WITHOUT,
        r"^(image_proj|ip_adapter|(adapter\.)?body\.\d+)\.|\bmotion_modules\.",
        "Adapter|Animate|Motion",
    ),
    Kind(
        "Stable Diffusion XL",
        ANOTHER,
        r"^conditioner\.embedders\.1\.|^conditioner\..*\.label_emb\.|^add_embedding\.",
        "XL",
    ),
    Kind("FLUX", ANOTHER, r"\b(double_blocks|single_transformer_blocks)\.", "^Flux"),
    Kind(
        "Stable Diffusion 3",
        ANOTHER,
        r"\bjoint_blocks\.|^transformer_blocks\.\d+\.attn\.add_q_proj\.",
        "Diffusion3|SD3",
    ),
    Kind("a latent consistency model", ANOTHER, r"^time_embedding\.cond_proj\.", "LatentConsistency"),
    Kind("an ONNX export", "give the model as .safetensors", classes="^Onnx"),
    Kind(
        "a CLIP", "`weights.load.load_clip` loads its folder", r"^text_model\..*^vision_model\.", "^(CLIPModel|clip)$"
    ),
    Kind(
        "a text encoder alone",
        "give the folder of the whole model",
        r"^(text_model\.)?encoder\.layers\.\d+\.self_attn\.|^(model\.)?embed_tokens\.",
        "^(CLIPTextModel|clip_text_model|ldmbert)",
    ),
    Kind(
        "the UNet alone of a diffusers folder",
        "give the folder with its model_index.json",
        r"^down_blocks\.",
        "^UNet2D",
    ),
    AUTOENCODER,
    OURS,
)


def by_tensors(shapes: Shapes) -> Kind | None:
    """The kind of a file with these tensors."""
    if [shape[-1:] for shape in shapes.values()] in ([(768,)], [(1024,)]):
        return EMBEDDING  # one or a few vectors, under a word chosen by the author
    for first, last in (("input_blocks.0.0", "out.2"), ("conv_in", "conv_out")):
        for prefix in ("model.diffusion_model.", ""):
            into, out = (shapes.get(f"{prefix}{layer}.weight", ()) for layer in (first, last))
            if len(into) == len(out) == 4 and (kind := by_channels(into[1], out[0])):
                return kind
    names = "\n".join(sorted(shapes))
    return next((kind for kind in KINDS if kind.tensors and re.search(kind.tensors, names, re.M | re.S)), None)


def by_channels(channels: int, out: int) -> Kind | None:
    """The kind of a UNet by its numbers of input and output channels; None if these do not tell."""
    if channels == out or (channels, out) == IMAGE_TO_IMAGE:
        return None
    if channels == 9:
        return Kind("an inpainting model", "give the model that it was made from, and confine edits by `--mask`")
    return Kind(f"a model with {channels} input channels and others to come out", ANOTHER)


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
        with settings(folder / "config.json") as file:
            names = file.get("_class_name"), file.get("model_type")
    except ValueError:
        return  # the file's reader reports what is wrong with it
    for name in names:
        if isinstance(name, str):
            kind = by_class(name) or Kind(f"a {shown(name)}, which is no model supported here", ANOTHER)
            if kind not in but:
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
