"""Devices and dtypes that have less than a CPU: nothing needs float64 there, and float16 does not overflow."""

import pytest
import torch
from conftest import random_model
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ldm.attention import attend, attention_map
from ldm.samplers import SAMPLERS
from p2p.algorithm import PromptToPrompt
from p2p.alpha import Alpha
from p2p.edits import Renormalise, Reweight, Swap
from p2p.local_blend import LocalBlend, Region

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"


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


# float16 and bfloat16 round to 1/2048 and 1/256; probabilities are at most 1
COARSE = {torch.float16: dict(rtol=0, atol=1e-3), torch.bfloat16: dict(rtol=0, atol=8e-3)}


@pytest.mark.parametrize("dtype", COARSE)
def test_attention_whose_scores_pass_float16_does_not_overflow(dtype):
    """Scores of 10^5, nearly all alike: 65504 is float16's largest number, and inf - inf no number at all."""
    generator = torch.Generator().manual_seed(0)
    Q = torch.full((1, 2, 5, 64), 300.0).to(dtype)
    K = (300 + torch.randn(1, 2, 7, 64, generator=generator) * 1e-3).to(dtype)
    V = torch.randn(1, 2, 7, 3, generator=generator).to(dtype)
    assert (Q.double() @ K.double().mT / 8).min() > 2 * 65504
    expected = (Q.double() @ K.double().mT / 8).softmax(dim=-1)
    A = attention_map(Q, K)
    assert A.dtype == dtype
    assert_close(A.double(), expected, **COARSE[dtype])
    # sums of 7 products with values of order 1, rounded once more
    assert_close(attend(Q, K, V).double(), expected @ V.double(), rtol=0, atol=4 * COARSE[dtype]["atol"])


@pytest.mark.parametrize("dtype", COARSE)
def test_a_model_in_half_precision_makes_nearly_the_same_latents(tiny, dtype):
    half = random_model(tiny.config, tiny.tokenizer)
    for part in (half.text_encoder, half.unet, half.autoencoder):
        part.to(dtype)
    run = lambda model: model.denoise(model.encode_prompts([CAT]), [0], steps=3, guidance=1.0)
    for narrow, wide in zip(run(half), run(tiny), strict=True):
        assert narrow.z_t.dtype == torch.float32  # between steps
        error = (narrow.z_t - wide.z_t).square().mean().sqrt() / wide.z_t.square().mean().sqrt()
        # every layer rounds by eps / 2, some dozens in a row, whose errors add up like the root of their number
        assert error < 4 * torch.finfo(dtype).eps
