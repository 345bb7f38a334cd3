"""Detects the format of a path from its contents: a model of ours, a diffusers folder, or a CompVis file."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch

from ldm.config import PRESETS, ClassConfig, ModelConfig
from weights.build import PartConfig, all_shapes, parts_of, shapes
from weights.contract import Misfit, Piece, misfit
from weights.files import diffusers_json
from weights.files.compvis_yaml import OriginalSettings
from weights.files.json_settings import shown
from weights.files.tensors import TensorFile, open_tensors
from weights.key_names import TURBO, Layout, Source, in_compvis, in_diffusers, is_dropped
from weights.not_models import refuse_file

HALF = (torch.float16, torch.bfloat16)
PART_NAMES = {"unet": "UNet", "vae": "autoencoder (VAE)", "text_encoder": "text encoder"}


class Opened(NamedTuple):
    """A checkpoint whose headers have been read, but not its tensors."""

    what: str  # a description, for messages
    parts: dict[str, PartConfig]
    pieces: list[Piece]
    otherwise: Callable[[], dict[str, "Opened"]] = dict  # the same files, read as other models

    def misfit(self) -> Misfit:
        text = self.parts.get("text_encoder")
        return misfit(all_shapes(self.parts), self.pieces, lambda name: is_dropped(name, text))


def same(a: ModelConfig, b: ModelConfig) -> bool:
    """True if the two differ in name only."""
    return (a.image_size, a.schedule, parts_of(a)) == (b.image_size, b.schedule, parts_of(b))


def named(part: str, layout: Layout) -> Layout:
    """Prefix the names of a part's parameters with the part, as in the whole model."""
    return {f"{part}.{name}": source for name, source in layout.items()}


# ----------------------------------------------------------------------------------------------------------------------
# ours


def own_folder(folder: Path, config: ModelConfig) -> Opened:
    """Open a folder written by the training here: every tensor under its own name. A table of classes has a file of its
    own beside the model's."""
    parts = parts_of(config)
    layout = {name: Source(name) for name in all_shapes(parts)}
    pieces = [Piece(open_tensors(folder / "model.safetensors"), layout)]
    if isinstance(config.text, ClassConfig):
        del layout["text_encoder.embedding.weight"]
        table = {"text_encoder.embedding.weight": Source("embedding.weight")}
        pieces.append(Piece(open_tensors(folder / "classes.safetensors"), table))
    return Opened(f"{shown(config.name)}, a model of ours", parts, pieces)


# ----------------------------------------------------------------------------------------------------------------------
# diffusers


def diffusers_folder(
    folder: Path, config: ModelConfig, dtype: torch.dtype, ema: bool, among: Collection[Path] | None = None
) -> Opened:
    """Open a diffusers folder: a file, or several shards, for each part; only files `among` the given ones, if any."""
    paths = {part: tensor_file(diffusers_json.component(folder, part), dtype, ema, among) for part in parts_of(config)}
    files = {part: open_tensors(path) for part, path in paths.items()}

    def taken_for(name: str, config: ModelConfig) -> Opened:
        parts = parts_of(config)
        pieces = [diffusers_piece(part, parts[part], file) for part, file in files.items() if part in parts]
        return Opened(f"{name}, a diffusers folder ({', '.join(p.name for p in paths.values())})", parts, pieces)

    name, presets = config.name, [name for name, preset in PRESETS.items() if same(preset, config)]
    if presets and name not in presets:
        name = f"{name}, which is {' or '.join(presets)} by its configuration"
    opened = taken_for(name, config)
    return opened._replace(otherwise=lambda: {name: taken_for(name, other) for name, other in PRESETS.items()})


def diffusers_piece(part: str, config: PartConfig, file: TensorFile) -> Piece:
    return Piece(file, named(part, in_diffusers(shapes(config), file.shapes)))


