"""Files mistaken for a model are named, with what to do instead."""

import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPConfig, CLIPModel

from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import refused
from tests.support.public_models import KINDS, module_of, public
from weights import not_models
from weights.not_models import kind_of

TABLE = tomllib.loads(Path(__file__).with_name("kinds.toml").read_text(encoding="utf-8"))


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("kind, content", TABLE["modules"].items())
def test_a_module_of_the_libraries_is_told_by_its_names(kind, content):
    with torch.device("meta"):
        module = CLIPModel(CLIPConfig(**content)) if kind == "clip" else module_of(content)
    assert kind_of(shapes_of(module)) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_models_are_named_as_what_they_are(kind):
    said = {"unet": "unet", "autoencoder": "autoencoder", "text_encoder": "text-encoder"}
    assert all(kind_of(shapes_of(module)) == said[part] for part, module in public(kind).parts.items())


NAMES = TABLE["names"]
NAMES["unknown"] += [["<" * 5000, "n" * 1_000_000]]


@pytest.mark.parametrize("kind, names", [(kind, names) for kind, lists in NAMES.items() for names in lists])
def test_a_file_of_another_kind_is_named_with_what_to_do(kind, names, tmp_path):
    path = tmp_path / "file.safetensors"
    save_file({name: torch.zeros(2) for name in names}, path)
    message = refused("file.safetensors is ", path)
    assert not_models.KINDS[kind]["what"] in message and "\n" not in message
    assert message.count(": ") == 1 and len(message) < 400


IP_ADAPTER = {"image_proj": {"proj.weight": torch.zeros(2)}, "ip_adapter": {"1.to_k_ip.weight": torch.zeros(2)}}


@pytest.mark.parametrize(
    "held, what",
    [
        ({"string_to_token": {"*": torch.zeros(1)}, "string_to_param": {"*": torch.zeros(2, 768)}}, "a textual-inv"),
        ({"sks": torch.zeros(768)}, "a textual-inversion embedding"),
        (IP_ADAPTER, "an adapter"),
    ],
)
def test_a_pickle_of_another_kind_is_named(held, what, tmp_path):
    torch.save(held, tmp_path / "file.pt")
    refused(what, tmp_path / "file.pt")


@pytest.mark.parametrize(
    "channels, what", [(9, "is an inpainting model"), (8, "is a model whose UNet has further inputs")]
)
def test_a_whole_model_with_further_inputs_is_named(channels, what, tmp_path):
    name = "model.diffusion_model.input_blocks.0.0.weight"
    tensors = compvis(public("sd1")) | {name: torch.zeros(32, channels, 3, 3)}
    refused(what, save_checkpoint(tensors, tmp_path / "file.safetensors"))
