"""From files to a model. Loading is a contract: every tensor of the file used, every parameter filled, every shape
equal; otherwise one error that says what does not fit."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ldm.autoencoder import Autoencoder
from ldm.config import ModelConfig
from ldm.pipeline import LatentDiffusion
from ldm.text_encoder import TextEncoder
from ldm.tokenizer import CLIPTokenizer
from ldm.unet import UNet

SHIPPED = {"stickers": Path(__file__).parent / "stickers"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(name: str | Path = "stickers", device: str = "cpu", dtype: str = "float32") -> LatentDiffusion:
    """A model by name, or from a folder that holds config.json, tokenizer.json and model.safetensors.

    Raises:
        ValueError: no such model, a file of it missing or damaged, tensors that do not fit, or no such device or dtype.
    """
    folder = SHIPPED.get(str(name), Path(name))
    if not folder.is_dir():
        raise ValueError(f"no model {str(name)!r}: give one of {', '.join(SHIPPED)}, or a model's folder")
    missing = [f for f in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / f).is_file()]
    if missing:
        raise ValueError(f"the model folder {folder} lacks {', '.join(missing)}")
    if dtype not in DTYPES:
        raise ValueError(f"no dtype {dtype!r}: give one of {', '.join(DTYPES)}")
    try:
        config = ModelConfig.from_json((folder / "config.json").read_bytes())
    except ValueError as e:
        raise ValueError(f"{folder / 'config.json'} is not a model configuration: {e}") from e
    tokenizer = CLIPTokenizer.from_file(folder / "tokenizer.json", config.text)
    with torch.device("meta"):  # shapes only: the file's tensors become the parameters
        parts = nn.ModuleDict(
            {
                "text_encoder": TextEncoder(config.text),
                "unet": UNet(config.unet),
                "autoencoder": Autoencoder(config.autoencoder),
            }
        )
    fill(parts, read_tensors(folder / "model.safetensors", device, DTYPES[dtype]), folder / "model.safetensors")
    return LatentDiffusion(config, tokenizer, **parts)


def read_tensors(path: Path, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in the wanted dtype, on the wanted device.

    Raises:
        ValueError: the file is not a whole safetensors file, or the device is not there.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as e:
        raise ValueError(f"{path} is damaged or not a safetensors file: {e}") from e
    try:
        return {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    except (RuntimeError, AssertionError) as e:
        raise ValueError(f"no device {device!r} here: {e}") from e


def fill(model: nn.Module, tensors: dict[str, Tensor], source: Path) -> None:
    """Make the tensors the parameters of the model.

    Raises:
        ValueError: names are missing or left over, or shapes differ; nothing is filled then.
    """
    wanted = model.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "left over": sorted(tensors.keys() - wanted.keys()),
        "of the wrong shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in sorted(wanted.keys() & tensors.keys())
            if tensors[name].shape != wanted[name].shape
        ],
    }
    if any(problems.values()):
        lines = [
            f"  {len(names)} {what}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for what, names in problems.items()
            if names
        ]
        raise ValueError(f"the tensors of {source} do not fit the model:\n" + "\n".join(lines))
    model.load_state_dict(tensors, assign=True)
