"""Products in the form that is fastest on this processor; their results are equal up to rounding.

PyTorch's own forms, its fused attention and `F.linear`, are used wherever no other was measured to be faster: on GPUs,
on Intel's processors, and wherever gradients are taken. On AMD's with AVX-512 BF16 there are two (docs/speed.md has
the times of all four):

- Attention in bfloat16 over many positions. PyTorch's fused kernel takes as long there as in float32; these processors
  multiply matrices of bfloat16 twice as fast, and a block of queries by all keys is a product of two matrices.
- Large linear layers in float32. PyTorch leaves them to MKL, which runs its code for AVX2 on AMD's processors, and
  convolutions to oneDNN, which runs its code for AVX-512: a linear layer is a convolution with a kernel of 1x1.

What decides is one row of the batch, never how many there are: equal rows stay equal in a larger batch.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.helpers.machine import manufacturer, multiplies_bfloat16

MANY = 1024  # keys from which blocks of queries are faster than the fused kernel
BLOCK = 2**21  # scores computed at a time: 4 MB in bfloat16, about what the cores' caches hold
LARGE = 2**28  # multiplications of a row from which a convolution is faster than a linear layer
WIDTH = 16  # oneDNN multiplies matrices faster whose width is a multiple of it


@cache
def amd_with_bfloat16() -> bool:
    """Whether this is a processor for which the other forms were measured to be faster."""
    return manufacturer() == "AuthenticAMD" and multiplies_bfloat16()


def blocks_pay(Q: Tensor, keys: int) -> bool:
    """Whether attention over so many keys is faster by `in_blocks`."""
    return _not_by_pytorch(Q, torch.bfloat16) and keys >= MANY


def convolution_pays(x: Tensor, outputs: int) -> bool:
    """Whether a linear layer of x, (b, n, c), is faster by `as_convolution`. On one thread PyTorch computes 1x1
    convolutions in another, slow way."""
    large = x.ndim == 3 and x.shape[1:].numel() * outputs >= LARGE
    return large and _not_by_pytorch(x, torch.float32) and torch.get_num_threads() > 1


def _not_by_pytorch(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x is of the dtype, and where, the other forms may pay."""
    return x.dtype == dtype and x.device.type == "cpu" and not torch.is_grad_enabled() and amd_with_bfloat16()


def in_blocks(
    Q: Float[Tensor, "b h n d"], K: Float[Tensor, "b h m d"], V: Float[Tensor, "b h m e"]
) -> Float[Tensor, "b h n e"]:
    """[C3] Y without the whole of A, one head and a block of queries at a time: there are about `BLOCK` numbers of A
    at a time, in whole rows.

    The scores s are rounded to Q's dtype, as Q and K were before, where the fused kernel keeps them in float32. In
    bfloat16, whose numbers are rounded by up to 2^-9 of their size, each number of A may differ by a factor of
    about exp(2^-8 max |s|). Keys are taken relative to their mean, which adds the same number to all scores of a row
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


def linear(
    x: Float[Tensor, "... c"], weight: Float[Tensor, "f c"], bias: Float[Tensor, " f"] | None
) -> Float[Tensor, "... f"]:
    """A linear layer of x, in the form that is faster."""
    return (as_convolution if convolution_pays(x, len(weight)) else F.linear)(x, weight, bias)


class Linear(nn.Linear):
    """A linear layer by `linear`."""

    def forward(self, x: Float[Tensor, "... c"]) -> Float[Tensor, "... f"]:
        return linear(x, self.weight, self.bias)
