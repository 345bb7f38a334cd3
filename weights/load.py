"""Loading a model: the included one, a public checkpoint by name, a diffusers folder or a CompVis file.

The format is detected from the contents and logged, at level INFO.
"""

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pydantic
import torch
from torch import nn

from ldm.autoencoder import Autoencoder
from ldm.class_embedder import ClassTokenizer
from ldm.config import AUTOENCODERS, CLIP_PRESETS, PRESETS, ModelConfig, TextConfig
from ldm.helpers.vocabulary import Vocabulary
from ldm.pipeline import LatentDiffusion
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.clip import CLIP
from weights.build import empty, shapes
from weights.checkpoints import CHECKPOINTS, fetched, files_of, names_of
from weights.contract import Piece, fill
from weights.detect import (
    Opened,
    compvis_file,
    diffusers_folder,
    diffusers_piece,
    named,
    own_folder,
    tensor_file,
)
from weights.files import diffusers_json
from weights.files.json_settings import shown
from weights.files.tensors import open_tensors
from weights.files.tokenizers import tokenizer, tokenizer_beside
from weights.key_names import in_compvis, in_diffusers
from weights.not_models import AUTOENCODER, OURS, by_tensors, refuse_file, refuse_folder, wrong

log = logging.getLogger(__name__)

CLASSES = "stickers-classes"  # the included model with a table of its nouns in the place of the text encoder
SHIPPED = dict.fromkeys(("stickers", CLASSES), Path(__file__).parent / "stickers")
SHIPPED_AUTOENCODERS = {"stickers-vq": Path(__file__).parent / "stickers" / "vq.safetensors"}
KINDS = {  # a description of each kind, and the function that loads it
    "model": ("a model", "weights.load.load"),
    "autoencoder": ("an autoencoder alone", "weights.load.load_autoencoder"),
    "clip": ("a CLIP", "weights.load.load_clip"),
    "tokenizer": ("a tokenizer alone", ""),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str | Path = "stickers",
    device: str = "cpu",
    dtype: str = "float32",
    ema: bool = True,
    parameterisation: str | None = None,
) -> LatentDiffusion:
    """Load a model, ready to use.

    Args:
        name: the included model, a public checkpoint by name (downloaded on first use), a folder, a file, or
            PRESET=FILE for a file that could be of several models. A `Path` is never a name.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for a GPU if there is one.
        dtype: of the parameters and of the computation.
        ema: take the UNet's averaged weights if a file has both.
        parameterisation: what the UNet predicts [D12], "eps" or "v", if the files do not state it or are wrong.

    Raises:
        ValueError: no such model, a missing or damaged file, tensors that do not fit, or no such device, dtype or
            parameterisation.
    """
    place, precision = pick_device(device), pick_dtype(dtype)
    if parameterisation not in (None, "eps", "v"):
        raise ValueError(f"no parameterisation {parameterisation!r}: give eps or v")
    with looking(name):
        path, preset, files = find(name, "model")
        if path.is_file():
            opened, config = compvis_file(path, preset, ema, parameterisation)
            reader = lambda: config.text and tokenizer_beside(path, config.text)
        elif (path / "model_index.json").is_file():
            config = diffusers_json.model_config(path, str(name))
            opened = diffusers_folder(path, config, precision, ema, files)
            reader = lambda: config.text and tokenizer(path / "tokenizer", config.text, files)
        else:
            refuse_other_folder(path)
            config = own_config(path)
            reader = lambda: CLIPTokenizer.from_file(path / "tokenizer.json", config.text)
            if name == CLASSES:
                config = replace(config, name=CLASSES, text=PRESETS[CLASSES].text)
                reader = lambda: ClassTokenizer(load_vocabulary(CLASSES).kinds["classes"], config.text)
            opened = own_folder(path, config)
        refuse_misfit(opened, path)  # before a tokenizer is downloaded
        words: PromptTokenizer | ClassTokenizer | None = reader()
        vocabulary = None if name == CLASSES else own_vocabulary(path)
    if parameterisation:
        config = replace(config, schedule=replace(config.schedule, parameterisation=parameterisation))
    parts = filled(opened, place, precision)
    text_encoder = parts["text_encoder"] if config.text else None
    return LatentDiffusion(config, words, text_encoder, parts["unet"], parts["autoencoder"], vocabulary)


@contextmanager
def looking(name: str | Path) -> Iterator[None]:
    """Turn errors of the file system, such as a folder without permission or a name that is too long, into a ValueError
    with the path."""
    try:
        yield
    except OSError as e:
        raise ValueError(f"{shown(str(e.filename or name))} cannot be read: {e.strerror or e}") from e


