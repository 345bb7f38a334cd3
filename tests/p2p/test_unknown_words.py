"""Words that a model was never trained on are named; what it was trained on, and models without a list, pass."""

import pytest

from ldm.pipeline import LatentDiffusion
from p2p.cli.unknown_words import unknown_words, warn_of_unknown_words
from weights.training.world import VOCABULARY, caption, sample_scene


@pytest.fixture(scope="module")
def listed(tiny) -> LatentDiffusion:
    """The tiny model with the stickers' words."""
    parts = (tiny.text_encoder, tiny.unet, tiny.autoencoder)
    return LatentDiffusion(tiny.config, tiny.tokenizer, *parts, vocabulary=VOCABULARY)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a photo of a zebra on the moon", ["zebra", "moon"]),
        ("Zebra, zebra and ZEBRA", ["zebra", "and"]),
        ("a photo of two cats", ["two", "cats"]),
        ("A PHOTO OF A CAT NEXT TO AN ELEPHANT IN FOG!", []),
        ("cat grass of", []),  # no sentence, but every word is known
        ("", []),
        ("a cat-like dog", ["cat-like"]),
        ("кошка", ["кошка"]),
    ],
)
def test_words_outside_the_list_are_found(listed, prompt, unknown):
    assert unknown_words(listed, [listed.tokenizer.encode(prompt)]) == unknown


def test_every_caption_of_the_world_is_known(listed):
    assert unknown_words(listed, [listed.tokenizer.encode(caption(sample_scene(seed))) for seed in range(300)]) == []


def test_a_model_without_a_list_knows_every_word(tiny, caplog):
    assert tiny.vocabulary is None
    zebra = tiny.tokenizer.encode("a photo of a zebra")
    assert unknown_words(tiny, [zebra]) == []
    warn_of_unknown_words(tiny, [zebra])
    assert not caplog.records


def test_one_warning_names_all_words_and_near_ones(listed, caplog):
    prompts = ("two cats on the moon", "a zebra on the moon")
    warn_of_unknown_words(listed, [listed.tokenizer.encode(prompt) for prompt in prompts])
    (record,) = caplog.records
    assert "'two', 'cats' (did you mean 'cat'?), 'moon', 'zebra':" in record.getMessage()
    assert "p2p vocabulary" in record.getMessage()
