"""Principal components of self-attention, on maps whose components are known."""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site, attend, attention_map
from p2p.experiments.self_attention_pca import SelfMaps, principal_components


def test_two_regions_are_one_component_in_closed_form():
    """The right column of a 4 x 4 picture looks at itself, the rest at itself, evenly.

    With u and v the two kinds of row, the mean row is (12 u + 4 v) / 16, so that the rest lies at (u - v) / 4 and the
    column at -3 (u - v) / 4, and ||u - v||^2 = 1/12 + 1/4 = 1/3.
    """
    column = torch.zeros(4, 4, dtype=torch.bool)
    column[:, 3] = True
    same = column.flatten()[:, None] == column.flatten()
    found = principal_components(same / same.sum(dim=1, keepdim=True))
    expected = torch.where(column, 0.75, -0.25).double() * (1 / 3) ** 0.5
    # the map is float32: rounding of 1/12
    assert_close(found.maps[0], expected, rtol=1e-6, atol=1e-6)
    assert_close(found.maps[1:], torch.zeros(2, 4, 4, dtype=torch.float64), rtol=0, atol=1e-6)
    assert_close(found.share, torch.tensor([1.0, 0, 0], dtype=torch.float64), rtol=0, atol=1e-6)


def test_components_are_the_eigenvectors_of_the_covariance():
    A = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(dim=1)
    found = principal_components(A)
    values, vectors = torch.linalg.eigh(torch.cov(A.T))  # rising
    assert_close(found.share, values.flip(0)[:3] / values.sum())
    coordinates = (A - A.mean(dim=0)) @ vectors.flip(1)[:, :3]
    assert_close(found.maps.flatten(1).abs(), coordinates.T.abs())  # up to sign
    assert (found.maps.flatten(1).max(dim=1).values == found.maps.flatten(1).abs().max(dim=1).values).all()


def test_a_map_of_no_square_picture_is_refused():
    with pytest.raises(ValueError, match="got 8"):
        principal_components(torch.eye(8))


def test_self_maps_average_and_leave_attention_as_it_is():
    generator = torch.Generator().manual_seed(0)
    maps, seen = SelfMaps(side=2), []
    for kind, side in (("self", 2), ("cross", 2), ("self", 3), ("self", 2)):
        Q, K, V = torch.randn(3, 2, 3, side**2, 8, generator=generator)
        Y = maps(Site(kind, "up", 0, side, side), Q, K, V)
        assert_close(Y, attend(Q, K, V), rtol=1e-5, atol=1e-6)  # float32, explicit against fused
        if (kind, side) == ("self", 2):
            seen += [attend(Q, K, torch.eye(4).expand(2, 3, 4, 4))]  # A = A I
    assert_close(maps.mean(), torch.stack(seen).mean(dim=(0, 2)), rtol=1e-5, atol=1e-6)  # as above


def test_half_precision_is_averaged_in_float32():
    """The maps are those of bfloat16, their average over heads is not rounded to it."""
    Q, K, V = torch.randn(3, 2, 3, 4, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    maps = SelfMaps(side=2)
    maps(Site("self", "up", 0, 2, 2), Q, K, V)
    # float32 sums of three; bfloat16 would be off by up to 2^-8
    assert_close(maps.mean(), attention_map(Q, K).double().mean(dim=1).float(), rtol=1e-6, atol=0)


def test_a_resolution_that_was_not_seen_is_refused(tiny):
    maps = SelfMaps(side=7)
    list(tiny.denoise(tiny.encode_prompts(["a cat"]), [0], steps=1, attn_fn=lambda t: maps))
    with pytest.raises(ValueError, match="no self-attention layer has 7 positions"):
        maps.mean()
