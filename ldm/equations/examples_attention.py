"""The first stage and attention in numbers small enough to check by hand; `p2p equations ID` shows them."""

from collections.abc import Callable

import torch

from ldm.attention import Attention, SpatialTransformer, attend, attention_map, element_wise
from ldm.autoencoder import Gaussian
from ldm.contrastive import contrastive_loss, zero_shot
from ldm.equations.cost import flops
from ldm.equations.examples import Example, z
from ldm.equations.slips import SLIPS
from ldm.equations.table_layer import TableLayer, released_lines, table_lines
from ldm.equations.translation import SOURCE, TARGET, trained_translation
from ldm.presets import PRESETS
from ldm.quantize import Codebook


def b1() -> Example:
    config, ours = PRESETS["sd15"].autoencoder, PRESETS["stickers"]
    side, tokens = ours.image_size, ours.text.length
    latent = flops(ours.unet, ours.autoencoder.latent_channels, side // ours.autoencoder.factor, tokens)
    pixels = flops(ours.unet, 3, side, tokens)
    return {
        "values in a 512 x 512 image": 3 * 512**2,
        "values in its latent, 4 x 64 x 64": config.latent_channels * (512 // config.factor) ** 2,
        "compression": config.compression,
        "operations of one call of the included model's UNet": latent,
        "... of the same UNet on the image's pixels": pixels,
        "times as many": pixels / latent,
    }


def b2() -> Example:
    kl = lambda mean, log_var: Gaussian(z(mean), z(log_var)).kl().item()
    return {"KL(N(0, 1) || N(0, 1))": kl(0.0, 0.0), "KL(N(1, 1) || N(0, 1)) = 1/2": kl(1.0, 0.0)}


def b3() -> Example:
    codebook = Codebook(2, 2)
    codebook.embedding.weight.data = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    vector = torch.tensor([0.8, 0.4]).reshape(1, 2, 1, 1)
    return {
        "entries (0, 0) and (1, 1), z = (0.8, 0.4): k": codebook.indices(vector).item(),
        "z_q": codebook(vector).detach().flatten(),
    }


# two tokens, scores 0 and ln 3
Q = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)
K = torch.tensor([[0.0, 0, 0, 0], [2.1972245773362196, 0, 0, 0]], dtype=torch.float64)  # 2 ln 3, over sqrt(4)
V = torch.tensor([[8.0], [4.0]], dtype=torch.float64)


def c1() -> Example:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    return {"x' of x = (1, 0), (0, 1), (1, 1), with W_q = W_k = W_v = I": element_wise(x, x, x)}


def c2() -> Example:
    return {"one query, scores 0 and ln 3, values 8 and 4: 8/4 + 4 * 3/4": element_wise(Q, K, V).item()}


def c3() -> Example:
    A = attention_map(Q[None, None], K[None, None])
    return {
        "A of scores 0 and ln 3": A.flatten(),
        "Y = A V": attend(Q[None, None], K[None, None], V[None, None]).item(),
    }


def c4() -> Example:
    layer = Attention(width=8, context_width=5, heads=2)
    weights = [W.weight.detach() for W in (layer.to_q, layer.to_k, layer.to_v)]
    Q, K, V = SLIPS["C4"].corrected(torch.zeros(6, 8), torch.zeros(7, 5), *weights)
    return {
        "d = 8, d_eps = 8, d_tau = 5: W_Q, W_K, W_V": [list(W.shape) for W in weights],
        "phi of 6 positions, tau of 7 tokens: Q = phi W_Q^T": list(Q.shape),
        "K = tau W_K^T": list(K.shape),
        "V = tau W_V^T": list(V.shape),
    }


def c5() -> Example:
    printed, corrected = SLIPS["C5"]
    return {
        "printed: latent of 4 x 64 x 64, n = c h w": printed(4, 64, 64, 0),
        "corrected: n = h w / 4^l, at levels 0 to 3": [corrected(4, 64, 64, level) for level in range(4)],
    }


def c6() -> Example:
    x, context = torch.zeros(1, 16, 2, 3), torch.zeros(1, 7, 5)
    table = TableLayer(c=16, d=12, n_h=2, context_width=5, T=1)
    released = SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0)
    shown = lambda name, lines: {f"{name}, {i} {line}": list(y.shape) for i, (line, y) in enumerate(lines)}
    return shown("table", table_lines(table, x, context)) | shown("released", released_lines(released, x, context))


def c7() -> Example:
    q = torch.eye(4, dtype=torch.float64).reshape(1, 2, 2, 4)[..., :2]
    return {"two heads, a map each": attention_map(q, q)[0]}


def c8() -> Example:
    A = trained_translation().A(SOURCE, TARGET)
    return {f"A of {TARGET!r} over {SOURCE!r}, trained without this sentence": A, "its rows' sums": A.sum(dim=1)}


def c9() -> Example:
    pairs = torch.eye(2, dtype=torch.float64)
    scale = 1.0986122886681098  # ln 3
    return {
        "two perfect pairs, scale ln 3: loss = ln 4/3": contrastive_loss(pairs, pairs, scale).item(),
        "zero-shot, labels in the images' order": zero_shot(pairs, pairs, scale),
    }


ROWS = (b1, b2, b3, c1, c2, c3, c4, c5, c6, c7, c8, c9)
EXAMPLES: dict[str, Callable[[], Example]] = {example.__name__.upper(): example for example in ROWS}
