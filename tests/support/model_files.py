"""A model as a folder of files, in another dtype, or not at all: the one error that refuses it."""

import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import weights.stickers
from ldm.pipeline import LatentDiffusion
from weights.load import load

PARTS = ("text_encoder", "unet", "autoencoder")
TOKENIZER = Path(weights.stickers.__file__).parent / "tokenizer.json"


def tensors_of(model: LatentDiffusion) -> dict[str, torch.Tensor]:
    """All parameters, under the names that a model's file has."""
    return {
        f"{part}.{name}": tensor.contiguous()
        for part in PARTS
        if getattr(model, part)
        for name, tensor in getattr(model, part).state_dict().items()
    }


def save_model(model: LatentDiffusion, folder: Path) -> Path:
    """A model with the shipped vocabulary, as a folder that `load` takes."""
    (folder / "config.json").write_text(model.config.to_json(), encoding="utf-8")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    save_file(tensors_of(model), folder / "model.safetensors")
    return folder


def in_dtype(model: LatentDiffusion, dtype: torch.dtype) -> LatentDiffusion:
    """A copy of the model that computes in `dtype`."""
    return LatentDiffusion(model.config, model.tokenizer, *(deepcopy(getattr(model, part)).to(dtype) for part in PARTS))


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To the bit."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def refused(match: str, *args, **kwargs) -> str:
    """The message of the one ValueError that loading raises: a plain one, and not a subclass that slipped through."""
    with pytest.raises(ValueError, match=match) as error:
        load(*args, **kwargs)
    assert error.type is ValueError
    return str(error.value)
