"""Restoration: what is given stays, what is not given is left to the model, and time goes back as it should."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ldm.autoencoder import Autoencoder
from ldm.config import AutoencoderConfig
from ldm.restoration import LUMA, Degradation, cropped, grey, masked, pooled, project, project_latent, restoring
from ldm.schedule import Prediction
from tests.support.model_files import in_dtype

SIZE = (12, 8)  # not square: axes that are swapped are seen
MASK = torch.zeros(SIZE, dtype=torch.bool)
MASK[2:7, 1:5] = True
DEGRADATIONS = {
    "masked": masked(MASK),
    "cropped": cropped((1, 2, 6, 11), SIZE),
    "grey": grey(),
    "pooled": pooled(4),
}
every = pytest.mark.parametrize("degradation", DEGRADATIONS.values(), ids=DEGRADATIONS)
images = st.integers(0, 2**32).map(
    lambda seed: torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)
exact = dict(rtol=0, atol=1e-14)  # float64: sums of at most 16 numbers of about 1


def random_latents(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Identity(Autoencoder):
    """An autoencoder whose latents are images."""

    encode = decode = staticmethod(lambda x: x)


IN_PIXELS = Identity(AutoencoderConfig(channels=(8,), layers=1, groups=8))


# ---------------------------------------------------------------------------------------------------------------------
# A and A^+


@every
@given(x=images, other=images)
def test_a_pair_that_is_no_generalised_inverse(degradation, x, other):
    A, A_plus = degradation
    y = A(other)
    assert_close(A(A_plus(A(x))), A(x), **exact)
    assert_close(A_plus(A(A_plus(y))), A_plus(y), **exact)


@every
@given(x=images, other=images)
def test_a_map_that_is_not_linear(degradation, x, other):
    for f, u, v in ((degradation.A, x, other), (degradation.A_plus, degradation.A(x), degradation.A(other))):
        assert_close(f(2 * u - 3 * v), 2 * f(u) - 3 * f(v), rtol=0, atol=1e-13)


def test_a_map_that_loses_something_else():
    """By hand, on an image whose every pixel has its own value."""
    x = torch.arange(3 * 12 * 8, dtype=torch.float64).reshape(1, 3, *SIZE)
    kept = DEGRADATIONS["masked"].A(x)
    assert torch.equal(kept[..., MASK], torch.zeros(1, 3, 20, dtype=x.dtype))
    assert torch.equal(kept[..., ~MASK], x[..., ~MASK])
    crop = DEGRADATIONS["cropped"].A(x)
    assert torch.equal(crop, x[:, :, 2:11, 1:6])
    back = DEGRADATIONS["cropped"].A_plus(crop)
    assert torch.equal(back[:, :, 2:11, 1:6], crop) and back.count_nonzero() == crop.count_nonzero()
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert_close(DEGRADATIONS["grey"].A(x)[:, 0], luma, rtol=0, atol=1e-12)  # float64, numbers below 288
    small = DEGRADATIONS["pooled"].A(x)
    assert small.shape == (1, 3, 3, 2)
    assert small[0, 1, 2, 1] == x[0, 1, 8:, 4:].mean()
    assert torch.equal(DEGRADATIONS["pooled"].A_plus(small)[0, 1, 8:, 4:], small[0, 1, 2, 1].expand(4, 4))


def test_grey_that_is_no_grey():
    assert sum(LUMA) == pytest.approx(1, abs=1e-15)  # or white would not stay white
    y = torch.full((1, 1, 2, 2), 0.3)
    assert torch.equal(grey().A_plus(y), torch.full((1, 3, 2, 2), 0.3))


# ---------------------------------------------------------------------------------------------------------------------
# the formula


@every
@given(x_0=images, truth=images)
def test_a_projection_that_loses_what_is_given(degradation, x_0, truth):
    """A of the result is y; the pixels of a mask and of a box to the bit."""
    y = degradation.A(truth)
    left = degradation.A(project(x_0, y, degradation))
    if degradation in (DEGRADATIONS["masked"], DEGRADATIONS["cropped"]):
        assert torch.equal(left, y)
    assert_close(left, y, **exact)


@every
@given(x_0=images, truth=images)
def test_a_projection_that_changes_what_is_open(degradation, x_0, truth):
    """(I - A^+ A) of the result is that of x_0; a second projection changes nothing; the truth stays the truth."""
    A, A_plus = degradation
    y = A(truth)
    found = project(x_0, y, degradation)
    assert_close(found - A_plus(A(found)), x_0 - A_plus(A(x_0)), **exact)
    assert_close(project(found, y, degradation), found, **exact)
    assert_close(project(truth, y, degradation), truth, **exact)


def test_a_latent_that_moves_without_a_reason(tiny):
    """Consistent with y already, it stays to the bit, although E(D(z_0)) is another; else it moves towards y."""
    degradation = pooled(4)
    z_0 = random_latents(2, *tiny.latent_shape)
    x_0 = torch.cat([tiny.autoencoder.decode(z) for z in z_0.split(1)])
    assert not torch.allclose(tiny.autoencoder.encode(x_0), z_0, atol=0.1)
    everything = Degradation(A=lambda x: x, A_plus=lambda y: y)
    assert torch.equal(project_latent(tiny.autoencoder, z_0, x_0, everything), z_0)
    y = degradation.A(x_0) + 0.5
    moved = tiny.autoencoder.encode(project(x_0, y, degradation)) - tiny.autoencoder.encode(x_0)
    # float32: the same numbers, one image at a time
    assert_close(project_latent(tiny.autoencoder, z_0, y, degradation), z_0 + moved, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# the sampler


@pytest.mark.parametrize("eta", [0.0, 0.85])
@every
def test_a_sample_that_is_not_consistent_with_the_given(tiny, degradation, eta):
    """Without an autoencoder in between, A z_0 is y at the end, whatever the network predicts."""
    y = degradation.A(random_latents(1, 3, *SIZE))
    step, z_t = restoring(IN_PIXELS, y, degradation, eta).step, random_latents(2, 3, *SIZE, seed=1)
    for t, t_prev in ((1000, 500), (500, 0)):
        z_0 = z_t.flip(0)
        prediction = Prediction(tiny.schedule.eps_from_z_0(z_t, z_0, t), z_0)
        z_t = step(tiny.schedule, z_t, prediction, t, t_prev, random_latents(2, 3, *SIZE, seed=t))
    # float32: a sum of up to 16 numbers of about 1
    assert_close(degradation.A(z_t), y.expand(2, *y.shape[1:]), rtol=0, atol=1e-5)


def test_a_step_whose_noise_is_that_of_another_image(tiny):
    """[D7, D8] With eta = 1 it is the posterior of the projected z_0, as published: eps follows from z_t and z_0."""
    degradation, z_t, noise = pooled(4), random_latents(2, 3, *SIZE), random_latents(2, 3, *SIZE, seed=1)
    y = degradation.A(random_latents(2, 3, *SIZE, seed=2))
    z_0 = random_latents(2, 3, *SIZE, seed=3)
    prediction = Prediction(tiny.schedule.eps_from_z_0(z_t, z_0, 600), z_0)
    mean, sigma = tiny.schedule.posterior(z_t, project(z_0, y, degradation), 600, 400)
    z_prev = restoring(IN_PIXELS, y, degradation, eta=1.0).step(tiny.schedule, z_t, prediction, 600, 400, noise)
    # float32: two ways to round the same sum
    assert_close(z_prev, mean + sigma * noise, rtol=0, atol=1e-5)


def test_a_way_back_in_time_that_is_not_noise_on_the_projection(tiny):
    """[D6] From t = 400 to 800, and again to 400 itself."""
    degradation, z_t, noise = pooled(4), random_latents(2, 3, *SIZE), random_latents(2, 3, *SIZE, seed=1)
    y, z_0 = degradation.A(random_latents(2, 3, *SIZE, seed=2)), random_latents(2, 3, *SIZE, seed=3)
    prediction = Prediction(tiny.schedule.eps_from_z_0(z_t, z_0, 400), z_0)
    for t in (800, 400):
        abar = tiny.schedule.alpha_bar[t].item()
        expected = abar**0.5 * project(z_0, y, degradation) + (1 - abar) ** 0.5 * noise
        back = restoring(IN_PIXELS, y, degradation).step(tiny.schedule, z_t, prediction, 400, t, noise)
        assert_close(back, expected, rtol=0, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("length", "visits", "expected"),
    [
        (3, 1, [1000, 800, 600, 400, 200, 0]),
        (2, 2, [1000, 800, 1000, 800, 600, 400, 600, 400, 200, 200, 0]),
        (1, 2, [1000, 1000, 800, 800, 600, 600, 400, 400, 200, 200, 0]),
        (9, 3, [*[1000, 800, 600, 400, 200] * 3, 0]),
    ],
)
def test_times_that_are_visited_in_another_order(tiny, length, visits, expected):
    visit = restoring(IN_PIXELS, torch.zeros(1, 3, 3, 2), pooled(4), 0.85, length, visits).visit
    assert visit(tiny.schedule, 5, None) == expected


def test_a_run_of_a_model_that_is_not_the_projected_one(tiny):
    """The states of a whole run are those of the step, one for each network call, and the last is projected."""
    degradation = pooled(4)
    y = degradation.A(random_latents(1, 3, 32, 32).clamp(-1, 1))
    sampler = restoring(tiny.autoencoder, y, degradation, length=2, visits=2)
    prompts = tiny.encode_prompts(["a photo of a cat", "a photo of a dog"])
    states = list(tiny.denoise(prompts, [3, 4], steps=3, sampler=sampler))
    assert [state.t for state in states] == sampler.visit(tiny.schedule, 3, None)[1:]
    last = states[-1]
    assert_close(last.z_t, project_latent(tiny.autoencoder, last.prediction.z_0, y, degradation), rtol=0, atol=1e-5)
    assert not torch.allclose(last.z_t[0], last.z_t[1], atol=1e-2)  # prompts and seeds are two


def test_a_model_in_half_precision_loses_the_latents(tiny):
    """Only the networks compute in bfloat16."""
    half, degradation = in_dtype(tiny, torch.bfloat16), pooled(4)
    y = degradation.A(random_latents(1, 3, 32, 32).clamp(-1, 1))
    sampler = restoring(half.autoencoder, y, degradation)
    *_, last = half.denoise(half.encode_prompts(["a photo of a cat"]), [3], steps=2, sampler=sampler)
    assert last.z_t.dtype == torch.float32 and not torch.equal(last.z_t, last.z_t.bfloat16().float())


@pytest.mark.parametrize("how", [dict(eta=1.5), dict(length=0), dict(visits=0)])
def test_a_setting_that_cannot_be(how):
    with pytest.raises(ValueError, match="got"):
        restoring(IN_PIXELS, torch.zeros(1, 3, 3, 2), pooled(4), **how)
