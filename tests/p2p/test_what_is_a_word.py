"""What counts as a word, over CLIP's public vocabulary, one of BERT's kind, and CLIP's with a learned token."""

import unicodedata

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parity.test_tokenizer import public_clip, write_bert
from tokenizers import AddedToken

from ldm.config import BertConfig, TextConfig
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from p2p.edits import Edit, Preserve, Refine, Swap
from p2p.maps import OTHERS, SPECIAL, parts
from p2p.words import columns, names, words

LEARNED = "<cat-toy>"
PIECES = (
    *("a", "cat", "Dog", "man", "'s", "don't", "'tis", "o'clock", "cat-like", "rock-'n'-roll", "l’été", "2024", "3d"),
    *("^_^", ":3", ":'(", ";)", "o_O", "T_T", "<3", "(╯°□°)", "...", "--", ",", "#2", "cat#2", "_", "my_style"),
    *("🐱", "❤️", "1️⃣", "👩‍👩‍👧", "🇩🇪", "phở", "ph\u01a1\u0309", "pho\u031b\u0309", "İzmir", "straße", "ﬁsh", "ﷺ"),
    *("बिल्ली", "क्\u200dष", "แมว", "قِطّة", "נָח", "한글", "\u1112\u1161\u11ab", "猫", "x²", "Å\u0301\u0327", "\u0301"),
    *(
        "<|endoftext|>",
        "<|startoftext|>",
        "[SEP]",
        "[UNK]",
        "\x00",
        "\x07",
        "\u200b",
        "\u00ad",
        LEARNED,
        "b <cat-toy>s",
    ),
)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)  # surrogates are refused
PROMPTS = st.builds(str.join, st.sampled_from([" ", "", "  "]), st.lists(st.sampled_from(PIECES) | ANY, max_size=6))
T, LENGTH = 1000, 64


@pytest.fixture(scope="module", params=["clip", "bert", "clip with a learned token"])
def real(request, tmp_path_factory) -> PromptTokenizer:
    if request.param == "bert":
        folder = tmp_path_factory.mktemp("bert")
        write_bert(folder)
        entries = (folder / "vocab.txt").read_text(encoding="utf-8").count("\n")
        return BertTokenizer.from_vocabulary_file(folder / "vocab.txt", BertConfig(vocabulary=entries, length=LENGTH))
    return clip() if request.param == "clip" else clip(LEARNED)


def clip(*learned: str) -> CLIPTokenizer:
    vocab, merges = public_clip()
    added = {len(vocab) + i: AddedToken(token, normalized=False) for i, token in enumerate(learned)}
    config = TextConfig(length=LENGTH, vocabulary=len(vocab) + len(added))
    return CLIPTokenizer.from_vocabulary(vocab, [tuple(merge.split(" ")) for merge in merges], config, added)


def is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"


@settings(max_examples=60)
@given(PROMPTS)
@example("cat\u0301\u200b ")
def test_words_have_whole_tokens_and_share_none(real, prompt):
    tokens = real.encode(prompt)
    found = words(tokens)
    own = [column for word in found for column in word.columns]
    assert all(word.columns for word in found)
    assert own == sorted(set(own))
    for word in found:
        inside = [i for i, (a, b) in enumerate(tokens.spans) if a < word.end and word.start < b]
        assert list(word.columns) == inside
        assert all(word.start <= a and b <= word.end for a, b in (tokens.spans[i] for i in inside))
    # what is in no word has no letter
    for column in set(range(1, tokens.count - 1)) - set(own):
        assert not any(map(is_letter, prompt[slice(*tokens.spans[column])]))
    # and all columns are drawn, each once
    drawn = parts(tokens)
    assert sorted(column for own in drawn.values() for column in own) == list(range(LENGTH))
    assert list(drawn) == [*names(tokens), *[OTHERS] * (OTHERS in drawn), SPECIAL]


@settings(max_examples=60)
@given(PROMPTS)
def test_every_word_is_found_by_its_name_in_each_normal_form(real, prompt):
    tokens = real.encode(prompt)
    for name, word in zip(names(tokens), words(tokens)):
        for form in ("NFC", "NFD"):
            assert columns(tokens, unicodedata.normalize(form, name)) == word.columns


