"""The lecture's own examples of attention: the transformer layer's table [C6] and the translation [C8]."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ldm.attention import SpatialTransformer
from ldm.config import UNetConfig
from ldm.equations.cost import flops
from ldm.equations.table_layer import TableLayer, released_lines, table_lines
from ldm.equations.translation import SENTENCES, SOURCE, TARGET, trained_translation
from ldm.presets import PRESETS
from p2p.experiments import lecture_examples
from tests.support.normal import normal

EXACT = dict(rtol=1e-11, atol=1e-11)  # float64, sums of a few dozen terms


@pytest.mark.equation("C6")
@pytest.mark.parametrize("T", [1, 2])
def test_c6_the_table_line_by_line(T):
    """[C6] Names, order and shapes as printed: h x w x c, then d n_h wide, T blocks, and back; not c wide inside."""
    c, d, n_h, h, w = 16, 12, 2, 3, 6
    layer = TableLayer(c, d, n_h, context_width=5, T=T).double()
    lines = list(table_lines(layer, normal(2, c, h, w), normal(2, 7, 5)))
    inside = (2, h * w, d * n_h)
    assert [(name, tuple(y.shape)) for name, y in lines] == [
        ("input", (2, c, h, w)),
        ("LayerNorm", (2, c, h, w)),
        ("Conv1x1", (2, d * n_h, h, w)),
        ("Reshape", inside),
        *T * [("SelfAttention", inside), ("MLP", inside), ("CrossAttention", inside)],
        ("Reshape", (2, d * n_h, h, w)),
        ("Conv1x1", (2, c, h, w)),
    ]


@pytest.mark.equation("C6")
def test_c6_the_table_by_hand():
    """[C6] Each line's numbers from the line before: what is normalised, which attention sees the prompt, and heads."""
    layer, x, context = TableLayer(16, 12, 2, 5, T=2).double(), normal(2, 16, 3, 6), normal(2, 7, 5, seed=1)
    for i, parameter in enumerate(layer.parameters()):
        parameter.data = 0.3 * normal(*parameter.shape, seed=10 + i)

    def heads(attention, y, context):
        q, k, v = (
            W(a).unflatten(-1, (2, 12)).transpose(1, 2)
            for W, a in zip((attention.to_q, attention.to_k, attention.to_v), (y, context, context))
        )
        return attention.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    by_position = x.flatten(2).mT  # (b, h w, c)
    y = F.layer_norm(by_position, (16,), layer.norm.weight, layer.norm.bias)
    y = y @ layer.proj_in.weight.flatten(1).mT + layer.proj_in.bias
    for block in layer.blocks:
        y = heads(block.self_attention, y, y)
        first, _, second = block.mlp
        y = F.gelu(y @ first.weight.mT + first.bias) @ second.weight.mT + second.bias
        y = heads(block.cross_attention, y, context)
    y = y @ layer.proj_out.weight.flatten(1).mT + layer.proj_out.bias
    assert_close(layer(x, context), y.mT.unflatten(2, (3, 6)), **EXACT)


@pytest.mark.equation("C6")
def test_c6_the_released_order():
    """[C6] GroupNorm first; self-attention, cross-attention, feed-forward, each after its own LayerNorm; c wide."""
    layer = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0).double()
    x, context = normal(2, 16, 3, 6), normal(2, 7, 5)
    lines = released_lines(layer, x, context)
    assert [name for name, _ in lines[1:-1]] == [
        *("GroupNorm", "Conv1x1", "LayerNorm", "SelfAttention", "LayerNorm", "CrossAttention", "LayerNorm"),
        *("FeedForward", "Conv1x1"),
    ]
    assert {tuple(y.shape) for name, y in lines if name in ("SelfAttention", "CrossAttention")} == {(2, 18, 16)}
    assert torch.equal(lines[-1][1], layer(x, context))
    assert_close(lines[-1][1], x + lines[-2][1], **EXACT)
    assert not any(module._forward_hooks for module in layer.modules())