class Found(NamedTuple):
    """The location of a model."""

    path: Path
    preset: str | None = None  # the model's name, if given by the user
    files: Collection[Path] | None = None  # the verified files of a public checkpoint


def find(name: str | Path, kind: str) -> Found:
    """Resolve a name or path, with a download if needed. Only a string can be a name.

    Raises:
        ValueError: it does not exist, or is of another kind.
        OSError: the file system can't be read.
    """
    if isinstance(name, str):
        for ships, its_kind in ((SHIPPED, "model"), (SHIPPED_AUTOENCODERS, "autoencoder")):
            if name in ships:
                refuse_other_kind(name, its_kind, kind)
                return Found(ships[name])
        if name in CHECKPOINTS:
            refuse_other_kind(name, CHECKPOINTS[name].kind, kind)
            folder = fetched(name)
            return Found(folder, files=files_of(name, folder))
    if exists(Path(name)):
        return Found(Path(name))
    preset, equals, rest = str(name).partition("=")
    if isinstance(name, str) and kind == "model" and equals and preset in PRESETS.keys() - SHIPPED.keys():
        if not exists(Path(rest)):
            raise ValueError(f"there is no file {rest!r}, which {name!r} says to be {preset}")
        if Path(rest).is_dir():
            raise ValueError(f"{rest!r} is a folder, which says itself what it is: give it without {preset}=")
        return Found(Path(rest), preset)
    ours = {"model": SHIPPED, "autoencoder": SHIPPED_AUTOENCODERS}.get(kind, ())
    ships = f"{' or '.join(ours)}, included; " if ours else ""
    paths = {
        "model": "a diffusers folder; a CompVis file, such as cin256; or PRESET=FILE if it may be of several models",
        "autoencoder": "or the path of a diffusers folder or of a file",
        "clip": "or the path of a folder",
    }
    raise ValueError(
        f"no {kind} {str(name)!r}: give {ships}one to download ({', '.join(names_of(kind))}); {paths[kind]}"
    )


def refuse_other_kind(name: str, is_kind: str, kind: str) -> None:
    """Raises ValueError if the named checkpoint is of another kind than wanted."""
    if is_kind != kind:
        (is_what, loader), (what, _) = KINDS[is_kind], KINDS[kind]
        elsewhere = f", which `{loader}` loads" if loader else ""
        raise ValueError(f"{name} is {is_what}{elsewhere}, not {what}: give {' or '.join(names_of(kind))}, or a path")


def exists(path: Path) -> bool:
    """`Path.exists`, except that an impossible path, such as one with a NUL, raises ValueError."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as e:
        raise ValueError(f"{str(path)!r} cannot be a path: {e}") from e
    return True


def own_config(folder: Path) -> ModelConfig:
    """The config of a folder written by the training here. Raises ValueError for any other folder."""
    missing = [f for f in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / f).is_file()]
    if missing:
        whose = "" if (folder / "config.json").is_file() else " (a diffusers folder has a model_index.json)"
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}{whose}")
    try:
        config = ModelConfig.from_json((folder / "config.json").read_bytes())
    except pydantic.ValidationError as e:
        wrong = [
            f"{shown('.'.join(map(str, error['loc'])) or 'all of it')}: {error['msg']}" for error in e.errors()[:5]
        ]
        raise ValueError(f"{folder / 'config.json'} is not a model configuration: {'; '.join(wrong)}") from e
    if not isinstance(config.text, TextConfig):
        raise ValueError(f"{folder / 'config.json'} is no model of ours: they all read prompts by CLIP's text encoder")
    return config


def load_vocabulary(name: str | Path = "stickers") -> Vocabulary | None:
    """Load the words that a model was trained on, without the model; None if it does not list them.

    Raises:
        ValueError: no such model, or a damaged list.
    """
    if isinstance(name, str) and name in CHECKPOINTS:  # none of them has a list: nothing is downloaded
        return None
    with looking(name):
        words = own_vocabulary(find(name, "model").path)
    return Vocabulary("CLASS", {"classes": words.kinds["nouns"]}) if name == CLASSES else words


def own_vocabulary(path: Path) -> Vocabulary | None:
    """Read `words.json` in a folder written by the training here, if there is one. Raises ValueError if damaged."""
    file = path / "words.json"
    if not (path / "config.json").is_file() or not file.is_file():
        return None
    try:
        return Vocabulary.from_json(file.read_bytes())
    except ValueError as e:
        raise ValueError(f"{file} is not a list of words: {e}") from e


def refuse_other_folder(folder: Path) -> None:
    """Raises ValueError, with the remedy, if a folder without a model_index.json holds something other than a model."""
    refuse_folder(folder)
    files = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin", ".pt", ".ckpt"))
    if files and not (folder / "config.json").is_file():
        kind = by_tensors(open_tensors(files[0]).shapes)
        if kind and kind is not OURS:
            raise ValueError(wrong(files[0], kind))


def load_autoencoder(name: str | Path, device: str = "cpu", dtype: str = "float32") -> Autoencoder:
    """Load a first stage on its own: by name (stickers-vq, which is included; sd-vae-ft-mse), from a diffusers folder,
    or from a file.

    Raises:
        ValueError: as for `load`.
    """
    place, precision = pick_device(device), pick_dtype(dtype)
    with looking(name):
        path, _, files = find(name, "autoencoder")
        if path.is_dir():
            refuse_folder(path, but=(AUTOENCODER,))
            config = diffusers_json.autoencoder_config(path / "config.json")
            piece = diffusers_piece("autoencoder", config, open_tensors(tensor_file(path, precision, among=files)))
            opened = Opened("an autoencoder in a diffusers folder", {"autoencoder": config}, [piece])
        else:
            opened = autoencoder_file(path)
        refuse_misfit(opened, path)
    return filled(opened, place, precision)["autoencoder"].eval().requires_grad_(False)


def autoencoder_file(path: Path) -> Opened:
    """Identify a first stage's file, in either layout, among the known ones. Raises ValueError if it is none."""
    file, found = open_tensors(path), {}
    refuse_file(path, file.shapes, but=(AUTOENCODER,))
    compvis = any(name.startswith(("encoder.down.", "first_stage_model.")) for name in file.shapes)
    for name, config in AUTOENCODERS.items():
        ours = shapes(config)
        layout = in_compvis("autoencoder", config, ours, file.shapes) if compvis else in_diffusers(ours, file.shapes)
        what = f"{name}, an autoencoder in a {'CompVis' if compvis else 'diffusers'} file"
        found[name] = Opened(what, {"autoencoder": config}, [Piece(file, named("autoencoder", layout))])
    return min(found.values(), key=lambda opened: len(opened.misfit()))


