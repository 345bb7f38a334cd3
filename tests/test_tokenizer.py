"""The tokenizer: fixed-length token ids, and the characters each of them came from.

That it agrees with CLIP's own is a test of tests/parity; here is the shipped vocabulary, where everyday words are one
token each and a few are left in pieces on purpose.
"""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.config import PRESETS, TextConfig
from ldm.tokenizer import CLIPTokenizer
from p2p.words import words
from weights.stickers import world
from weights.stickers.train_diffusion import IN_PIECES

ROOT = Path(__file__).parents[1]
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


def test_a_prompt_that_is_too_long_is_refused_with_what_would_fit(tokenizer):
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


@settings(max_examples=200, deadline=None, derandomize=True)
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
    (word,) = [word for word in words(tokens) if word.text.startswith("cafe")]
    assert word.columns == tuple(range(2, tokens.pieces.index("on")))


def test_a_special_token_spelled_out_in_a_prompt_belongs_to_no_word(tokenizer):
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


# ---------------------------------------------------------------------------------------------------------------------
# learning a vocabulary


def test_training_again_gives_the_shipped_tokenizer(tokenizer, tmp_path):
    """Vocabulary, merges and rules. In a process of its own, where 20,000 captions take seconds: no shape checks."""
    program = "import sys, weights.stickers.train as t; t.make_tokenizer().save(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, tmp_path / "new.json"], check=True, cwd=ROOT)
    tokenizer.save(tmp_path / "shipped.json")
    new, shipped = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("new.json", "shipped.json"))
    assert new == shipped


def test_a_saved_tokenizer_is_the_same_when_read_again(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    again = CLIPTokenizer.from_file(tmp_path / "tokenizer.json", tokenizer.config)
    for prompt in ["a photo of an elephant in the sea", *ODD]:
        assert again.encode(prompt) == tokenizer.encode(prompt)


def small(vocabulary: int) -> TextConfig:
    return dataclasses.replace(PRESETS["stickers"].text, vocabulary=vocabulary)


SMALL = ["a cat", "a dog", "a cat in a dog"]
# by hand: "a" is a byte that ends a word, so no merge; cat and dog take two each, in one
SMALL_SIZE = 512 + 5 + 2


def test_all_merges_of_the_captions_are_learned():
    trained = CLIPTokenizer.train(SMALL, small(SMALL_SIZE), {})
    assert [pieces(trained, word) for word in ("a", "cat", "dog", "in", "act")] == [1, 1, 1, 1, 3]
    assert trained.eos == SMALL_SIZE - 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_in_pieces_leaves_a_word_in_that_many_tokens(number):
    """Merges are undone from the last on, and each leaves the vocabulary; other words stay whole."""
    trained = CLIPTokenizer.train(SMALL, small(SMALL_SIZE - (number - 1)), {"cat": number})
    tokens = trained.encode("a cat")
    assert tokens.count == 3 + number
    assert "".join(tokens.pieces[2 : 2 + number]) == "cat"
    assert pieces(trained, "dog") == pieces(trained, "in") == 1


@pytest.mark.parametrize(
    ("word", "number", "without"),
    [("cat", 4, r"'c' or 'a' or 't</w>'"), ("zebra", 2, "'zebra</w>'")],
    ids=["more than it has letters", "not in the captions"],
)
def test_a_word_that_cannot_be_left_in_so_many_pieces_is_refused(word, number, without):
    with pytest.raises(ValueError, match=f"'{word}' cannot be left in {number} tokens: .* makes {without}$"):
        CLIPTokenizer.train(SMALL, small(SMALL_SIZE), {word: number})


@pytest.mark.parametrize("off", [-1, 1])
def test_another_vocabulary_size_than_the_configs_is_refused(off):
    with pytest.raises(ValueError, match=f"give {SMALL_SIZE} entries, the config says {SMALL_SIZE + off}"):
        CLIPTokenizer.train(SMALL, small(SMALL_SIZE + off), {})


def test_a_tokenizer_without_the_configs_special_tokens_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    config = dataclasses.replace(tokenizer.config, pad="<pad>")
    with pytest.raises(ValueError, match="no token '<pad>'"):
        CLIPTokenizer.from_file(tmp_path / "tokenizer.json", config)


# ---------------------------------------------------------------------------------------------------------------------
# the public files


Files = tuple[dict[str, int], list[str]]


@pytest.fixture
def files(tmp_path) -> Files:
    """A small vocabulary and its merges, as vocab.json and merges.txt hold them."""
    CLIPTokenizer.train(SMALL, small(SMALL_SIZE), {}).save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    return model["vocab"], [" ".join(merge) for merge in model["merges"]]


def read_files(folder: Path, vocab: dict | str, merges: list[str], **special: str) -> CLIPTokenizer:
    text = vocab if isinstance(vocab, str) else json.dumps(vocab)
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join([*merges, ""]), encoding="utf-8")
    config = dataclasses.replace(small(SMALL_SIZE), **special)
    return CLIPTokenizer.from_files(folder / "vocab.json", folder / "merges.txt", config)


