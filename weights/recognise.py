"""What a path holds, recognised from its contents: a model of ours, a diffusers folder, or a CompVis file."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch

from ldm.config import PRESETS, BertConfig, ModelConfig, TextConfig
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.wordpiece import BertTokenizer
from weights import folders
from weights.build import PartConfig, all_shapes, parts_of, shapes
from weights.fit import Misfit, Piece, misfit
from weights.layouts import TURBO, Layout, Source, in_compvis, in_diffusers, is_dropped
from weights.public import fetched
from weights.stored import shown
from weights.tensors import TensorFile, open_tensors

HALF = (torch.float16, torch.bfloat16)


class Opened(NamedTuple):
    """A checkpoint whose files have been looked at and not yet read."""

    what: str  # it is, for people
    parts: dict[str, PartConfig]
    pieces: list[Piece]
    otherwise: Callable[[], dict[str, "Opened"]] = dict  # the same files, taken for other models

    def misfit(self) -> Misfit:
        text = self.parts.get("text_encoder")
        return misfit(all_shapes(self.parts), self.pieces, lambda name: is_dropped(name, text))


def same(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether they differ in name alone."""
    return (a.image_size, a.schedule, parts_of(a)) == (b.image_size, b.schedule, parts_of(b))


def named(part: str, layout: Layout) -> Layout:
    """With our parameters' names in the whole model rather than in the part."""
    return {f"{part}.{name}": source for name, source in layout.items()}


# ----------------------------------------------------------------------------------------------------------------------
# ours


def own_folder(folder: Path, config: ModelConfig) -> Opened:
    """A folder that the training here wrote: every tensor under its own name."""
    parts = parts_of(config)
    layout = {name: Source(name) for name in all_shapes(parts)}
    file = open_tensors(folder / "model.safetensors")
    return Opened(f"{shown(config.name)}, a model of ours", parts, [Piece(file, layout)])


# ----------------------------------------------------------------------------------------------------------------------
# diffusers


def diffusers_folder(
    folder: Path, config: ModelConfig, dtype: torch.dtype, ema: bool, among: Collection[Path] | None = None
) -> Opened:
    """A file, or several shards, for each part; only of the files `among`, if they are given."""
    paths = {part: tensor_file(folders.component(folder, part), dtype, ema, among) for part in parts_of(config)}
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
    """The file of a component: safetensors before pickles, in half precision where that is wanted and there is one,
    and the weights that were not averaged where those are wanted; only one `among` these, if they are given.

    Raises:
        ValueError: there is none.
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


def compvis_file(path: Path, preset: str | None, ema: bool) -> tuple[Opened, ModelConfig]:
    """A whole model in one file. Which, follows from the shapes, unless models that differ have the same; where it fits
    none, the nearest. Of those with SD 2's shapes, sd-turbo's own file is told by its names.

    Raises:
        ValueError: it is no whole model, or fits several that compute differently.
    """
    file = open_tensors(path)
    refuse_parts(path, file)
    known = {name: config for name, config in PRESETS.items() if name != "stickers"}
    found = {name: as_compvis(file, name, config, ema) for name, config in known.items()}
    if preset is None and any(name.startswith(TURBO) for name in file.shapes):
        preset = "sd-turbo"
    if preset:
        return found[preset]._replace(otherwise=lambda: found), known[preset]
    misfits = {name: len(opened.misfit()) for name, opened in found.items()}
    nearest = min(misfits, key=misfits.get)
    fitting = [name for name, wrong in misfits.items() if not wrong]
    if any(not same(known[name], known[nearest]) for name in fitting):
        choices = ", ".join(f"{name}={path}" for name in fitting)
        raise ValueError(f"{path} may be any of several models with the same tensors; say which: {choices}")
    if len(fitting) > 1:
        return as_compvis(file, f"{' or '.join(fitting)} (the same model)", known[nearest], ema), known[nearest]
    return found[nearest], known[nearest]


def as_compvis(file: TensorFile, name: str, config: ModelConfig, ema: bool) -> Opened:
    layout, parts = {}, parts_of(config)
    for part, part_config in parts.items():
        layout |= named(part, in_compvis(part, part_config, shapes(part_config), file.shapes, ema))
    averaged = any(source.name.startswith("model_ema.") for source in layout.values())
    what = f"{name}, a CompVis file{', averaged weights' if averaged else ''}"
    return Opened(what, parts, [Piece(file, layout)])


def refuse_parts(path: Path, file: TensorFile) -> None:
    """Raises ValueError, with what to do, if the file is part of a model."""
    starts = {name.split(".")[0] for name in file.shapes}
    if not starts & {"model", "first_stage_model", "cond_stage_model"}:
        if "down_blocks" in starts:
            raise ValueError(f"{path} is the UNet alone of a diffusers folder: give the folder")
        if {"encoder", "decoder"} <= starts:
            raise ValueError(f"{path} is an autoencoder alone: `weights.load.load_autoencoder` loads it")
        if "unet" in starts:
            raise ValueError(f"{path} is the weights of a model of ours, without its configuration: give its folder")
        first = ", ".join(shown(start) for start in sorted(starts)[:5])
        raise ValueError(f"{path} holds no latent diffusion model: its tensors begin {first}")


# ----------------------------------------------------------------------------------------------------------------------
# tokenizers


def tokenizer(folder: Path, config: TextConfig | BertConfig) -> PromptTokenizer:
    """From a tokenizer's public files.

    Raises:
        ValueError: they are missing or damaged, or do not fit the config.
    """
    files = ("vocab.txt",) if isinstance(config, BertConfig) else ("vocab.json", "merges.txt")
    missing = [name for name in files if not (folder / name).is_file()]
    if "vocab.json" in missing and (folder / "tokenizer.json").is_file():
        return CLIPTokenizer.from_file(folder / "tokenizer.json", config)
    if missing:
        raise ValueError(f"the model's tokenizer in {folder} lacks {', '.join(missing)}")
    if isinstance(config, BertConfig):
        return BertTokenizer.from_vocabulary_file(folder / "vocab.txt", config)
    return CLIPTokenizer.from_files(folder / "vocab.json", folder / "merges.txt", config)


def tokenizer_beside(path: Path, config: TextConfig | BertConfig) -> PromptTokenizer:
    """Of a CompVis file, which has none: from the file's folder, its `tokenizer` folder, or the hub."""
    name = "vocab.txt" if isinstance(config, BertConfig) else "vocab.json"
    for folder in (path.parent, path.parent / "tokenizer"):
        if (folder / name).is_file():
            return tokenizer(folder, config)
    if isinstance(config, BertConfig):
        return tokenizer(fetched("bert-tokenizer") / "tokenizer", config)
    return tokenizer(fetched("clip-tokenizer"), config)
