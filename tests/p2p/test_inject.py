"""The two engines compute one thing, and layers are known by their size."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site, attend, attention_map
from ldm.config import ModelConfig
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from p2p.alpha import Alpha, Step
from p2p.edits import Renormalise, Reweight, Swap
from p2p.inject import Injection, Layers, explicit, folded, layout_side, watching

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"
EDIT = Swap("cat", "bicycle", Alpha(tau=Step(500), words={"bicycle": Step(800)}))


def injection(tokenizer, edit, t: int, self_shares: tuple[float, float] = (1.0, 1.0)) -> Injection:
    """Of one edited target and one that is left alone."""
    pair = tokenizer.encode(CAT), tokenizer.encode(BICYCLE)
    matrices = [each.compile(*pair, 1000)(t) for each in (edit, Reweight("grass", 1.0))]
    return Injection(matrices, Layers(places=("mid", "up")), list(self_shares), self_layers=Layers(side=4))


def qkv(n: int, m: int, rows: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = lambda k: (rows, 2, k, 8)
    return [torch.randn(shape(k), generator=generator, dtype=torch.float64) for k in (n, m, m)]


@pytest.mark.equation("P3", "P5")
@pytest.mark.parametrize("t", [1000, 700, 100])
@pytest.mark.parametrize(
    "more", [Reweight("grass", 3.0), Reweight("grass", -0.5), Reweight("grass", 3.0) + Renormalise()]
)
def test_folded_equals_explicit_in_cross_attention(tokenizer, t, more):
    """All injected, some words injected, none injected; weighted, and renormalised."""
    now = injection(tokenizer, EDIT + more, t)
    site, arrays = Site("cross", "up", 3, 4, 4), qkv(16, 32)
    # the same float64 sums, associated otherwise
    assert_close(folded(now)(site, *arrays), explicit(now)(site, *arrays), rtol=1e-12, atol=1e-12)


@pytest.mark.equation("P3", "P5")
@pytest.mark.parametrize("engine", [folded, explicit])
@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (1.0, 0.0), (0.3, 1.0)])
@pytest.mark.parametrize("side", [4, 5])
def test_targets_blend_towards_the_sources_self_attention(tokenizer, engine, shares, side):
    """By the definition: (share A + (1 - share) A*) V* of each target, in the layers that are small enough."""
    now = injection(tokenizer, EDIT, 900, shares)
    Q, K, V = qkv(side**2, side**2)
    A = attention_map(Q, K)
    w = torch.tensor([0.0, *shares], dtype=A.dtype)[:, None, None, None] * (side <= 4)  # the source's row has its own
    expected = (w * A[:1] + (1 - w) * A) @ V
    # float64 sums, associated otherwise
    assert_close(engine(now)(Site("self", "down", 0, side, side), Q, K, V), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", [folded, explicit])
def test_layers_that_were_not_chosen_are_left_alone(tokenizer, engine):
    now, arrays = injection(tokenizer, EDIT, 900), qkv(16, 32)
    down, up = (engine(now)(Site("cross", place, 0, 4, 4), *arrays) for place in ("down", "up"))
    assert_close(down, attend(*arrays), rtol=1e-12, atol=1e-12)  # the explicit engine's softmax is its own
    assert not torch.allclose(up, down)


@pytest.mark.equation("P3")
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
    with pytest.raises(pytest.fail.Exception, match="a map was built"):
        explicit(now)(Site("cross", "mid", 0, 4, 4), *qkv(16, 32))


def configured(tiny: LatentDiffusion, config: ModelConfig) -> LatentDiffusion:
    """The tiny model's parts under another configuration."""
    return LatentDiffusion(config, tiny.tokenizer, tiny.text_encoder, tiny.unet, tiny.autoencoder)


@pytest.mark.parametrize(
    ("name", "side", "there"),
    [
        ("stickers", 16, (16, 8, 4)),
        ("sd15", 16, (64, 32, 16, 8)),
        ("sd21", 24, (96, 48, 24, 12)),  # not the 12 of the middle's one layer
        ("bk-sdm-small", 16, (64, 32, 16)),  # no middle
        ("ldm-text2im", 16, (32, 16, 8, 4)),
    ],
)
def test_the_layers_that_tell_where_things_are(tiny, name, side, there):
    model = configured(tiny, PRESETS[name])
    assert layout_side(model) == side
    assert [layout_side(model, wanted) for wanted in there] == list(there)
    have = ", ".join(map(str, there))
    for missing in (0, 7, 2 * there[0], there[-1] // 2):
        with pytest.raises(ValueError, match=f"{name} has {missing} positions a side: give one of {have}$"):
            layout_side(model, missing)


@pytest.mark.parametrize(
    ("latent", "side", "coarser"),
    [(17, 17, 9), (21, 11, 11), (24, 12, 12), (10, 10, 5)],  # 21 and 11 are as near to 16
)
def test_the_sizes_of_layers_are_those_of_the_network(tiny, latent, side, coarser):
    model, seen = configured(tiny, replace(tiny.config, image_size=2 * latent)), set()
    assert layout_side(model) == side
    watch = watching(lambda site, A: seen.add((site.height, site.width)))
    model.predict(torch.zeros(1, *model.latent_shape), 500, model.encode_prompts([CAT]), attn_fn=watch)
    assert seen == {(latent, latent), (coarser, coarser)}
    assert layout_side(model, latent) == latent and layout_side(model, coarser) == coarser


def test_levels_without_attention_are_not_among_the_layers(tiny):
    coarse = replace(tiny.config.unet, attention=(False, True))
    assert layout_side(configured(tiny, replace(tiny.config, unet=coarse))) == 8
    with pytest.raises(ValueError, match=r"give one of 8$"):
        layout_side(configured(tiny, replace(tiny.config, unet=coarse)), 16)
