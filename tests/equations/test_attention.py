"""The lecture's formulas of attention, [C1]-[C7], and of the KL bottleneck [B2]."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ldm.attention import Attention, Site, SpatialTransformer, attend, attention_map
from ldm.autoencoder import Gaussian

# float64 sums of at most a few dozen terms
EXACT = dict(rtol=1e-12, atol=1e-12)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def element_wise(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """[C1, C2] As the slide writes it: one query, one key, one number at a time. (n, d), (m, d), (m, e) -> (n, e)."""
    result = torch.zeros(len(queries), values.shape[1], dtype=torch.float64)
    for t, q in enumerate(queries):
        s = [sum(k_i * q_i for k_i, q_i in zip(k.tolist(), q.tolist())) / math.sqrt(len(q)) for k in keys]
        total = sum(math.exp(s_j) for s_j in s)
        for j, v in enumerate(values):
            result[t] += math.exp(s[j]) / total * v
    return result


def test_c1_self_attention_element_by_element():
    """[C1] x'_4 = sum_j a_{4,j} v_j, with queries, keys and values all from x."""
    x, W_q, W_k, W_v = random(6, 5), *(random(5, 4, seed=i) for i in (1, 2, 3))
    q, k, v = x @ W_q, x @ W_k, x @ W_v
    assert_close(attend(q[None, None], k[None, None], v[None, None])[0, 0], element_wise(q, k, v), **EXACT)


def test_c2_cross_attention_element_by_element():
    """[C2] Queries from y (n of them), keys and values from x (m of them)."""
    y, x = random(3, 5), random(7, 6, seed=1)
    q, k, v = y @ random(5, 4, seed=2), x @ random(6, 4, seed=3), x @ random(6, 4, seed=4)
    assert_close(attend(q[None, None], k[None, None], v[None, None])[0, 0], element_wise(q, k, v), **EXACT)


def test_c3_matrix_form():
    """[C3] Y = A V with A = softmax(Q K^T / sqrt(d)); every row of A is a distribution over the m tokens."""
    Q, K, V = random(2, 3, 9, 4), random(2, 3, 5, 4, seed=1), random(2, 3, 5, 4, seed=2)
    A = attention_map(Q, K)
    assert A.shape == (2, 3, 9, 5) and (A > 0).all()
    assert_close(A.sum(dim=-1), torch.ones(2, 3, 9, dtype=torch.float64), **EXACT)
    assert_close(A @ V, F.scaled_dot_product_attention(Q, K, V), **EXACT)
    assert_close((A @ V)[1, 2], element_wise(Q[1, 2], K[1, 2], V[1, 2]), **EXACT)


def test_c3_worked_by_hand():
    """[C3] Two tokens, d = 1: scores 0 and ln 3 give a = (1/4, 3/4)."""
    Q, K = torch.ones(1, 1, 1, 1).double(), torch.tensor([0.0, math.log(3)], dtype=torch.float64).reshape(1, 1, 2, 1)
    assert_close(attention_map(Q, K).flatten(), torch.tensor([0.25, 0.75]).double(), **EXACT)
    V = torch.tensor([8.0, 4.0]).double().reshape(1, 1, 2, 1)
    assert_close(attend(Q, K, V).item(), 5.0, **EXACT)


def test_c4_shapes_of_the_projections():
    """[C4] Printed (after the paper): W_V in R^{d x d_eps}, W_Q in R^{d x d_tau}. Q is made of the latent, V of the
    prompt, so it is the other way round; with the printed shapes neither product exists."""
    d, d_eps, d_tau = 8, 8, 5
    layer = Attention(d_eps, d_tau, heads=2).double()
    assert layer.to_q.weight.shape == (d, d_eps)
    assert layer.to_k.weight.shape == layer.to_v.weight.shape == (d, d_tau)
    latent, prompt = random(1, 9, d_eps), random(1, 4, d_tau)
    printed_W_Q, printed_W_V = layer.to_v.weight, layer.to_q.weight
    for W, x in ((printed_W_Q, latent), (printed_W_V, prompt)):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            x @ W.T
    assert layer(latent, prompt, Site("cross", "mid", 0, 3, 3)).shape == (1, 9, d_eps)


def test_c5_n_counts_the_latent_positions():
    """[C5] Printed: n is the number of dimensions of the latent space. It is its number of positions, h w."""
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0).double()
    seen = {}

    def watch(site, Q, K, V):
        seen[site.kind] = attention_map(Q, K).shape
        assert (site.height, site.width) == (3, 6)
        return attend(Q, K, V)

    layer(random(1, 16, 3, 6), random(1, 7, 5), watch)
    assert seen == {"self": (1, 2, 18, 18), "cross": (1, 2, 18, 7)}


def test_c6_shapes_along_the_spatial_transformer():
    """[C6] (b, c, h, w) in and out; (b, h w, c) inside; and its parts add to their input."""
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0).double()
    inside = []
    layer.transformer_blocks[0].register_forward_hook(lambda _, args, out: inside.append((args[0].shape, out.shape)))
    x = random(2, 16, 3, 6)
    assert layer(x, random(2, 7, 5)).shape == x.shape
    assert inside == [((2, 18, 16), (2, 18, 16))]
    torch.nn.init.zeros_(layer.proj_out.weight)
    torch.nn.init.zeros_(layer.proj_out.bias)
    assert torch.equal(layer(x, random(2, 7, 5)), x)


def test_c7_heads_attend_apart_and_merge():
    """[C7] Each head is C3 on its own slice; one head is C3 whole."""
    x, context, site = random(1, 9, 8), random(1, 4, 5), Site("cross", "mid", 0, 3, 3)
    for heads in (1, 2, 4):
        layer = Attention(8, 5, heads).double()
        q, k, v = layer.to_q(x)[0], layer.to_k(context)[0], layer.to_v(context)[0]
        parts = [element_wise(*(a.split(8 // heads, dim=1)[h] for a in (q, k, v))) for h in range(heads)]
        assert_close(layer(x, context, site)[0], layer.to_out(torch.cat(parts, dim=1)), **EXACT)


def test_b2_kl_to_the_standard_normal():
    """[B2] The closed form against torch.distributions, and the sample's mean and spread."""
    q = Gaussian(random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1))
    theirs = kl_divergence(Normal(q.mean, (0.5 * q.log_var).exp()), Normal(0.0, 1.0))
    assert_close(q.kl(), theirs, **EXACT)
    assert (q.kl() >= 0).all()
    nothing = Gaussian(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
    assert nothing.kl().item() == 0
    eps = random(2, 3, 4, 4, seed=2)
    assert_close((q.sample(eps) - q.mean) ** 2, q.log_var.exp() * eps**2, **EXACT)
