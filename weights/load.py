"""Loading a model: the included one, a public checkpoint by name, a diffusers folder or a CompVis file.

The format is detected from the contents and logged, at level INFO.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ldm.autoencoder import Autoencoder
from ldm.helpers.machine import multiplies_bfloat16
from ldm.helpers.vocabulary import Vocabulary
from ldm.pipeline import LatentDiffusion, Origin
from ldm.presets import CLIP_PRESETS, PRESETS
from ldm.tokenizer import PromptTokenizer
from ldm.zoo.clip import CLIP
from weights.checkpoints import CHECKPOINTS, fetched, files_of
from weights.detect import CLASSES, Files, autoencoder_file, components, compvis_file, diffusers_folder, own_folder
from weights.files.diffusers_json import autoencoder_config, clip_config
from weights.files.json_settings import named, shown
from weights.files.tokenizers import tokenizer

SHIPPED = dict.fromkeys(("stickers", CLASSES), Path(__file__).parent / "stickers")
SHIPPED_AUTOENCODERS = {"stickers-vq": Path(__file__).parent / "stickers" / "vq.safetensors"}
SHIPPED_CLIPS = {"stickers-clip": Path(__file__).parent / "stickers" / "clip.safetensors"}
LOADERS = {"model": "load", "autoencoder": "load_autoencoder", "clip": "load_clip"}
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
        dtype: of the parameters and of the computation; "auto" is bfloat16 on a processor that computes in it, with
            images at least 40 dB near those of float32 from the included model, and float32 elsewhere.
        ema: take the UNet's averaged weights if a file has both.
        parameterisation: what the UNet predicts [D12], "eps" or "v", if the files do not state it or are wrong.

    Raises:
        ValueError: no such model, a missing or damaged file, tensors that do not fit, or no such device, dtype or
            parameterisation.
    """
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    if parameterisation not in (None, "eps", "v"):
        raise ValueError(f"no parameterisation {parameterisation!r}: give eps or v")
    with found(name, "model") as (path, preset, files):
        if path.is_file():
            opened, config = compvis_file(path, preset, ema, parameterisation)
        elif (path / "model_index.json").is_file():
            opened, config = diffusers_folder(path, str(name), precision, ema, files)
        else:
            opened, config = own_folder(path, classes=name == CLASSES)
        opened.refuse_misfit(path)  # before a tokenizer is downloaded
        words = tokenizer(path, config.text, files)
        vocabulary = None if name == CLASSES else own_vocabulary(path)
    if parameterisation:
        config = replace(config, schedule=replace(config.schedule, parameterisation=parameterisation))
    parts = opened.filled(place, precision)
    text_encoder = parts["text_encoder"] if config.text else None
    relative = isinstance(name, Path) and not name.is_absolute()  # and no name, even if it reads like one
    origin = Origin(f"./{name}" if relative else str(name), ema, parameterisation)
    return LatentDiffusion(config, words, text_encoder, parts["unet"], parts["autoencoder"], vocabulary, origin)


def load_autoencoder(name: str | Path, device: str = "auto", dtype: str = "float32") -> Autoencoder:
    """Load a first stage on its own: by name (stickers-vq, which is included; sd-vae-ft-mse), from a diffusers folder,
    or from a file.

    Raises:
        ValueError: as for `load`.
    """
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    with found(name, "autoencoder") as (path, _, files):
        if path.is_file():
            opened = autoencoder_file(path)
        else:
            parts = {"autoencoder": autoencoder_config(path / "config.json")}
            opened = components("an autoencoder", parts, {"autoencoder": path}, precision, True, files)
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
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    with found(name, "clip") as (path, _, files):
        config = CLIP_PRESETS["stickers-clip"] if path.is_file() else clip_config(path / "config.json")
        opened = components("CLIP", {"clip": config}, {"clip": path}, precision, True, files)
        opened.refuse_misfit(path)
        words = tokenizer(path, config.text, files)
    return opened.filled(place, precision)["clip"], words


@contextmanager
def found(name: str | Path, kind: str) -> Iterator[tuple[Path, str | None, Files]]:
    """Resolve a name or path, with a download if needed, and turn errors of the file system, also in the body of the
    `with`, into a ValueError with the path: a folder may be without permission.

    Yields:
        The path; the model's name, if given by the user; and the verified files of a public checkpoint.

    Raises:
        ValueError: it does not exist, cannot be read, or is of another kind.
    """
    try:
        yield find(name, kind)
    except OSError as e:
        raise ValueError(f"{shown(str(e.filename or name))} cannot be read: {e.strerror or e}") from e


def find(name: str | Path, kind: str) -> tuple[Path, str | None, Files]:
    """What `found` yields. Only a string can be a name."""
    shipped = {"model": SHIPPED, "autoencoder": SHIPPED_AUTOENCODERS, "clip": SHIPPED_CLIPS}
    public = {of: [each for each, entry in CHECKPOINTS.items() if entry.kind == of] for of in LOADERS}
    preset, _, rest = str(name).partition("=")
    if name in shipped[kind]:  # which a Path is not
        return shipped[kind][name], None, None
    if name in public[kind]:
        folder = fetched(name)
        return folder, None, files_of(name, folder)
    if Path(name).exists():
        return Path(name), None, None
    if isinstance(name, str) and kind == "model" and preset in PRESETS.keys() - SHIPPED.keys() and Path(rest).is_file():
        return Path(rest), preset, None
    other = "".join(
        f", which is for `weights.load.{LOADERS[of]}`" for of in LOADERS if name in [*shipped[of], *public[of]]
    )
    names = f"{' or '.join(shipped[kind])}, included; one to download ({', '.join(public[kind])})"
    paths = "a folder, a file, or PRESET=FILE for a file that may be of several models" if kind == "model" else "a path"
    raise ValueError(f"no {kind} {shown(str(name))}{other}: give {names}; or {paths}")


def load_vocabulary(name: str | Path = "stickers") -> Vocabulary | None:
    """Load the words that a model was trained on, without the model; None if it does not list them.

    Raises:
        ValueError: no such model, or a damaged list.
    """
    if name in CHECKPOINTS:  # none of them has a list: nothing is downloaded
        return None
    with found(name, "model") as (path, _, _):
        words = own_vocabulary(path)
    return Vocabulary("CLASS", {"classes": words.kinds["nouns"]}) if name == CLASSES else words


def own_vocabulary(path: Path) -> Vocabulary | None:
    """Read `words.json` in a folder written by the training here, if there is one. Raises ValueError if damaged."""
    file = path / "words.json"
    if not (path / "config.json").is_file() or not file.is_file():
        return None
    with named(file):
        return Vocabulary.from_json(file.read_bytes())


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Raises ValueError if there is no such dtype."""
    if name == "auto":
        name = "bfloat16" if device.type == "cpu" and multiplies_bfloat16() else "float32"
    if name not in DTYPES:
        raise ValueError(f"no dtype {name!r}: give one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def pick_device(name: str) -> torch.device:
    """Raises ValueError if there is no such device."""
    gpus = ["cuda", *(f"cuda:{i}" for i in range(1, torch.cuda.device_count()))] if torch.cuda.is_available() else []
    here = [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    try:
        device = torch.empty(0, device=here[0] if name == "auto" else name).device
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError) as e:  # torch's message can be pages long
        reason, *_ = re.split(r"(?<=\.)\s|\n", str(e), maxsplit=1)
        raise ValueError(f"no device {name!r} here: give {', '.join(here)} or auto ({reason[:120]})") from e
    return device
