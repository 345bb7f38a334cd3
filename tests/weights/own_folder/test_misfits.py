"""Tensors that are damaged or do not fit: one ValueError that says which, and no model."""

import re

import pytest
import torch
from safetensors.torch import save_file

from tests.support.model_files import refused
from tests.support.tensor_files import HTML

BIAS = "unet.conv_in.bias"


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: HTML],
    ids=["half", "empty", "web page"],
)
def test_a_damaged_file_of_tensors_is_refused(folder, damage, nothing_is_read):
    """All the ways to damage one: test_refused_files."""
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refused("cannot be read: it is ", folder).startswith(str(path))


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (32, 4, 9), (4, 32, 3, 3), ()])
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(change_tensors, nothing_is_read, shape):
    """One that would broadcast, one with as many numbers, a transposed one, a scalar."""
    wrong = {"unet.conv_in.weight": torch.zeros(shape)}
    message = refused("do not fit", change_tensors(lambda tensors: tensors.update(wrong)))
    assert message.endswith(f": 1 of the wrong shape ('unet.conv_in.weight' {shape} instead of (32, 4, 3, 3))")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_whole_numbers_are_no_parameters(change_tensors, nothing_is_read, dtype):
    edit = lambda tensors: tensors.update({BIAS: tensors[BIAS].to(getattr(torch, dtype))})
    message = refused("do not fit", change_tensors(edit))
    assert message.endswith(f"('unet.conv_in.bias' {dtype} instead of floating-point numbers)")


LONG = "n" * 1_000_000


@pytest.mark.parametrize(
    "name, said",
    [
        ("unet.\x1b[2J.a\nb", r"'unet.\x1b[2J.a\nb'"),
        (f"{LONG}.{LONG}", f"'{'n' * 199}..."),
    ],
    ids=["terminal", "long"],
)
def test_a_tensors_name_is_escaped_and_cut(change_tensors, nothing_is_read, name, said):
    message = refused("do not fit", change_tensors(lambda tensors: tensors.update({name: torch.ones(1)})))
    assert message.endswith(f": 1 left over ({said})")


@pytest.mark.parametrize("name, said", [("\x1b[2J", r"'\x1b[2J'"), (LONG, f"'{'n' * 199}...")])
def test_names_in_a_file_that_is_no_model_are_escaped(tmp_path, name, said):
    save_file({name: torch.ones(1)}, tmp_path / "file")
    assert refused("holds no latent diffusion model", tmp_path / "file").endswith(f"begin {said}")


def test_all_that_does_not_fit_is_said_at_once(change_tensors, nothing_is_read):
    """In one line: how many, and the first three names."""

    def edit(tensors):
        for name in [name for name in tensors if name.startswith("text_encoder.")]:
            del tensors[name]
        tensors["extra"] = torch.ones(1)
        tensors["unet.conv_out.bias"] = torch.ones(3)

    message = refused("do not fit", change_tensors(edit))
    assert re.search(
        r"a model of ours: \d+ missing \(('text_encoder\.[\w.]+', ){3}\.\.\.\); "
        r"1 left over \('extra'\); 1 of the wrong shape \('unet\.conv_out\.bias' \(3,\) instead of \(4,\)\)$",
        message,
    )


def test_the_weights_of_a_model_of_another_size_are_refused(change_config, nothing_is_read):
    refused("do not fit 'tiny'", change_config(lambda fields: fields["text"].update(width=32, hidden=32)))
