"""Our first stage equals diffusers' AutoencoderKL, parameter for parameter."""

import pytest
import torch
from torch.testing import assert_close

from ldm.autoencoder import Autoencoder
from ldm.presets import PRESETS
from tests.support.oracles import diffusers_autoencoder, number_of_parameters, random_network

# float64 and outputs of order 1. Rounding is 1e-16 a term, sums have a few hundred terms and there are some thirty
# layers: about 1e-13. A GroupNorm's epsilon taken for 1e-5 instead of 1e-6 shows at 1e-6.
EXACT = dict(rtol=0, atol=1e-11)

# float32 and outputs of order 1. Rounding is 6e-8 a term, sums have up to 9 * 512 terms and there are some sixty
# layers, the errors of both growing like the root of their number.
FULL = dict(rtol=0, atol=3e-5)


def picture(height: int, width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)).to(dtype) * 2 - 1


def random_stickers() -> Autoencoder:
    return random_network(lambda: Autoencoder(PRESETS["stickers"].autoencoder), torch.float64)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 72)])
def test_posterior_and_reconstruction_equal_diffusers(height, width):
    ours = random_stickers()
    theirs = diffusers_autoencoder(ours)
    x = picture(height, width)
    q, expected = ours.posterior(x), theirs.encode(x).latent_dist
    assert q.mean.shape == (2, 8, height // 8, width // 8)
    assert_close(q.mean, expected.mean, **EXACT)
    assert_close(q.log_var, expected.logvar, **EXACT)
    assert_close(ours.reconstruct(q.mean), theirs.decode(q.mean).sample, **EXACT)


@torch.no_grad()
def test_clamped_log_var_equals_diffusers():
    ours = random_stickers()
    ours.quant_conv.weight *= 100  # or random log-variances stay well inside the clamp
    x = picture(64, 64)
    log_var = ours.posterior(x).log_var
    assert (log_var == -30).any() and (log_var == 20).any()
    # a hundred times the log-variances of the test above, hence of its rounding
    assert_close(log_var, diffusers_autoencoder(ours).encode(x).latent_dist.logvar, rtol=0, atol=100 * EXACT["atol"])


@torch.no_grad()
def test_sample_and_kl_equal_diffusers():
    ours = random_stickers()
    x = picture(64, 64)
    q, expected = ours.posterior(x), diffusers_autoencoder(ours).encode(x).latent_dist
    eps = torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert_close(q.sample(eps), expected.sample(torch.Generator().manual_seed(1)), **EXACT)
    # theirs is the sum over a latent's 512 numbers, each with the error of EXACT
    assert_close(q.kl().sum((1, 2, 3)), expected.kl(), rtol=0, atol=512 * EXACT["atol"])


@torch.no_grad()
def test_autoencoder_equals_diffusers_at_sd15_shapes():
    ours = random_network(lambda: Autoencoder(PRESETS["sd15"].autoencoder), torch.float32)
    theirs = diffusers_autoencoder(ours)
    assert number_of_parameters(ours) == 83_653_863  # of the public file
    x = picture(64, 64, torch.float32)[:1]
    q, expected = ours.posterior(x), theirs.encode(x).latent_dist
    assert_close(q.mean, expected.mean, **FULL)
    assert_close(q.log_var, expected.logvar, **FULL)
    scale = theirs.config.scaling_factor  # diffusers' default is Stable Diffusion's
    z_0 = ours.encode(x)
    assert_close(z_0, expected.mean * scale, **FULL)
    assert_close(ours.decode(z_0), theirs.decode(z_0 / scale).sample, **FULL)
