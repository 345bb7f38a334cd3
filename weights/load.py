"""Loading a model: the included one, a public checkpoint by name, a diffusers folder or a CompVis file.

The format is detected from the contents and logged, at level INFO.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from ldm.autoencoder import Autoencoder
from ldm.helpers.vocabulary import Vocabulary
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.clip import CLIP
from weights.checkpoints import CHECKPOINTS, fetched, files_of, names_of
from weights.detect import (
    autoencoder_file,
    autoencoder_folder,
    clip_file,
    clip_folder,
    compvis_file,
    diffusers_folder,
    own_folder,
)
from weights.files.json_settings import shown
from weights.files.tokenizers import tokenizer

CLASSES = "stickers-classes"  # the included model with a table of its nouns in the place of the text encoder
SHIPPED = dict.fromkeys(("stickers", CLASSES), Path(__file__).parent / "stickers")
SHIPPED_AUTOENCODERS = {"stickers-vq": Path(__file__).parent / "stickers" / "vq.safetensors"}
SHIPPED_CLIPS = {"stickers-clip": Path(__file__).parent / "stickers" / "clip.safetensors"}
KINDS = {  # descriptions, for errors
    "model": "a model, which `weights.load.load` loads",
    "autoencoder": "an autoencoder alone, which `weights.load.load_autoencoder` loads",
    "clip": "a CLIP, which `weights.load.load_clip` loads",
    "tokenizer": "a tokenizer alone",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str | Path = "stickers",
    device: str = "auto",
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
            opened, config, read_tokenizer = compvis_file(path, preset, ema, parameterisation)
        elif (path / "model_index.json").is_file():
            opened, config, read_tokenizer = diffusers_folder(path, str(name), precision, ema, files)
        else:
            opened, config, read_tokenizer = own_folder(path, classes=name == CLASSES)
        opened.refuse_misfit(path)  # before a tokenizer is downloaded
        words, vocabulary = read_tokenizer(), None if name == CLASSES else own_vocabulary(path)
    if parameterisation:
        config = replace(config, schedule=replace(config.schedule, parameterisation=parameterisation))
    parts = opened.filled(place, precision)
    text_encoder = parts["text_encoder"] if config.text else None
    return LatentDiffusion(config, words, text_encoder, parts["unet"], parts["autoencoder"], vocabulary)


def load_autoencoder(name: str | Path, device: str = "auto", dtype: str = "float32") -> Autoencoder:
    """Load a first stage on its own: by name (stickers-vq, which is included; sd-vae-ft-mse), from a diffusers folder,
    or from a file.

    Raises:
        ValueError: as for `load`.
    """
    place, precision = pick_device(device), pick_dtype(dtype)
    with looking(name):
        path, _, files = find(name, "autoencoder")
        opened = autoencoder_folder(path, precision, files) if path.is_dir() else autoencoder_file(path)
        opened.refuse_misfit(path)
    return opened.filled(place, precision)["autoencoder"]


def load_clip(
    name: str | Path = "clip-vit-l", device: str = "auto", dtype: str = "float32"
) -> tuple[CLIP, PromptTokenizer]:
    """Load CLIP with both towers, and its tokenizer: by name (stickers-clip, which is included; clip-vit-l), from a
    folder in transformers' format, or from a file of the training here, beside its tokenizer.json.

    Raises:
        ValueError: as for `load`.
    """
    place, precision = pick_device(device), pick_dtype(dtype)
    with looking(name):
        path, _, files = find(name, "clip")
        own = path.is_file()
        opened = clip_file(path) if own else clip_folder(path, precision, files)
        opened.refuse_misfit(path)
        text = opened.parts["clip"].text
        words = CLIPTokenizer.from_file(path.with_name("tokenizer.json"), text) if own else tokenizer(path, text, files)
    return opened.filled(place, precision)["clip"], words


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
    shipped = {"model": SHIPPED, "autoencoder": SHIPPED_AUTOENCODERS, "clip": SHIPPED_CLIPS}
    if isinstance(name, str):
        kinds = {known: checkpoint.kind for known, checkpoint in CHECKPOINTS.items()}
        kinds |= {known: of for of, names in shipped.items() for known in names}
        if kinds.get(name, kind) != kind:
            raise ValueError(f"{name} is {KINDS[kinds[name]]}: give {' or '.join(names_of(kind))}, or a path")
        if name in shipped.get(kind, ()):
            return Found(shipped[kind][name])
        if name in CHECKPOINTS:
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
    ships = f"{' or '.join(shipped[kind])}, included; " if kind in shipped else ""
    paths = "a path"
    if kind == "model":
        paths = "a folder; a file, such as that of cin256; or PRESET=FILE for a file that may be of several models"
    raise ValueError(f"no {kind} {str(name)!r}: give {ships}one to download ({', '.join(names_of(kind))}); or {paths}")


def exists(path: Path) -> bool:
    """`Path.exists`, except that an impossible path, such as one with a NUL, raises ValueError."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError as e:
        raise ValueError(f"{str(path)!r} cannot be a path: {e}") from e
    return True


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
