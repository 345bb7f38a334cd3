"""Our BERT prompt model equals diffusers' LDMBertModel."""

import pytest
import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from torch.testing import assert_close

from ldm.config import BertConfig
from ldm.zoo.bert import BertEncoder
from tests.support.oracles import number_of_parameters, random_network

# queries of 2 x 16 numbers for a width of 24, as the public model has 8 x 64 for a width of 1280
SMALL = BertConfig(vocabulary=60, width=24, layers=3, heads=2, head_size=16, hidden=40, length=12)


def diffusers_bert(config: BertConfig) -> LDMBertModel:
    """Without values."""
    with torch.device("meta"):
        return LDMBertModel(
            LDMBertConfig(
                vocab_size=config.vocabulary,
                d_model=config.width,
                encoder_layers=config.layers,
                encoder_attention_heads=config.heads,
                head_dim=config.head_size,
                encoder_ffn_dim=config.hidden,
                max_position_embeddings=config.length,
            )
        ).eval()


@torch.no_grad()
@pytest.mark.equation("C1", "C7", "C9")
@pytest.mark.parametrize("tokens", [12, 7])
def test_bert_equals_diffusers(tokens):
    ours = random_network(lambda: BertEncoder(SMALL), torch.float64)
    theirs = diffusers_bert(SMALL).model
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    ids = torch.randint(1, SMALL.vocabulary, (3, tokens), generator=torch.Generator().manual_seed(0))
    ids[:2, tokens // 2 :] = 0  # [PAD], which is attended to
    (expected,) = theirs(ids, return_dict=False)
    # float64 and outputs of order 1. Rounding is 1e-16 a term, sums have tens of terms and there are about twenty
    # layers: some 1e-14. GELU's two forms differ at 1e-3, attention that leaves padding or later tokens out at 1e-1.
    assert_close(ours(ids), expected, rtol=0, atol=1e-12)


def test_the_public_shape_is_diffusers():
    """Names and shapes of all tensors; `to_logits` is in the public file, and in its number of parameters, besides."""
    config = BertConfig()
    with torch.device("meta"):
        ours = BertEncoder(config)
    theirs = diffusers_bert(config)
    shapes = lambda module: {name: tensor.shape for name, tensor in module.state_dict().items()}
    assert shapes(ours) == shapes(theirs.model)
    assert number_of_parameters(theirs) == 581_994_042  # of the public file
    assert number_of_parameters(ours) == 581_994_042 - (30_522 * 1280 + 30_522)
