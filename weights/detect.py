"""Detects the format of a path from its contents: a model of ours, a diffusers folder, or a CompVis file."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import torch

from ldm.class_embedder import ClassTokenizer
from ldm.config import ModelConfig, TextConfig
from ldm.helpers.vocabulary import Vocabulary
from ldm.presets import AUTOENCODERS, CLIP_PRESETS, PRESETS
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from weights.build import PartConfig, parts_of, shapes
from weights.contract import Opened, size
from weights.files import compvis_yaml, diffusers_json
from weights.files.json_settings import named, shown
from weights.files.tensors import TensorFile, open_tensors
from weights.files.tokenizers import tokenizer, tokenizer_beside
from weights.key_names import TURBO, Source, in_compvis, in_diffusers
from weights.not_models import AUTOENCODER, OURS, by_tensors, refuse_file, refuse_folder, wrong

Files = Collection[Path] | None  # the only ones that may be read, if any are given
Model = tuple[Opened, ModelConfig, Callable[[], PromptTokenizer | None]]  # and how to read its tokenizer

PART_NAMES = {"unet": "UNet", "vae": "autoencoder (VAE)", "text_encoder": "text encoder"}


def same(a: ModelConfig, b: ModelConfig) -> bool:
    """True if the two differ in name only."""
    return (a.image_size, a.schedule, parts_of(a)) == (b.image_size, b.schedule, parts_of(b))


# ----------------------------------------------------------------------------------------------------------------------
# folders


def own_folder(folder: Path, classes: bool = False) -> Model:
    """Open a folder written by the training here: every tensor under its own name.

    Args:
        folder: of the model.
        classes: take its table of nouns, which has a file of its own, in the place of the text encoder.

    Raises:
        ValueError: it is another folder.
    """
    refuse_folder(folder)
    weights = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pt", ".ckpt"))
    if weights and not (folder / "config.json").is_file():
        kind = by_tensors(open_tensors(weights[0]).shapes)
        if kind and kind is not OURS:
            raise ValueError(wrong(weights[0], kind))
    missing = [f for f in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / f).is_file()]
    if missing:
        whose = "" if (folder / "config.json").is_file() else " (a diffusers folder has a model_index.json)"
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}{whose}")
    with named(folder / "config.json"):
        config = ModelConfig.from_json((folder / "config.json").read_bytes())
    if not isinstance(config.text, TextConfig):
        raise ValueError(f"{folder / 'config.json'} is no model of ours: they all read prompts by CLIP's text encoder")
    file, parts = open_tensors(folder / "model.safetensors"), parts_of(config)
    pieces = [(part, file, {name: Source(f"{part}.{name}") for name in shapes(parts[part])}) for part in parts]
    if classes:
        config = replace(config, name="stickers-classes", text=PRESETS["stickers-classes"].text)
        parts = parts_of(config)
        table = open_tensors(folder / "classes.safetensors"), {"embedding.weight": Source("embedding.weight")}
        pieces = [("text_encoder", *table), *(piece for piece in pieces if piece[0] != "text_encoder")]
    opened = Opened(f"{shown(config.name)}, a model of ours", parts, pieces)
    if classes:
        nouns = Vocabulary.from_json((folder / "words.json").read_bytes()).kinds["nouns"]
        return opened, config, lambda: ClassTokenizer(nouns, config.text)
    return opened, config, lambda: CLIPTokenizer.from_file(folder / "tokenizer.json", config.text)


def diffusers_folder(folder: Path, name: str, dtype: torch.dtype, ema: bool, among: Files) -> Model:
    """Open a diffusers folder: a file, or several shards, for each part."""
    config = diffusers_json.model_config(folder, name)
    paths = {part: tensor_file(diffusers_json.component(folder, part), dtype, ema, among) for part in parts_of(config)}
    files = {part: open_tensors(path) for part, path in paths.items()}

    def taken_for(name: str, config: ModelConfig) -> Opened:
        parts = parts_of(config)
        pieces = [diffusers_piece(part, parts[part], file) for part, file in files.items() if part in parts]
        return Opened(f"{name}, a diffusers folder ({', '.join(p.name for p in paths.values())})", parts, pieces)

    presets = [preset for preset, its in PRESETS.items() if same(its, config)]
    if presets and name not in presets:
        name = f"{name}, which is {' or '.join(presets)} by its configuration"
    others = lambda: {name: taken_for(name, other) for name, other in PRESETS.items()}
    opened = Opened(**vars(taken_for(name, config)) | {"otherwise": others})
    return opened, config, lambda: config.text and tokenizer(folder / "tokenizer", config.text, among)


def autoencoder_folder(folder: Path, dtype: torch.dtype, among: Files) -> Opened:
    refuse_folder(folder, but=(AUTOENCODER,))
    config = diffusers_json.autoencoder_config(folder / "config.json")
    return component("an autoencoder in a diffusers folder", "autoencoder", config, folder, dtype, among)


def clip_folder(folder: Path, dtype: torch.dtype, among: Files) -> Opened:
    config = CLIP_PRESETS["clip-vit-l"]
    diffusers_json.refuse_other_clip(folder / "config.json", config)
    return component("CLIP", "clip", config, folder, dtype, among)


def clip_file(path: Path) -> Opened:
    """Open a file written by the training here."""
    config = CLIP_PRESETS["stickers-clip"]
    return Opened("stickers-clip", {"clip": config}, [diffusers_piece("clip", config, open_tensors(path))])


def component(what: str, part: str, config: PartConfig, folder: Path, dtype: torch.dtype, among: Files) -> Opened:
    file = open_tensors(tensor_file(folder, dtype, among=among))
    return Opened(what, {part: config}, [diffusers_piece(part, config, file)])


def diffusers_piece(part: str, config: PartConfig, file: TensorFile) -> tuple:
    return part, file, in_diffusers(shapes(config), file.shapes)


def tensor_file(folder: Path, dtype: torch.dtype, ema: bool = True, among: Files = None) -> Path:
    """The file of a component: safetensors before pickles, in half precision if wanted and available, without averaging
    if wanted. Raises ValueError if there is none."""
    variants = [".fp16", ""] if dtype in (torch.float16, torch.bfloat16) else ["", ".fp16"]
    if not ema:
        variants = [".non_ema", *variants]
    for kind in ("{}{}.safetensors", "{}.safetensors.index{}.json", "{}{}.bin"):
        for variant in variants:
            for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
                path = folder / kind.format(stem, variant)
                if (among is None or path in among) and path.is_file():
                    return path
    raise ValueError(
        f"the model folder lacks weights: {folder} holds no .safetensors or .bin file of them. Pickled shards are not "
        "supported: save such a model again, with `save_pretrained` of diffusers or transformers"
    )


# ----------------------------------------------------------------------------------------------------------------------
# CompVis files


def compvis_file(path: Path, preset: str | None, ema: bool, parameterisation: str | None = None) -> Model:
    """Open a whole model in one file. The shapes identify the model, unless different models share them; if none fits,
    the nearest is taken. Among those with SD 2's shapes, sd-turbo's own file is identified by its names.

    Args:
        path: of the file; its .yaml may be beside it.
        preset: the model's name, if given by the user.
        ema: take the averaged weights if the file has both.
        parameterisation: what its UNet predicts, which the file does not show.

    Raises:
        ValueError: it is not a whole model, or fits several that compute differently.
    """
    file = open_tensors(path)
    refuse_file(path, file.shapes)
    refuse_incomplete(path, file)
    settings = compvis_yaml.training_settings(path.with_suffix(".yaml"))
    known = {name: config for name, config in PRESETS.items() if not name.startswith("stickers")}
    found = {name: as_compvis(file, name, config, ema) for name, config in known.items()}
    if preset is None and any(name.startswith(TURBO) for name in file.shapes):
        preset = "sd-turbo"
    name = nearest = preset or min(found, key=lambda name: size(found[name].misfit()))
    if not preset and not found[nearest].misfit():
        fitting = [name for name in known if not found[name].misfit()]
        predicts = parameterisation or compvis_yaml.predicted(settings)
        fitting = [name for name in fitting if known[name].schedule.parameterisation == predicts] or fitting
        nearest, *others = fitting
        if not all(same(known[other], known[nearest]) for other in others):
            choices = ", ".join(f"{name}={path}" for name in fitting)
            raise ValueError(f"{path} may be any of several models with the same tensors; say which: {choices}")
        name = f"{' or '.join(fitting)} (the same model)" if others else nearest
    config = compvis_yaml.checked(known[nearest], path.with_suffix(".yaml"), settings, parameterisation)
    opened = as_compvis(file, name, config, ema, otherwise=lambda: found)
    return opened, config, lambda: config.text and tokenizer_beside(path, config.text)


def as_compvis(file: TensorFile, name: str, config: ModelConfig, ema: bool, otherwise: Callable = dict) -> Opened:
    parts = parts_of(config)
    pieces = [(part, file, in_compvis(part, its, file.shapes, ema)) for part, its in parts.items()]
    averaged = any(source.instead_of for _, _, layout in pieces for source in layout.values())
    return Opened(f"{name}, a CompVis file{', averaged weights' if averaged else ''}", parts, pieces, otherwise)


def refuse_incomplete(path: Path, file: TensorFile) -> None:
    """Raises ValueError, with the remedy, if a file has a UNet but not all other parts of its model."""
    parts = {"model.diffusion_model.": "unet", "first_stage_model.": "vae", "cond_stage_model.": "text_encoder"}
    there = {part for prefix, part in parts.items() if any(name.startswith(prefix) for name in file.shapes)}
    if any(name.startswith(TURBO) for name in file.shapes) or not any(".attn2." in name for name in file.shapes):
        there.add("text_encoder")
    if missing := [part for part in parts.values() if part not in there]:
        given = ", ".join(f"{part}=..." for part in missing)
        raise ValueError(
            f"{path} lacks the {' and the '.join(map(PART_NAMES.get, missing))}: take a file of the whole model, or "
            f"complete it in diffusers by `StableDiffusionPipeline.from_single_file(file, {given})`, and give the "
            "folder that `save_pretrained` writes"
        )


def autoencoder_file(path: Path) -> Opened:
    """Identify a first stage's file, in either layout, among the known ones. Raises ValueError if it is none."""
    file = open_tensors(path)
    refuse_file(path, file.shapes, but=(AUTOENCODER,))
    compvis = any(name.startswith(("encoder.down.", "first_stage_model.")) for name in file.shapes)

    def taken_for(name: str, config: PartConfig) -> Opened:
        what = f"{name}, an autoencoder in a {'CompVis' if compvis else 'diffusers'} file"
        layout = (
            in_compvis("autoencoder", config, file.shapes) if compvis else in_diffusers(shapes(config), file.shapes)
        )
        return Opened(what, {"autoencoder": config}, [("autoencoder", file, layout)])

    return min((taken_for(*known) for known in AUTOENCODERS.items()), key=lambda opened: size(opened.misfit()))
