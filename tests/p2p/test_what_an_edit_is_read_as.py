"""What `Edit.between` reads from two prompts, and what is said of it in numbers."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ldm.tokenizer import CLIPTokenizer
from p2p.alpha import Alpha, Window
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.reading import swaps
from p2p.summary import NOTHING, summary
from p2p.words import columns, words
from weights.training.world import COLOURS, NOUNS, PLACES, Scene, Thing, caption

T = 1000
TIMES = [*range(1000, 0, -100), 0]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        # the first phrase faces the first
        ("a cat", "a dog in fog", {"cat": "dog"}),
        ("a cat", "a dog with sprinkles", {"cat": "dog"}),
        ("a cat on the grass", "a dog", {"cat": "dog"}),
        ("a cat", "a dog wearing sunglasses", {"cat": "dog"}),
        ("a cat", "a dog eats a bone", {"cat": "dog"}),
        ("a cat", "a dog all day", {"cat": "dog"}),
        ("a cat on the grass", "a big dog in fog", {"cat": "dog", "on": "in", "grass": "fog"}),
        # an article faces an article
        ("an apple", "a blue apple", {"an": "a"}),
        ("a cat", "two dogs", {"a": "two", "cat": "dogs"}),
        ("the cat", "big cat", {}),
        # a noun faces a noun
        ("a cat", "a big dog", {"cat": "dog"}),
        ("a big red cat", "a dog", {"cat": "dog"}),
        ("a cat sitting", "a big dog sitting", {"cat": "dog"}),
        ("a cat sitting", "a big dog", {"cat": "dog"}),
        ("a cat", "a big flying dog", {"cat": "dog"}),
        ("a photo of a cat", "an oil painting of a cat", {"a#1": "an", "photo": "painting"}),
        # modifiers face modifiers, as one phrase if they are not as many
        ("a red car", "a blue striped car", {"red": "blue striped"}),
        ("orange cat sitting", "big tabby cat sitting", {"orange": "big tabby"}),
        ("a big tabby cat", "an orange cat", {"a": "an", "big tabby": "orange"}),
        ("a red car", "a blue striped truck", {"red": "blue striped", "car": "truck"}),
        # a preposition of two words is one
        ("a cat next to a house", "a cat above a house", {"next to": "above"}),
        ("a cat behind a house", "a cat in front of a house", {"behind": "in front of"}),
        ("a cat on a table", "a cat sitting on a table", {}),
        # punctuation faces nothing, and ends a phrase
        ("a cat", "a dog :3", {"cat": "dog"}),
        ("a cat ^_^", "a big dog", {"cat": "dog"}),
        ("a cat", "a dog, oil painting", {"cat": "dog"}),
        # as many words of the same kinds
        ("a red car", "a blue bicycle", {"red": "blue", "car": "bicycle"}),
        ("a photo of a cat", "a photo of an elephant", {"a#2": "an", "cat": "elephant"}),
        ("un chat noir", "un chien blanc", {"chat": "chien", "noir": "blanc"}),
        ("a cat and a cat", "a cat and a dog", {"cat#2": "dog"}),
        # a phrase may stand twice
        ("a big blue cat and a red car", "a big blue cat and a big blue car", {"red": "big blue#2"}),
        ("", "a cat", {}),
        ("a cat", "a cat", {}),
    ],
)
def test_what_two_prompts_are_read_as(tokenizer, source, target, expected):
    source, target = map(tokenizer.encode, (source, target))
    assert swaps(source, target) == list(expected.items())
    assert Edit.between(source, target, Alpha()).parts == (Refine(), *(Swap(*pair) for pair in expected.items()))


def captions_of_one_form() -> list[tuple[str, str]]:
    """Pairs of the model's captions that have as many words in each of their parts."""
    places = [place for place in PLACES if len(place.split()) == 3]
    things = [Thing(noun, colour) for noun, colour in zip(NOUNS, list(COLOURS) * 5)]
    scenes = [Scene((thing,), place) for thing, place in zip(things, places * 5)]
    scenes += [Scene((Thing(noun, "red"),)) for noun in NOUNS]
    scenes += [Scene((Thing("cat", "red"),), place, style=style) for style in ("photo", "painting") for place in places]
    captions = list(map(caption, scenes))
    return [(a, b) for a in captions[::7] for b in captions]


def test_words_of_prompts_of_one_form_are_swapped_one_by_one(tokenizer):
    pairs = captions_of_one_form()
    assert len(pairs) > 411
    for a, b in pairs:
        left, new = a.split(), b.split()
        expected = [pair for pair in zip(left, new) if pair[0] != pair[1]]
        found = [tuple(name.split("#")[0] for name in pair) for pair in swaps(tokenizer.encode(a), tokenizer.encode(b))]
        assert found == expected, (a, b)


SAID = ("a", "an", "the", "cat", "dog", "elephant", "red", "blue", "striped", "in", "on", "next", "to", "of", "with")
WORDS = st.sampled_from([*SAID, "and", "sitting", "wearing", ",", ":3", "^_^", "-", "3d"])
PROMPTS = st.lists(WORDS, max_size=7).map(" ".join)


