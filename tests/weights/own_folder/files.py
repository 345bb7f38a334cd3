"""What a folder of a model of ours holds, and the one error that refuses it."""

from pathlib import Path

import pytest
import torch

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
        for name, tensor in getattr(model, part).state_dict().items()
    }


def refused(match: str, *args, **kwargs) -> str:
    """The message of the one ValueError that loading raises: a plain one, and not a subclass that slipped through."""
    with pytest.raises(ValueError, match=match) as error:
        load(*args, **kwargs)
    assert error.type is ValueError
    return str(error.value)