@settings(max_examples=60)
@given(PROMPTS, PROMPTS)
@example("a photo of a cat ^_^", "a photo of a big dog")
@example("a photo of a big cat", "a photo of a dog <|endoftext|>")
@example("a photo of a cat", "a photo of the man 's dog")
@example("a <cat-toy>", "a dog <cat-toy>")
@example("a " * 60, "a cat")
@example("a cat", "a " * 62)
@example("a " * 62, "a cat")
def test_no_column_is_without_attention(real, source, target):
    """Every target token takes the source's attention or has its own, and the source's attention is all handed on."""
    ours, theirs = real.encode(source), real.encode(target)
    edits: list[Edit] = [Refine(), Edit.between(ours, theirs)]
    if names(ours) and names(theirs):
        edits += [Swap(names(ours)[0], names(theirs)[-1]), Swap(names(ours)[-1], names(theirs)[0], merge="mean")]
    for edit in edits:
        P, Q, _ = edit.compile(ours, theirs, T)(T)
        assert ((P.sum(dim=0) > 0) | (Q > 0)).all()
    for name in names(ours)[-2:]:
        try:
            P, Q, _ = Preserve(name).compile(ours, theirs, T)(T)
        except ValueError:  # not there
            continue
        assert ((P.sum(dim=0) > 0) | (Q > 0)).all()


def texts(tokenizer: PromptTokenizer, prompt: str) -> list[str]:
    return [word.text for word in words(tokenizer.encode(prompt))]


@pytest.fixture(scope="module")
def learned() -> CLIPTokenizer:
    return clip(LEARNED)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a dog ^_^", ["a", "dog"]),
        ("the man 's dog", ["the", "man", "'s", "dog"]),  # 's is one token of CLIP's
        ("the man's dog", ["the", "man's", "dog"]),
        ("a dog <|endoftext|> on", ["a", "dog", "on"]),
        ("बिल्ली, मेज़", ["बिल्ली", "मेज़"]),
        ("pho\u031b\u0309 ❤️cat", ["ph\u1edf", "cat"]),  # the heart's variation selector is a mark, too
        ("a cat_ and my_style", ["a", "cat", "and", "my_style"]),
        ("<cat-toy>, cat-toy", [LEARNED, "cat-toy"]),
    ],
)
def test_a_word_is_a_run_of_letters_extended_to_whole_tokens(learned, prompt, expected):
    assert texts(learned, prompt) == expected


def test_a_learned_token_is_known_by_what_is_in_its_brackets(learned):
    tokens = learned.encode("a photo of a <cat-toy> and a cat")
    for name in ("<cat-toy>", "cat-toy", "CAT-TOY"):
        assert columns(tokens, name) == (5,)
    assert columns(tokens, "cat") == (8,)  # the learned token has more letters than that
    with pytest.raises(ValueError, match="no word 'toy'"):
        columns(tokens, "toy")


@pytest.mark.parametrize("prompt", ["ph\u1edf", "ph\u01a1\u0309", "pho\u031b\u0309", "PHO\u0309\u031b"])
@pytest.mark.parametrize("name", ["ph\u1edf", "ph\u01a1\u0309", "pho\u031b\u0309", "PHO\u0309\u031b"])
def test_spellings_that_unicode_holds_equal_are_one(real, prompt, name):
    tokens = real.encode(f"a {prompt} cat")
    assert columns(tokens, name) == tuple(range(2, tokens.count - 2))
    source, target = tokens, real.encode(f"a {name} cat")
    assert Edit.between(source, target).parts == (Refine(),)


def test_other_letters_are_other_words(real):
    tokens = real.encode("ph\u1edf and cafe")
    for name in ("pho", "ph\u01a1", "caf\u00e9"):
        with pytest.raises(ValueError, match="no word"):
            columns(tokens, name)


@pytest.mark.parametrize("prompt", ["", "^_^", "<|endoftext|>", "\x07"])
def test_a_prompt_without_words_says_so(learned, prompt):
    with pytest.raises(ValueError, match=r"has no word 'cat'\. It has none"):
        columns(learned.encode(prompt), "cat")


def test_an_emoji_of_several_tokens_faces_another_as_a_whole(learned):
    """The one at the same place; not its second token the first of another."""
    source, target = learned.encode("cat 👧 dog"), learned.encode("👧 👧")
    at = lambda tokens: [i for i, (a, b) in enumerate(tokens.spans) if a < b and tokens.prompt[a:b] == "👧"]
    ours, theirs = at(source), at(target)
    assert (len(ours), len(theirs)) == (2, 4)
    P, _, _ = Refine().compile(source, target, T)(T)
    assert torch.equal(P[ours][:, theirs], torch.tensor([[0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64))
