"""The prompt model tau_theta [C9] of the latent diffusion paper, called BERT for its tokenizer.

Rombach et al. 2022 (arXiv 2112.10752), section 4.3: a transformer, trained together with the UNet. Unlike CLIP's, it
attends to later tokens too, and the queries, keys and values have no bias and a width of their own. Parameter names are
those of the public file without its prefix `model.`; the file's `to_logits`, which predicts tokens, is not used.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.config import BertConfig
from ldm.text_encoder import SelfAttention, table


class Layer(nn.Module):
    """Attention and feed-forward, each pre-normalised and residual. The public file calls the norm before the
    feed-forward final."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        inner = config.heads * config.head_size
        self.self_attn = SelfAttention(config.width, config.heads, causal=False, inner=inner, bias=False)
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)

    def forward(self, x: Float[Tensor, "b m e"]) -> Float[Tensor, "b m e"]:
        x = x + self.self_attn(self.self_attn_layer_norm(x))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class BertEncoder(nn.Module):
    """[C9] Token ids to tau_theta(y): one vector per token, after the final norm."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embed_tokens = table(config.vocabulary, config.width)
        self.embed_positions = table(config.length, config.width)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.layers)])
        self.layer_norm = nn.LayerNorm(config.width)

    def forward(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m e"]:
        x = self.embed_tokens(ids) + self.embed_positions.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.layer_norm(x)
