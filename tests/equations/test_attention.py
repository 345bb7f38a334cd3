"""The lecture's formulas of attention, [C1]-[C8], and of the KL bottleneck [B2]."""

import math

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ldm import attention
from ldm.attention import (
    Attention,
    SelfAttentionBlock,
    Site,
    SpatialTransformer,
    TransformerBlock,
    attend,
    attention_map,
    element_wise,
)
from ldm.autoencoder import Autoencoder, Gaussian
from ldm.config import AutoencoderConfig
from ldm.helpers import products
from ldm.helpers.products import in_blocks
from ldm.text_encoder import SelfAttention
from tests.support.normal import normal

# float64 sums of at most a few dozen terms
EXACT = dict(rtol=1e-12, atol=1e-12)


@pytest.mark.equation("C1")
def test_c1_self_attention_element_by_element():
    """[C1] With queries, keys and values all from x, one number at a time is what torch does at once."""
    x, W_q, W_k, W_v = normal(6, 5), *(normal(5, 4, seed=i) for i in (1, 2, 3))
    q, k, v = x @ W_q, x @ W_k, x @ W_v
    assert_close(element_wise(q, k, v), F.scaled_dot_product_attention(q, k, v), **EXACT)


@pytest.mark.equation("C1", "C7")
def test_c1_in_the_prompt_model_a_token_sees_itself_and_those_before():
    """[C1, C7] Token i: element by element over tokens 0..i, in each head."""
    layer, x = SelfAttention(8, heads=2, causal=True).double(), normal(1, 5, 8)
    heads = [
        [part[0].split(4, dim=1)[h] for part in (layer.q_proj(x), layer.k_proj(x), layer.v_proj(x))] for h in (0, 1)
    ]
    rows = [
        torch.cat([element_wise(q[i : i + 1], k[: i + 1], v[: i + 1]) for q, k, v in heads], dim=1) for i in range(5)
    ]
    assert_close(layer(x)[0], layer.out_proj(torch.cat(rows)), **EXACT)


@pytest.mark.equation("C1")
@pytest.mark.equation("C4")
@pytest.mark.parametrize("heads", [1, 2])
def test_c1_in_the_first_stage_positions_look_at_each_other(heads):
    """[C1] Each head over the positions of the normalised features; the heads side by side [C4], added back."""
    layer, x = SelfAttentionBlock(8, heads, groups=4, eps=1e-6).double(), 3 * normal(2, 8, 2, 3) + 1
    y = F.group_norm(x, 4, eps=1e-6).flatten(2).mT
    projections = (layer.to_q, layer.to_k, layer.to_v)
    per_head = lambda a: zip(*(project(a).chunk(heads, dim=-1) for project in projections))
    Y = [torch.cat([element_wise(*qkv) for qkv in per_head(a)], dim=-1) for a in y]
    assert_close(layer(x), x + layer.to_out(torch.stack(Y)).mT.unflatten(2, (2, 3)), **EXACT)


@pytest.mark.equation("C2")
def test_c2_cross_attention_element_by_element():
    """[C2] Queries from y (n of them), keys and values from x (m of them)."""
    y, x = normal(3, 5), normal(7, 6, seed=1)
    q, k, v = y @ normal(5, 4, seed=2), x @ normal(6, 4, seed=3), x @ normal(6, 2, seed=4)
    result = element_wise(q, k, v)
    assert result.shape == (3, 2)
    assert_close(result, F.scaled_dot_product_attention(q, k, v), **EXACT)


@pytest.mark.equation("C3")
def test_c3_matrix_form():
    """[C3] As one element at a time and as torch have it; every row of A is a distribution over the m tokens."""
    Q, K, V = normal(2, 3, 9, 4), normal(2, 3, 5, 4, seed=1), normal(2, 3, 5, 4, seed=2)
    A = attention_map(Q, K)
    assert A.shape == (2, 3, 9, 5) and (A > 0).all()
    assert_close(A.sum(dim=-1), torch.ones(2, 3, 9, dtype=torch.float64), **EXACT)
    assert_close(A @ V, F.scaled_dot_product_attention(Q, K, V), **EXACT)
    assert_close(attend(Q, K, V), A @ V, **EXACT)
    assert_close((A @ V)[1, 2], element_wise(Q[1, 2], K[1, 2], V[1, 2]), **EXACT)


