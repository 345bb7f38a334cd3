"""The diffusion classifier, on a network that is the ideal denoiser of two known distributions."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2p.experiments.fidelity import fidelity
from tests.support.model_files import in_dtype

CAT, DOG = "a photo of a cat", "a photo of a dog"
SPREAD = 0.5  # standard deviation of the latents of either prompt


@pytest.fixture
def ideal(tiny, request):
    """`tiny` as the ideal denoiser [D14] where a prompt's latents are N(mean, SPREAD^2 I), the mean being the latent of
    the prompt's picture; and the two pictures, of the cat and of the dog. In float32, or in the dtype asked for."""
    dtype = getattr(request, "param", torch.float32)
    model = in_dtype(tiny, dtype)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    means, contexts = model.encode_images(pictures), model.encode_prompts([CAT, DOG])

    def eps(z_t, timestep, context, attn_fn=None):
        assert z_t.dtype == context.dtype == dtype
        z_t = z_t.float()
        of_dog = (context - contexts[1]).abs().amax(dim=(1, 2)) < 1e-4  # float32, batches of other sizes
        mean = torch.where(of_dog[:, None, None, None], means[1], means[0])
        signal, noise = (f(timestep + 1, z_t) for f in (model.schedule.signal, model.schedule.noise))
        return (noise * (z_t - signal * mean) / (signal**2 * SPREAD**2 + noise**2)).to(dtype)

    model.unet.forward = eps
    return model, pictures, means


@pytest.mark.parametrize("ideal", [torch.float32, torch.bfloat16], indirect=True)
def test_each_picture_fits_its_own_prompt(ideal):
    """eps - eps_ideal = s^2 SPREAD^2 / D eps - s n / D (z_0 - mean), with s, n the signal and the noise of z_t and
    D = s^2 SPREAD^2 + n^2: the expected losses follow."""
    model, pictures, means = ideal
    t = [31, 94, 156, 219, 281, 344, 406, 469, 531, 594, 656, 719, 781, 844, 906, 969]  # middles of 16 parts of 1000
    s2 = model.schedule.alpha_bar[t]
    n2 = 1 - s2
    D = s2 * SPREAD**2 + n2
    distance = (means[0] - means[1]).square().mean()
    own = (s2 * SPREAD**2 / D).square().mean()
    other = own + (n2 * s2 / D**2).mean() * distance
    expected = (other / own).log().item()
    found = fidelity(model, pictures, source=CAT, target=DOG)
    assert expected > 0.1
    # 16 draws of 1024 numbers; bfloat16 rounds each of them by up to 2^-8, this way and that
    assert_close(found, torch.tensor([-expected, expected]), rtol=0.05, atol=0)


def test_a_picture_between_two_fits_the_better_the_nearer(ideal, monkeypatch):
    model, _, means = ideal
    nearer = [0.0, 0.25, 0.5, 0.75, 1.0]
    between = torch.cat([torch.lerp(means[:1], means[1:], share) for share in nearer])
    monkeypatch.setattr(model, "encode_images", lambda _: between)
    found = fidelity(model, np.zeros((5, 32, 32, 3), np.uint8), source=CAT, target=DOG)
    assert (found.diff() > 0).all()
    assert found[0] < 0 < found[-1]


def test_fidelity_changes_sign_with_the_prompts_alone(ideal):
    model, pictures, _ = ideal
    both = fidelity(model, pictures, CAT, DOG, draws=4)
    assert_close(fidelity(model, pictures, DOG, CAT, draws=4), -both, rtol=0, atol=0)
    assert_close(fidelity(model, pictures[1:], CAT, DOG, draws=4), both[1:], rtol=1e-5, atol=0)  # float32
