"""Inversion of real images: against closed forms, diffusers' inverse scheduler, and the claims of each method."""

import itertools
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from diffusers import DDIMInverseScheduler
from torch import nn
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.equations.ideal_denoiser import IdealDenoiser, gaussian
from ldm.pipeline import LatentDiffusion
from ldm.samplers import DDIM
from ldm.schedule import Prediction, Schedule
from ldm.unet import UNet
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.edits import Swap
from p2p.inject import Layers
from p2p.inversion.ddim import ddim, step_back
from p2p.inversion.inverted import Method
from p2p.inversion.methods import invert_latent
from p2p.local_blend import LocalBlend
from weights.load import load

CAT, DOG = "a photo of a cat", "a photo of a dog"
VARIANCE, MEAN = torch.tensor([0.3, 1.0, 2.0, 0.05], dtype=torch.float64), torch.tensor([0.5, -1, 0, 2]).double()


class Ideal(UNet):
    """The ideal denoiser of a Gaussian in the place of a UNet; like one it counts timesteps from 0."""

    def __init__(self, schedule: Schedule):
        nn.Module.__init__(self)
        self.denoiser = IdealDenoiser(schedule, gaussian(MEAN, torch.diag(VARIANCE)))
        self.conv_in = SimpleNamespace(weight=torch.zeros(1, dtype=torch.float64))

    def forward(self, x, timestep, context, attn_fn=None):
        return self.denoiser(x, timestep, context)


def ideal(tiny: LatentDiffusion, schedule: ScheduleConfig) -> LatentDiffusion:
    """Latents are (b, 4, 1, 1), and the prompt says nothing."""
    model = LatentDiffusion(tiny.config, None, None, Ideal(Schedule(schedule)), tiny.autoencoder)
    model.schedule = Schedule(schedule)
    return model


