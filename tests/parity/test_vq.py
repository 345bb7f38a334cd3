"""Our first stage with a codebook equals diffusers' VQModel, parameter for parameter."""

import pytest
import torch
from torch.testing import assert_close

from ldm.autoencoder import Autoencoder
from ldm.presets import AUTOENCODERS
from ldm.quantize import codebook_loss, commitment_loss
from tests.support.oracles import diffusers_vq, random_network

# float64 and outputs of order 1. Rounding is 1e-16 a term, sums have a few hundred terms and there are some thirty
# layers: about 1e-13. An index that differs shows at 1e-1.
EXACT = dict(rtol=0, atol=1e-11)


def random_vq() -> Autoencoder:
    return random_network(lambda: Autoencoder(AUTOENCODERS["stickers-vq"]), torch.float64)


def picture(height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (40, 72)])
def test_latent_and_reconstruction_equal_diffusers(height, width):
    ours = random_vq()
    theirs = diffusers_vq(ours)
    x = picture(height, width)
    z, expected = ours.encode(x), theirs.encode(x).latents  # both unscaled: the scale is 1
    assert z.shape == (2, 8, height // 8, width // 8)
    assert_close(z, expected, **EXACT)
    assert len(ours.quantize.indices(z).unique()) > 10  # of the codebook, not one entry everywhere
    assert_close(ours.decode(z), theirs.decode(z).sample, **EXACT)
    quantised, _, (_, _, index) = theirs.quantize(z)
    assert torch.equal(ours.quantize.indices(z).flatten(), index)
    assert_close(ours.quantize(z), quantised, **EXACT)


@torch.no_grad()
def test_losses_equal_diffusers():
    """diffusers' default keeps a slip of the first public code, beta on the codebook loss: `legacy` turns it off."""
    ours = random_vq()
    theirs = diffusers_vq(ours)
    z = ours.encode(picture(64, 64)).requires_grad_(True)
    z_q, beta = ours.quantize.vectors(ours.quantize.indices(z)), theirs.quantize.beta
    theirs.quantize.legacy = False
    with torch.enable_grad():
        loss = codebook_loss(z, z_q) + beta * commitment_loss(z, z_q)
        expected = theirs.quantize(z)[1]
        assert_close(loss, expected, **EXACT)
        assert_close(*(torch.autograd.grad(value, z)[0] for value in (loss, expected)), **EXACT)


def test_the_gradient_equals_diffusers():
    """Of the picture's mean square, at the encoder's output."""
    ours = random_vq()
    theirs = diffusers_vq(ours)
    z = ours.encode(picture(64, 64)).detach().requires_grad_(True)
    gradients = (torch.autograd.grad(y.square().mean(), z)[0] for y in (ours.decode(z), theirs.decode(z).sample))
    assert_close(*gradients, **EXACT)
