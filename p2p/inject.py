"""Injection inside attention, by two equivalent engines.

The explicit engine builds A, A* and A_used as tensors, so that maps can be shown. The folded engine never builds a map:
matrix products are associative, so Y* = (A P_t + A* Q_t) V* = A (P_t V*) + A* (Q_t V*), two ordinary attention calls on
folded values.

Rows of the batch are the source, then its targets; or the targets only, if the source's queries and keys come from a
recording. The unconditional half of a guided batch is never edited.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ldm.attention import AttentionFn, Place, Site, attend, attention_map
from ldm.config import STRICT
from ldm.helpers.checks import check_fields
from ldm.pipeline import LatentDiffusion
from p2p.edits import Matrices, Stacked, stack, used

Watch = Callable[[Site, Float[Tensor, "b h n m"]], None]  # receives the attention that each cross-attention layer used
Recorded = Callable[[Site], tuple[Tensor, Tensor]]  # Q and K of the source, (1, h, n, d) and (1, h, m, d)


@dataclass(frozen=True)
class Layers:
    """A set of the UNet's attention layers: those with at most `side` positions a side, in these places."""

    __pydantic_config__ = STRICT

    side: int | None = None
    places: tuple[Place, ...] = ("down", "mid", "up")

    def __post_init__(self):
        check_fields(self)
        if self.side is not None and self.side < 1:
            raise ValueError(f"layers have at least 1 position a side, got a limit of {self.side}")

    def __contains__(self, site: Site) -> bool:
        return site.place in self.places and (self.side is None or max(site.height, site.width) <= self.side)


def layout_side(model: LatentDiffusion, wanted: int | None = None) -> int:
    """Positions a side of the attention layers that determine the layout: those wanted or, for None, those of the
    UNet's level nearest 16; of two equally near, the coarser.

    That is 16 in Stable Diffusion at 512 pixels and 24 at 768. The UNet's middle is one layer, used only if wanted.

    Raises:
        ValueError: no attention layer of the model has the wanted number of positions.
    """
    there = sides(model)
    if wanted is None:
        return min(sides(model, ("down", "up")) or there, key=lambda side: (abs(side - 16), side))
    if wanted not in there:
        have = ", ".join(map(str, there))
        raise ValueError(f"no attention of {model.config.name} has {wanted} positions a side: give one of {have}")
    return wanted


