"""Prompt to picture, as diffusers makes it from the same folder."""

import pytest
import torch
from diffusers import DDIMScheduler, LDMTextToImagePipeline, StableDiffusionPipeline
from torch.testing import assert_close

from ldm.pipeline import LatentDiffusion, State
from tests.support.model_files import assert_equal
from tests.support.public_models import public
from weights.load import load

# of diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

PROMPTS, SEEDS, STEPS, GUIDANCE = ["a photo of a cat", "painting on a painting"], [3, 4], 3, 4.0

# float64 and latents of order 1 to 10. A small network is right to 1e-14 (see the tests of each); guidance makes 4 + 3
# times that of it, and two later calls what a random network makes of a difference. Names taken wrongly, schedules one
# step off, another activation or another padding show at 1e-3 and above.
EXACT = dict(rtol=0, atol=1e-10)


def exactly(scheduler: DDIMScheduler) -> DDIMScheduler:
    """Its alphas in float64, where its own float32 would hide all that differs by less than 1e-4 (test_samplers)."""
    c = scheduler.config
    power = {"scaled_linear": 2, "linear": 1}[c.beta_schedule]
    ends = c.beta_start ** (1 / power), c.beta_end ** (1 / power)
    scheduler.alphas_cumprod = (1 - torch.linspace(*ends, 1000, dtype=torch.float64) ** power).cumprod(0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    if not c.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


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
