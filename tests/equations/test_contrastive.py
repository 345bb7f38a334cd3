"""The prompt model's pre-training [C9]: the contrastive loss and the zero-shot classifier."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from transformers import CLIPConfig, CLIPModel

from ldm.contrastive import contrastive_loss, similarity, zero_shot
from tests.support.normal import normal
from tests.support.random_models import randomise

# float64 sums of at most a few dozen terms
EXACT = dict(rtol=1e-12, atol=1e-12)

LN3 = math.log(3)


def pairs(n: int = 5, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return normal(n, width), normal(n, width, seed=1)


@pytest.mark.equation("C9")
def test_c9_loss_one_pair_at_a_time():
    """[C9] Each image asks which text is its own, each text which image; the mean of all 2n surprises."""
    images, texts = pairs()
    S = [[7 * F.cosine_similarity(image, text, dim=0).item() for text in texts] for image in images]
    n = len(S)
    total = 0.0
    for i in range(n):
        total -= math.log(math.exp(S[i][i]) / sum(math.exp(S[i][j]) for j in range(n)))
        total -= math.log(math.exp(S[i][i]) / sum(math.exp(S[j][i]) for j in range(n)))
    assert_close(contrastive_loss(images, texts, 7.0).item(), total / (2 * n), **EXACT)


@pytest.mark.equation("C9")
def test_c9_loss_is_torchs_cross_entropy_both_ways():
    """[C9] Pair i is class i, of the rows and of the columns."""
    images, texts = pairs()
    S = similarity(images, texts, 7.0)
    expected = (F.cross_entropy(S, torch.arange(5)) + F.cross_entropy(S.T, torch.arange(5))) / 2
    assert_close(contrastive_loss(images, texts, 7.0), expected, **EXACT)


@pytest.mark.equation("C9")
def test_c9_worked_by_hand():
    """[C9] Scale ln 3, so that a cosine of 1 counts 3 and a cosine of 0 counts 1.

    Two images at right angles. With a text on each: every choice is right with probability 3/4. With both texts on the
    first image: the images choose by 1/2; text 1 finds its image with 3/4, text 2 with 1/4.
    """
    images = torch.eye(2).double()
    assert_close(contrastive_loss(images, images, LN3).item(), math.log(4 / 3), **EXACT)
    both = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).double()
    by_image, by_text = math.log(2), (math.log(4 / 3) + math.log(4)) / 2
    assert_close(contrastive_loss(images, both, LN3).item(), (by_image + by_text) / 2, **EXACT)


@pytest.mark.equation("C9")
def test_c9_limits_of_the_loss():
    """[C9] Perfect pairs and a large scale: 0. Features that tell nothing: log n, whatever the scale. Pairs exchanged:
    the scale itself."""
    images, texts = torch.eye(6).double(), normal(1, 4).expand(6, 4)
    assert_close(contrastive_loss(images, images, 100.0).item(), 0.0, **EXACT)  # 5 exp(-100)
    for scale in (0.0, 1.0, 100.0):
        assert_close(contrastive_loss(texts, texts, scale).item(), math.log(6), **EXACT)
    two = torch.eye(2).double()
    assert_close(contrastive_loss(two, two.flip(0), 50.0).item(), 50.0, **EXACT)  # and exp(-50)


@pytest.mark.equation("C9")
def test_c9_loss_knows_neither_the_order_of_the_pairs_nor_the_length_of_the_features():
    """[C9] But it does know which text belongs to which image, and it is the same with images and texts exchanged."""
    images, texts = pairs()
    loss, order = contrastive_loss(images, texts, 7.0), torch.tensor([3, 0, 4, 1, 2])
    lengths = normal(5, 1, seed=2).exp()
    assert_close(contrastive_loss(images[order], texts[order], 7.0), loss, **EXACT)
    assert_close(contrastive_loss(lengths * images, texts / lengths, 7.0), loss, **EXACT)
    assert_close(contrastive_loss(texts, images, 7.0), loss, **EXACT)
    assert abs(contrastive_loss(images, texts[order], 7.0) - loss) > 0.1


@pytest.mark.equation("C9")
def test_c9_loss_trains_features_and_scale():
    """[C9] A few steps of gradient descent bring pairs together."""
    images, texts = (x.requires_grad_(True) for x in pairs())
    log_scale = torch.tensor(math.log(1 / 0.07), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([images, texts, log_scale], lr=0.05)
    before = contrastive_loss(images, texts, log_scale.exp()).item()
    for _ in range(50):
        optimizer.zero_grad()
        contrastive_loss(images, texts, log_scale.exp()).backward()
        optimizer.step()
    assert contrastive_loss(images, texts, log_scale.exp()).item() < 0.01 * before
    assert torch.equal(similarity(images, texts, 1.0).argmax(1), torch.arange(5))


@pytest.mark.equation("C9")
def test_c9_zero_shot_by_hand():
    """[C9] An image on the first label: 3 to 1 at scale ln 3. Between two labels: even. More labels than images is
    fine."""
    labels = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]).double()
    images = torch.tensor([[5.0, 0.0], [1.0, 1.0]]).double()
    p = zero_shot(images, labels, LN3)
    assert_close(p[0], torch.tensor([3, 1, 1 / 3], dtype=torch.float64) / (13 / 3), **EXACT)
    assert_close(p[1, 0], p[1, 1], **EXACT)
    assert_close(p.sum(1), torch.ones(2, dtype=torch.float64), **EXACT)


def test_texts_without_an_image_are_refused():
    with pytest.raises(ValueError, match="3 images and 2 texts"):
        contrastive_loss(normal(3, 4), normal(2, 4), 1.0)


@pytest.mark.equation("C9")
@torch.no_grad()
def test_c9_equals_transformers_clip():
    """[C9] Loss, similarities and probabilities of a random CLIP, from its features."""
    part = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    text = dict(vocab_size=50, max_position_embeddings=8, bos_token_id=48, eos_token_id=49, **part)
    vision = dict(image_size=8, patch_size=4, **part)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    model = randomise(model).double().eval()
    model.logit_scale.fill_(math.log(9))
    ids = torch.randint(48, (4, 8), generator=torch.Generator().manual_seed(2))
    ids[:, -1] = 49
    x = normal(4, 3, 8, 8)
    theirs = model(input_ids=ids, pixel_values=x, return_loss=True)

    images = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)
    texts = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    scale = model.logit_scale.exp()
    assert theirs.logits_per_image.std() > 0.5  # features that differ
    assert_close(similarity(images, texts, scale), theirs.logits_per_image, **EXACT)
    assert_close(contrastive_loss(images, texts, scale), theirs.loss, **EXACT)
    assert_close(zero_shot(images, texts, scale), theirs.logits_per_image.softmax(1), **EXACT)
