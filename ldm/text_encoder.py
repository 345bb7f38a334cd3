"""The prompt model tau_theta [C9]: CLIP's text transformer. Parameter names are those of the public files."""

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.attention import attend, multi_head
from ldm.config import TextConfig, VisionConfig
from ldm.helpers.checks import check_heads


def quick_gelu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """x sigmoid(1.702 x), the approximation of GELU that the first CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


def table(rows: int, width: int) -> nn.Embedding:
    """An uninitialised embedding, filled from a file or by training: PyTorch's initialisation takes longer than loading
    the model."""
    return nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)


class Embeddings(nn.Module):
    """Token embedding plus position embedding."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.token_embedding = table(config.vocabulary, config.width)
        self.position_embedding = table(config.length, config.width)

    def forward(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m e"]:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class SelfAttention(nn.Module):
    """[C1, C7] Multi-head self-attention; if causal, a token attends to itself and the tokens before it."""

    def __init__(self, width: int, heads: int, causal: bool, inner: int | None = None, bias: bool = True):
        super().__init__()
        self.heads, self.causal = heads, causal
        inner = inner or width  # of queries, keys and values; only these may lack a bias
        check_heads(inner, heads)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner, bias=bias) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "b m e"]) -> Float[Tensor, "b m e"]:
        looks = partial(attend, causal=self.causal)
        return self.out_proj(multi_head(looks, self.heads, self.q_proj(x), self.k_proj(x), self.v_proj(x)))


class MLP(nn.Module):
    def __init__(self, config: TextConfig | VisionConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Float[Tensor, "b m e"]) -> Float[Tensor, "b m e"]:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, each pre-normalised and residual."""

    def __init__(self, config: TextConfig | VisionConfig, causal: bool):
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.self_attn = SelfAttention(config.width, config.heads, causal)
        self.mlp = MLP(config)

    def forward(self, x: Float[Tensor, "b m e"]) -> Float[Tensor, "b m e"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """The layers of a tower, in sequence."""

    def __init__(self, config: TextConfig | VisionConfig, causal: bool):
        super().__init__()
        self.layers = nn.ModuleList([Layer(config, causal) for _ in range(config.layers)])

    def forward(self, x: Float[Tensor, "b m e"]) -> Float[Tensor, "b m e"]:
        for layer in self.layers:
            x = layer(x)
        return x


class TextEncoder(nn.Module):
    """[C9] Token ids to tau_theta(y): one vector per token, after the final norm. Padding is not masked."""

    def __init__(self, config: TextConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, causal=True)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m e"]:
        return self.final_layer_norm(self.encoder(self.embeddings(ids)))
