"""Tensors that do not fit, and parts alone, are refused by name: ours if missing, the file's if left over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import refused
from tests.support.public_files import public_names, save, write_folder
from tests.support.public_models import Tensors, public


@pytest.fixture
def changed(single, nothing_is_read, tmp_path):
    """Writes a CompVis file with its tensors changed, and no tokenizer beside it."""

    def change(edit: Callable[[Tensors], object]) -> Path:
        tensors = compvis(public("sd1"))
        edit(tensors)
        return save_checkpoint(tensors, tmp_path / "changed.safetensors")

    return change


def test_what_is_missing_is_named_as_in_our_model(changed):
    def edit(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".output_blocks.1.0." in name]:
            del tensors[name]
        del tensors["cond_stage_model.transformer.text_model.final_layer_norm.bias"]

    message = refused("do not fit sd1, a CompVis file", changed(edit))
    assert "13 missing ('text_encoder.final_layer_norm.bias', 'unet.up_blocks.0.resnets.1.conv1.bias', " in message
    assert message.endswith(", ...)")
    assert "left over" not in message and "wrong shape" not in message and "would fit" not in message


def test_what_is_left_over_is_named_as_in_the_file(changed):
    extra = {"model.diffusion_model.label_emb.0.0.weight": torch.zeros(2), "lora_down.weight": torch.zeros(2)}
    message = refused("do not fit sd1", changed(lambda tensors: tensors.update(extra)))
    assert message.endswith("2 left over ('lora_down.weight', 'model.diffusion_model.label_emb.0.0.weight')")
    assert "missing" not in message and "wrong shape" not in message


def test_what_has_another_shape_is_named_with_both(changed):
    """One of as many numbers, and one out of which queries cannot be cut."""

    def edit(tensors: Tensors) -> None:
        tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, 4, 3, 2)
        tensors["first_stage_model.quant_conv.weight"] = torch.zeros(64)

    message = refused("do not fit sd1", changed(edit))
    assert "2 of the wrong shape (" in message
    assert "'unet.conv_in.weight' (32, 4, 3, 2) instead of (32, 4, 3, 3)" in message
    assert "'autoencoder.quant_conv.weight' (64,) instead of (8, 8, 1, 1)" in message
    assert "missing" not in message and "left over" not in message


@pytest.mark.parametrize("shape", [(), (7,), (100, 64, 1), (192, 64)])
def test_queries_that_cannot_be_cut_out_are_of_the_wrong_shape(shape, nothing_is_read, tmp_path):
    tensors = compvis(public("celebahq"))
    tensors["model.diffusion_model.middle_block.1.qkv.weight"] = torch.zeros(shape)
    message = refused("do not fit celebahq", save_checkpoint(tensors, tmp_path / "model.ckpt"))
    assert f"3 of the wrong shape ('unet.mid_block.attentions.0.to_k.weight' {shape} instead of (96, 96)" in message


def test_the_model_that_would_fit_is_named(single, nothing_is_read):
    assert refused("do not fit sd1, a CompVis file", f"sd1={single('sd2')}").endswith("; they would fit sd2")


def test_the_model_that_a_folder_would_fit_is_named(folder, nothing_is_read, tmp_path):
    copy = shutil.copytree(folder("sd1"), tmp_path / "copy")
    (copy / "unet" / "config.json").write_text(json.dumps(public("bk-sdm").files["unet/config.json"]))
    assert refused("do not fit .*, a diffusers folder", copy).endswith("; they would fit sd1")


def test_a_tensor_that_an_index_lists_in_vain_is_named(tmp_path):
    write_folder(public("bk-sdm"), tmp_path, shards=True)
    (tmp_path / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused("diffusion_pytorch_model-00002-of-00002.safetensors", tmp_path)


@pytest.mark.parametrize(
    "part, said",
    [
        ("unet", "is the UNet alone of a diffusers folder: give the folder"),
        ("autoencoder", "is an autoencoder alone: `weights.load.load_autoencoder` loads it"),
        ("text_encoder", "is a text encoder alone: give the folder of the whole model"),
    ],
)
def test_a_part_of_a_model_is_refused_with_what_to_do(part, said, tmp_path):
    save(public_names(public("sd1").parts[part]), tmp_path / "model.safetensors")
    refused(said, tmp_path / "model.safetensors")
