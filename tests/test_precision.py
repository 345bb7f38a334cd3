"""Half precision and devices without float64: what is computed in which dtype, and what is left of the numbers."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.attention import attend, attention_map
from ldm.helpers.likeness import psnr
from ldm.pipeline import LatentDiffusion
from ldm.samplers import DDIM, SAMPLERS
from ldm.states import Noise, State
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.edits import Renormalise, Reweight, Swap
from p2p.local_blend import LocalBlend, Region
from tests.support.model_files import in_dtype
from weights.load import load

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"


# ---------------------------------------------------------------------------------------------------------------------
# devices without float64


class NoWidening(TorchDispatchMode):
    """Stands in for a device without float64: what is computed from tensors of other kinds must not become float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
        made = [a for a in torch.utils._pytree.tree_leaves(out) if isinstance(a, torch.Tensor)]
        narrow = any(a.is_floating_point() and a.dtype != torch.float64 and a.numel() > 1 for a in given)
        assert not (narrow and any(a.dtype == torch.float64 for a in made)), f"{function} widens to float64"
        return out


def test_the_stand_in_notices():
    with NoWidening(), pytest.raises(AssertionError, match="widens"):
        torch.ones(2).double()


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_and_editing_need_no_float64(tiny, sampler, explicit):
    edit = Swap("cat", "dog", Alpha(0.5)) + Reweight("grass", 2.0) + Renormalise()
    p2p = PromptToPrompt(tiny, CAT, (DOG,), (edit,))
    source, target = tiny.tokenizer.encode(CAT), tiny.tokenizer.encode(DOG)
    watch = {}
    if explicit:
        blend = LocalBlend(source, [target], [Region(("dog",))], tiny.schedule.T, 0.8, 16)
        watch = dict(blend=blend, watch=blend.maps)
    with NoWidening():
        *_, last = p2p.denoise(0, steps=3, sampler=SAMPLERS[sampler], **watch)
        tiny.decode(last.z_t)


# ---------------------------------------------------------------------------------------------------------------------
# half precision

# float16 and bfloat16 round to 1/2048 and 1/256; probabilities are at most 1
COARSE = {torch.float16: dict(rtol=0, atol=1e-3), torch.bfloat16: dict(rtol=0, atol=8e-3)}


@pytest.mark.parametrize("dtype", COARSE)
def test_attention_whose_scores_pass_float16_does_not_overflow(dtype):
    """Scores of 78,750 and a few eighths, where 65,504 is float16's largest number, and inf - inf no number at all.

    They are made of whole numbers that both dtypes have, so it is the same few eighths that make the map.
    """
    generator = torch.Generator().manual_seed(0)
    Q, K = torch.full((1, 2, 5, 64), 100.0), torch.full((1, 2, 7, 64), 100.0)
    Q[..., 0] = 1
    K[..., 0] = torch.randint(-8, 9, (1, 2, 7), generator=generator)
    V = torch.randn(1, 2, 7, 3, generator=generator)
    Q, K, V = Q.to(dtype), K.to(dtype), V.to(dtype)
    assert (Q.double() @ K.double().mT / 8).min() > 65504
    expected = (Q.double() @ K.double().mT / 8).softmax(dim=-1)
    A = attention_map(Q, K)
    assert A.dtype == dtype and expected.max() > 2 * expected.min()
    assert_close(A.double(), expected, **COARSE[dtype])
    # sums of 7 products with values of order 1, rounded once more
    assert_close(attend(Q, K, V).double(), expected @ V.double(), rtol=0, atol=4 * COARSE[dtype]["atol"])


@pytest.mark.parametrize("dtype", COARSE)
def test_a_model_in_half_precision_makes_nearly_the_same_latents(tiny, dtype):
    half = in_dtype(tiny, dtype)
    run = lambda model: model.denoise(model.encode_prompts([CAT]), [0], steps=3, guidance=1.0)
    for narrow, wide in zip(run(half), run(tiny), strict=True):
        assert narrow.z_t.dtype == torch.float32  # between steps
        error = (narrow.z_t - wide.z_t).square().mean().sqrt() / wide.z_t.square().mean().sqrt()
        # every layer rounds by eps / 2, some dozens in a row, whose errors add up like the root of their number
        assert error < 4 * torch.finfo(dtype).eps


@pytest.fixture
def half(tiny) -> LatentDiffusion:
    return in_dtype(tiny, torch.bfloat16)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_only_the_network_computes_in_half_precision(half, guidance):
    """By hand, to the bit: the first step from float32 noise, with the network's output as bfloat16 has it."""
    context, empty = half.encode_prompts([CAT]), half.encode_prompts([""])
    z_T, t = Noise([3], half.latent_shape)(), torch.tensor([999, 999])
    output = half.unet(z_T.bfloat16(), t[:1], context).float()
    if guidance != 1:
        both = half.unet(torch.cat([z_T, z_T]).bfloat16(), t, torch.cat([empty, context])).float()
        output = both[:1] + guidance * (both[1:] - both[:1])
    expected = DDIM.step(half.schedule, z_T, half.schedule.predict(z_T, output, 1000), 1000, 750, z_T)
    state = next(half.denoise(context, [3], steps=4, guidance=guidance))
    assert state.z_t.dtype == torch.float32
    assert torch.equal(state.z_t, expected)
    assert half.decode(state.z_t).shape == (1, 32, 32, 3)


def test_small_steps_add_up_in_half_precision(tiny, half, monkeypatch):
    """200 steps of the same fake network: what a step adds is about what bfloat16 tells apart, 2^-8 of z, and would be
    lost in it or doubled."""

    class Shrinking(torch.nn.Module):
        conv_in = half.unet.conv_in

        def forward(self, z_t, timestep, context, attn_fn=None):
            return 0.9 * z_t

    monkeypatch.setattr(half, "unet", Shrinking())
    start, context = State(half.schedule.T, Noise([3], half.latent_shape)().double()), half.encode_prompts([CAT])
    run = lambda z: [*half.denoise(context, [3], steps=200, guidance=1.0, start=State(half.schedule.T, z))][-1].z_t
    ended = run(start.z_t.bfloat16())
    assert ended.dtype == torch.float32
    monkeypatch.setattr(half.unet, "conv_in", tiny.unet.conv_in)
    whole = run(start.z_t.bfloat16().float())
    # the output is rounded by up to 2^-8 of it at every step, in no fixed direction
    assert (ended - whole).abs().max() < 0.02 * whole.std()


def test_a_start_in_float64_stays_there(tiny):
    start = State(tiny.schedule.T, Noise([3], tiny.latent_shape)().double())
    state = next(tiny.denoise(tiny.encode_prompts([CAT]), [3], steps=2, start=start))
    assert state.z_t.dtype == torch.float64


def test_an_image_in_bfloat16_is_near_that_in_float32():
    """The included model: at least 40 dB, as `weights.load.load` states. Six images of ten steps had 47 to 50 dB."""
    prompts = ["a photo of a cat on the grass", "a drawing of a house in the snow"]
    wide, narrow = (
        load("stickers", "cpu", dtype).generate(prompts, [0, 1], steps=6) for dtype in ("float32", "bfloat16")
    )
    for image, wanted in zip(narrow, wide):
        assert 40 < psnr(image, wanted) < 70  # and it is not float32 under another name
