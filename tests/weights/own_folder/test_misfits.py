"""Tensors that do not fit: one ValueError that says which, and no model."""

import re

import pytest
import torch

from tests.support.model_files import refused

LONG = "n" * 1_000_000


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (32, 4, 9), (4, 32, 3, 3), ()])
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(change, nothing_is_read, shape):
    """One that would broadcast, one with as many numbers, a transposed one, a scalar."""
    message = refused("do not fit", change(lambda tensors: tensors.update({"unet.conv_in.weight": torch.zeros(shape)})))
    assert message.endswith(f": 1 of the wrong shape ('unet.conv_in.weight' {shape} instead of (32, 4, 3, 3))")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_whole_numbers_are_no_parameters(change, nothing_is_read, dtype):
    name = "unet.conv_in.bias"
    path = change(lambda tensors: tensors.update({name: tensors[name].to(getattr(torch, dtype))}))
    refused(rf"do not fit .*\('{name}' {dtype} instead of floating-point numbers\)$", path)


@pytest.mark.parametrize(
    "name, said", [("\x1b[2J.a\nb", r"'\x1b[2J.a\nb'"), (LONG, f"'{LONG[:199]}...")], ids=["esc", "long"]
)
def test_a_tensors_name_is_escaped_and_cut(change, nothing_is_read, name, said):
    message = refused("do not fit", change(lambda tensors: tensors.update({name: torch.ones(1)})))
    assert message.endswith(f": 1 left over ({said})")


def test_all_that_does_not_fit_is_said_at_once(change, nothing_is_read):
    """In one line: how many, and the first three names."""

    def edit(tensors):
        for name in [name for name in tensors if name.startswith("text_encoder.")]:
            del tensors[name]
        tensors.update({"extra": torch.ones(1), "unet.conv_out.bias": torch.ones(3)})

    said = r"do not fit 'tiny', a model of ours: \d+ missing \(('text_encoder\.[\w.]+', ){3}\.\.\.\); "
    said += r"1 left over \('extra'\); 1 of the wrong shape \('unet\.conv_out\.bias' \(3,\) instead of \(4,\)\)$"
    assert re.search(said, refused("do not fit", change(edit)))