@pytest.mark.equation("C3")
@pytest.mark.filterwarnings("error")  # as of memory that is not of the size it should have
@pytest.mark.parametrize("block, rows", [(1, {1}), (28, {4, 1}), (45, {7, 2}), (10**6, {9})])
def test_c3_a_block_of_queries_at_a_time(monkeypatch, block, rows):
    """[C3] So many of the 9 rows of A at a time, and values with a width of their own."""
    monkeypatch.setattr(products, "BLOCK", block)
    made, softmax = set(), torch.softmax
    monkeypatch.setattr(torch, "softmax", lambda S, *args, **more: made.add(len(S)) or softmax(S, *args, **more))
    Q, K, V = normal(2, 3, 9, 4), normal(2, 3, 7, 4, seed=1), normal(2, 3, 7, 5, seed=2)
    assert_close(in_blocks(Q, K, V), F.scaled_dot_product_attention(Q, K, V), **EXACT)
    assert made == rows
    source = Q[:1].expand(2, -1, -1, -1), K[:1].expand(2, -1, -1, -1)  # as injected: one map for several rows
    assert_close(in_blocks(*source, V), F.scaled_dot_product_attention(*source, V), **EXACT)


@pytest.mark.equation("C3")
def test_c3_where_blocks_pay(monkeypatch):
    """[C3] Their number of keys decides, and causal attention has none."""
    monkeypatch.setattr(attention, "blocks_pay", lambda Q, keys: keys == 7)
    seen = []
    monkeypatch.setattr(attention, "in_blocks", lambda *QKV: seen.append(QKV) or in_blocks(*QKV))
    Q, K, V = normal(2, 3, 9, 4), normal(2, 3, 7, 4, seed=1), normal(2, 3, 7, 5, seed=2)
    assert_close(attend(Q, K, V), F.scaled_dot_product_attention(Q, K, V), **EXACT)
    assert len(seen) == 1
    attend(Q, K, V, causal=True)
    attend(K, Q, normal(2, 3, 9, 4))
    assert len(seen) == 1


@pytest.mark.equation("C3")
def test_c3_what_all_keys_share_makes_no_score_large():
    """[C3] Scores of 78,750 and a few eighths: bfloat16 would round them by 256, were keys not relative to their mean.

    A and V are rounded by 2^-8, the mean is rounded, and sums are of 7 products of order 1."""
    Q, K = torch.full((1, 2, 5, 64), 100.0).double(), torch.full((1, 2, 7, 64), 100.0).double()
    Q[..., 0], K[..., 0] = 1, torch.tensor([-8.0, 3, 0, 5, 8, -2, 1])
    V = normal(1, 2, 7, 3)
    expected = F.scaled_dot_product_attention(Q, K, V)
    assert_close(in_blocks(*(a.bfloat16() for a in (Q, K, V))).double(), expected, rtol=0, atol=0.03)


@pytest.mark.equation("C1", "C2", "C3")
def test_c3_worked_by_hand():
    """[C1-C3] Two tokens, d = 4: scores 0 and 2 ln 3 / sqrt(4) give a = (1/4, 3/4)."""
    Q, K = torch.zeros(1, 1, 1, 4).double(), torch.zeros(1, 1, 2, 4).double()
    Q[0, 0, 0, 0], K[0, 0, 1, 0] = 1, 2 * math.log(3)
    assert_close(attention_map(Q, K).flatten(), torch.tensor([0.25, 0.75]).double(), **EXACT)
    V = torch.tensor([8.0, 4.0]).double().reshape(1, 1, 2, 1)
    assert_close(attend(Q, K, V).item(), 5.0, **EXACT)
    assert_close(element_wise(Q[0, 0], K[0, 0], V[0, 0]).item(), 5.0, **EXACT)