def tensor_file(folder: Path, dtype: torch.dtype, ema: bool = True, among: Collection[Path] | None = None) -> Path:
    """The file of a component: safetensors before pickles, in half precision if wanted and available, without averaging
    if wanted; only files `among` the given ones, if any.

    Raises:
        ValueError: there is no such file.
    """
    variants = [".fp16", ""] if dtype in HALF else ["", ".fp16"]
    if not ema:
        variants = [".non_ema", *variants]
    stems = ("diffusion_pytorch_model", "model", "pytorch_model")
    for kind in ("{}{}.safetensors", "{}.safetensors.index{}.json", "{}{}.bin"):
        for variant in variants:
            for stem in stems:
                path = folder / kind.format(stem, variant)
                if (among is None or path in among) and path.is_file():
                    return path
    if shards := sorted(folder.glob("*.bin.index*.json")):
        raise ValueError(
            f"{shards[0]} is an index of pickled shards, which is not supported: save the model again as safetensors, "
            "with `save_pretrained` of diffusers or transformers"
        )
    raise ValueError(f"the model folder lacks weights: {folder} holds no .safetensors or .bin file of them")


# ----------------------------------------------------------------------------------------------------------------------
# CompVis


def compvis_file(
    path: Path, preset: str | None, ema: bool, parameterisation: str | None = None
) -> tuple[Opened, ModelConfig]:
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
    original = OriginalSettings.beside(path)
    known = {name: config for name, config in PRESETS.items() if not name.startswith("stickers")}
    found = {name: as_compvis(file, name, config, ema) for name, config in known.items()}
    if preset is None and any(name.startswith(TURBO) for name in file.shapes):
        preset = "sd-turbo"
    if preset:
        opened, config = found[preset]._replace(otherwise=lambda: found), known[preset]
    else:
        misfits = {name: len(opened.misfit()) for name, opened in found.items()}
        nearest = min(misfits, key=misfits.get)
        fitting = [name for name, wrong in misfits.items() if not wrong]
        predicts = parameterisation or original.parameterisation
        fitting = [name for name in fitting if known[name].schedule.parameterisation == predicts] or fitting
        nearest = fitting[0] if fitting else nearest
        if any(not same(known[name], known[nearest]) for name in fitting):
            choices = ", ".join(f"{name}={path}" for name in fitting)
            raise ValueError(f"{path} may be any of several models with the same tensors; say which: {choices}")
        opened, config = found[nearest], known[nearest]
        if len(fitting) > 1:
            opened = as_compvis(file, f"{' or '.join(fitting)} (the same model)", config, ema)
    return opened, original.checked(config, parameterisation)


def as_compvis(file: TensorFile, name: str, config: ModelConfig, ema: bool) -> Opened:
    layout, parts = {}, parts_of(config)
    for part, part_config in parts.items():
        layout |= named(part, in_compvis(part, part_config, shapes(part_config), file.shapes, ema))
    averaged = any(source.name.startswith("model_ema.") for source in layout.values())
    what = f"{name}, a CompVis file{', averaged weights' if averaged else ''}"
    return Opened(what, parts, [Piece(file, layout)])


def refuse_incomplete(path: Path, file: TensorFile) -> None:
    """Raises ValueError, with the remedy, if a file has a UNet but not all other parts of its model."""
    parts = {"model.diffusion_model.": "unet", "first_stage_model.": "vae", "cond_stage_model.": "text_encoder"}
    there = {part for prefix, part in parts.items() if any(name.startswith(prefix) for name in file.shapes)}
    if any(name.startswith(TURBO) for name in file.shapes):
        there.add("text_encoder")
    prompted = any(".attn2." in name for name in file.shapes)
    missing = [part for part in parts.values() if part not in there and (part != "text_encoder" or prompted)]
    if missing:
        given = ", ".join(f"{part}=..." for part in missing)
        raise ValueError(
            f"{path} lacks the {' and the '.join(map(PART_NAMES.get, missing))}: take a file of the whole model, or "
            f"complete it in diffusers by `StableDiffusionPipeline.from_single_file(file, {given})`, and give the "
            "folder that `save_pretrained` writes"
        )
