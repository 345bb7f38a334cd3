"""Prompt to picture, as diffusers makes it from the same folder."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LDMSuperResolutionPipeline, LDMTextToImagePipeline, StableDiffusionPipeline
from torch.testing import assert_close

import p2p
from ldm.helpers.images import to_tensor
from ldm.pipeline import LatentDiffusion
from ldm.states import State
from p2p.call import Sampling
from tests.support.model_files import assert_equal
from tests.support.oracles import enlarged_by_diffusers, exactly
from tests.support.public_models import public
from weights.load import load

# of diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PROMPTS, SEEDS, STEPS, GUIDANCE = ["a photo of a cat", "painting on a painting"], [3, 4], 3, 4.0

# float64 and latents of order 1 to 10. A small network is right to 1e-14 (see the tests of each); guidance makes 4 + 3
# times that of it, and two later calls what a random network makes of a difference. Names taken wrongly, schedules one
# step off, another activation or another padding show at 1e-3 and above.
EXACT = dict(rtol=0, atol=1e-10)


def in_float64(model: LatentDiffusion) -> LatentDiffusion:
    for part in filter(None, (model.text_encoder, model.unet, model.autoencoder)):
        part.double()
    return model


def z_T(model: LatentDiffusion) -> torch.Tensor:
    """As [D16] draws it: a stream of its own for each picture."""
    draws = [torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    return torch.stack(draws).double()


def assert_pictures_equal(model: LatentDiffusion, last: State, prompts: list[str], theirs: torch.Tensor) -> None:
    """`theirs` from 0 to 1, channels first."""
    ours = model.autoencoder.decode(last.z_t)
    assert ((theirs > 0) & (theirs < 1)).double().mean() > 0.2  # or it is clamped values that are compared
    assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, **EXACT)
    pictures = model.generate(prompts, SEEDS, steps=STEPS, guidance=GUIDANCE)
    # half a grey level from rounding to bytes, and what float32 loses just before it
    assert (torch.from_numpy(pictures).permute(0, 3, 1, 2) - theirs * 255).abs().max() < 0.501


def sample(model: LatentDiffusion, prompts: list[str]) -> list[State]:
    return list(model.denoise(model.encode_prompts(prompts), SEEDS, steps=STEPS, guidance=GUIDANCE))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd1", "sd2", "bk-sdm"])
def test_prompt_to_picture_equals_stable_diffusion(kind, folder):
    theirs = StableDiffusionPipeline.from_pretrained(
        folder(kind), dtype=torch.float32, safety_checker=None, feature_extractor=None, local_files_only=True
    )
    parts = {"unet": theirs.unet, "autoencoder": theirs.vae, "text_encoder": theirs.text_encoder}
    assert_equal(public(kind)._replace(parts=parts).tensors(), public(kind).tensors())  # it is a folder they read
    model = in_float64(load(folder(kind)))
    theirs.scheduler = exactly(DDIMScheduler.from_config(theirs.scheduler.config))
    theirs.set_progress_bar_config(disable=True)
    z, seen = z_T(model), []
    pictures = theirs.to(torch.float64)(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=z,
        output_type="pt",
        callback_on_step_end=lambda *args: seen.append(args[3]["latents"]) or {},
    ).images
    states = sample(model, PROMPTS)
    for state, latents in zip(states, seen, strict=True):
        assert_close(state.z_t, latents, **EXACT)
    assert_pictures_equal(model, states[-1], PROMPTS, pictures)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*use_return_dict")  # LDMBertModel's, of transformers
def test_prompt_to_picture_equals_latent_diffusion(folder):
    theirs = LDMTextToImagePipeline.from_pretrained(folder("text2im"), dtype=torch.float32, local_files_only=True)
    parts = {"unet": theirs.unet, "autoencoder": theirs.vqvae, "text_encoder": theirs.bert}
    assert_equal(public("text2im")._replace(parts=parts).tensors(), public("text2im").tensors())
    model = in_float64(load(folder("text2im")))
    exactly(theirs.scheduler)
    theirs.set_progress_bar_config(disable=True)
    pictures = theirs.to(torch.float64)(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=z_T(model), output_type="pt"
    ).images
    assert_pictures_equal(model, sample(model, PROMPTS)[-1], PROMPTS, pictures)


@torch.no_grad()
def test_noise_to_picture_without_prompts(folder):
    """As the model's card unrolls it, for its pipeline divides by a scale that such a model has not."""
    model, theirs = in_float64(load(folder("celebahq"))), public("celebahq").parts
    unet, first_stage = theirs["unet"].double(), theirs["autoencoder"].double()
    scheduler = exactly(DDIMScheduler.from_pretrained(folder("celebahq") / "scheduler"))
    scheduler.set_timesteps(STEPS)
    z, states = z_T(model), sample(model, ["", ""])
    for t, state in zip(scheduler.timesteps, states, strict=True):
        z = scheduler.step(unet(z, t).sample, t, z).prev_sample
        assert_close(state.z_t, z, **EXACT)
    pictures = (first_stage.decode(z).sample / 2 + 0.5).clamp(0, 1)
    assert_pictures_equal(model, states[-1], ["", ""], pictures)


@torch.no_grad()
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_small_image_to_large_equals_latent_diffusion(eta, folder, tmp_path):
    """From the folder that diffusers writes; with our noise, which is float32, and an image at a time."""
    theirs = LDMSuperResolutionPipeline.from_pretrained(folder("super-resolution"), local_files_only=True)
    theirs.save_pretrained(tmp_path)
    model = in_float64(load(tmp_path))
    exactly(theirs.scheduler)
    theirs.set_progress_bar_config(disable=True)
    theirs.to(torch.float64)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    small = to_tensor(images).double()
    large = [enlarged_by_diffusers(theirs, x, seed, STEPS, eta) for x, seed in zip(small, SEEDS)]
    assert large[0].shape == (1, 3, 32, 48)
    *_, last = model.denoise(
        model.encode_prompts(["", ""]), SEEDS, condition=small, **Sampling(steps=STEPS, eta=eta).options()
    )
    ours = (model.autoencoder.decode(last.z_t) / 2 + 0.5).clamp(0, 1)
    for mine, its in zip(ours, large):
        assert ((its > 0) & (its < 1)).double().mean() > 0.2
        assert_close(mine[None], its, **EXACT)
    result = p2p.restore("super", images[0], model=model, seed=SEEDS[0], steps=STEPS, eta=eta)
    # half a grey level from rounding to bytes, and float32 of the image and the decoder's output
    assert np.abs(np.asarray(result.restored) - large[0][0].permute(1, 2, 0).numpy() * 255).max() < 0.51
