"""The tokenizer: fixed-length token ids, and the characters each of them came from.

That it agrees with CLIP's own is a test of tests/parity; here is the shipped vocabulary, where everyday words are one
token each and a few are left in pieces on purpose.
"""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.tokenizer import CLIPTokenizer
from p2p.words import words
from weights.training import world
from weights.training.train_diffusion import IN_PIECES

LENGTH = 32  # of the shipped model's context: 30 tokens between BOS and EOS
WORLD_WORDS = sorted(
    {
        word
        for phrase in (
            *("a", "an", "of"),
            *world.NOUNS,
            *world.COLOURS,
            *filter(None, world.SIZES),
            *world.PATTERNS,
            *world.PLACES,
            *world.RELATIONS,
            *world.WEATHERS.values(),
            *world.STYLES,
        )
        for word in phrase.split()
    }
)
ODD = [
    "",
    " ",
    "\n\t ",
    "🐱",
    "👩‍👩‍👧 family",
    "猫 は",
    "Ünïcödé",
    "e\u0301",
    "İi",
    "\0",
    "\u200b",
    "a" * 8,
    "it's 42% <b>!",
]


def pieces(tokenizer: CLIPTokenizer, word: str) -> int:
    """How many tokens a word has."""
    return tokenizer.encode(word).count - 2


def spans_of(tokenizer: CLIPTokenizer, prompt: str, word: str) -> list[tuple[int, int]]:
    """The spans of the tokens that lie within the first occurrence of a word."""
    start = prompt.index(word)
    return [(a, b) for a, b in tokenizer.encode(prompt).spans if start <= a < b <= start + len(word)]


@pytest.mark.parametrize("word", [word for word in WORLD_WORDS if word not in IN_PIECES])
def test_every_word_of_the_world_is_one_token(tokenizer, word):
    assert pieces(tokenizer, word) == 1


@pytest.mark.parametrize(
    ("word", "number"),
    [("butterfly", 2), ("bicycle", 2), ("strawberry", 2), ("octopus", 2), ("elephant", 3), ("umbrella", 3)],
)
def test_some_words_are_left_in_pieces(tokenizer, word, number):
    """So that swaps between different numbers of tokens are real."""
    assert pieces(tokenizer, word) == number
    assert IN_PIECES[word] == number
    inside = spans_of(tokenizer, f"a photo of a {word} on the grass", word)
    assert len(inside) == number  # in the middle of a prompt as well


def test_a_prompt_is_bos_its_tokens_eos_and_padding(tokenizer):
    tokens = tokenizer.encode("a photo of an umbrella")  # 4 + 3 tokens
    assert tokens.prompt == "a photo of an umbrella"
    assert tokens.count == 9
    assert len(tokens.ids) == len(tokens.pieces) == len(tokens.spans) == LENGTH
    assert tokens.ids[0] == tokenizer.bos
    assert tokens.ids[8] == tokenizer.eos
    assert tokens.ids[9:] == (tokenizer.pad,) * 23
    assert not {tokenizer.bos, tokenizer.eos} & set(tokens.ids[1:8])
    assert tokens.pieces[0] == "BOS" and tokens.pieces[8] == "EOS" and tokens.pieces[9:] == ("PAD",) * 23
    assert tokens.spans[0] == (0, 0) and tokens.spans[8:] == ((0, 0),) * 24


def test_the_special_tokens_are_the_last_of_the_vocabulary(tokenizer):
    """CLIP's order of entries."""
    last = tokenizer.config.vocabulary - 1
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad) == (last - 1, last, last)


@pytest.mark.parametrize("prompt", ["a photo of a butterfly on the grass", "A  Big\tRed\nUMBRELLA, above a cat!"])
def test_spans_give_back_the_characters_of_the_prompt(tokenizer, prompt):
    tokens = tokenizer.encode(prompt)
    shown = [prompt[a:b] for a, b in tokens.spans[1 : tokens.count - 1]]
    assert tuple(shown) == tokens.pieces[1 : tokens.count - 1]
    assert "".join(shown) == "".join(prompt.split())  # every character but the spaces, once and in order


@pytest.mark.parametrize("word", WORLD_WORDS)
def test_the_spans_of_a_word_join_to_the_word(tokenizer, word):
    prompt = f"x {word} next to a cat"
    inside = spans_of(tokenizer, prompt, word)
    assert "".join(prompt[a:b] for a, b in inside) == word
    assert len(inside) == pieces(tokenizer, word)


def test_case_is_folded(tokenizer):
    lower, upper = tokenizer.encode("a photo of a butterfly"), tokenizer.encode("A PHOTO of a Butterfly")
    assert upper.ids == lower.ids and upper.spans == lower.spans
    assert upper.pieces[1] == "A"  # while the pieces stay the reader's own


