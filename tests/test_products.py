"""Products in other forms than PyTorch's on some processors: equal wherever they are used, and used only there."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import ldm.attention
from ldm.attention import GEGLU, SelfAttentionBlock, attend
from ldm.helpers import fastest, products
from ldm.helpers.fastest import blocks_pay, convolution_pays, pieces_that_pay
from ldm.helpers.machine import manufacturer, multiplies_bfloat16
from ldm.helpers.products import as_convolution, in_blocks, in_pieces, linear
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Window
from p2p.edits import Renormalise, Swap
from tests.support.model_files import in_dtype
from tests.support.normal import normal

CAT, DOG = "a photo of a cat on the grass", "a photo of a dog on the grass"


@pytest.fixture
def two_threads():
    """`make test` has one, on which PyTorch computes 1x1 convolutions in another way."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def everywhere(monkeypatch, two_threads):
    """The forms are used on this processor, whatever it is, and for small sizes."""
    monkeypatch.setattr(fastest, "amd_with_bfloat16", lambda: True)
    for module, name, value in ((fastest, "MANY", 1), (fastest, "LARGE", 1), (products, "BLOCK", 64)):
        monkeypatch.setattr(module, name, value)


def calls(monkeypatch, name: str) -> list:
    """What the function of this name in `products` is called with, from now on."""
    seen, function = [], getattr(products, name)
    for module in (products, ldm.attention):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda *args: seen.append(args) or function(*args))
    return seen


# ---------------------------------------------------------------------------------------------------------------------
# equal results


@pytest.mark.parametrize("m", [5, 64, 200])  # of 64 numbers: blocks of 13, 1 and 1 of 30 queries
def test_blocks_of_queries_in_bfloat16(everywhere, m):
    """Within the bound that `in_blocks` states, and the rounding of A, of V and of Y, each by 2^-8 of the sizes."""
    Q, K, V = (normal(2, 3, *shape, seed=i).bfloat16() for i, shape in enumerate([(30, 8), (m, 8), (m, 5)]))
    s = Q.double() @ (K.double() - K.double().mean(dim=2, keepdim=True)).mT / 8**0.5
    exact = s.softmax(dim=-1) @ V.double()
    # keys less their mean and the mean itself are rounded too, each by as much as the scores
    factor = (3 * 2**-7 * s.abs().amax(dim=-1, keepdim=True)).expm1() + 3 * 2**-8
    bound = factor * (s.softmax(dim=-1) @ V.double().abs()) + 2**-7 * exact.abs()
    error = (in_blocks(Q, K, V).double() - exact).abs()
    assert (error <= bound).all() and bound.mean() < 0.1 and error.mean() > 0  # values are of order 1


@pytest.mark.parametrize("n", [12, 13, 77, 1])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_linear_layer_as_a_convolution(two_threads, n, with_bias):
    """Of positions that make an image, and of a prime number of them, which make a row."""
    x, weight, bias = normal(2, n, 6).float(), normal(4, 6, seed=1).float(), normal(4, seed=2).float()
    bias = bias if with_bias else None
    found = as_convolution(x, weight, bias)
    assert_close(found, F.linear(x, weight, bias), rtol=1e-5, atol=1e-6)  # sums of 6 products in another order
    assert found.is_contiguous()


@pytest.mark.parametrize("n", [8, 13])  # cut into 4, 4 and into 5, 5, 3
@torch.no_grad()
def test_layers_a_piece_of_a_row_at_a_time(n):
    layers, x = GEGLU(6, 8), normal(3, n, 6).float()
    shapes = []
    layers.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    found, whole = in_pieces(layers, x, 2 if n == 8 else 3), in_pieces(layers, x, 1)
    assert shapes == ([(1, 4, 6)] * 6 if n == 8 else [(1, 5, 6), (1, 5, 6), (1, 3, 6)] * 3) + [(3, n, 6)]
    assert_close(found, whole, rtol=1e-5, atol=1e-6)  # sums of 6 products in another order


# ---------------------------------------------------------------------------------------------------------------------
# wherever attention and linear layers are


@torch.no_grad()
def in_both_forms(monkeypatch, p2p: PromptToPrompt, form: str) -> tuple[torch.Tensor, torch.Tensor, list]:
    """The prediction of a step of an edit by PyTorch's forms and by the others, and what this one is called with."""
    model, z_t = p2p.model, normal(2, *p2p.model.latent_shape).float()
    run = lambda: model.predict(z_t, 500, p2p.context, 2.0, p2p.attn_fn(500), model.encode_prompts([""])).eps
    with monkeypatch.context() as usual:
        usual.setattr(fastest, "amd_with_bfloat16", lambda: False)
        expected = run()
    seen = calls(monkeypatch, form)
    return expected, run(), seen


@pytest.mark.parametrize("until", [0.0, Window(end=0.0, level=0.5)], ids=["source's", "half of each"])
def test_an_edit_by_blocks(tiny, everywhere, monkeypatch, until):
    """Folded cross-attention, with an appended column of sums, and injected self-attention."""
    model, edit = in_dtype(tiny, torch.bfloat16), Swap("cat", "dog", Alpha(until)) + Renormalise()
    p2p = PromptToPrompt(model, CAT, (DOG,), (edit,), SelfInjection(until))
    expected, found, seen = in_both_forms(monkeypatch, p2p, "in_blocks")
    assert len(seen) > 10 and {Q.dtype for Q, *_ in seen} == {torch.bfloat16}
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 0 < error < 4 * torch.finfo(torch.bfloat16).eps  # as of a whole model in bfloat16: see test_precision.py