@pytest.mark.equation("C4")
def test_c4_shapes_of_the_projections():
    """[C4] Printed (after the paper): W_V in R^{d x d_eps}, W_Q in R^{d x d_tau}. Q = phi W_Q^T is made of the latent,
    V of the prompt, so it is the other way round; with the printed shapes neither product exists."""
    d, d_eps, d_tau = 8, 8, 5
    layer = Attention(d_eps, d_tau, heads=2).double()
    assert layer.to_q.weight.shape == (d, d_eps)
    assert layer.to_k.weight.shape == layer.to_v.weight.shape == (d, d_tau)
    latent, prompt, seen = normal(1, 9, d_eps), normal(1, 4, d_tau), []

    def watch(site, *QKV):
        seen.extend(rearrange(part, "1 h n d -> n (h d)") for part in QKV)
        return attend(*QKV)

    assert layer(latent, prompt, Site("cross", "mid", 0, 3, 3), watch).shape == (1, 9, d_eps)
    weights = [W.weight for W in (layer.to_q, layer.to_k, layer.to_v)]
    for part, x, W in zip(seen, (latent, prompt, prompt), weights):
        assert_close(part, x[0] @ W.mT, **EXACT)  # and no bias
    printed_W_Q, printed_W_V = layer.to_v.weight, layer.to_q.weight
    for W, x in ((printed_W_Q, latent), (printed_W_V, prompt)):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            x @ W.T


@pytest.mark.equation("C5")
def test_c5_n_counts_the_latent_positions():
    """[C5] Printed: n is the number of dimensions of the latent space. It is its number of positions, h w."""
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0).double()
    seen = {}

    def watch(site, Q, K, V):
        seen[site.kind] = attention_map(Q, K).shape
        assert (site.height, site.width) == (3, 6)
        return attend(Q, K, V)

    layer(normal(1, 16, 3, 6), normal(1, 7, 5), watch)
    assert seen == {"self": (1, 2, 18, 18), "cross": (1, 2, 18, 7)}


@pytest.mark.equation("C6")
def test_c6_shapes_along_the_spatial_transformer():
    """[C6] (b, c, h, w) in and out; (b, h w, c) inside; and its parts add to their input."""
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0).double()
    inside = []
    layer.transformer_blocks[0].register_forward_hook(lambda _, args, out: inside.append((args[0].shape, out.shape)))
    x = normal(2, 16, 3, 6)
    assert layer(x, normal(2, 7, 5)).shape == x.shape
    assert inside == [((2, 18, 16), (2, 18, 16))]
    torch.nn.init.zeros_(layer.proj_out.weight)
    torch.nn.init.zeros_(layer.proj_out.bias)
    assert torch.equal(layer(x, normal(2, 7, 5)), x)


