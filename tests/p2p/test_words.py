"""Words and their columns."""

import pytest

from p2p.edits import Edit
from p2p.words import columns, names, words


def test_columns_of_words_of_one_and_of_several_tokens(tokenizer):
    tokens = tokenizer.encode("a photo of an elephant next to a cat")
    # BOS a photo of an eleph|an|t next to a cat EOS
    assert columns(tokens, "photo") == (2,)
    assert columns(tokens, "elephant") == (5, 6, 7)
    assert columns(tokens, "cat") == (11,)


def test_a_phrase_has_the_columns_of_its_words(tokenizer):
    tokens = tokenizer.encode("a photo of an elephant next  to a cat")
    assert columns(tokens, "next to") == (8, 9)
    assert columns(tokens, "an elephant") == (4, 5, 6, 7)


@pytest.mark.parametrize("prompt", ["a  photo of a CAT", "a photo of a cat,", '"a photo" of a Cat!'])
def test_case_spaces_and_punctuation_do_not_move_columns(tokenizer, prompt):
    tokens = tokenizer.encode(prompt)
    (column,) = columns(tokens, "cat")
    assert tokens.pieces[column].lower() == "cat"


@pytest.mark.parametrize("word", ["décoré", "de\u0301core\u0301", "DÉCORÉ", "de\u0301coré"])
@pytest.mark.parametrize("prompt", ["a décoré cat", "a de\u0301core\u0301 cat"])
def test_an_accent_is_part_of_its_word_however_it_is_written(tokenizer, prompt, word):
    """Composed with its letter or as a character of its own, in the prompt and in what names its word."""
    tokens = tokenizer.encode(prompt)
    assert names(tokens) == ["a", "décoré", "cat"]
    assert columns(tokens, word) == tuple(range(2, tokens.count - 2))  # between "a" and "cat"
    with pytest.raises(ValueError, match="no word 'd'"):
        columns(tokens, "d")


def test_accents_encoded_in_two_ways_are_the_same_word(tokenizer):
    edit = Edit.between(*map(tokenizer.encode, ("a café on a table", "a cafe\u0301 on the grass")))
    assert str(edit) == "shared words keep the source's attention; swap 'a#2' for 'the'; swap 'table' for 'grass'"


def test_a_word_inside_another_is_not_found(tokenizer):
    # the "an" of "elephant" is a token of its own and still no word
    tokens = tokenizer.encode("a photo of one elephant")
    with pytest.raises(ValueError, match="no word 'an'"):
        columns(tokens, "an")


def test_words_cover_every_token_once(tokenizer):
    tokens = tokenizer.encode("a striped bicycle next to an umbrella, at night")
    found = [column for word in words(tokens) for column in word.columns]
    comma = tokens.pieces.index(",")
    assert sorted([*found, comma]) == list(range(1, tokens.count - 1))


def test_the_error_of_an_unknown_word_lists_words_and_nearest(tokenizer):
    tokens = tokenizer.encode("a photo of a butterfly")
    with pytest.raises(ValueError, match=r"no word 'buterfly'. Did you mean 'butterfly'\? .* a, photo, of, butterfly"):
        columns(tokens, "buterfly")


def test_empty_word_is_an_unknown_word(tokenizer):
    with pytest.raises(ValueError, match="no word ''"):
        columns(tokenizer.encode("a cat"), "")


def test_a_word_that_stands_twice_asks_which(tokenizer):
    tokens = tokenizer.encode("a cat next to a cat")
    with pytest.raises(ValueError, match="write cat#1 or cat#2"):
        columns(tokens, "cat")
    assert columns(tokens, "cat#1") == (2,)
    assert columns(tokens, "cat#2") == (6,)
    for wrong in ("cat#0", "cat#3", "cat#x"):
        with pytest.raises(ValueError, match="has 2 of them"):
            columns(tokens, wrong)


@pytest.mark.parametrize("prompt", ["a cat next to a Cat", "a cat-like cat", "a dog's dog", "ca-ca ca", "a cat_ cat"])
def test_every_word_is_found_by_its_name(tokenizer, prompt):
    """A word may stand in a longer one too, beside a hyphen or an apostrophe."""
    tokens = tokenizer.encode(prompt)
    assert [columns(tokens, name) for name in names(tokens)] == [word.columns for word in words(tokens)]
