"""Attention: from one element at a time [C1, C2] to the spatial transformer inside the UNet [C6].

Every attention layer of the UNet takes an optional `attn_fn`, a function that is called in place of plain attention
with the layer's queries, keys and values and a `Site` that identifies the layer. That is all Prompt-to-Prompt needs: no
layer is patched, and no calls are counted. docs/editing.md has another in five lines, uniform attention in one layer.

Parameter names are those of the public checkpoint files, so that these load without renaming.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.helpers.checks import check_heads
from ldm.helpers.fastest import blocks_pay, pieces_that_pay
from ldm.helpers.products import Linear, in_blocks, in_pieces, linear

Place = Literal["down", "mid", "up"]  # a part of the UNet


@dataclass(frozen=True)
class Site:
    """One attention layer of the UNet, as its attention function sees it; n = height * width latent positions [C5]."""

    kind: Literal["self", "cross"]
    place: Place
    layer: int  # index among the UNet's spatial transformers, in execution order, from 0
    height: int
    width: int


AttentionFn = Callable[[Site, Tensor, Tensor, Tensor], Tensor]  # (site, Q, K, V) -> Y


def element_wise(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], values: Float[Tensor, "m e"]
) -> Float[Tensor, "n e"]:
    """[C1, C2] s_{t,j} = k_j^T q_t / sqrt(d), a_t = softmax(s_t), y_t = sum_j a_{t,j} v_j: one query at a time.

    For reading; the networks use the matrix form. Self-attention [C1] computes all three from one sequence,
    cross-attention [C2] the queries from another.
    """
    if not queries.ndim == keys.ndim == values.ndim == 2:
        raise ValueError(
            f"queries, keys and values must be one head's matrices, got the shapes {tuple(queries.shape)}, "
            f"{tuple(keys.shape)} and {tuple(values.shape)}: index one row of the batch and one head, as Q[0, 0]"
        )
    if queries.shape[1] != keys.shape[1] or len(keys) != len(values):
        raise ValueError(
            f"queries (n, d), keys (m, d) and values (m, e) share d and m, got the shapes {tuple(queries.shape)}, "
            f"{tuple(keys.shape)} and {tuple(values.shape)}"
        )
    outputs = []
    for q in queries:
        s = torch.stack([k @ q / len(q) ** 0.5 for k in keys])
        a = s.softmax(dim=0)  # e^s / sum e^s, without overflow of e^s
        outputs.append(sum(a_j * v for a_j, v in zip(a, values)))
    return torch.stack(outputs)


def attention_map(Q: Float[Tensor, "b h n d"], K: Float[Tensor, "b h m d"]) -> Float[Tensor, "b h n m"]:
    """[C3] A = softmax(Q K^T / sqrt(d)): row i is a distribution over the m tokens that position i attends to."""
    # at least float32: the scores of a trained model can exceed 65504, the largest float16
    wide = torch.promote_types(Q.dtype, torch.float32)
    return (Q.to(wide) * Q.shape[-1] ** -0.5 @ K.to(wide).mT).softmax(dim=-1).to(Q.dtype)


def attend(
    Q: Float[Tensor, "b h n d"], K: Float[Tensor, "b h m d"], V: Float[Tensor, "b h m e"], causal: bool = False
) -> Float[Tensor, "b h n e"]:
    """[C3] Y = A V without materialising A. With `causal`, position i attends to no token after i.

    Equal to attention_map(Q, K) @ V up to rounding; otherwise a function that only records maps would change the image.
    """
    if K.shape[-2] != V.shape[-2]:  # not checked by the line below
        raise ValueError(f"there are {K.shape[-2]} keys and {V.shape[-2]} values: give one value for each key")
    if blocks_pay(Q, K.shape[2]) and not causal:
        return in_blocks(Q, K, V)
    return F.scaled_dot_product_attention(Q, K, V, is_causal=causal)


def multi_head(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    heads: int,
    q: Float[Tensor, "b n c"],
    k: Float[Tensor, "b m c"],
    v: Float[Tensor, "b m c"],
) -> Float[Tensor, "b n c"]:
    """[C7] Split the columns of q, k and v among the heads, attend in each head, and concatenate the results.

    `attend` takes Q, K, V of (b, heads, n or m, d).
    """
    split = lambda a: rearrange(a, "b n (h d) -> b h n d", h=heads)
    return rearrange(attend(split(q), split(k), split(v)), "b h n d -> b n (h d)")


class Attention(nn.Module):
    """[C4, C7, C8] Multi-head attention of x over `context` [C2]; self-attention [C1] where both are x.

    x has the n queries' positions (latent positions, target words), `context` the m positions attended to (tokens,
    source words). W_Q is (d, width), W_K and W_V are (d, context_width).
    """

    def __init__(self, width: int, context_width: int, heads: int):
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context_width, width, bias=False)
        self.to_v = Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(Linear(width, width))

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m e"],
        site: Site,
        attn_fn: AttentionFn | None = None,
    ) -> Float[Tensor, "b n c"]:
        attn = partial(attn_fn, site) if attn_fn else attend
        return self.to_out(multi_head(attn, self.heads, self.to_q(x), self.to_k(context), self.to_v(context)))


class GEGLU(nn.Module):
    """x W * GELU(x W'), the gated half of the feed-forward."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.proj = Linear(width, 2 * hidden)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n f"]:
        # split the weight, not the result: training then needs no copy that joins the activation's halves
        (value, gate), (of_value, of_gate) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        opened = F.gelu(linear(x, gate, of_gate))  # before the value, so that one activation less is in memory
        return linear(x, value, of_value) * opened


class FeedForward(nn.Module):
    """GEGLU to four times the width, and a linear layer back."""

    def __init__(self, width: int):
        super().__init__()
        # the public files' numbering counts a dropout in the middle
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return in_pieces(self.net, x, pieces_that_pay(x, 8 * x.shape[2]))


class TransformerBlock(nn.Module):
    """[C6] Self-attention, cross-attention, feed-forward; each pre-normalised and residual.

    The lecture's table lists self-attention, MLP, cross-attention under one LayerNorm; this is the order and the
    number of norms of the released code, which the public weights need.
    """

    def __init__(self, width: int, context_width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, width, heads)
        self.attn2 = Attention(width, context_width, heads)
        self.ff = FeedForward(width)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        context: Float[Tensor, "b m e"],
        site: Callable[[str], Site],
        attn_fn: AttentionFn | None = None,
    ) -> Float[Tensor, "b n c"]:
        y = self.norm1(x)
        x = x + self.attn1(y, y, site("self"), attn_fn)
        x = x + self.attn2(self.norm2(x), context, site("cross"), attn_fn)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """[C6] A transformer block over the positions of a feature map, attending to the prompt."""

    def __init__(
        self, channels: int, context_width: int, heads: int, linear: bool, groups: int, place: Place, layer: int
    ):
        super().__init__()
        self.place, self.layer, self.linear = place, layer, linear
        project = (lambda: Linear(channels, channels)) if linear else (lambda: nn.Conv2d(channels, channels, 1))
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = project()
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_width, heads)])
        self.proj_out = project()

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m e"], attn_fn: AttentionFn | None = None
    ) -> Float[Tensor, "b c h w"]:
        height, width = x.shape[-2:]
        site = lambda kind: Site(kind, self.place, self.layer, height, width)
        flatten = lambda a: rearrange(a, "b c h w -> b (h w) c")
        unflatten = lambda a: rearrange(a, "b (h w) c -> b c h w", h=height)
        y = self.norm(x)
        y = self.proj_in(flatten(y)) if self.linear else flatten(self.proj_in(y))  # (b, n, c)
        for block in self.transformer_blocks:
            y = block(y, context, site, attn_fn)
        y = unflatten(self.proj_out(y)) if self.linear else self.proj_out(unflatten(y))  # (b, c, h, w)
        return x + y


class SelfAttentionBlock(nn.Module):
    """[C1, C4] Self-attention over the positions of a feature map, pre-normalised and residual.

    Used in the first stage, and in a UNet without prompts, where `context` is ignored.
    """

    def __init__(self, channels: int, heads: int, groups: int, eps: float, place: Place = "mid", layer: int = 0):
        super().__init__()
        check_heads(channels, heads)
        self.heads, self.place, self.layer = heads, place, layer
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)
        self.to_q, self.to_k, self.to_v = (Linear(channels, channels) for _ in range(3))
        self.to_out = nn.Sequential(Linear(channels, channels))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        context: Float[Tensor, "b m e"] | None = None,
        attn_fn: AttentionFn | None = None,
    ) -> Float[Tensor, "b c h w"]:
        height, width = x.shape[-2:]
        attn = partial(attn_fn, Site("self", self.place, self.layer, height, width)) if attn_fn else attend
        y = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        y = self.to_out(multi_head(attn, self.heads, self.to_q(y), self.to_k(y), self.to_v(y)))
        return x + rearrange(y, "b (h w) c -> b c h w", h=height)
