"""Principal components of self-attention: which positions of an image attend to the same positions.

A row of the self-attention map is a distribution over positions. Positions with similar rows belong together; the
principal components of the rows show the image's layout without reference to any word.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import Site, attend, attention_map
from p2p.maps import MapMean


class SelfMaps:
    """Plain attention that averages the self-attention maps of one resolution over heads, layers and steps.

    Pass it to a run: `model.denoise(context, seeds, attn_fn=lambda t: self_maps)`. It keeps one n x n matrix per row of
    the batch.

    Args:
        side: positions a side of the averaged layers.
    """

    def __init__(self, side: int = 16):
        self.side = side
        self._maps = MapMean()  # (b, n, n)

    def __call__(self, site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        if site.kind == "cross" or site.height != self.side:
            return attend(Q, K, V)
        A = attention_map(Q, K)
        self._maps.add(A.float().mean(dim=1))
        return A @ V

    def mean(self) -> Float[Tensor, "b n n"]:
        """The average map; each of its rows sums to 1.

        Raises:
            ValueError: no attention was recorded at this resolution.
        """
        if not self._maps.count:
            raise ValueError(f"no self-attention layer has {self.side} positions a side")
        return self._maps.mean()


class Components(NamedTuple):
    """The first principal components of a self-attention map, as images."""

    maps: Float[Tensor, "k h w"]  # each position's coordinate along each component
    share: Float[Tensor, " k"]  # of the variance that each component explains


def principal_components(A: Float[Tensor, "n n"], count: int = 3) -> Components:
    """PCA of the rows of a square image's self-attention map: A - mean row = U S W^T; component k is column k of U S.

    The sign of a component is arbitrary; here the coordinate of largest magnitude is positive.

    Raises:
        ValueError: n is not the square of a side.
    """
    side = round(len(A) ** 0.5)
    if side**2 != len(A):
        raise ValueError(f"a self-attention map of a square image has side * side rows, got {len(A)}")
    A = A.cpu().double()  # not every device has float64
    U, S, _ = torch.linalg.svd(A - A.mean(dim=0), full_matrices=False)
    coordinates = (U * S)[:, :count].T
    furthest = coordinates.gather(1, coordinates.abs().argmax(dim=1, keepdim=True))
    variance = S.square() / S.square().sum()
    return Components((coordinates * furthest.sign()).unflatten(1, (side, side)), variance[:count])
