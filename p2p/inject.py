"""Injection inside attention, by two engines with one meaning.

The explicit engine builds A, A* and A_used as tensors, to be shown. The folded one never builds a map: matrix products
associate, so Y* = (A P_t + A* Q_t) V* = A (P_t V*) + A* (Q_t V*), two ordinary attention calls on folded values.

Rows of the batch are the source, then its targets. The unconditional half of a guided batch never gets here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import AttentionEdit, Site, attend, attention_map
from p2p.edits import Matrices, stack, used

Watch = Callable[[Site, Float[Tensor, "b h n m"]], None]  # shown the attention that each cross-attention layer used


@dataclass(frozen=True)
class Injection:
    """What one step injects."""

    matrices: list[Matrices]  # one per target
    inject_self: bool  # whether targets use the source's self-attention
    self_limit: int  # ... in layers of at most this many positions a side

    @property
    def idle(self) -> bool:
        return not self.inject_self and all(m.idle for m in self.matrices)


def explicit(injection: Injection, watch: Watch | None = None) -> AttentionEdit:
    """[P3-P5] Line 9 of Algorithm 1, inside attention: A <- A_used, with V from the target's own prompt."""

    def edit(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "self":
            if injection.inject_self and max(site.height, site.width) <= injection.self_limit:
                return attention_map(Q[:1], K[:1]) @ V  # one map for all rows
            return attend(Q, K, V)
        A = attention_map(Q, K)  # (1 + targets, h, n, m)
        P, Q_t = stack(injection.matrices, like=A)
        A_used = torch.cat([A[:1], used(A[:1], A[1:], P[:, None], Q_t[:, None])])
        if watch:
            watch(site, A_used)
        return A_used @ V

    return edit


def folded(injection: Injection) -> AttentionEdit:
    """[P3-P5] What `explicit` computes, without maps: fast, and lean where there are many positions."""

    def edit(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        source = lambda a, rows: a[:1].expand(rows, -1, -1, -1)
        if site.kind == "self":
            if injection.inject_self and max(site.height, site.width) <= injection.self_limit:
                return attend(source(Q, len(V)), source(K, len(V)), V)
            return attend(Q, K, V)
        P, Q_t = stack(injection.matrices, like=V)
        own, values = V[:1], V[1:]
        Y = torch.zeros_like(Q[1:])
        if P.any():
            Y = Y + attend(source(Q, len(values)), source(K, len(values)), P[:, None] @ values)
        if Q_t.any():
            Y = Y + attend(Q[1:], K[1:], Q_t[:, None, :, None] * values)
        return torch.cat([attend(Q[:1], K[:1], own), Y])

    return edit


def watching(watch: Watch) -> AttentionEdit:
    """Plain attention that shows its cross-attention maps."""

    def edit(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "self":
            return attend(Q, K, V)
        A = attention_map(Q, K)
        watch(site, A)
        return A @ V

    return edit
