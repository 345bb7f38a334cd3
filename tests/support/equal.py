"""What loading a public checkpoint gives: the same tensors, or one error."""

import torch

from tests.support.public_models import Tensors


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
