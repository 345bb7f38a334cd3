"""What is loaded is what was saved, to the bit, wherever and in whatever precision it is asked for."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.support.model_files import PARTS, assert_equal, refused, tensors_of
from weights.load import SHIPPED, load, pick_device


@pytest.mark.machine
def test_a_loaded_model_gives_the_originals_outputs_to_the_bit(tiny, saved):
    model = load(saved)
    prompts, seeds = ["a photo of a cat", "a painting of a red umbrella"], [1, 2]
    assert torch.equal(model.encode_prompts(prompts), tiny.encode_prompts(prompts))
    pictures = tiny.generate(prompts, seeds, steps=2)
    np.testing.assert_array_equal(model.generate(prompts, seeds, steps=2), pictures)
    assert torch.equal(model.encode_images(pictures), tiny.encode_images(pictures))
    assert len(np.unique(pictures)) > 50  # not two blank pictures that agree


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_is_the_one_asked_for_whatever_the_files(tiny, change, dtype):
    half = {name: tensor.half() for name, tensor in tensors_of(tiny).items()}
    model = load(str(change(lambda tensors: tensors.update(half))), dtype=dtype)
    assert model.config == tiny.config and model.dtype == getattr(torch, dtype)
    assert_equal(tensors_of(model), {name: tensor.to(getattr(torch, dtype)) for name, tensor in half.items()})
    parts = [getattr(model, part) for part in PARTS]
    assert not any(part.training or any(p.requires_grad for p in part.parameters()) for part in parts)


def test_a_name_stands_for_the_shipped_folder(saved, monkeypatch):
    monkeypatch.setitem(SHIPPED, "stickers", saved)
    assert load().config.name == load("stickers").config.name == "tiny"


def test_loading_again_does_not_share_parameters(saved):
    first, second = load(saved), load(saved)
    first.unet.conv_in.weight.data.zero_()
    assert second.unet.conv_in.weight.abs().max() > 0


@pytest.mark.parametrize("dtype", ["float64", "half", ""])
def test_an_unknown_dtype_is_refused(saved, dtype):
    refused("no dtype .*float32", saved, dtype=dtype)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu avx512_bf16 avx512vl", torch.bfloat16),
        ("amx_bf16 amx_tile", torch.bfloat16),
        ("fpu avx2 avx512f", torch.float32),
        (None, torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_computes_in_it(saved, monkeypatch, tmp_path, flags, dtype):
    listed = tmp_path / "cpuinfo"
    if flags is not None:
        listed.write_text(f"model name\t: some processor\nflags\t\t: {flags}\n")
    monkeypatch.setattr("ldm.helpers.machine.CPUINFO", listed)
    assert load(saved, "cpu", "auto").dtype == dtype


# ---------------------------------------------------------------------------------------------------------------------
# devices, whatever this machine has: a GPU is only said to be there


@pytest.fixture
def machine(monkeypatch):
    def has(*devices: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return has


@pytest.mark.parametrize(
    "has, name, picked",
    [
        (["cuda", "mps"], "auto", "cuda"),
        (["mps"], "auto", "mps"),
        ([], "auto", "cpu"),
        (["cuda", "mps"], "cuda:1", "cuda:1"),
        (["cuda", "mps"], "cpu", "cpu"),
    ],
    ids=str,
)
def test_auto_is_a_gpu_if_there_is_one(machine, has, name, picked, monkeypatch):
    machine(*has)
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=torch.device(device)))
    assert pick_device(name) == torch.device(picked)


@pytest.mark.parametrize("name", ["mps", "meta", "gpu", "cuda:9"])
def test_an_absent_device_is_one_line_with_those_there_are(machine, name, saved):
    machine()
    message = refused(r"^no device '.*: give cpu or auto", saved, device=name)
    assert "\n" not in message and len(message) < 250


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_does_not_answer_is_one_error(machine, saved):
    machine("cuda")
    refused("no device 'auto' here", saved)
