"""[P1, P2] The baselines: what stays, stays bit for bit, and each limit is the plain run or the picture."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.pipeline import LatentDiffusion
from ldm.samplers import DDIM, SAMPLERS, times
from ldm.states import Noise, State
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step
from p2p.edits import Swap
from p2p.experiments.baselines import blended, fixed_seed, inpaint, reference, sdedit, uncrop
from p2p.masks import Box
from tests.support.model_files import in_dtype

CAT, DOG, BICYCLE = (f"a photo of a {noun} on the grass" for noun in ("cat", "dog", "bicycle"))
CANVAS = np.zeros((32, 32, 3), dtype=np.uint8)


def ends_at_1(model) -> LatentDiffusion:
    """The same networks, sampled as Stable Diffusion is."""
    schedule = replace(model.config.schedule, spacing="leading", offset=1, last=1)
    parts = (model.tokenizer, model.text_encoder, model.unet, model.autoencoder)
    return LatentDiffusion(replace(model.config, schedule=schedule), *parts)


@pytest.fixture(params=[0, 1], ids=["ends at 0", "ends at 1"])
def model(tiny, request) -> LatentDiffusion:
    return ends_at_1(tiny) if request.param else tiny


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:9, 3:12] = True
    return mask


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def noised(model, z_0, t, seed):
    """[D6] in float64, with the noise that a run with this seed starts from."""
    abar, eps = model.schedule.alpha_bar[t], Noise([seed], z_0.shape[1:])().double()
    return abar.sqrt() * z_0.double() + (1 - abar).sqrt() * eps


@pytest.mark.parametrize("sampler", [DDIM, SAMPLERS["ddpm"]], ids=["ddim", "ddpm"])
def test_every_baseline_is_called_alike(model, mask, picture, sampler):
    """One state a step, one row a prompt, ending where the sampler ends."""
    end = 0 if sampler == SAMPLERS["ddpm"] else model.schedule.config.last
    prompts, z_0 = [CAT, DOG], model.encode_images(picture[None])
    sampling = dict(seed=3, steps=2, guidance=2.0, sampler=sampler)
    for states in (
        fixed_seed(model, prompts, **sampling),
        blended(model, prompts, mask, **sampling),
        inpaint(model, prompts, z_0, mask, **sampling),
        uncrop(model, prompts, picture, Box(8, 8, 24, 24), **sampling),
        sdedit(model, prompts, z_0, 0.5, **sampling),
        reference(model, prompts, "replace", **sampling),
    ):
        states = list(states)
        assert [len(state.z_t) for state in states] == [2, 2] and states[-1].t == end


@pytest.mark.machine
@pytest.mark.equation("P2")
def test_blended_keeps_the_source_outside_the_mask_at_every_step(tiny, mask):
    plain = list(fixed_seed(tiny, [CAT, BICYCLE], seed=3, steps=4))
    states = list(blended(tiny, [CAT, BICYCLE], mask, seed=3, steps=4))
    assert len(states) == 4
    for state, unblended in zip(states, plain):
        assert torch.equal(state.z_t[0], unblended.z_t[0])  # the source knows nothing of it
        assert torch.equal(state.z_t[1][:, ~mask], state.z_t[0][:, ~mask])
        assert (state.z_t[1][:, mask] != state.z_t[0][:, mask]).any()
    assert torch.equal(states[0].z_t[1][:, mask], plain[0].z_t[1][:, mask])


@pytest.mark.equation("P2")
@pytest.mark.parametrize(
    ("last", "sampler", "reached"),
    [
        (0, "ddim", [750, 500, 250, 0]),
        (0, "ddpm", [750, 500, 250, 0]),
        (1, "ddim", [502, 252, 2, 1]),
        (1, "plms", [502, 502, 252, 2, 1]),
        (1, "ddpm", [502, 252, 2, 0]),
    ],
)
def test_inpaint_restores_the_noised_image_at_every_step(tiny, mask, picture, last, sampler, reached):
    """The closed form at each t, for every prompt; at the end, t = 0 or 1, the encoded picture to the bit."""
    model = ends_at_1(tiny) if last else tiny
    z_0 = model.encode_images(picture[None])
    states = list(inpaint(model, [CAT, DOG], z_0, mask, seed=3, steps=4, sampler=SAMPLERS[sampler]))
    assert [state.t for state in states] == reached
    for state in states[:-1]:
        expected = noised(model, z_0, state.t, seed=3).float()[0]
        for row in state.z_t:
            # float32: two products and a sum of numbers of about 1
            assert_close(row[:, ~mask], expected[:, ~mask], rtol=0, atol=1e-6)
            assert not torch.isclose(row[:, mask], expected[:, mask], atol=1e-6).all()
    for row in states[-1].z_t:
        assert torch.equal(row[:, ~mask], z_0[0][:, ~mask])
        assert not torch.isclose(row[:, mask], z_0[0][:, mask], atol=1e-6).all()
    assert (states[-1].z_t[0] != states[-1].z_t[1])[:, mask].any()


def test_inpaint_starts_from_the_noised_image(tiny, mask, picture):
    """By hand: z_T is noise inside the mask and the picture's z_T outside; then one step, and the picture put back."""
    z_0 = tiny.encode_images(picture[None])
    z_T = torch.where(mask, Noise([3], tiny.latent_shape)(), noised(tiny, z_0, 1000, seed=3).float())
    first = next(inpaint(tiny, [DOG], z_0, mask, seed=3, steps=4))
    by_hand = DDIM.step(tiny.schedule, z_T, tiny.predict(z_T, 1000, tiny.encode_prompts([DOG]), 4.0), 1000, 750, z_T)
    # float32: z_T was rounded from float64, and the predicted z_0 is divided by sqrt(alpha_bar_T) = 0.07
    assert_close(first.z_t[0][:, mask], by_hand[0][:, mask], rtol=1e-4, atol=1e-4)


