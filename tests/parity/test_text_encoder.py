"""Our prompt model equals transformers' CLIPTextModel."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from ldm.config import TextConfig
from ldm.presets import PRESETS
from ldm.text_encoder import TextEncoder
from tests.support.oracles import number_of_parameters, random_network, transformers_text_encoder

STICKERS = PRESETS["stickers"].text
SD2 = PRESETS["sd21"].text

# float64 and outputs of order 1. Rounding is 1e-16 a term, sums have a few hundred terms and there are about twenty
# layers: some 1e-14. The two GELUs differ at 1e-2.
EXACT = dict(rtol=0, atol=1e-12)

# float32 and outputs of order 1. Rounding is 6e-8 a term, sums have up to 3072 terms and there are about a hundred
# layers, the errors of both growing like the root of their number.
FULL = dict(rtol=0, atol=3e-5)


def random_ids(config: TextConfig, prompts: int, tokens: int) -> torch.Tensor:
    """Any ids, then EOS to the end, for the padding that CLIP attends to."""
    ids = torch.randint(config.vocabulary, (prompts, tokens), generator=torch.Generator().manual_seed(0))
    ids[:, tokens // 2 :] = config.vocabulary - 1
    return ids


@torch.no_grad()
@pytest.mark.equation("C9")
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("tokens", [32, 9])
def test_text_encoder_equals_transformers(activation, tokens):
    config = dataclasses.replace(STICKERS, activation=activation)
    ours = random_network(lambda: TextEncoder(config), torch.float64)
    ids = random_ids(config, 3, tokens)
    assert_close(ours(ids), transformers_text_encoder(ours)(ids).last_hidden_state, **EXACT)


@torch.no_grad()
def test_stable_diffusion_2s_text_encoder_equals_transformers():
    """All its layers and heads, at a sixteenth of the width."""
    assert (SD2.heads, SD2.activation) == (16, "gelu")  # the public ones, which no name and no shape would show
    config = dataclasses.replace(SD2, vocabulary=99, width=64, hidden=256)
    ours = random_network(lambda: TextEncoder(config), torch.float64)
    ids = random_ids(config, 3, 77)
    ids[:, 40:] = 0  # it is padded with "!"
    assert_close(ours(ids), transformers_text_encoder(ours)(ids).last_hidden_state, **EXACT)


def test_sd2s_text_encoder_has_the_public_names_and_shapes():
    with torch.device("meta"):
        ours = TextEncoder(SD2)
        transformers_text_encoder(ours)  # loads strictly
    assert number_of_parameters(ours) == 340_387_840  # of the public file


@pytest.mark.full
@torch.no_grad()
def test_text_encoder_equals_transformers_at_sd15_shapes():
    config = PRESETS["sd15"].text
    ours = random_network(lambda: TextEncoder(config), torch.float32)
    assert number_of_parameters(ours) == 123_060_480  # of the public file
    ids = random_ids(config, 2, 77)
    assert_close(ours(ids), transformers_text_encoder(ours)(ids).last_hidden_state, **FULL)
