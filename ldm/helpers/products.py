"""Products in other forms than PyTorch's; their results are equal up to rounding.

Each is used where `ldm.helpers.fastest` says that it pays.
"""

import math
from collections.abc import Callable
from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.helpers.fastest import convolution_pays

BLOCK = 2**21  # scores computed at a time: 4 MB in bfloat16, about what the cores' caches hold
WIDTH = 16  # oneDNN multiplies matrices faster whose width is a multiple of it


def in_blocks(
    Q: Float[Tensor, "b h n d"], K: Float[Tensor, "b h m d"], V: Float[Tensor, "b h m e"]
) -> Float[Tensor, "b h n e"]:
    """[C3] Y without the whole of A, one head and a block of queries at a time: there are about `BLOCK` numbers of A
    at a time, in whole rows.

    The scores s are rounded to Q's dtype, as Q and K were before, where the fused kernel keeps them in float32. In
    bfloat16, whose numbers are rounded by up to 2^-8 of their size, each number of A may differ by a factor of
    about exp(2^-7 max |s|). Keys are taken relative to their mean, which adds the same number to all scores of a row
    and so leaves A as it is, but for their being rounded once more: what all keys share makes no score large.
    """
    n, m, width = Q.shape[2], K.shape[2], V.shape[3]
    K, V = K - K.mean(dim=2, keepdim=True), F.pad(V, (0, -width % WIDTH))
    Y = V.new_empty(*Q.shape[:3], V.shape[3])
    rows = math.ceil(BLOCK / m)
    scores = Q.new_empty(min(rows, n), m)
    for q, k, v, y in zip(*(x.flatten(0, 1) for x in (Q, K, V, Y))):
        for q_i, y_i in zip(q.split(rows), y.split(rows)):
            A = scores[: len(q_i)]
            torch.addmm(A, q_i, k.T, beta=0, alpha=q.shape[1] ** -0.5, out=A)
            torch.softmax(A, dim=-1, out=A)
            torch.mm(A, v, out=y_i)
    return Y[..., :width]


def as_convolution(
    x: Float[Tensor, "b n c"], weight: Float[Tensor, "f c"], bias: Float[Tensor, " f"] | None
) -> Float[Tensor, "b n f"]:
    """A linear layer as a 1x1 convolution over the n positions, arranged in as square an image as there is."""
    height = next(h for h in range(int(x.shape[1] ** 0.5), 0, -1) if x.shape[1] % h == 0)
    y = F.conv2d(x.mT.unflatten(2, (height, -1)), weight[..., None, None], bias)  # channels-last, as x is
    return y.flatten(2).mT


def in_pieces(layers: Callable[[Tensor], Tensor], x: Float[Tensor, "b n c"], count: int) -> Float[Tensor, "b n f"]:
    """Layers that treat each position by itself, on this many pieces of each row, one after the other; with one piece,
    on the whole batch at once."""
    if count == 1:
        return layers(x)
    pieces = [layers(piece) for row in x.split(1) for piece in row.chunk(count, dim=1)]
    return torch.cat(pieces, dim=1).view(*x.shape[:2], -1)


def linear(
    x: Float[Tensor, "... c"], weight: Float[Tensor, "f c"], bias: Float[Tensor, " f"] | None
) -> Float[Tensor, "... f"]:
    """A linear layer of x, in the form that is faster."""
    return (as_convolution if convolution_pays(x, len(weight)) else F.linear)(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer by `linear`."""

    @no_type_check  # here: `linear` checks the same shapes
    def forward(self, x: Float[Tensor, "... c"]) -> Float[Tensor, "... f"]:
        return linear(x, self.weight, self.bias)