@pytest.mark.machine
def test_inpainting_everywhere_is_the_fixed_seed_baseline(model, picture):
    everywhere = torch.ones(16, 16, dtype=torch.bool)
    z_0 = model.encode_images(picture[None])
    *_, painted = inpaint(model, [CAT, DOG], z_0, everywhere, seed=3, steps=3)
    *_, plain = fixed_seed(model, [CAT, DOG], seed=3, steps=3)
    assert torch.equal(painted.z_t, plain.z_t)


def test_inpaint_takes_a_latent_of_any_size(model):
    z_0 = torch.randn(1, 4, 6, 10, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(6, 10, dtype=torch.bool)
    mask[:, 7:] = True
    *_, last = inpaint(model, [CAT], z_0, mask, seed=3, steps=2)
    assert torch.equal(last.z_t[..., :7], z_0[..., :7])


def test_uncrop_keeps_the_positions_wholly_inside_the_box(model, picture):
    """By hand: two pixels a position. Columns 5..22 hold positions 3..10 whole, rows 8..23 positions 4..11. There the
    end is the latent of the canvas, where the picture's border is repeated around the box."""
    box, small = Box(5, 8, 23, 24), picture[:16, :18]
    canvas = small[np.clip(np.arange(32) - 8, 0, 15)][:, np.clip(np.arange(32) - 5, 0, 17)]
    *_, last = uncrop(model, [CAT, DOG], small, box, seed=3, steps=2)
    z_0 = model.encode_images(canvas[None])
    kept = (last.z_t == z_0).all(dim=1)
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[4:12, 3:11] = True
    assert torch.equal(kept[0], expected) and torch.equal(kept[1], expected)


def test_uncrop_scales_the_picture_to_its_box(model, picture):
    """One colour stays one colour."""
    grey = np.full((7, 50, 3), 90, dtype=np.uint8)
    *_, last = uncrop(model, [CAT], grey, Box(0, 0, 16, 32), seed=3, steps=2)
    z_0 = model.encode_images(np.full((1, 32, 32, 3), 90, dtype=np.uint8))
    assert torch.equal(last.z_t[..., :8], z_0[..., :8])


@pytest.mark.machine
def test_sdedit_denoises_the_noised_picture_plainly(model, picture):
    """[D6, D17] The steps from t_0 to the end by hand; from T, and from a fraction of T."""
    z_0, context = model.encode_images(picture[None]), model.encode_prompts([DOG])
    for t_0, t in ((Step(1000), 1000), (0.6, 600), (1.0, 1000)):
        z_t = model.schedule.add_noise(z_0, Noise([3], model.latent_shape)(), t)
        for now, then in pairwise(times(model.schedule, 3, t)):
            z_t = DDIM.step(model.schedule, z_t, model.predict(z_t, now, context, 4.0), now, then, z_t)
        *_, last = sdedit(model, [DOG], z_0, t_0, seed=3, steps=3)
        assert torch.equal(last.z_t, z_t)


def test_sdedit_starts_above_where_sampling_ends(tiny, picture):
    model = ends_at_1(tiny)
    z_0 = model.encode_images(picture[None])
    *_, last = sdedit(model, [DOG], z_0, Step(2), seed=3, steps=1)
    assert last.t == 1
    with pytest.raises(ValueError, match=r"a timestep in 2\.\.1000 or a fraction of T in \[0\.002, 1\], got t = 1"):
        sdedit(model, [DOG], z_0, Step(1), seed=3, steps=1)


@pytest.fixture
def half(tiny) -> LatentDiffusion:
    return in_dtype(tiny, torch.bfloat16)


def test_half_precision_keeps_the_image_of_float32(tiny, half, mask, picture):
    """To the bit at every step: only the networks compute in bfloat16."""
    z_0, rounded = (model.encode_images(picture[None]) for model in (tiny, half))
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, z_0)
    runs = [inpaint(model, [CAT, DOG], z_0, mask, seed=3, steps=3) for model in (tiny, half)]
    for wide, narrow in zip(*runs, strict=True):
        assert torch.equal(narrow.z_t[..., ~mask], wide.z_t[..., ~mask])
        assert not torch.equal(narrow.z_t[..., mask], wide.z_t[..., mask])
    everywhere = torch.ones_like(mask)
    painted = inpaint(half, [CAT], rounded, everywhere, seed=3, steps=3)
    for ours, plain in zip(painted, fixed_seed(half, [CAT], seed=3, steps=3), strict=True):
        assert torch.equal(ours.z_t, plain.z_t)