@pytest.fixture(scope="module")
def image(tiny) -> torch.Tensor:
    """z_0 of some image."""
    return torch.randn(1, *tiny.latent_shape, generator=torch.Generator().manual_seed(1)) / 2


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("parameterisation", ["eps", "v"])
@pytest.mark.parametrize("steps", [5, 20])
def test_a_gaussian_inverts_exactly(tiny, steps, parameterisation, unchecked):
    """Along each axis the ideal DDIM step is affine: around sqrt(abar) m with a slope that is a ratio of known numbers.
    Its inverse is too, and that is where the fixed point lies."""
    model = ideal(tiny, ScheduleConfig(parameterisation=parameterisation))
    abar = model.schedule.alpha_bar
    z_0, context = normal(1, 4, 1, 1), torch.empty(1, 0, 0, dtype=torch.float64)
    inverted = ddim(model, z_0, context, Sampling(steps=steps), iterations=1200 // steps)
    visited = [state.t for state in inverted.states]
    z, by_hand = z_0.flatten(), [z_0.flatten()]
    for t_prev, t in itertools.pairwise(visited[::-1]):
        spread = abar[t] * VARIANCE + 1 - abar[t]
        slope = ((abar[t_prev] * abar[t]).sqrt() * VARIANCE + ((1 - abar[t_prev]) * (1 - abar[t])).sqrt()) / spread
        z = abar[t].sqrt() * MEAN + (z - abar[t_prev].sqrt() * MEAN) / slope
        by_hand.append(z)
    # the iterations shrink the error each time, for long steps by less than a tenth
    found = torch.stack([state.z_t.flatten() for state in inverted.states[::-1]])
    assert_close(found, torch.stack(by_hand), rtol=0, atol=1e-8)
    *_, last = model.denoise(context, [0], steps=steps, guidance=1.0, **inverted.options(1))
    assert_close(last.z_t, z_0, rtol=0, atol=1e-8)
    naive = ddim(model, z_0, context, Sampling(steps=steps))
    assert (naive.states[0].z_t - inverted.states[0].z_t).abs().max() > 0.01  # the naive step is not exact


def test_a_step_back_undoes_the_step():
    """For one given eps [D17] is inverted by arithmetic alone."""
    schedule, z_t, eps = Schedule(), normal(1, 4, 2, 2), normal(1, 4, 2, 2) + 1
    prediction = Prediction(eps, schedule.z_0_from_eps(z_t, eps, 700))
    z_prev = DDIM.step(schedule, z_t, prediction, 700, 300, torch.zeros_like(z_t))
    assert_close(step_back(schedule, z_prev, eps, 700, 300), z_t, rtol=0, atol=1e-12)  # roundings of 1e-16 over 0.1


# theirs, in numpy 2
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_the_naive_method_is_that_of_diffusers(tiny, image, spacing):
    """Their scheduler of DDIM inversion, given the same network; eps only, since for v theirs mixes two timesteps."""
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    offset = dict(steps_offset=1, set_alpha_to_one=False) if spacing == "leading" else {}
    theirs = DDIMInverseScheduler(**betas, **offset, timestep_spacing=spacing, clip_sample=False)
    theirs.set_timesteps(10)
    model = LatentDiffusion(tiny.config, tiny.tokenizer, tiny.text_encoder, tiny.unet, tiny.autoencoder)
    model.schedule = Schedule(ScheduleConfig(spacing=spacing, **(dict(offset=1, last=1) if offset else {})))
    context, z = tiny.encode_prompts([CAT]), image
    for t in theirs.timesteps:
        with torch.no_grad():
            output = tiny.unet(z, t.reshape(1), context)
        z = theirs.step(output, int(t), z).prev_sample
    found = ddim(model, image, context, Sampling(steps=10)).states[0]
    assert found.t == int(theirs.timesteps[-1]) + 1
    # their coefficients are float32, of which the smallest are known to 1e-4
    assert_close(found.z_t, z, rtol=0, atol=2e-3)


def edited(model: LatentDiffusion, inverted, sampling: Sampling, **options):
    edit = PromptToPrompt(model, CAT, (DOG, "a photo of a cat"), (Swap("cat", "dog"), Swap("cat", "cat")))
    how = sampling.options() | inverted.options(3, **options)
    *_, last = edit.denoise(sampling.seed, **how)
    return last.z_t


@pytest.mark.parametrize("w", [1.0, 7.5])
def test_direct_inversion_returns_to_the_bit(tiny, image, w):
    """Whatever guidance, edits and local blends do, the source's latents are those of the image."""
    sampling = Sampling(steps=4, guidance=w)
    inverted = invert_latent(tiny, image, tiny.encode_prompts([CAT]), "direct", sampling)
    source, target = (tiny.tokenizer.encode(y) for y in (CAT, DOG))
    assert torch.equal(edited(tiny, inverted, sampling)[:1], image)
    mask = torch.zeros(tiny.latent_shape[1:], dtype=torch.bool)
    mask[0] = True
    blend = LocalBlend(source, [target, source], [mask, mask], tiny.schedule.T, 1.0, tiny.latent_shape[1])
    blended = edited(tiny, inverted, sampling, blend=blend)
    assert torch.equal(blended[:1], image)
    # outside the mask the targets are the image too: the blend has seen the corrected source
    assert torch.equal(blended[1:, :, 1:], image[..., 1:, :].expand(2, -1, -1, -1))
    assert not torch.equal(blended[1, :, 0], image[0, :, 0])


def test_a_run_visits_the_timesteps_of_its_inversion(tiny, image, monkeypatch):
    """With leading spacing these lie two hundred apart down to 2, not evenly between 802 and 1."""
    monkeypatch.setattr(tiny, "schedule", Schedule(ScheduleConfig(spacing="leading", offset=1, last=1)))
    sampling, context = Sampling(steps=5, guidance=3.0), tiny.encode_prompts([CAT])
    for name in ("direct", "fixed-point", "edit-friendly"):
        inverted = invert_latent(tiny, image, context, name, sampling)
        run = list(tiny.denoise(context, [0], **sampling.options() | inverted.options(1)))
        assert [state.t for state in run] == [602, 402, 202, 2, 1], name
        if name == "direct":
            assert torch.equal(run[-1].z_t, image)


def test_guidance_leads_ddim_away_and_negative_prompts_do_not(tiny, image):
    """With tau_theta(y) in the place of the empty prompt both predictions of [D18] are one, and w drops out."""
    sampling, context = Sampling(steps=6, guidance=7.5), tiny.encode_prompts([CAT])
    ends = {}
    for name in ("fixed-point", "negative-prompt"):
        inverted = invert_latent(tiny, image, context, name, sampling)
        for w in (1.0, 7.5):
            *_, last = tiny.denoise(context, [0], steps=6, guidance=w, **inverted.options(1))
            ends[name, w] = last.z_t
    # float32: two network calls in one batch against one alone, a few 1e-7, over six steps
    assert_close(ends["negative-prompt", 7.5], ends["negative-prompt", 1.0], rtol=0, atol=1e-4)
    assert_close(ends["fixed-point", 1.0], ends["negative-prompt", 1.0], rtol=0, atol=0)
    assert (ends["fixed-point", 7.5] - ends["fixed-point", 1.0]).abs().max() > 1e-2


def test_null_text_brings_the_guided_run_back():
    """Even in three steps, each with ten of Adam, a third of the error that guidance makes is gone."""
    model = load("stickers", device="cpu")
    sampling, context = Sampling(steps=3, guidance=4.0), model.encode_prompts([CAT])
    *_, made = model.denoise(context, [7], steps=4)
    off = {}
    for name in ("fixed-point", "null-text"):
        inverted = invert_latent(model, made.z_t, context, name, sampling)
        *_, last = model.denoise(context, [0], **sampling.options() | inverted.options(1))
        off[name] = (last.z_t - made.z_t).square().mean().item()
    assert off["null-text"] < 0.8 * off["fixed-point"], off
    assert invert_latent(model, made.z_t, context, "null-text", Sampling(steps=2, guidance=1.0)).empty is None


@pytest.mark.parametrize("w", [1.0, 3.0])
def test_edit_friendly_noise_leads_along_the_drawn_latents(tiny, image, w):
    """Every state of the run is the z_t that was drawn for its t; only the last step, without noise, predicts."""
    sampling, context = Sampling(steps=6, guidance=w, seed=3), tiny.encode_prompts([CAT])
    inverted = invert_latent(tiny, image, context, "edit-friendly", sampling)
    run = list(tiny.denoise(context, [0], **sampling.options() | inverted.options(1)))
    for state, drawn in zip(run[:-1], inverted.states[1:-1]):
        # float32: guided means of this random network reach a hundred, are subtracted, and added again by the run
        assert_close(state.z_t, drawn.z_t, rtol=0, atol=1e-3)
    # independent draws: unlike a forward process, neighbours share no noise
    noise = [(s.z_t - tiny.schedule.signal(s.t, image) * image).flatten() for s in inverted.states[:-1]]
    shared = torch.corrcoef(torch.stack(noise))[0, 1:].abs()
    assert shared.max() < 5 / noise[0].numel() ** 0.5  # five standard deviations


def test_every_method_serves_every_target(tiny, image):
    sampling, context = Sampling(steps=2, guidance=2.0), tiny.encode_prompts([CAT])
    for name in get_args(Method):
        made = edited(tiny, invert_latent(tiny, image, context, name, sampling), sampling)
        assert made.shape == (3, *image.shape[1:]) and made.isfinite().all(), name
        # the third row repeats the source's prompt, with all its attention
        assert not torch.equal(made[1], made[0]), name


def test_layers_and_windows_apply_as_to_a_generated_source(tiny, image):
    """Injection everywhere at every step makes a target with the source's prompt the source, if it is not pinned."""
    sampling, context = Sampling(steps=3, guidance=2.0), tiny.encode_prompts([CAT])
    inverted = invert_latent(tiny, image, context, "fixed-point", sampling)
    edit = PromptToPrompt(tiny, CAT, (CAT,), (Swap("cat", "cat", Alpha(0.0)),), layers=Layers())
    *_, last = edit.denoise(0, **sampling.options() | inverted.options(2))
    assert_close(last.z_t[1], last.z_t[0], rtol=0, atol=1e-4)  # float32, folded and plain products of three steps