def test_spaces_do_not_count(tokenizer):
    assert tokenizer.encode("  a \n\t photo   of a cat ").ids == tokenizer.encode("a photo of a cat").ids


def test_a_prompt_that_fills_the_context_has_no_padding(tokenizer):
    tokens = tokenizer.encode("cat " * 30)
    assert tokens.count == LENGTH and "PAD" not in tokens.pieces and tokens.ids[-1] == tokenizer.eos


def test_a_too_long_prompt_is_refused_with_what_would_fit(tokenizer):
    with pytest.raises(ValueError, match="has 31 tokens, the model's context holds 30") as error:
        tokenizer.encode("cat " * 30 + "dog")
    assert str(error.value).endswith(repr(" ".join(["cat"] * 30)))


@pytest.mark.parametrize(
    "prompt",
    [
        "cat " * 31,
        "a " + "umbrella " * 10,
        "cat " * 28 + "🐱",
    ],
    ids=["between words", "within a word", "within a character"],
)
def test_the_shorter_prompt_that_a_refusal_proposes_fits(tokenizer, prompt):
    with pytest.raises(ValueError) as error:
        tokenizer.encode(prompt)
    proposed = re.search(r"at most '(.*)'$", str(error.value))[1]
    assert prompt.startswith(proposed)
    tokenizer.encode(proposed)


def assert_sound(tokenizer: CLIPTokenizer, prompt: str) -> None:
    """What holds of any prompt that fits."""
    tokens = tokenizer.encode(prompt)
    assert len(tokens.ids) == len(tokens.pieces) == len(tokens.spans) == LENGTH
    assert all(0 <= id < tokenizer.config.vocabulary for id in tokens.ids)
    assert 2 <= tokens.count <= LENGTH
    assert tokens.ids[0] == tokenizer.bos and tokens.ids[tokens.count - 1] == tokenizer.eos
    assert all(0 <= a <= b <= len(prompt) for a, b in tokens.spans)
    starts = [a for a, b in tokens.spans if b > 0]
    assert starts == sorted(starts)  # the prompt is read from left to right


@pytest.mark.parametrize("prompt", ODD, ids=ascii)
def test_odd_prompts_are_encoded_like_any_other(tokenizer, prompt):
    assert_sound(tokenizer, prompt)


def test_the_empty_prompt_is_bos_and_eos(tokenizer):
    assert tokenizer.encode("").count == tokenizer.encode(" \n").count == 2


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=7))  # four bytes a character at most: it always fits
def test_any_short_text_is_encoded(tokenizer, prompt):
    assert_sound(tokenizer, prompt)


def test_letters_outside_the_captions_are_spelled_in_bytes(tokenizer):
    """One token for each byte of UTF-8, all of them pointing at the one character."""
    tokens = tokenizer.encode("猫")
    assert tokens.count == 2 + len("猫".encode())
    assert tokens.spans[1:4] == ((0, 1),) * 3


def test_a_word_with_a_combining_accent_is_still_found(tokenizer):
    """The library's spans leave the accent out; the word's columns are those of its letters."""
    tokens = tokenizer.encode("a cafe\u0301 on a table")
    (word,) = [word for word in words(tokens) if word.text == "caf\u00e9"]
    assert word.columns == tuple(range(2, tokens.pieces.index("on")))


def test_a_special_token_in_a_prompt_belongs_to_no_word(tokenizer):
    """As in CLIP, its name stands for the token itself; its span is that of every EOS."""
    tokens = tokenizer.encode("a <|endoftext|> cat")
    assert tokens.count == 5 and tokens.ids[2] == tokenizer.eos
    assert tokens.spans[1:4] == ((0, 1), (0, 0), (16, 19))


def test_bytes_that_are_no_text_are_refused(tokenizer):
    """As an undecodable byte of a command line arrives."""
    with pytest.raises(ValueError, match="not text"):
        tokenizer.encode("a cat \udcff")


def test_a_batch_is_the_ids_of_its_prompts(tokenizer):
    prompts = ["a cat", "", "an umbrella"]
    batch = tokenizer.batch(prompts)
    assert batch.shape == (3, LENGTH)
    assert batch.tolist() == [list(tokenizer.encode(prompt).ids) for prompt in prompts]


@pytest.mark.parametrize("style", world.STYLES)
def test_the_longest_caption_of_the_world_fits(tokenizer, style):
    longest = lambda words: max(filter(None, words), key=lambda word: pieces(tokenizer, word))
    thing = world.Thing(longest(world.NOUNS), longest(world.COLOURS), "small", longest(world.PATTERNS))
    scene = world.Scene((thing, thing), longest(world.PLACES), longest(world.RELATIONS), "snow", style=style)
    assert tokenizer.encode(world.caption(scene)).count <= LENGTH
