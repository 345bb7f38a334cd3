"""The two engines compute one thing."""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site, attend
from p2p.alpha import Alpha
from p2p.edits import Moment, Reweight, Swap
from p2p.inject import Injection, explicit, folded

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"
EDIT = Swap("cat", "bicycle", Alpha(tau=500, words={"bicycle": 800}))


def injection(tokenizer, edit, t: int, targets: int = 2, inject_self: bool = True) -> Injection:
    moment = Moment(t, 1000, tokenizer.encode(CAT), tokenizer.encode(BICYCLE))
    return Injection([edit.matrices(moment)] * targets, inject_self, self_limit=4)


def qkv(n: int, m: int, rows: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = lambda k: (rows, 2, k, 8)
    return [torch.randn(shape(k), generator=generator, dtype=torch.float64) for k in (n, m, m)]


@pytest.mark.parametrize("t", [1000, 700, 100])
@pytest.mark.parametrize("weight", [1.0, -0.5, 3.0])
def test_folded_equals_explicit_in_cross_attention(tokenizer, t, weight):
    """All injected, some words injected, none injected; with and without a weight."""
    now = injection(tokenizer, EDIT + Reweight("grass", weight), t)
    site, arrays = Site("cross", "up", 3, 4, 4), qkv(16, 32)
    # the same float64 sums, associated otherwise
    assert_close(folded(now)(site, *arrays), explicit(now)(site, *arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inject", [True, False])
@pytest.mark.parametrize("side", [4, 5])
def test_folded_equals_explicit_in_self_attention(tokenizer, inject, side):
    now = injection(tokenizer, EDIT, 900, inject_self=inject)
    site, arrays = Site("self", "down", 0, side, side), qkv(side**2, side**2)
    result = folded(now)(site, *arrays)
    assert_close(result, explicit(now)(site, *arrays), rtol=1e-12, atol=1e-12)  # as above
    injected = inject and side <= 4
    assert torch.equal(result, attend(*arrays)) != injected


def test_the_source_row_is_plain_attention(tokenizer):
    now = injection(tokenizer, EDIT, 1000)
    arrays = qkv(16, 32)
    result = folded(now)(Site("cross", "mid", 0, 4, 4), *arrays)
    assert_close(result[:1], attend(*(a[:1] for a in arrays)), rtol=0, atol=0)


def test_folded_builds_no_map(tokenizer, monkeypatch):
    monkeypatch.setattr("p2p.inject.attention_map", lambda *_: pytest.fail("a map was built"))
    now = injection(tokenizer, EDIT, 700)
    folded(now)(Site("cross", "mid", 0, 4, 4), *qkv(16, 32))
    folded(now)(Site("self", "mid", 0, 4, 4), *qkv(16, 16))
