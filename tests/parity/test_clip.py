"""Our CLIP equals transformers' CLIPModel, and sees pictures as its image processor prepares them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.testing import assert_close

from ldm.config import CLIPConfig, TextConfig, VisionConfig
from ldm.contrastive import similarity
from ldm.presets import CLIP_PRESETS
from ldm.zoo.clip import CLIP, prepare
from tests.support.oracles import number_of_parameters, random_network

PUBLIC = CLIP_PRESETS["clip-vit-l"]
# the public numbers of heads and layers' kind, at a fraction of the width
NARROW = CLIPConfig(
    text=replace(PUBLIC.text, vocabulary=99, width=48, layers=3, hidden=80),
    vision=replace(PUBLIC.vision, width=64, layers=3, hidden=96),
    embedding=24,
)
SMALL = CLIPConfig(
    text=TextConfig(vocabulary=99, width=40, layers=2, heads=5, hidden=72, length=12, activation="gelu"),
    vision=VisionConfig(image_size=32, patch=8, width=32, layers=2, heads=4, hidden=56, activation="gelu"),
    embedding=20,
)

# float64 and vectors of length 1, or numbers of order 1. Rounding is 1e-16 a term, sums have a few hundred terms and
# there are about twenty layers: some 1e-14. The two GELUs differ at 1e-2.
EXACT = dict(rtol=0, atol=1e-12)


def transformers_clip(config: CLIPConfig, heads: tuple[int, int], activation: str, eos: int) -> transformers.CLIPModel:
    """`heads` (of the text tower, of the image tower) and `activation`, which no name and no shape would show, are for
    the caller to say."""
    shared = lambda c, heads: dict(
        hidden_size=c.width,
        intermediate_size=c.hidden,
        num_hidden_layers=c.layers,
        num_attention_heads=heads,
        hidden_act=activation,
    )
    text = dict(vocab_size=config.text.vocabulary, max_position_embeddings=config.text.length, eos_token_id=eos)
    vision = dict(image_size=config.vision.image_size, patch_size=config.vision.patch)
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text | shared(config.text, heads[0]),
            vision_config=vision | shared(config.vision, heads[1]),
            projection_dim=config.embedding,
        )
    ).eval()


def random_prompts(config: TextConfig, pad: int) -> torch.Tensor:
    """Words, EOS at three different places, then padding."""
    eos = config.vocabulary - 1
    ids = torch.randint(3, eos, (3, config.length), generator=torch.Generator().manual_seed(0))
    for row, end in zip(ids, (2, config.length // 2, config.length - 1)):
        row[end], row[end + 1 :] = eos, pad
    return ids


def random_pictures(b: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (b, height, width, 3), dtype=np.uint8)


@torch.no_grad()
@pytest.mark.parametrize("pad", [98, 0])  # EOS again, as Stable Diffusion 1 pads and CLIP itself; "!", as 2 does
@pytest.mark.parametrize("eos", [98, 2])  # 2 is the public configuration's, and tells transformers to take the largest
@pytest.mark.parametrize(
    "config, heads, activation", [(NARROW, (12, 16), "quick_gelu"), (SMALL, (5, 4), "gelu")], ids=["narrow", "small"]
)
def test_clip_equals_transformers(config, heads, activation, eos, pad):
    ours = random_network(lambda: CLIP(config), torch.float64)
    theirs = transformers_clip(config, heads, activation, eos)
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)

    pictures, ids = random_pictures(4, 40, 50), random_prompts(config.text, pad)
    x = prepare(pictures, config.vision.image_size).double()
    expected = theirs(pixel_values=x, input_ids=ids)
    assert expected.image_embeds.std(dim=0).max() > 0.01 < expected.text_embeds.std(dim=0).max()  # not all the same

    assert_close(ours.vision_model(x), theirs.vision_model(pixel_values=x).pooler_output, **EXACT)
    images, texts = ours.embed_images(pictures), ours.embed_text(ids)
    assert_close(images, expected.image_embeds, **EXACT)
    assert_close(texts, expected.text_embeds, **EXACT)
    assert_close(similarity(images, texts, ours.logit_scale.exp()), expected.logits_per_image, **EXACT)
    assert_close(ours.score(pictures, ids), expected.image_embeds @ expected.text_embeds.mT, **EXACT)


def test_names_and_shapes_are_those_of_the_public_file():
    with torch.device("meta"):
        ours, theirs = CLIP(PUBLIC), transformers_clip(PUBLIC, (12, 16), "quick_gelu", 2)
    shapes = lambda model: {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes(ours) == shapes(theirs)
    assert number_of_parameters(ours) == 427_616_513  # of the public file
    assert ours.visual_projection.weight.shape == (768, 1024)


@pytest.mark.parametrize("side", [224, 65])
@pytest.mark.parametrize("height, width", [(512, 512), (128, 128), (224, 225), (200, 301), (301, 200), (97, 333)])
def test_images_are_prepared_as_by_transformers(side, height, width):
    # before 5, CLIPImageProcessor was the one that resizes by Pillow
    kind = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    theirs = kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    pictures = random_pictures(2, height, width)
    expected = theirs([Image.fromarray(picture) for picture in pictures], return_tensors="pt").pixel_values
    # float32, numbers up to 1 rounded twice (6e-8 each) before and once after division by 0.26: 1e-6. A colour that
    # is one level off is off by 1 / 255 / 0.28 = 0.014.
    assert_close(prepare(pictures, side), expected, rtol=0, atol=2e-6)


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match="give at least one image"):
        prepare(random_pictures(0, 8, 8), 224)


def test_scores_keep_no_graph():
    """Parameters that a file has filled want gradients; judging a picture must not pay for them."""
    clip = random_network(lambda: CLIP(SMALL), torch.float32).requires_grad_(True)
    assert not clip.score(random_pictures(1, 9, 8), random_prompts(SMALL.text, pad=0)).requires_grad


@pytest.mark.parametrize(
    "numbers, said", [(dict(patch=15), "224 pixels cannot be cut into patches of 15"), (dict(heads=12), "12 heads")]
)
def test_an_image_tower_that_does_not_fit_together_is_refused(numbers, said):
    with pytest.raises(ValueError, match=said):
        VisionConfig(**numbers)
