"""Tensors that do not fit a CompVis file's model are refused by name: ours if missing, the file's if left over."""

import re

import pytest
import torch

from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import refused
from tests.support.public_models import public

EXTRA = ["lora_down.weight", "model.diffusion_model.label_emb.0.0.weight"]


def without(*prefixes: str):
    return lambda tensors: [tensors.pop(name) for name in [*tensors] if name.startswith(prefixes)]


@pytest.mark.parametrize(
    "kind, edit, said",
    [
        (
            "sd1",
            without("model.diffusion_model.output_blocks.1.0.", "cond_stage_model.transformer.text_model.final_layer"),
            "14 missing ('text_encoder.final_layer_norm.bias', 'text_encoder.final_layer_norm.weight', "
            "'unet.up_blocks.0.resnets.1.conv1.bias', ...)",
        ),
        ("sd1", without("first_stage_model."), "missing ('autoencoder.decoder.conv_in.bias', "),
        ("sd1", without("cond_stage_model."), "missing ('text_encoder.embeddings.position_embedding.weight', "),
        (
            "sd1",
            lambda tensors: tensors.update({name: torch.zeros(2) for name in EXTRA}),
            f"2 left over ('{EXTRA[0]}', '{EXTRA[1]}')",
        ),
        *(
            (
                "celebahq",
                lambda tensors, shape=shape: tensors.update(
                    {"model.diffusion_model.middle_block.1.qkv.weight": torch.zeros(shape)}
                ),
                f"3 of the wrong shape ('unet.mid_block.attentions.0.to_k.weight' {shape} instead of (96, 96)",
            )
            for shape in [(), (7,), (100, 64, 1), (192, 64)]  # out of which queries cannot be cut
        ),
    ],
)
def test_what_does_not_fit_is_named(kind, edit, said, nothing_is_read, tmp_path):
    tensors = compvis(public(kind))
    edit(tensors)
    path = save_checkpoint(tensors, tmp_path / "changed.ckpt")  # with no tokenizer beside it
    message = refused(re.escape(f"{path} do not fit {kind}, a CompVis file: ") + "[^;]*" + re.escape(said), path)
    assert "\n" not in message and len(message) < 500


def test_a_file_said_to_be_another_model_is_refused(single, nothing_is_read):
    refused("do not fit sd1, a CompVis file: .* missing .*; .* left over", f"sd1={single('sd2')}")


def test_a_folder_with_another_models_configuration_is_refused(copied, folder, nothing_is_read):
    copy, name = copied("sd1"), "unet/config.json"
    (copy / name).write_bytes((folder("bk-sdm") / name).read_bytes())
    refused("do not fit .*, a diffusers folder", copy)
