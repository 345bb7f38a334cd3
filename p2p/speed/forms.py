"""The usual form of a product beside the other one that `ldm.helpers.products` has, for the products of a step."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ldm.attention import FeedForward
from ldm.helpers.fastest import blocks_pay, convolution_pays, pieces_that_pay
from ldm.helpers.products import as_convolution, in_blocks, in_pieces
from p2p.speed.clock import seconds_of
from p2p.speed.models import Setting

ROWS = 4  # source and target, each with and without its prompt
ROUNDS = 5


class Product(NamedTuple):
    """A product in both forms, and whether the other one is used."""

    usual: Callable[[], Tensor]
    other: Callable[[], Tensor]
    used: bool


def products_of(setting: Setting) -> dict[str, Product]:
    """Self-attention and linear layers of each level of the UNet, its feed-forward layers that are cut into pieces, and
    attention in the decoder."""
    unet, decoder = setting.config.unet, setting.config.autoencoder
    draw = lambda *shape: torch.randn(shape).to(setting.device, setting.precision)
    found = {}

    def attention(name: str, rows: int, heads: int, n: int, d: int) -> None:
        Q, K, V = (draw(rows, n, heads, d).transpose(1, 2) for _ in range(3))  # heads split as in `multi_head`
        usual, other = (lambda form=form: form(Q, K, V) for form in (F.scaled_dot_product_attention, in_blocks))
        found[f"attention, {name}"] = Product(usual, other, blocks_pay(Q, n))

    def layer(name: str, n: int, c: int, f: int) -> None:
        x, weight, bias = draw(ROWS, n, c), draw(f, c), draw(f)
        usual, other = (lambda form=form: form(x, weight, bias) for form in (F.linear, as_convolution))
        found[f"linear, {name}, {c} to {f}"] = Product(usual, other, convolution_pays(x, f))

    def feed_forward(name: str, n: int, c: int) -> None:
        layers, x = FeedForward(c).to(setting.device, setting.precision), draw(ROWS, n, c)
        if (count := pieces_that_pay(x, 8 * c)) > 1:
            usual, other = (lambda k=k: in_pieces(layers, x, k) for k in (1, count))
            found[f"feed-forward, {name}"] = Product(usual, other, used=True)

    for level, (c, attends) in enumerate(zip(unet.channels, unet.attention)):
        side, heads = setting.side >> level, unet.heads_at(level)
        name = f"{side}x{side} positions"
        if attends:
            attention(name, ROWS, heads, side**2, c // heads)
        for inputs, outputs in ((c, c), (c, 4 * c), (4 * c, c)):
            layer(name, side**2, inputs, outputs)
        feed_forward(name, side**2, c)
    attention(f"decoder, {setting.side}x{setting.side} positions", 1, 1, setting.side**2, decoder.channels[-1])
    return found


@torch.no_grad()
def measure(setting: Setting) -> dict:
    """The seconds of both forms in each round, after a call of each that is not counted."""
    found = {}
    for name, product in products_of(setting).items():
        rounds = [[seconds_of(form, setting.device) for form in product[:2]] for _ in range(ROUNDS + 1)][1:]
        usual, other = map(list, zip(*rounds))
        found[name] = {"usual": usual, "other": other, "used": product.used}
    return found