def test_an_edit_by_convolutions(tiny, everywhere, monkeypatch):
    p2p = PromptToPrompt(tiny, CAT, (DOG,), (Swap("cat", "dog", Alpha(0.0)),), SelfInjection(0.0))
    expected, found, seen = in_both_forms(monkeypatch, p2p, "as_convolution")
    assert len(seen) > 10
    assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order, in some dozens of layers


@torch.no_grad()
def test_attention_of_the_first_stage_by_blocks(everywhere, monkeypatch):
    block = SelfAttentionBlock(32, heads=1, groups=8, eps=1e-6).bfloat16()
    x = normal(1, 32, 8, 8).bfloat16()
    seen = calls(monkeypatch, "in_blocks")
    found = block(x)
    assert len(seen) == 1
    # rounded to bfloat16 in each of six layers
    assert_close(found.float(), block.float()(x.float()), rtol=0, atol=0.06)


@torch.no_grad()
def test_causal_attention_stays_causal(everywhere):
    Q, K, V = (normal(1, 2, 9, 4, seed=i).bfloat16() for i in range(3))
    usual = F.scaled_dot_product_attention(Q, K, V, is_causal=True)
    assert torch.equal(attend(Q, K, V, causal=True), usual)


# ---------------------------------------------------------------------------------------------------------------------
# the rule


@pytest.mark.parametrize(
    "maker, flags, used",
    [
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx2", False),
        ("GenuineIntel", "avx512_bf16 amx_bf16", False),
        ("GenuineIntel", "avx512f", False),
    ],
)
def test_processors(monkeypatch, maker, flags, used):
    listed = f"vendor_id\t: {maker}\nmodel name\t: A\nflags\t\t: fpu {flags}\nvendor_id\t: {maker}\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: listed)
    monkeypatch.setattr(Path, "exists", lambda self: True)
    assert manufacturer() == maker
    assert fastest.amd_with_bfloat16.__wrapped__() == used
    assert multiplies_bfloat16() == ("bf16" in flags)


def test_a_processor_that_is_not_known(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert manufacturer() == "" and not fastest.amd_with_bfloat16.__wrapped__()


def test_sizes(monkeypatch, two_threads):
    monkeypatch.setattr(fastest, "amd_with_bfloat16", lambda: True)
    wide = lambda *shape: torch.empty(shape, device="meta")
    cpu = lambda *shape, dtype: torch.empty(1, dtype=dtype).expand(shape)
    half = lambda n: cpu(4, 8, n, 40, dtype=torch.bfloat16)
    with torch.no_grad():
        assert blocks_pay(half(4096), 4096) and blocks_pay(half(64), 1024)
        assert not blocks_pay(half(4096), 77)  # cross-attention
        assert not blocks_pay(half(4096).float(), 4096)
        assert not blocks_pay(wide(4, 8, 4096, 40).bfloat16(), 4096)  # another device
        layer = lambda rows, dtype=torch.float32: cpu(rows, 4096, 320, dtype=dtype)
        assert convolution_pays(layer(1), 320) and convolution_pays(layer(4), 320)  # however many rows
        assert not convolution_pays(layer(4), 160) and not convolution_pays(layer(4, torch.bfloat16), 320)
        torch.set_num_threads(1)
        assert not convolution_pays(layer(4), 320)
        torch.set_num_threads(2)
        monkeypatch.setattr(fastest, "amd_with_bfloat16", lambda: False)
        assert not blocks_pay(half(4096), 4096) and not convolution_pays(layer(4), 320)


def test_sizes_of_pieces():
    row = lambda *shape: torch.empty(1).expand(shape)
    with torch.no_grad():
        assert pieces_that_pay(row(4, 4096, 320), 2560) == pieces_that_pay(row(1, 4096, 320), 2560) == 5
        assert pieces_that_pay(row(4, 1024, 640), 5120) == 1
        assert pieces_that_pay(row(4, 16384, 320), 2560) == 20  # at 1024 pixels
        assert pieces_that_pay(torch.empty(4, 4096, 320, device="meta"), 2560) == 1
    assert pieces_that_pay(row(4, 4096, 320), 2560) == 1  # gradients keep in memory what pieces would free


@torch.no_grad()
def test_the_feed_forward_layers_of_an_edit_in_pieces(tiny, monkeypatch):
    """The same edit, and equal rows stay equal."""
    z_t, context = normal(2, *tiny.latent_shape).float(), tiny.encode_prompts([CAT, DOG])
    run = lambda rows: tiny.unet(z_t[rows], torch.tensor([499]), context[rows])
    expected, seen = run([0, 1]), []
    monkeypatch.setattr(fastest, "HUGE", 1)
    monkeypatch.setattr(fastest, "PIECE", 2**12)
    count = fastest.pieces_that_pay
    monkeypatch.setattr(ldm.attention, "pieces_that_pay", lambda *args: seen.append(count(*args)) or seen[-1])
    found = run([0, 1])
    assert max(seen) > 4
    assert_close(found, expected, rtol=1e-4, atol=1e-5)  # float32 sums in another order, in some dozens of layers
    both = run([0, 0])
    assert torch.equal(both[0], both[1])


def test_gradients_are_taken_through_the_usual_forms(everywhere, monkeypatch):
    blocks, convolutions = calls(monkeypatch, "in_blocks"), calls(monkeypatch, "as_convolution")
    gate, x = GEGLU(4, 8), normal(1, 9, 4).float().requires_grad_()
    gate(x).sum().backward()
    Q = x.bfloat16()[:, None]
    attend(Q, Q, Q).sum().backward()
    linear(x, gate.proj.weight, None).sum().backward()
    assert not blocks and not convolutions and x.grad.isfinite().all()
