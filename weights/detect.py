"""Detects the format of a path from its contents: a model of ours, a diffusers folder, or a CompVis file."""

from collections.abc import Collection
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from ldm.config import ModelConfig, TextConfig
from ldm.presets import AUTOENCODERS, PRESETS
from weights.build import PartConfig, parts_of, shapes
from weights.contract import Opened
from weights.files import compvis_yaml, diffusers_json
from weights.files.json_settings import named, shown
from weights.files.tensors import TensorFile, open_tensors
from weights.key_names import TURBO, Source, in_compvis, in_diffusers
from weights.not_models import refuse_others

CLASSES = "stickers-classes"  # the included model with a table of its nouns in the place of the text encoder

Files = Collection[Path] | None  # the only ones that may be read, if any are given
Model = tuple[Opened, ModelConfig]


def own_folder(folder: Path, classes: bool = False) -> Model:
    """Open a folder written by the training here: every tensor under its own name.

    Args:
        folder: of the model.
        classes: take its table of nouns, which has a file of its own, in the place of the text encoder.

    Raises:
        ValueError: it is another folder.
    """
    if missing := [f for f in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / f).is_file()]:
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)} (or model_index.json, of diffusers)")
    with named(folder / "config.json"):
        config = ModelConfig.from_json((folder / "config.json").read_bytes())
        if not isinstance(config.text, TextConfig):
            raise ValueError("it is no model of ours: they all read prompts by CLIP's text encoder")
    file = open_tensors(folder / "model.safetensors")
    if classes:
        config = replace(config, name=CLASSES, text=PRESETS[CLASSES].text)
        table = open_tensors(folder / "classes.safetensors").tensors
        others = {name: tensor for name, tensor in file.tensors.items() if not name.startswith("text_encoder.")}
        file = TensorFile(file.path, others | {f"text_encoder.{name}": tensor for name, tensor in table.items()})
    parts = parts_of(config)
    pieces = [(part, file, {name: Source(f"{part}.{name}") for name in shapes(its)}) for part, its in parts.items()]
    return Opened(f"{shown(config.name)}, a model of ours", parts, pieces), config


def diffusers_folder(folder: Path, name: str, dtype: torch.dtype, ema: bool, among: Files) -> Model:
    config = diffusers_json.model_config(folder, name)
    folders = {part: diffusers_json.component(folder, part) for part in parts_of(config)}
    return components(f"{name}, a diffusers folder", parts_of(config), folders, dtype, ema, among), config


def components(
    what: str, parts: dict[str, PartConfig], folders: dict[str, Path], dtype: torch.dtype, ema: bool, among: Files
) -> Opened:
    """Open parts in diffusers' layout: a file, or several shards, in a folder for each."""
    files = {part: open_tensors(tensor_file(folder, dtype, ema, among)) for part, folder in folders.items()}
    pieces = [(part, file, in_diffusers(shapes(parts[part]), file.shapes)) for part, file in files.items()]
    return Opened(f"{what} ({', '.join(file.path.name for file in files.values())})", parts, pieces)


def tensor_file(folder: Path, dtype: torch.dtype, ema: bool, among: Files) -> Path:
    """The file of a component: safetensors before pickles, in half precision if wanted and available, without averaging
    if wanted. Raises ValueError if there is none."""
    if folder.is_file():
        return folder
    variants = [".fp16", ""] if dtype in (torch.float16, torch.bfloat16) else ["", ".fp16"]
    if not ema:
        variants = [".non_ema", *variants]
    kinds = "{}{}.safetensors", "{}.safetensors.index{}.json", "{}{}.bin"
    stems = "diffusion_pytorch_model", "model", "pytorch_model"
    for kind, variant, stem in product(kinds, variants, stems):
        path = folder / kind.format(stem, variant)
        if (among is None or path in among) and path.is_file():
            return path
    raise ValueError(
        f"the model folder lacks weights: {folder} holds no .safetensors or .bin file of them. Pickled shards are not "
        "supported: save such a model again, with `save_pretrained` of diffusers or transformers"
    )


def compvis_file(path: Path, preset: str | None, ema: bool, predicts: str | None = None) -> Model:
    """Open a whole model in one file. The shapes identify the model, unless different models share them; if none fits,
    the nearest is taken. Among those with SD 2's shapes, sd-turbo's own file is identified by its names.

    Args:
        path: of the file; its .yaml may be beside it.
        preset: the model's name, if given by the user.
        ema: take the averaged weights if the file has both.
        predicts: the UNet's parameterisation, which the file does not show.

    Raises:
        ValueError: it is not a whole model, or fits several that compute differently.
    """
    file = open_tensors(path)
    refuse_others(file)
    beside = path.with_suffix(".yaml")
    params = compvis_yaml.training_settings(beside)
    predicts = predicts or params.get("parameterization")
    if preset is None and any(name.startswith(TURBO) for name in file.shapes):
        preset = "sd-turbo"
    known: dict[ModelConfig, list[str]] = {}  # models that differ in name alone are one
    for name, config in PRESETS.items():
        if preset == name or (preset is None and not name.startswith("stickers")):
            known.setdefault(replace(config, name=""), []).append(name)
    opened = {config: as_compvis(file, " or ".join(names), config, ema) for config, names in known.items()}
    misfits = {config: of.misfits() for config, of in opened.items()}
    nearest = [config for config in known if misfits[config] == min(misfits.values())]
    nearest = [config for config in nearest if config.schedule.parameterisation == predicts] or nearest
    if len(nearest) > 1 and not misfits[nearest[0]]:
        choices = ", ".join(f"{name}={path}" for config in nearest for name in known[config])
        raise ValueError(f"{path} may be any of several models with the same tensors; say which: {choices}")
    config = replace(nearest[0], name=known[nearest[0]][0])
    compvis_yaml.refuse_others(config, beside, params)
    if predicts:
        config = replace(config, schedule=replace(config.schedule, parameterisation=predicts))
    return opened[nearest[0]], config


def as_compvis(file: TensorFile, name: str, config: ModelConfig, ema: bool) -> Opened:
    parts = parts_of(config)
    pieces = [(part, file, in_compvis(part, its, file.shapes, ema)) for part, its in parts.items()]
    averaged = any(source.instead_of for _, _, layout in pieces for source in layout.values())
    return Opened(f"{name}, a CompVis file{', averaged weights' if averaged else ''}", parts, pieces)


def autoencoder_file(path: Path) -> Opened:
    """Identify a first stage's file, in either layout, among the known ones. Raises ValueError if it is none."""
    file = open_tensors(path)
    refuse_others(file, but="autoencoder")
    opened = []
    for name, config in AUTOENCODERS.items():
        compvis, others = in_compvis("autoencoder", config, file.shapes), in_diffusers(shapes(config), file.shapes)
        for whose, layout in {"CompVis": compvis, "diffusers": others}.items():
            what = f"{name}, an autoencoder in a {whose} file"
            opened.append(Opened(what, {"autoencoder": config}, [("autoencoder", file, layout)]))
    return min(opened, key=Opened.misfits)
