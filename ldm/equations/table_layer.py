"""The transformer layer as the slide's table has it, beside the order of the released code, shape by shape.

    print_lines(table_lines(TableLayer(c=16, d=8, n_h=2, context_width=5, T=2), x, context))
    print_lines(released_lines(SpatialTransformer(...), x, context))

The table lists one norm, and no residual connections: so the layer here has neither more. The released layer, which
public weights need, is `ldm.attention.SpatialTransformer`.
"""

from collections.abc import Iterable, Iterator

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ldm.attention import Attention, Site, SpatialTransformer

Line = tuple[str, Tensor]  # a line of the table and its output


class TableBlock(nn.Module):
    """Self-attention, MLP, cross-attention, of inner width d n_h."""

    def __init__(self, d: int, n_h: int, context_width: int):
        super().__init__()
        width = d * n_h
        self.self_attention = Attention(width, width, n_h)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.cross_attention = Attention(width, context_width, n_h)


class TableLayer(nn.Module):
    """[C6] LayerNorm, Conv1x1, Reshape, T blocks, Reshape, Conv1x1.

    Args:
        c: channels of the feature map.
        d: width of a head.
        n_h: number of heads.
        context_width: d_tau.
        T: number of blocks.
    """

    def __init__(self, c: int, d: int, n_h: int, context_width: int, T: int):
        super().__init__()
        self.norm = nn.LayerNorm(c)
        self.proj_in = nn.Conv2d(c, d * n_h, 1)
        self.blocks = nn.ModuleList([TableBlock(d, n_h, context_width) for _ in range(T)])
        self.proj_out = nn.Conv2d(d * n_h, c, 1)

    def forward(self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m e"]) -> Float[Tensor, "b c h w"]:
        *_, (_, y) = table_lines(self, x, context)
        return y


def table_lines(layer: TableLayer, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m e"]) -> Iterator[Line]:
    """Run the layer line by line."""
    height, width = x.shape[-2:]
    yield "input", x
    y = rearrange(layer.norm(rearrange(x, "b c h w -> b h w c")), "b h w c -> b c h w")
    yield "LayerNorm", y
    yield "Conv1x1", (y := layer.proj_in(y))
    yield "Reshape", (y := rearrange(y, "b c h w -> b (h w) c"))
    for block in layer.blocks:
        yield "SelfAttention", (y := block.self_attention(y, y, Site("self", "mid", 0, height, width)))
        yield "MLP", (y := block.mlp(y))
        yield "CrossAttention", (y := block.cross_attention(y, context, Site("cross", "mid", 0, height, width)))
    yield "Reshape", (y := rearrange(y, "b (h w) c -> b c h w", h=height))
    yield "Conv1x1", layer.proj_out(y)


def released_lines(
    layer: SpatialTransformer, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b m e"]
) -> list[Line]:
    """Run the released layer, and return the output of each of its parts in the order in which they ran."""
    names = {layer.norm: "GroupNorm", layer.proj_in: "Conv1x1", layer.proj_out: "Conv1x1"}
    for block in layer.transformer_blocks:
        norms = dict.fromkeys((block.norm1, block.norm2, block.norm3), "LayerNorm")
        names |= norms | {block.attn1: "SelfAttention", block.attn2: "CrossAttention", block.ff: "FeedForward"}
    lines: list[Line] = [("input", x)]
    hooks = [
        part.register_forward_hook(lambda _, inputs, out, name=name: lines.append((name, out)))
        for part, name in names.items()
    ]
    try:
        y = layer(x, context)
    finally:
        for hook in hooks:
            hook.remove()
    return [*lines, ("output, the input added", y)]


def print_lines(lines: Iterable[Line]) -> None:
    """Print the shape after each line."""
    for name, y in lines:
        print(f"{name:24}{tuple(y.shape)}")
