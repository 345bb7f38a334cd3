"""BERT's tokenizer, with a vocabulary small enough to know; and Prompt-to-Prompt on its tokens.

That it agrees with BERT's own is a test of tests/parity.
"""

import dataclasses
import string
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from ldm.config import BertConfig
from ldm.tokenizer import PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from p2p.mappers import align, mapper
from p2p.words import columns

CHARACTERS = [*string.ascii_lowercase, *string.digits, *string.punctuation, *"猫犬はβσ"]
ENTRIES = [
    *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    *CHARACTERS,
    *("##" + character for character in CHARACTERS),
    *["an", "cat", "cafe", "photo", "of", "on", "grass", "the", "butter", "##fly", "el", "##eph", "##ant"],
]
CONFIG = BertConfig(vocabulary=len(ENTRIES), length=32)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_text("\n".join([*ENTRIES, ""]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def bert(file) -> BertTokenizer:
    return BertTokenizer.from_vocabulary_file(file, CONFIG)


def read(bert: BertTokenizer, prompt: str) -> list[tuple[str, int, int]]:
    """Each token between BOS and EOS: its entry, and which characters it came from."""
    tokens = bert.encode(prompt)
    inside = slice(1, tokens.count - 1)
    assert tokens.pieces[inside] == tuple(prompt[a:b] for a, b in tokens.spans[inside])
    return [(ENTRIES[id], a, b) for id, (a, b) in zip(tokens.ids[inside], tokens.spans[inside])]


def test_a_prompt_is_bos_its_tokens_eos_and_padding(bert):
    tokens = bert.encode("a photo of a butterfly")
    words = ["a", "photo", "of", "a", "butter", "##fly"]
    assert [ENTRIES[id] for id in tokens.ids] == ["[CLS]", *words, "[SEP]", *["[PAD]"] * 24]
    assert tokens.pieces == ("BOS", "a", "photo", "of", "a", "butter", "fly", "EOS", *["PAD"] * 24)
    assert tokens.spans[:2] == ((0, 0), (0, 1)) and tokens.spans[5:8] == ((13, 19), (19, 22), (0, 0))
    assert tokens.count == 8
    assert (bert.pad, bert.bos, bert.eos) == (0, 2, 3)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", []),
        ("Cat,CAT", [("cat", 0, 3), (",", 3, 4), ("cat", 4, 7)]),
        ("café", [("cafe", 0, 4)]),
        ("cafe\u0301 a", [("cafe", 0, 4), ("a", 6, 7)]),  # an accent of its own at the end of a word is in no token
        ("c\u0327a\u0301t", [("cat", 0, 5)]),
        ("cat猫は", [("cat", 0, 3), ("猫", 3, 4), ("は", 4, 5)]),  # only Chinese characters are words each
        ("はは猫猫", [("は", 0, 1), ("##は", 1, 2), ("猫", 2, 3), ("猫", 3, 4)]),
        ("\0c\x01at\x02 a\u200bn", [("cat", 1, 5), ("an", 7, 10)]),
        ("of\tthe\u00a0grass\u3000on", [("of", 0, 2), ("the", 3, 6), ("grass", 7, 12), ("on", 13, 15)]),
        ("İΣ ς", [("i", 0, 1), ("##σ", 1, 2), ("[UNK]", 3, 4)]),  # a final sigma is another letter
        ("on't", [("on", 0, 2), ("'", 2, 3), ("t", 3, 4)]),
        ("an elephant", [("an", 0, 2), ("el", 3, 5), ("##eph", 5, 8), ("##ant", 8, 11)]),
        ("cat🐱 🐱 cat", [("[UNK]", 0, 4), ("[UNK]", 5, 6), ("cat", 7, 10)]),  # one unknown character, unknown word
    ],
    ids=ascii,
)
def test_tokens_and_their_characters(bert, prompt, words):
    assert read(bert, prompt) == words


def test_a_word_of_more_than_100_characters_is_unknown(file):
    bert = BertTokenizer.from_vocabulary_file(file, dataclasses.replace(CONFIG, length=128))
    assert bert.encode("x" * 100).count == 102
    assert read(bert, "x" * 101 + " cat") == [("[UNK]", 0, 101), ("cat", 102, 105)]


def bare(text: str) -> str:
    """What of a text BERT reads: no accents, control characters or spaces; lower case."""
    characters = unicodedata.normalize("NFD", text)
    kept = (c for c in characters if not c.isspace() and unicodedata.category(c) not in ("Mn", "Cc", "Cf"))
    return "".join(c.lower() for c in kept)