@given(PROMPTS, PROMPTS)
def test_whatever_is_read_can_be_done_and_loses_nothing(tokenizer, source, target):
    source, target = map(tokenizer.encode, (source, target))
    found = swaps(source, target)
    for side, tokens in enumerate((source, target)):  # no word is swapped twice
        own = [column for pair in found for column in columns(tokens, pair[side])]
        assert len(own) == len(set(own))
    P, Q, _ = Edit.between(source, target, Alpha(0)).compile(source, target, T)(1)
    assert ((P.sum(dim=0) > 0) | (Q > 0)).all()
    for left, new in found:
        ours, theirs = (list(columns(*which)) for which in ((source, left), (target, new)))
        block = P[ours][:, theirs]
        assert_close(block.sum(), torch.tensor(float(len(ours)), dtype=P.dtype), rtol=0, atol=1e-12)  # shares' rounding
        assert_close(P[:, theirs].sum(), block.sum(), rtol=0, atol=1e-12)


@given(PROMPTS)
def test_equal_prompts_are_read_as_no_change(tokenizer, prompt):
    tokens = tokenizer.encode(prompt)
    assert swaps(tokens, tokens) == []


def test_orange_becomes_big_tabby_by_itself(tokenizer):
    """The lecture's example: tokens share what looked at orange."""
    source, target = map(tokenizer.encode, ("orange cat sitting", "big tabby cat sitting"))
    P, Q, _ = Edit.between(source, target).compile(source, target, T)(T)
    (orange,), big_tabby = columns(source, "orange"), list(columns(target, "big tabby"))
    assert_close(P[orange, big_tabby], torch.full((len(big_tabby),), 1 / len(big_tabby), dtype=torch.float64))
    assert not Q.any()


# ---------------------------------------------------------------------------------------------------------------------
# in numbers: ten steps, of which t = 1000 to 200 are from 0.2 T on


def said(tokenizer: CLIPTokenizer, source: str, target: str, edit: Edit | None = None, self_until=0.6) -> str:
    source, target = map(tokenizer.encode, (source, target))
    return summary(source, target, edit or Edit.between(source, target, Alpha(0.2)), self_until, TIMES, T)


@pytest.mark.parametrize(
    ("target", "edit", "self_until", "expected"),
    [
        ("a dog", None, 0.6, "9 of 10 steps, self-attention in 5"),
        ("a dog in fog", None, 0.6, "9 of 10 steps ('in fog' in none), self-attention in 5"),
        ("a red cat :3", None, "never", "9 of 10 steps ('red', ':3' in none), self-attention in none"),
        ("a dog", Swap("cat", "dog", Alpha(0.2, {"dog": 0.5})), 0, "9 of 10 steps ('dog' in 6), self-attention in 10"),
        ("a dog", Swap("cat", "dog", Alpha("never")), 0.6, "none of 10 steps, self-attention in 5"),
        ("a red cat now", Preserve("cat"), 0.6, "none of 10 steps ('cat' in 10), self-attention in 5"),
        ("a cat", Refine() + Reweight("cat", 2.0), 0.6, "9 of 10 steps, self-attention in 5"),
        ("a cat", Reweight("cat", 2.0), "never", "none of 10 steps, self-attention in none"),
        ("", None, 0.6, "9 of 10 steps, self-attention in 5"),
    ],
)
def test_steps_with_the_sources_attention_are_counted(tokenizer, target, edit, self_until, expected):
    assert said(tokenizer, "a cat", target, edit, self_until) == f"source's cross-attention in {expected}"


def test_a_step_of_two_calls_is_one_step(tokenizer):
    source, target = map(tokenizer.encode, ("a cat", "a dog"))
    found = summary(source, target, Refine(Alpha(0.5)), 0.6, [1000, 750, 750, 500, 250, 0], T)
    assert found == "source's cross-attention in 3 of 4 steps ('dog' in none), self-attention in 2"


@pytest.mark.parametrize(
    ("target", "edit"),
    [
        ("a cat", None),
        ("A  CAT", None),
        ("a cat", Preserve("cat")),
        ("a cat", Refine(Alpha(Window(0.2, ramp=0.5, level=0.3)))),
        ("a cat", Refine() + Reweight("cat", 1.0)),
        ("a cat", Reweight("cat", 3.0, Window(end=0.95, start=0.97))),  # at no visited step
        ("a cat", Refine() + Renormalise()),
    ],
)
def test_an_edit_that_can_change_nothing_says_so(tokenizer, target, edit):
    assert said(tokenizer, "a cat", target, edit) == NOTHING


def test_swaps_do_not_depend_on_the_length_of_the_context(tokenizer):
    """The reading hangs on the prompts alone."""
    longer = CLIPTokenizer(tokenizer._backend, dataclasses.replace(tokenizer.config, length=77))
    pair = "a red car next to a house", "a blue striped car above a house"
    assert swaps(*map(longer.encode, pair)) == swaps(*map(tokenizer.encode, pair))
    assert all(word.columns for word in words(longer.encode(pair[0])))
