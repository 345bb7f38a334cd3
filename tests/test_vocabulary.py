"""The tokenizer's vocabulary: learned from captions, saved, and read from the public files."""

import dataclasses
import json
from pathlib import Path

import pytest
from test_tokenizer import ODD, pieces

from ldm.config import TextConfig
from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer
from p2p.words import words
from weights.files.tokenizers import tokenizer as tokenizer_in
from weights.training.train import make_tokenizer

# ---------------------------------------------------------------------------------------------------------------------
# learning


def test_training_again_gives_the_shipped_tokenizer(tokenizer, tmp_path, unchecked):
    """Vocabulary, merges and rules."""
    make_tokenizer().save(tmp_path / "new.json")
    tokenizer.save(tmp_path / "shipped.json")
    new, shipped = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("new.json", "shipped.json"))
    assert new == shipped


def test_ties_between_merges_are_broken_alike_at_every_training(tokenizer):
    """Four merges of one count: in the order of a hash table twenty trainings would agree with probability 24^-19."""
    config = dataclasses.replace(tokenizer.config, vocabulary=512 + 4 + 2)
    found = {CLIPTokenizer.train(["et er el en"], config, {}).encode("et er el en").ids for _ in range(20)}
    assert len(found) == 1


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
    with pytest.raises(ValueError, match=f"give {SMALL_SIZE} entries, the config has {SMALL_SIZE + off}"):
        CLIPTokenizer.train(SMALL, small(SMALL_SIZE + off), {})


def test_a_tokenizer_without_the_special_tokens_is_refused(tokenizer, tmp_path):
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


def test_public_files_give_the_tokenizer_they_were_written_from(files, tmp_path):
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
def test_special_tokens_in_upper_case_are_themselves(files, tmp_path, pad, upper_is_eos):
    """What the public files say, and with them transformers does."""
    vocab, merges = files
    config = read_files(tmp_path, vocab, ["#version: 0.2", *merges], pad=pad).config
    special = {
        name: {"content": token, "normalized": True}
        for name, token in (("bos_token", config.bos), ("eos_token", config.eos))
    }
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad}))
    (tmp_path / "tokenizer.json").unlink()  # which the vocabulary was taken from, and would count first
    tokenizer = tokenizer_in(tmp_path, config)
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