@given(st.text(st.sampled_from("aBzZéÅ\u0301\u0327猫犬は\0\x85\u200b\u00ad\u3000 \t!#-βßΣİ🐱"), max_size=30))
def test_the_spans_of_the_tokens_cover_what_they_came_from(bert, prompt):
    tokens = read(bert, prompt)
    for entry, a, b in tokens:
        assert entry == "[UNK]" or bare(prompt[a:b]) == entry.removeprefix("##")
    assert "".join(bare(prompt[a:b]) for _, a, b in tokens) == bare(prompt)


def test_special_tokens_typed_in_a_prompt_stand_for_themselves(bert):
    tokens = bert.encode("a [SEP] [PAD][MASK] [cls]")
    assert [ENTRIES[id] for id in tokens.ids[:10]] == [
        *["[CLS]", "a", "[SEP]", "[PAD]", "[MASK]", "[", "c", "##l", "##s", "]"]
    ]
    assert tokens.count == 11 and "PAD" not in tokens.pieces[:11]
    assert tokens.pieces[2:5] == ("EOS", "[PAD]", "[MASK]")  # only what ends or begins a prompt has no characters
    assert tokens.spans[2:5] == ((0, 0), (8, 13), (13, 19))


def test_a_too_long_prompt_is_refused_with_what_would_fit(bert):
    with pytest.raises(ValueError, match="has 32 tokens, the model's context holds 30") as error:
        bert.encode("cat " * 29 + "elephant")
    assert str(error.value).endswith(repr(" ".join(["cat"] * 29)))


def test_a_batch_is_the_ids_of_its_prompts(bert):
    assert bert.batch(["a cat", ""]).tolist() == [list(bert.encode(prompt).ids) for prompt in ("a cat", "")]


def test_a_saved_tokenizer_is_the_same_when_read_again(bert, tmp_path):
    bert.save(tmp_path / "tokenizer.json")
    again = PromptTokenizer.from_file(tmp_path / "tokenizer.json", CONFIG)
    for prompt in ("a photo of an elephant", "café 猫\0 [MASK]", "x" * 101):
        assert again.encode(prompt) == bert.encode(prompt)


def test_prompt_to_prompt_finds_words_and_maps_one_to_the_other(bert):
    source, target = (
        bert.encode("a photo of a butterfly on the grass"),
        bert.encode("a photo of an Éléphant on the grass"),
    )
    assert columns(source, "butterfly") == (5, 6)
    assert columns(target, "éléphant") == (5, 6, 7)
    assert columns(source, "grass") == (9,) and columns(target, "grass") == (10,)
    M = mapper(align(source, target, (("butterfly", "Éléphant"),)), CONFIG.length)
    third = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    assert_close(M[5:7, 5:8], third, rtol=0, atol=0)  # the very number that is written there
    assert M[9, 10] == 1 and M[0, 0] == 1


# ---------------------------------------------------------------------------------------------------------------------
# files that are not what they should be


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (ENTRIES[:-1], f"has {len(ENTRIES) - 1} entries, the config has {len(ENTRIES)}"),
        ([*ENTRIES, "more"], f"has {len(ENTRIES) + 1} entries, the config has {len(ENTRIES)}"),
        ([*ENTRIES[:-1], "cat"], "has the entry 'cat' more than once"),
        (["padding", *ENTRIES[1:]], r"lacks the special tokens \[PAD\]"),
        (["x1", "x2", "x3", "x4", "x5", *ENTRIES[5:]], r"\[CLS\], \[SEP\], \[PAD\], \[UNK\], \[MASK\]"),
    ],
    ids=["cut short", "too long", "an entry twice", "no padding", "no special tokens"],
)
def test_a_vocabulary_file_that_does_not_fit_is_refused(tmp_path, entries, message):
    (tmp_path / "vocab.txt").write_text("\n".join([*entries, ""]), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        BertTokenizer.from_vocabulary_file(tmp_path / "vocab.txt", CONFIG)


def test_a_vocabulary_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(ValueError, match=r"vocab\.txt cannot be read as text"):
        BertTokenizer.from_vocabulary_file(path, CONFIG)
    path.write_bytes(b"[PAD]\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"vocab\.txt cannot be read as text"):
        BertTokenizer.from_vocabulary_file(path, CONFIG)
