"""At the full shapes of the public models, with random weights: every part, and prompt to picture, equal diffusers and
transformers. Latents are small, which changes no shape of a parameter.

A model's parameters are in memory once, for both sides share them: 6 GB for the largest. About a minute each.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, LDMSuperResolutionPipeline, UNet2DModel
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import BertTokenizer as TheirBertTokenizer
from transformers import CLIPTokenizer as TheirCLIPTokenizer

from ldm.autoencoder import Autoencoder
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from ldm.unet import UNet
from p2p.call import Sampling
from parity.test_bert import diffusers_bert
from parity.test_tokenizer import write_stable_diffusion
from tests.support.oracles import (
    diffusers_autoencoder,
    diffusers_unet,
    diffusers_vq,
    enlarged_by_diffusers,
    exactly,
    random_network,
    transformers_text_encoder,
)
from tests.support.public_json import DDIM_V, FIRST_DDIM, PNDM, WORDPIECES
from weights.build import CLASSES
from weights.files.tokenizers import tokenizer

pytestmark = [
    pytest.mark.full,
    # diffusers' schedulers, in numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

PROMPTS, SEEDS, GUIDANCE, SIDE = ["a photo of a red car on the beach", "a painting of a cat"], [3, 4], 4.0, 16

# float32 and outputs of order 1. Rounding is 6e-8 a term, sums have up to 9 * 2560 terms and there are up to about two
# hundred layers, the errors of both growing like the root of their number.
PART = dict(rtol=0, atol=1e-4)

# A step of sampling, from the same latents: guidance makes 4 + 3 times the error of a part of it, and the step about as
# much again; the scheduler's own alphas are float32. A time step that is one off, or a prompt padded otherwise, shows
# at 1e-2.
STEP = dict(rtol=0, atol=2e-3)


@pytest.fixture(autouse=True)
def _memory_as_it_is(monkeypatch):
    """New tensors are not filled with NaN before their numbers: for billions of weights, a tenth of the time."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)


def random_model(kind: str, words) -> LatentDiffusion:
    """Of the public shape but for the picture's size."""
    config = PRESETS[kind]
    config = replace(config, image_size=SIDE * config.autoencoder.factor)
    parts = {"text": config.text, "unet": config.unet, "autoencoder": config.autoencoder}
    make = lambda part: random_network(lambda: CLASSES[type(parts[part])](parts[part]), torch.float32, seed=len(part))
    return LatentDiffusion(config, words, make("text") if config.text else None, make("unet"), make("autoencoder"))


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def scheduler_of(content: dict) -> DDIMScheduler:
    scheduler = DDIMScheduler.from_config(content)
    scheduler.set_timesteps(3)
    return scheduler


def assert_unets_equal(ours: UNet, theirs: nn.Module, *context: Tensor) -> None:
    z, timestep = normal(2, ours.config.latent_channels, SIDE, SIDE), torch.tensor([981, 1])
    nothing = torch.empty(2, 0, 0)
    assert_close(ours(z, timestep, *(context or [nothing])), theirs(z, timestep, *context).sample, **PART)


def assert_samples_equal(
    model: LatentDiffusion, theirs: Callable[[Tensor, Tensor], Tensor], scheduler: DDIMScheduler, prompts: list[str]
) -> Tensor:
    """Each step, theirs going on from ours; a random network makes much of a difference. Gives the last latents."""
    states = list(model.denoise(model.encode_prompts(prompts), SEEDS, steps=3, guidance=GUIDANCE))
    z = torch.stack([torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(s)) for s in SEEDS])
    for t, state in zip(scheduler.timesteps, states, strict=True):
        assert_close(state.z_t, scheduler.step(theirs(z, t), t, z).prev_sample, **STEP)
        z = state.z_t
    return z


def assert_pictures_equal(model: LatentDiffusion, z: Tensor, decoded: Tensor) -> None:
    theirs = (decoded / 2 + 0.5).clamp(0, 1) * 255
    assert ((theirs > 0) & (theirs < 255)).float().mean() > 0.2  # or it is clamped values that are compared
    ours = torch.from_numpy(model.decode(z)).permute(0, 3, 1, 2)
    # half a grey level from rounding to bytes, and PART of 127.5 grey levels
    assert (ours - theirs).abs().max() < 0.5 + 127.5 * PART["atol"]


