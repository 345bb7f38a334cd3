"""Our UNet equals diffusers' UNet2DConditionModel, and calls an edit at the attention layers it should."""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site, attention_map
from ldm.config import UNetConfig
from ldm.presets import PRESETS
from ldm.unet import UNet
from tests.support.oracles import diffusers_unet, random_network

# float64 and outputs of order 1. Rounding is 1e-16 a term, sums have up to a few thousand terms and there are about a
# hundred layers: some 1e-13. The time's angles are float32 in both, but computed alike to the bit. A GroupNorm's
# epsilon taken for 1e-5 instead of 1e-6 shows at 1e-6.
EXACT = dict(rtol=0, atol=1e-11)

SD15_NARROW = UNetConfig(channels=(16, 32, 64, 64), heads=(4, 4, 4, 4), context_width=24, groups=8)


def inputs(config: UNetConfig, height: int, width: int, timesteps: list[int], tokens: int = 7) -> dict:
    draw = lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    b = len(timesteps)
    return dict(
        z_t=draw(b, config.latent_channels, height, width),
        timestep=torch.tensor(timesteps),
        context=draw(b, tokens, config.context_width),
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "heads", "height", "width"),
    [
        pytest.param(PRESETS["stickers"].unet, (2, 4, 6), 16, 16, id="stickers"),
        pytest.param(SD15_NARROW, (4, 4, 4, 4), 16, 24, id="sd15 blocks"),
        pytest.param(
            UNetConfig(
                channels=(16, 32, 48),
                attention=(True, False, True),
                heads=(2, 4, 6),
                context_width=24,
                linear_projection=True,
                groups=8,
            ),
            (2, 4, 6),
            18,
            22,
            id="linear projection, a level without attention, sides not multiples of 4",
        ),
    ],
)
def test_unet_equals_diffusers(config, heads, height, width):
    ours = random_network(lambda: UNet(config), torch.float64)
    theirs = diffusers_unet(ours, heads)
    x = inputs(config, height, width, timesteps=[0, 13, 999])
    assert_close(ours(**x), theirs(x["z_t"], x["timestep"], x["context"]).sample, **EXACT)


@torch.no_grad()
def test_edit_that_attends_plainly_changes_nothing():
    unet = random_network(lambda: UNet(SD15_NARROW), torch.float64)
    x = inputs(SD15_NARROW, 16, 24, timesteps=[500, 501])
    plain = lambda site, Q, K, V: attention_map(Q, K) @ V
    assert_close(unet(**x, attn_fn=plain), unet(**x), **EXACT)


@torch.no_grad()
def test_edit_is_called_at_the_sites_of_sd15():
    unet = random_network(lambda: UNet(SD15_NARROW), torch.float64)
    x = inputs(SD15_NARROW, 16, 24, timesteps=[500, 501], tokens=7)
    sites = []

    def edit(site, Q, K, V):
        n, m = site.height * site.width, 7 if site.kind == "cross" else site.height * site.width
        assert (Q.shape[:3], K.shape[:3], V.shape) == ((2, 4, n), (2, 4, m), K.shape)
        sites.append(site)
        return attention_map(Q, K) @ V

    unet(**x, attn_fn=edit)
    place_and_size = (
        [("down", 16, 24)] * 2
        + [("down", 8, 12)] * 2
        + [("down", 4, 6)] * 2
        + [("mid", 2, 3)]
        + [("up", 4, 6)] * 3
        + [("up", 8, 12)] * 3
        + [("up", 16, 24)] * 3
    )
    assert sites == [
        Site(kind, place, layer, height, width)
        for layer, (place, height, width) in enumerate(place_and_size)
        for kind in ("self", "cross")
    ]
    assert len(sites) == 16 + 16


@torch.no_grad()
def test_order_of_sites_equals_diffusers():
    unet = random_network(lambda: UNet(SD15_NARROW), torch.float64)
    theirs = diffusers_unet(unet, (4, 4, 4, 4))
    x = inputs(SD15_NARROW, 16, 24, timesteps=[500])
    ours_saw, they_saw = [], []

    def edit(site, Q, K, V):
        ours_saw.append((site.kind, site.place, site.height * site.width))
        return attention_map(Q, K) @ V

    kinds = {"attn1": "self", "attn2": "cross"}
    for name, module in theirs.named_modules():
        place, kind = name.split("_")[0], kinds.get(name.split(".")[-1])  # down_blocks.0. ... .attn1
        if kind:
            module.register_forward_pre_hook(lambda _, args, at=(kind, place): they_saw.append((*at, args[0].shape[1])))
    unet(**x, attn_fn=edit)
    theirs(x["z_t"], x["timestep"], x["context"])
    assert ours_saw == they_saw