def test_latents_are_cheaper_than_pixels_by_more_than_their_number():
    """By hand: without attention the operations of a 3x3 convolution are 18 per channel in, channel out and position;
    with self-attention, whose cost is quadratic, pixels cost more than their 64 times as many positions."""
    config = UNetConfig(
        channels=(8,), layers=1, attention=(False,), heads=(1,), head_size=None, context_width=4, groups=4
    )
    first = 18 * 8 * 16**2  # of the first convolution, for each channel of the latent; the last has as many
    assert flops(config, 5, 16, 7) - flops(config, 4, 16, 7) == 2 * first
    ours = PRESETS["stickers"]
    assert (ours.image_size // ours.autoencoder.factor) ** 2 * 64 == ours.image_size**2
    assert flops(ours.unet, 3, 128, 32) > 200 * flops(ours.unet, ours.autoencoder.latent_channels, 16, 32)


@pytest.mark.equation("C8")
def test_c8_words_attend_to_what_they_translate():
    """[C8] A sentence that was not trained on: "I" and "am" look at "estoy", "running" at "llegando", "late" at
    "tarde"; four target words by three source words, each row a distribution."""
    assert (SOURCE, TARGET) not in SENTENCES
    A = trained_translation().A(SOURCE, TARGET)
    assert A.shape == (4, 3)
    assert_close(A.sum(dim=1), torch.ones(4), rtol=0, atol=1e-5)  # float32
    assert A.argmax(dim=1).tolist() == [0, 0, 1, 2]
    assert A[[0, 2, 3], [0, 1, 2]].min() > 0.7


def test_the_figure_shows_the_slides_matrices():
    """Rows sum as their captions say, products are A M, and every matrix is drawn with its words."""
    (A, _, same), (copied, A_copied, split, A_split), (*alphas, translated) = lecture_examples.panels()
    assert A[1].sum(dim=0).tolist() == [15, 40, 65] and torch.equal(same[1], A[1])
    assert copied[1].sum(dim=1).tolist() == [2, 1, 1] and split[1].sum(dim=1).tolist() == [1, 1, 1]
    assert A_copied[1][4].tolist() == [5, 5, 10, 15] and A_split[1][4].tolist() == [2.5, 2.5, 10, 15]
    assert [alpha[1].sum().item() for alpha in alphas] == [20, 15, 10]
    assert translated[1].shape == (4, 3)
    images = np.arange(8, dtype=np.uint8).repeat(12).reshape(8, 2, 2, 3)
    cosines, nouns = torch.linspace(-1, 1, 64).unflatten(0, (8, 8)), torch.eye(9)[:8]
    drawn = lecture_examples.figure(lecture_examples.Compared(images, cosines, nouns))
    drawn.draw_without_rendering()
    assert [len(axis.images) for axis in drawn.axes] == [1] * (11 + 2 * (1 + 8))
    words = [[label.get_text() for label in axis.get_xticklabels()] for axis in drawn.axes]
    assert words[3] == ["big", "tabby", "cat", "sitting"] and words[10] == ["estoy", "llegando", "tarde"]
    captions = lecture_examples.CAPTIONS
    assert words[11] == [*captions.values()] and words[20] == [*captions, "another noun"]
    for first in (11, 20):  # each matrix is followed by its images, from the top down beside its rows
        matrix, *beside = drawn.axes[first : first + 9]
        tops = [axis.get_position().y1 for axis in beside]
        assert tops == sorted(tops, reverse=True) and tops[0] == pytest.approx(matrix.get_position().y1)
        assert all(axis.get_position().x1 < matrix.get_position().x0 for axis in beside)
        assert all((axis.images[0].get_array() == image).all() for axis, image in zip(beside, images))


@pytest.mark.equation("C9")
def test_c9_clip_finds_the_caption_and_the_noun_of_images():
    """[C9] Images that the included model makes of eight captions: each is nearest to its own, and its noun is the most
    probable of all 34."""
    found = lecture_examples.compared(steps=8)
    assert found.cosines.argmax(dim=1).tolist() == found.cosines.argmax(dim=0).tolist() == list(range(8))
    assert_close(found.nouns.sum(dim=1), torch.ones(8), rtol=0, atol=1e-5)  # float32
    assert found.nouns.argmax(dim=1).tolist() == list(range(8))