def assert_prompted_models_equal(
    model: LatentDiffusion, text_encoder: Callable[[Tensor], Tensor], ids: Tensor, unet: nn.Module, content: dict
) -> None:
    """`ids` of the prompts and of the empty one, by the other tokenizer."""
    assert torch.equal(model.tokenizer.batch([*PROMPTS, ""]), ids)
    context = text_encoder(ids)
    assert_close(model.encode_prompts([*PROMPTS, ""]), context, **PART)
    assert_unets_equal(model.unet, unet, context[:2])

    def guided(z: Tensor, t: Tensor) -> Tensor:
        conditional, empty = unet(torch.cat([z, z]), t, context[[0, 1, 2, 2]]).sample.chunk(2)
        return empty + GUIDANCE * (conditional - empty)

    z = assert_samples_equal(model, guided, scheduler_of(content), PROMPTS)
    first_stage = diffusers_autoencoder(model.autoencoder)
    x = normal(1, 3, 64, 64).clamp(-1, 1)
    assert_close(model.autoencoder.encode(x), 0.18215 * first_stage.encode(x).latent_dist.mean, **PART)
    assert_pictures_equal(model, z, first_stage.decode(z / 0.18215).sample)


@torch.no_grad()
@pytest.mark.parametrize(
    "kind, heads, pad, content",
    [("sd15", (8, 8, 8, 8), "<|endoftext|>", PNDM), ("sd21", (5, 10, 20, 20), "!", DDIM_V)],
)
def test_stable_diffusion(kind, heads, pad, content, tmp_path):
    write_stable_diffusion(tmp_path, pad)
    model = random_model(kind, tokenizer(tmp_path, PRESETS[kind].text))
    text_encoder = transformers_text_encoder(model.text_encoder)
    words = TheirCLIPTokenizer.from_pretrained(tmp_path)
    ids = words([*PROMPTS, ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    unet = diffusers_unet(model.unet, heads)
    assert_prompted_models_equal(model, lambda ids: text_encoder(ids).last_hidden_state, ids, unet, content)


@torch.no_grad()
def test_latent_diffusion_text_to_image(tmp_path):
    entries = [*WORDPIECES, *(f"[unused{i}]" for i in range(1, 30_522 - len(WORDPIECES) + 1))]
    (tmp_path / "vocab.txt").write_text("\n".join([*entries, ""]))
    model = random_model("ldm-text2im", tokenizer(tmp_path, PRESETS["ldm-text2im"].text))
    text_encoder = diffusers_bert(PRESETS["ldm-text2im"].text).model
    text_encoder.load_state_dict(model.text_encoder.state_dict(), strict=True, assign=True)
    words = TheirBertTokenizer.from_pretrained(tmp_path)
    ids = words([*PROMPTS, ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
    unet = diffusers_unet(model.unet, (8, 8, 8, 8))
    context = lambda ids: text_encoder(ids, return_dict=False)[0]
    assert_prompted_models_equal(model, context, ids, unet, FIRST_DDIM)


def diffusers_unet_without_prompts(ours: UNet, channels: tuple[int, ...], attend: int, **more) -> UNet2DModel:
    """With attention at the last so many levels, in heads of 32."""
    with torch.device("meta"):
        theirs = UNet2DModel(
            out_channels=3,
            block_out_channels=channels,
            down_block_types=(*["DownBlock2D"] * (4 - attend), *["AttnDownBlock2D"] * attend),
            up_block_types=(*["AttnUpBlock2D"] * attend, *["UpBlock2D"] * (4 - attend)),
            attention_head_dim=32,
            **more,
        )
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return theirs.eval()


def assert_codebooks_equal(ours: Autoencoder, theirs: nn.Module, z: Tensor) -> None:
    """Theirs expands the square, which costs digits: of two entries almost as near it may take the other."""
    index, their_index = ours.quantize.indices(z), theirs.quantize(z)[2][2].reshape(len(z), SIDE, SIDE)
    assert len(index.unique()) > 10 and (index == their_index).float().mean() > 0.9
    distance = lambda index: (ours.quantize.vectors(index) - z).norm(dim=1)
    # squares of order 10 are right to 1e-6 of it, distances of 0.1 to a twentieth of that root
    assert_close(distance(their_index), distance(index), rtol=0, atol=1e-3)


@torch.no_grad()
def test_latent_diffusion_faces():
    model = random_model("ldm-celebahq", None)
    unet = diffusers_unet_without_prompts(model.unet, (224, 448, 672, 896), attend=3)
    assert_unets_equal(model.unet, unet)
    scheduler = scheduler_of(FIRST_DDIM | {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"})
    z = assert_samples_equal(model, lambda z, t: unet(z, t).sample, scheduler, ["", ""])
    first_stage = diffusers_vq(model.autoencoder)
    x = normal(1, 3, 64, 64).clamp(-1, 1)
    assert_close(model.autoencoder.encode(x), first_stage.encode(x).latents, **PART)
    assert_codebooks_equal(model.autoencoder, first_stage, z)
    z_q = model.autoencoder.quantize(z)
    assert_pictures_equal(model, z, first_stage.decode(z_q, force_not_quantize=True).sample)


@torch.no_grad()
def test_latent_diffusion_super_resolution():
    """In float64: a codebook's nearest entry, which float32 may see otherwise, is then the same on both sides."""
    model = random_model("ldm-super-resolution-4x", None)
    model.unet.double(), model.autoencoder.double()
    unet = diffusers_unet_without_prompts(model.unet, (160, 320, 320, 640), attend=1, in_channels=6)
    content = FIRST_DDIM | {"beta_start": 0.0015, "beta_end": 0.0155, "beta_schedule": "scaled_linear"}
    theirs = LDMSuperResolutionPipeline(
        diffusers_vq(model.autoencoder), unet, exactly(DDIMScheduler.from_config(content))
    )
    theirs.set_progress_bar_config(disable=True)
    x = normal(2, 3, SIDE, 2 * SIDE).clamp(-1, 1).double()
    large = torch.cat([enlarged_by_diffusers(theirs, each, seed, 3, eta=1.0) for each, seed in zip(x, SEEDS)])
    assert ((large > 0) & (large < 1)).double().mean() > 0.2
    how = Sampling(steps=3, eta=1.0).options()
    *_, last = model.denoise(model.encode_prompts(["", ""]), SEEDS, condition=x, **how)
    ours = (model.autoencoder.decode(last.z_t) / 2 + 0.5).clamp(0, 1)
    # float64 is right to 1e-16 a term, hence to 2e-13 where float32 is to PART; two later calls and the decoder make of
    # it what a random network makes of a difference
    assert_close(ours, large, rtol=0, atol=1e-9)


@torch.no_grad()
def test_latent_diffusion_classes(tmp_path):
    model = random_model("cin256", tokenizer(tmp_path / "cin256.ckpt", PRESETS["cin256"].text))
    context = model.text_encoder.embedding.weight[[0, 207, 1000, 1000], None]  # 1000 is no class
    assert model.encode_prompts(["tench", "golden retriever", "", ""]).equal(context)
    unet = diffusers_unet(model.unet, (1, 1, 1, 1))
    assert_unets_equal(model.unet, unet, context[:2])

    def guided(z: Tensor, t: Tensor) -> Tensor:
        conditional, empty = unet(torch.cat([z, z]), t, context).sample.chunk(2)
        return empty + GUIDANCE * (conditional - empty)

    scheduler = scheduler_of(PNDM | {"beta_start": 0.0015, "beta_end": 0.0195})
    z = assert_samples_equal(model, guided, scheduler, ["tench", "golden retriever"])
    first_stage = diffusers_vq(model.autoencoder)
    assert_codebooks_equal(model.autoencoder, first_stage, z)
    z_q = model.autoencoder.quantize(z)
    assert_pictures_equal(model, z, first_stage.decode(z_q, force_not_quantize=True).sample)
