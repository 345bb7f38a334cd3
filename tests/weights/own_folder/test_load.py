"""What is loaded is what was saved, to the bit, wherever and in whatever precision it is asked for."""

import numpy as np
import pytest
import torch

from tests.support.model_files import PARTS, refused, tensors_of
from weights.load import SHIPPED, load


@pytest.mark.machine
def test_a_loaded_model_gives_the_originals_outputs_to_the_bit(tiny, saved):
    model = load(saved)
    prompts, seeds = ["a photo of a cat", "a painting of a red umbrella"], [1, 2]
    assert torch.equal(model.encode_prompts(prompts), tiny.encode_prompts(prompts))
    pictures = tiny.generate(prompts, seeds, steps=2)
    np.testing.assert_array_equal(model.generate(prompts, seeds, steps=2), pictures)
    assert torch.equal(model.encode_images(pictures), tiny.encode_images(pictures))
    assert len(np.unique(pictures)) > 50  # not two blank pictures that agree


def test_every_parameter_is_loaded_and_ready_for_use(tiny, saved):
    model = load(str(saved))
    assert model.config == tiny.config
    original = tensors_of(tiny)
    for part in PARTS:
        module = getattr(model, part)
        assert not module.training
        for name, parameter in module.named_parameters():
            assert torch.equal(parameter, original[f"{part}.{name}"]), name
            assert parameter.device.type == "cpu" and not parameter.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_is_the_one_asked_for_whatever_the_files(tiny, change_tensors, dtype):
    half = {name: tensor.half() for name, tensor in tensors_of(tiny).items()}
    model = load(change_tensors(lambda tensors: tensors.update(half)), dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    for name, tensor in tensors_of(model).items():
        assert torch.equal(tensor, half[name].to(getattr(torch, dtype))), name


def test_a_model_in_bfloat16_makes_pictures(saved):
    picture = load(saved, dtype="bfloat16").generate(["a cat"], [0], steps=2)
    assert picture.shape == (1, 32, 32, 3) and len(np.unique(picture)) > 50  # not blank


def test_a_name_stands_for_the_shipped_folder(saved, monkeypatch):
    monkeypatch.setitem(SHIPPED, "stickers", saved)
    assert load().config.name == load("stickers").config.name == "tiny"


def test_loading_again_does_not_share_parameters(saved):
    first, second = load(saved), load(saved)
    first.unet.conv_in.weight.data.zero_()
    assert second.unet.conv_in.weight.abs().max() > 0


@pytest.mark.parametrize("dtype", ["float64", "int8", "half", ""])
def test_an_unknown_dtype_is_refused_with_the_known_ones(saved, dtype):
    message = refused("no dtype", saved, dtype=dtype)
    assert all(known in message for known in ("float32", "bfloat16", "float16"))


def test_an_unknown_device_is_refused(saved):
    refused("no device 'gpu' here", saved, device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_here_is_refused(saved):
    refused("no device 'cuda' here", saved, device="cuda")