def test_sdedit_returns_the_picture_as_t_0_falls(tiny, picture):
    """What one step from t_0 = 1 leaves is the noise that was misjudged, times sqrt((1 - abar_1) / abar_1) = 0.029."""
    z_0 = tiny.encode_images(picture[None])
    *_, last = sdedit(tiny, [DOG], z_0, Step(1), seed=3, steps=1)
    eps, abar = Noise([3], tiny.latent_shape)(), tiny.schedule.alpha_bar[1].item()
    misjudged = eps - last.prediction.eps
    # float32
    assert_close(last.z_t - z_0, ((1 - abar) / abar) ** 0.5 * misjudged, rtol=0, atol=1e-5)
    far = [next(reversed(list(sdedit(tiny, [DOG], z_0, t_0, seed=3, steps=4)))).z_t for t_0 in (1.0, 0.3, 0.03, 0.004)]
    distances = [(z - z_0).square().mean().item() for z in far]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.05 * distances[0]


@pytest.mark.machine
def test_a_run_goes_on_from_any_of_its_states(tiny):
    """The second half from the state in the middle is the whole run's, to the bit."""
    whole = list(fixed_seed(tiny, [CAT, DOG], seed=3, steps=4))
    half = list(fixed_seed(tiny, [CAT, DOG], seed=3, steps=2, start=whole[1]))
    assert [state.t for state in half] == [250, 0]
    for state, same in zip(half, whole[2:]):
        assert torch.equal(state.z_t, same.z_t)


def test_a_run_from_its_own_noise_adds_the_same_noise(tiny):
    """Steps do not add the noise again that the start was made of."""
    start = State(1000, Noise([3, 3], tiny.latent_shape)())
    for state, same in zip(
        fixed_seed(tiny, [CAT, DOG], seed=3, steps=3, sampler=SAMPLERS["ddpm"], start=start),
        fixed_seed(tiny, [CAT, DOG], seed=3, steps=3, sampler=SAMPLERS["ddpm"]),
    ):
        assert torch.equal(state.z_t, same.z_t)


@pytest.mark.machine
def test_the_reference_is_the_edit_where_words_are_single_tokens(tiny):
    """8 and 4 of 10 steps, both windows counted alike at these fractions: t = 1000..300 and t = 1000..700."""
    edits = (Swap("cat", "dog", Alpha(Step(300))),)
    *_, ours = PromptToPrompt(tiny, CAT, (DOG,), edits, SelfInjection(Step(700))).denoise(seed=3, steps=10)
    *_, theirs = reference(tiny, [CAT, DOG], "replace", seed=3, steps=10)
    assert torch.equal(ours.z_t, theirs.z_t)
    edits = (Swap("cat", "bicycle", Alpha(Step(300))),)
    *_, ours = PromptToPrompt(tiny, CAT, (BICYCLE,), edits, SelfInjection(Step(700))).denoise(seed=3, steps=10)
    *_, theirs = reference(tiny, [CAT, BICYCLE], "replace", seed=3, steps=10)
    assert not torch.allclose(ours.z_t[1], theirs.z_t[1], atol=1e-3)  # bicycle is two tokens


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, z_0, mask: blended(model, [CAT, DOG], mask[:8], seed=0), r"\(8, 16\), the latent \(16, 16\)"),
        (lambda model, z_0, mask: inpaint(model, [CAT], z_0, mask[:, :8], 0), r"\(16, 8\), the latent \(16, 16\)"),
        (lambda model, z_0, mask: sdedit(model, [CAT], z_0, 0, 0), r"a timestep in 1\.\.1000 .*, got 0"),
        (lambda model, z_0, mask: sdedit(model, [CAT], z_0, 1.5, 0), r"got 1\.5"),
        (lambda model, z_0, mask: sdedit(model, [CAT], z_0, 0.0001, 0), r"fraction of T in \[0.001, 1\], got 0\.0001"),
        (lambda model, z_0, mask: uncrop(model, [CAT], CANVAS, Box(0, 0, 33, 8), 0), "does not lie in the image"),
        (lambda model, z_0, mask: uncrop(model, [CAT], CANVAS, Box(0, 0, 32, 32), 0), "nothing is left to paint"),
        (lambda model, z_0, mask: reference(model, [CAT, "a dog"], "replace", 0, steps=2), "use its refine"),
        (
            lambda model, z_0, mask: next(fixed_seed(model, [CAT, DOG], 0, start=State(9, z_0))),
            "the start has 1 rows, the prompts are 2",
        ),
        (
            lambda model, z_0, mask: next(sdedit(model, [CAT], z_0, Step(9), 0, steps=10)),
            r"number of steps must lie in 1\.\.9, got 10",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_sampling(tiny, mask, monkeypatch, call, message):
    monkeypatch.setattr(tiny.unet, "forward", lambda *_: pytest.fail("sampling began"))
    with pytest.raises(ValueError, match=message):
        call(tiny, torch.zeros(1, 4, 16, 16), mask)