def test_the_public_files_give_the_tokenizer_that_they_were_written_from(files, tmp_path):
    vocab, merges = files
    trained = CLIPTokenizer.train(SMALL, small(SMALL_SIZE), {})
    again = read_files(tmp_path, vocab, ["#version: 0.2", *merges])
    for prompt in [*SMALL, *ODD]:
        assert again.encode(prompt) == trained.encode(prompt)


def test_padding_of_its_own_is_not_the_end_of_a_prompt(files, tmp_path):
    """Stable Diffusion 2 pads with "!", a token that a prompt may have as well."""
    vocab, merges = files
    tokenizer = read_files(tmp_path, vocab, ["#version: 0.2", *merges], pad="!")
    tokens = tokenizer.encode("a cat!! dog")
    assert (tokenizer.pad, tokenizer.eos) == (0, SMALL_SIZE - 1)
    assert tokens.count == 7
    assert tokens.pieces == ("BOS", "a", "cat", "!", "!", "dog", "EOS", *["PAD"] * 25)
    assert tokens.ids[3:5] == (0, 0) and tokens.ids[6:] == (tokenizer.eos, *[0] * 25)
    assert tokens.spans[3:6] == ((5, 6), (6, 7), (8, 11))
    assert [word.columns for word in words(tokens)] == [(1,), (2,), (5,)]


@pytest.mark.parametrize(("pad", "upper_is_eos"), [("<|endoftext|>", False), ("!", True)])
def test_special_tokens_typed_in_upper_case_are_themselves_unless_they_pad(files, tmp_path, pad, upper_is_eos):
    """What the public files say, and with them transformers does."""
    vocab, merges = files
    tokenizer = read_files(tmp_path, vocab, ["#version: 0.2", *merges], pad=pad)
    assert tokenizer.encode("<|STARTOFTEXT|>").ids[1] == tokenizer.bos
    assert (tokenizer.encode("<|ENDOFTEXT|>").ids[1] == tokenizer.eos) == upper_is_eos
    assert tokenizer.encode("<|endoftext|>").ids[1] == tokenizer.eos


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, m: ("", m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: ("[" * 100_000, m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: (list(v), m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: (v | {"a": "0"}, m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: (v | {"a": True}, m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: (v | {"a": 1.5}, m), "vocab.json is not a JSON object of entries and their ids"),
        (lambda v, m: (v | {"a": 0}, m), f"ids of the tokenizer's vocabulary are not 0 to {SMALL_SIZE - 1}"),
        (lambda v, m: (v | {"a": -1}, m), f"ids of the tokenizer's vocabulary are not 0 to {SMALL_SIZE - 1}"),
        (lambda v, m: ({k: i for k, i in v.items() if k != "a"}, m), r"lacks 1 entries \['a'\]"),
        (lambda v, m: ({k: i for k, i in v.items() if "|" not in k}, m), r"lacks .*endoftext.*startoftext"),
        (lambda v, m: (v | {"zebra": SMALL_SIZE}, m), r"no merge makes 1 of its own \['zebra'\]"),
        (lambda v, m: (v, m[:-1]), "lacks 0 entries .* no merge makes 1 of its own"),
        (lambda v, m: (v, [*m, "z e"]), r"lacks 1 entries \['ze'\]"),
        (lambda v, m: (v, m[1:]), "merges.txt does not begin with #version"),
        (lambda v, m: (v, []), "merges.txt does not begin with #version"),
        (lambda v, m: (v, [*m, "a b c"]), r"merges.txt, line 7: 'a b c' is not two pieces and a space"),
        (lambda v, m: (v, [*m, "ab"]), "merges.txt, line 7: 'ab' is not two pieces"),
        (lambda v, m: (v, [*m, " b"]), "merges.txt, line 7: ' b' is not two pieces"),
        (lambda v, m: (v, [m[0], "", *m[1:]]), "merges.txt, line 2: '' is not two pieces"),
    ],
)
def test_public_files_that_are_not_whole_are_refused(files, tmp_path, change, message):
    vocab, merges = files
    vocab, merges = change(vocab, ["#version: 0.2", *merges])
    with pytest.raises(ValueError, match=message):
        read_files(tmp_path, vocab, merges)


def test_public_files_that_are_no_text_are_refused(files, tmp_path):
    vocab, merges = files
    read_files(tmp_path, vocab, ["#version: 0.2", *merges])
    for name in ("vocab.json", "merges.txt"):
        content = (tmp_path / name).read_bytes()
        for spoil in (lambda path: path.write_bytes(b"\xff"), Path.unlink):
            spoil(tmp_path / name)
            with pytest.raises(ValueError, match=f"{name} cannot be read as text"):
                CLIPTokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", small(SMALL_SIZE))
        (tmp_path / name).write_bytes(content)
