"""What loading a public checkpoint gives: the same tensors, or one error."""

from pathlib import Path

import pytest
import torch
from public_models import Tensors

from ldm.pipeline import LatentDiffusion
from weights.load import load


def tensors_of(model: LatentDiffusion) -> Tensors:
    parts = {"text_encoder": model.text_encoder, "unet": model.unet, "autoencoder": model.autoencoder}
    return {f"{part}.{name}": t for part, module in parts.items() if module for name, t in module.state_dict().items()}


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def refused(match: str, name: str | Path, **kwargs) -> str:
    """The message of the one ValueError that loading raises."""
    with pytest.raises(ValueError, match=match) as error:
        load(name, **kwargs)
    assert error.type is ValueError
    return str(error.value)