def sides(model: LatentDiffusion, places: Sequence[Place] = ("down", "mid", "up")) -> list[int]:
    """Positions a side of the model's attention layers in these places, the largest first."""
    unet, n = model.config.unet, model.latent_shape[-1]
    levels = [-(-n // 2**level) for level in range(len(unet.channels))]  # halving rounds up
    found = [side for side, attends in zip(levels, unet.attention) if attends and set(places) & {"down", "up"}]
    if unet.mid and "mid" in places:
        found.append(levels[-1])
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Injection:
    """The injection of one step."""

    matrices: list[Matrices]  # one per target
    cross_layers: Layers
    self_shares: list[float]  # of the source in each target's self-attention: 1 is the source's only, 0 its own only
    self_layers: Layers

    @property
    def idle(self) -> bool:
        return not any(self.self_shares) and all(m.idle for m in self.matrices)


def explicit(
    injection: Injection, watch: Watch = lambda site, A: None, recorded: Recorded | None = None
) -> AttentionFn:
    """[P3-P5] Line 9 of Algorithm 1, inside attention: A <- A_used, with V from the target's own prompt."""
    stacked = stacking(injection.matrices)

    def attn_fn(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "self":
            return self_injected(injection, site, Q, K, V, recorded)
        A = attention_map(Q, K)  # (rows, h, n, m)
        if recorded:
            source, own = attention_map(*recorded(site)), A
        else:
            source, own = A[:1], A[1:]
        if site in injection.cross_layers:
            own = used(source, own, *stacked(A))
        watch(site, torch.cat([source, own]))
        return (own if recorded else torch.cat([source, own])) @ V

    return attn_fn


def folded(injection: Injection, recorded: Recorded | None = None) -> AttentionFn:
    """[P3-P5] The result of `explicit` without materialising maps: fast, and small in memory at many positions."""
    matrices = injection.matrices
    stacked = stacking(matrices)
    takes, keeps = any(m.P.any() for m in matrices), any(m.Q.any() for m in matrices)  # once, not in every layer
    divides = any(m.renormalise for m in matrices)

    def attn_fn(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "self":
            return self_injected(injection, site, Q, K, V, recorded)
        if site not in injection.cross_layers:
            return attend(Q, K, V)
        first = source_row(Q, K, V, recorded)
        own, values = slice(len(first), None), V[len(first) :]
        P, Q_t, renormalise = stacked(V)
        if divides:  # an appended column of ones yields the row sums of A_used
            values = F.pad(values, (0, 1), value=1.0)
        Y = torch.zeros_like(values[..., :1, :]).expand(-1, -1, Q.shape[2], -1)
        if takes:
            Q_source, K_source = source_of(site, Q, K, len(values), recorded)
            Y = Y + attend(Q_source, K_source, P @ values)
        if keeps:
            Y = Y + attend(Q[own], K[own], Q_t[..., None] * values)
        if divides:
            Y, sums = Y[..., :-1], Y[..., -1:]
            Y = torch.where(renormalise[..., None, None], Y / sums, Y)
        return torch.cat([first, Y])

    return attn_fn


def stacking(matrices: list[Matrices]) -> Callable[[Tensor], Stacked]:
    """`stack` with a tensor's dtype and device, made once for all layers. By `functools.cache`, torch.compile would not
    compile the network as a whole."""
    made: dict[torch.dtype, Stacked] = {}

    def stacked(like: Tensor) -> Stacked:
        if like.dtype not in made:
            made[like.dtype] = stack(matrices, like.dtype, like.device)
        return made[like.dtype]

    return stacked


def self_injected(
    injection: Injection, site: Site, Q: Tensor, K: Tensor, V: Tensor, recorded: Recorded | None
) -> Tensor:
    """Self-attention with the source's map instead of the targets' own: P = I, Q = 0 inside the window."""
    if site not in injection.self_layers or not any(injection.self_shares):
        return attend(Q, K, V)
    own = slice(len(V) - len(injection.self_shares), None)  # all rows, or all but the source's
    Y = attend(*source_of(site, Q, K, len(V), recorded), V)
    if min(injection.self_shares) < 1:
        share = Y.new_tensor(injection.self_shares)[:, None, None, None]
        mixed = share * Y[own] + (1 - share) * attend(Q[own], K[own], V[own])
        Y = torch.cat([Y[: own.start], mixed])
    return Y


def source_row(Q: Tensor, K: Tensor, V: Tensor, recorded: Recorded | None) -> Float[Tensor, "s h n e"]:
    """Plain attention of the source's row, if it is in the batch."""
    return V.new_empty(0, *Q.shape[1:3], V.shape[-1]) if recorded else attend(Q[:1], K[:1], V[:1])


def source_of(
    site: Site, Q: Tensor, K: Tensor, targets: int, recorded: Recorded | None
) -> tuple[Float[Tensor, "k h n d"], Float[Tensor, "k h m d"]]:
    """The source's Q and K, repeated for each target; read from a recording only where they are used."""
    Q_source, K_source = recorded(site) if recorded else (Q[:1], K[:1])
    return Q_source.expand(targets, -1, -1, -1), K_source.expand(targets, -1, -1, -1)


def together(watches: Sequence[Watch]) -> Watch | None:
    """Combine watches into one that passes the attention to each; None if there are none."""

    def watch(site: Site, A: Float[Tensor, "b h n m"]) -> None:
        for each in watches:
            each(site, A)

    return watch if watches else None


def watching(watch: Watch, recorded: Recorded | None = None) -> AttentionFn:
    """Plain attention that passes its cross-attention maps to `watch`."""

    def attn_fn(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "self":
            return attend(Q, K, V)
        A = attention_map(Q, K)
        watch(site, torch.cat([attention_map(*recorded(site)), A]) if recorded else A)
        return A @ V

    return attn_fn