def load_clip(
    name: str | Path = "clip-vit-l", device: str = "cpu", dtype: str = "float32"
) -> tuple[CLIP, PromptTokenizer]:
    """Load CLIP with both towers, and its tokenizer: by name, or from a folder in transformers' format.

    Raises:
        ValueError: as for `load`.
    """
    place, precision = pick_device(device), pick_dtype(dtype)
    config = CLIP_PRESETS["clip-vit-l"]
    with looking(name):
        path, _, files = find(name, "clip")
        diffusers_json.refuse_other_clip(path / "config.json", config)
        file = open_tensors(tensor_file(path, precision, among=files))
        opened = Opened("CLIP", {"clip": config}, [diffusers_piece("clip", config, file)])
        refuse_misfit(opened, path)
        words = tokenizer(path, config.text, files)
    return filled(opened, place, precision)["clip"].eval().requires_grad_(False), words


def refuse_misfit(opened: Opened, path: Path) -> None:
    """Raises ValueError, with a list of all misfits, unless a checkpoint's tensors are exactly those of its model. No
    tensor has been read by then."""
    if found := opened.misfit():
        others = [name for name, other in opened.otherwise().items() if not other.misfit()]
        advice = f"; they would fit {' or '.join(others)}" if others else ""
        raise ValueError(f"the tensors of {path} do not fit {opened.what}: {found}{advice}")


def filled(opened: Opened, device: torch.device, dtype: torch.dtype) -> nn.ModuleDict:
    """Create the modules of a checkpoint that `refuse_misfit` has accepted, with its tensors."""
    parts = empty(opened.parts)
    millions = sum(parameter.numel() for parameter in parts.parameters()) / 1e6
    log.info("%s: %.0f million parameters, %s, on %s", opened.what, millions, str(dtype).removeprefix("torch."), device)
    fill(parts, opened.pieces, device, dtype)
    return parts


def pick_dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"no dtype {name!r}: give one of {', '.join(DTYPES)}")
    return DTYPES[name]


def pick_device(name: str) -> torch.device:
    """Raises ValueError if there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as e:  # torch's message can be pages long
        reason, *_ = re.split(r"(?<=\.)\s|\n", str(e), maxsplit=1)
        raise ValueError(f"no device {name!r} here: give {', '.join(devices())} or auto ({reason[:120]})") from e
    if device.type == "meta":
        raise ValueError(f"no device {name!r} to compute on: give {', '.join(devices())} or auto")
    return device


def devices() -> list[str]:
    """The devices of this machine; the first GPU without its number."""
    gpus = ["cuda", *(f"cuda:{i}" for i in range(1, torch.cuda.device_count()))] if torch.cuda.is_available() else []
    return ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
