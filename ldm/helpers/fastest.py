"""Which form of a product is fastest on this processor, and which layers are computed in pieces.

PyTorch's own forms, its fused attention and `F.linear`, are used wherever no other was measured to be faster: on GPUs,
on Intel's processors, and wherever gradients are taken. On AMD's with AVX-512 BF16 there are two others, in
`ldm.helpers.products` (docs/speed.md has the times):

- Attention in bfloat16 over many positions. PyTorch's fused kernel takes as long there as in float32; these processors
  multiply matrices of bfloat16 twice as fast, and a block of queries by all keys is a product of two matrices.
- Large linear layers in float32. PyTorch leaves them to MKL, which runs its code for AVX2 on AMD's processors, and
  convolutions to oneDNN, which runs its code for AVX-512: a linear layer is a convolution with a kernel of 1x1.

On every CPU, again without gradients, the feed-forward layers of a large image are computed a piece of a row at a time,
for the sake of memory: what they make of it is eight times as large as what they get. By themselves they take as long
as for all rows at once.

What decides is one row of the batch, never how many there are: equal rows stay equal in a larger batch.
"""

from functools import cache

import torch
from torch import Tensor

from ldm.helpers.machine import manufacturer, multiplies_bfloat16

# The first two are for all of these processors: smaller products gain on some, and lose or gain little on others.
MANY = 1024  # keys from which blocks of queries are used
LARGE = 2**28  # multiplications of a row from which a linear layer is computed as a convolution
HUGE = 2**23  # numbers made of a row from which layers are computed on a piece of it at a time
PIECE = 2**21  # numbers made at a time: 8 MB in float32


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
    """Whether x has this dtype, and is where a form other than PyTorch's may be faster."""
    return x.dtype == dtype and _without_gradients_on_cpu(x) and amd_with_bfloat16()


def pieces_that_pay(x: Tensor, width: int) -> int:
    """Into how many pieces to cut each row of x, (b, n, c), for layers that make `width` numbers of a position; one is
    not to cut."""
    numbers = x.shape[1] * width
    return numbers // PIECE if numbers >= HUGE and _without_gradients_on_cpu(x) else 1


def _without_gradients_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()