@pytest.mark.equation("C4", "C7", "C8")
def test_c7_heads_attend_apart_and_merge():
    """[C7] Each head is C3 on its own slice; one head is C3 whole."""
    x, context, site = normal(1, 9, 8), normal(1, 4, 5), Site("cross", "mid", 0, 3, 3)
    for heads in (1, 2, 4):
        layer = Attention(8, 5, heads).double()
        q, k, v = x[0] @ layer.to_q.weight.T, context[0] @ layer.to_k.weight.T, context[0] @ layer.to_v.weight.T
        parts = [element_wise(*(a.split(8 // heads, dim=1)[h] for a in (q, k, v))) for h in range(heads)]
        expected = layer.to_out(torch.cat(parts, dim=1))
        assert layer.to_k.bias is None  # it would move all of a row's scores alike, which no row shows
        assert_close(layer(x, context, site)[0], expected, **EXACT)
        edit = lambda where, Q, K, V: {site: attend(Q, K, V)}[where]  # told the site, then Q, K, V
        assert_close(layer(x, context, site, edit)[0], expected, **EXACT)


@pytest.mark.equation("C8")
@pytest.mark.parametrize(("n", "m"), [(1, 5), (3, 5), (5, 3), (7, 7)])
def test_c8_translation_is_the_same_attention_on_two_sentences(n, m):
    """[C8] n target words look at m source words; here by a dictionary, so that the map can be told in advance."""
    width, site = 8, Site("cross", "mid", 0, n, 1)
    layer = Attention(width, width, heads=1).double()
    for linear in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]):
        linear.weight.data = torch.eye(width, dtype=torch.float64)
    layer.to_q.weight.data *= 100 * width**0.5  # scores of 100 and 0: certain
    layer.to_out[0].bias.data.zero_()
    words = torch.eye(width, dtype=torch.float64)
    source, target = words[:m].flip(0), words[[i % m for i in range(n)]]
    means = m - 1 - torch.tensor([i % m for i in range(n)])  # where the source says what the target's word says
    maps = []

    def look(site, Q, K, V):
        maps.append(attention_map(Q, K))
        return attend(Q, K, V)

    assert_close(layer(target[None], source[None], site, look)[0], target, **EXACT)
    assert maps[0].shape == (1, 1, n, m)
    # a word that is not meant gets e^-100
    assert_close(maps[0][0, 0], F.one_hot(means, m).double(), **EXACT)


@pytest.mark.equation("C5", "C6")
@pytest.mark.parametrize("linear", [False, True])
def test_c6_around_the_block_by_hand(linear):
    """[C6] Norm, projection, reshape, block, reshape, projection, added back. So small that the norm's 1e-6 is seen."""
    layer = SpatialTransformer(16, 5, heads=2, linear=linear, groups=4, place="mid", layer=0).double()
    x, context = 1e-3 * normal(2, 16, 3, 6), normal(2, 7, 5, seed=1)
    project = lambda W, a: a @ W.weight.flatten(1).T + W.bias  # a 1x1 convolution is a matrix at each position
    y = project(layer.proj_in, F.group_norm(x, 4, eps=1e-6).flatten(2).mT)
    y = layer.transformer_blocks[0](y, context, lambda kind: Site(kind, "mid", 0, 3, 6))
    assert_close(layer(x, context), x + project(layer.proj_out, y).mT.unflatten(2, (3, 6)), **EXACT)


@pytest.mark.equation("C6")
def test_c6_the_block_by_hand():
    """[C6] Self-attention, cross-attention, feed-forward in this order, each of normalised features and added back."""
    block, x, context = TransformerBlock(8, 5, heads=2).double(), normal(1, 6, 8), normal(1, 4, 5, seed=1)
    for i, parameter in enumerate(block.parameters()):
        parameter.data = normal(*parameter.shape, seed=10 + i)
    norm = lambda a, n: F.layer_norm(a, (8,), n.weight, n.bias)

    def multi_head(layer, y, context):
        q, k, v = (
            W(a).unflatten(-1, (2, 4)).transpose(1, 2)
            for W, a in zip((layer.to_q, layer.to_k, layer.to_v), (y, context, context))
        )
        return layer.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    y = norm(x, block.norm1)
    expected = x + multi_head(block.attn1, y, y)
    expected = expected + multi_head(block.attn2, norm(expected, block.norm2), context)
    value, gate = block.ff.net[0].proj(norm(expected, block.norm3)).chunk(2, dim=-1)
    expected = expected + block.ff.net[2](value * F.gelu(gate))
    assert_close(block(x, context, lambda kind: Site(kind, "mid", 0, 2, 3)), expected, **EXACT)


@pytest.mark.equation("B2")
def test_b2_kl_to_the_standard_normal():
    """[B2] The closed form against torch.distributions, and the sample's mean and spread."""
    q = Gaussian(normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1))
    theirs = kl_divergence(Normal(q.mean, (0.5 * q.log_var).exp()), Normal(0.0, 1.0))
    assert_close(q.kl(), theirs, **EXACT)
    assert (q.kl() >= 0).all()
    nothing = Gaussian(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert nothing.kl().item() == 0
    eps = normal(2, 3, 4, 4, seed=2)
    assert_close(q.sample(eps), q.mean + q.log_var.exp().sqrt() * eps, **EXACT)


@pytest.mark.equation("B1", "B2")
def test_b2_the_encoder_says_mean_and_log_variance():
    """[B2] The first half of its channels and the second, the logarithm kept in -30..20."""
    model = Autoencoder(AutoencoderConfig(channels=(8, 8), layers=1, latent_channels=3, groups=4)).double()
    model.quant_conv.bias.data = torch.tensor([0, 0, 0, -1000, 1000, 0], dtype=torch.float64)
    x = normal(2, 3, 8, 8)
    q, said = model.posterior(x), model.quant_conv(model.encoder(x))
    assert q.mean.shape == (2, 3, 4, 4)
    assert torch.equal(q.mean, said[:, :3]) and torch.equal(q.log_var[:, 2], said[:, 5])
    assert model.decode(q.mean).shape == x.shape
    assert q.log_var[:, 0].eq(-30).all() and q.log_var[:, 1].eq(20).all()
