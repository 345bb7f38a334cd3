"""Our tokenizers equal transformers', given the same vocabulary in its public form.

CLIP's is the public one, byte for byte. No package carries BERT's, so one of its kind is made here.
"""

import dataclasses
import gzip
import hashlib
import json
import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import BertTokenizer as TheirBertTokenizer
from transformers import CLIPTokenizer as TheirCLIPTokenizer

import weights.stickers
from ldm.config import BertConfig, TextConfig
from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer, PromptTokenizer
from ldm.zoo.wordpiece import BertTokenizer
from weights.files.tokenizers import tokenizer

SHIPPED = Path(weights.stickers.__file__).parent / "tokenizer.json"
SHIPPED_CONFIG = dataclasses.replace(PRESETS["stickers"].text, length=77)
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


# ---------------------------------------------------------------------------------------------------------------------
# vocabularies and both tokenizers of each


def write_clip(folder: Path, vocab: dict[str, int], merges: list[str]) -> None:
    """The public form of a vocabulary; with CLIP's own, the public files to the byte."""
    text = json.dumps(vocab, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def public_clip() -> tuple[dict[str, int], list[str]]:
    """From the list of merges that the package open_clip_torch carries; the package is not run."""
    path = Path(find_spec("open_clip").origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    # 49,408 entries less 512 for bytes and 2 special tokens; the first line is a comment
    merges = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : 49_408 - 512 - 2 + 1]
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    characters = [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
    entries = [*characters, *(c + "</w>" for c in characters), *(merge.replace(" ", "") for merge in merges), BOS, EOS]
    return {entry: i for i, entry in enumerate(entries)}, merges


def write_stable_diffusion(folder: Path, pad: str) -> None:
    """All that the public folder `tokenizer` holds. Of what pads, special_tokens_map.json has the last word."""
    write_clip(folder, *public_clip())
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {
        name: {"content": content, **flags}
        for name, content in (("bos_token", BOS), ("eos_token", EOS), ("unk_token", EOS))
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad}))
    config = {name: {"__type": "AddedToken", **token} for name, token in special.items()}
    config |= {"pad_token": EOS, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_bert(folder: Path) -> None:
    """Special tokens where the public file has them, single characters of many scripts, English words and pieces; each
    character and piece as the beginning of a word and as its continuation."""
    ranges = [(0x21, 0x40), (0x5B, 0x7E), (0xA1, 0xFF), (0x3B1, 0x3C9), (0x430, 0x44F), (0x5D0, 0x5EA), (0x621, 0x64A)]
    ranges += [(0x905, 0x939), (0xE01, 0xE30), (0x1100, 0x11FF), (0x2010, 0x2030), (0x3041, 0x30FF), (0x4E00, 0x60FF)]
    ranges += [(0xFF01, 0xFF40), (0x1F300, 0x1F5FF), (0x1F1E6, 0x1F1FF)]
    characters = [chr(i) for first, last in ranges for i in range(first, last + 1)]
    vocab, _ = public_clip()
    words = [entry.removesuffix("</w>") for entry in vocab if entry.removesuffix("</w>").isalpha() and entry.isascii()]
    pieces = dict.fromkeys([*characters, *words[:6000]])
    entries = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries += [*pieces, *("##" + piece for piece in pieces)]
    (folder / "vocab.txt").write_text("\n".join([*entries, ""]), encoding="utf-8")
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(names | {"mask_token": "[MASK]"}))


class Pair(NamedTuple):
    """One vocabulary in both libraries; ours for a given length of the context."""

    ours: Callable[[int], PromptTokenizer]
    theirs: TheirCLIPTokenizer | TheirBertTokenizer


def shipped_pair(folder: Path, from_file: bool) -> Pair:
    model = json.loads(SHIPPED.read_text(encoding="utf-8"))["model"]
    write_clip(folder, model["vocab"], [" ".join(merge) for merge in model["merges"]])
    config = lambda length: dataclasses.replace(SHIPPED_CONFIG, length=length)
    merges = [tuple(merge) for merge in model["merges"]]
    return Pair(
        (lambda length: CLIPTokenizer.from_file(SHIPPED, config(length)))
        if from_file
        else (lambda length: CLIPTokenizer.from_vocabulary(model["vocab"], merges, config(length))),
        TheirCLIPTokenizer.from_pretrained(folder),
    )


def stable_diffusion_pair(folder: Path, pad: str) -> Pair:
    write_stable_diffusion(folder, pad)
    theirs = TheirCLIPTokenizer.from_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()  # with its 77 tokens, for the lengths here
    return Pair(
        lambda length: tokenizer(folder, TextConfig(length=length, pad=pad)),
        theirs,
    )


def bert_pair(folder: Path) -> Pair:
    write_bert(folder)
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").count("\n")
    config = lambda length: BertConfig(vocabulary=vocabulary, length=length)
    return Pair(
        lambda length: BertTokenizer.from_vocabulary_file(folder / "vocab.txt", config(length)),
        TheirBertTokenizer.from_pretrained(folder),
    )


PAIRS = {
    "shipped, its vocabulary": lambda folder: shipped_pair(folder, from_file=False),
    "shipped, its file": lambda folder: shipped_pair(folder, from_file=True),
    "Stable Diffusion 1": lambda folder: stable_diffusion_pair(folder, EOS),
    "Stable Diffusion 2": lambda folder: stable_diffusion_pair(folder, "!"),
    "BERT": bert_pair,
}


# ---------------------------------------------------------------------------------------------------------------------
# 3,000 prompts

SPECIAL_CASES = [
    "",
    " ",
    "\t\n \u00a0\u3000",
    " a cat ",
    "A CAT'S HAT, it's; they'll 'RE",
    "wow! wow!! a!b !",
    "x2 10 1000 ½ ٣",
    "cafe\u0301 café CAFÉ e\u0301tude",
    "ΟΔΟΣ ΟΔΟΣ. İstanbul straße ﬁ Ａ ǅ",
    "👩\u200d🚀🇫🇷☂\ufe0f",
    "a <|endoftext|> b<|startoftext|>",
    "a <|ENDOFTEXT|> b <|StartOfText|>",
    "[CLS] a [cls] [SEP][PAD][MASK] [UNK]b [unused1]",
    "cat</w> </w> ##cat",
    "\x00\x7f\u200b\ufeff",
    "l'été aujourd'hui",
    "猫の家 ab猫cd 한국어",
    "x" * 100 + " " + "x" * 101,
    "猫" * 101,
    "!" * 200,
]
SCRIPTS = [
    *[(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF)],
    *[(0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F)],
    *[(0x2070, 0x218F), (0x2190, 0x2BFF), (0x3000, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)],
    *[(0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x10000, 0x100FF)],
    *[(0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE007F), (0x10FFF0, 0x10FFFF)],
]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\v", "\f", *"\x1c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"]
CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))]
CONTROLS += "\xad\u200b\u200c\u200d\u200e\u202e\u2060\ufeff\ufffd"
TYPED = [BOS, EOS, BOS.upper(), EOS.upper(), "<|endoftext", "!", "!!"]
TYPED += ["[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "[cls]"]
EMOJI = [*"🐱🚀❤☂👩👨👧🏳", "\u200d", "\ufe0f", "\u20e3", "🏽", "🏿", "🇫", "🇷", "🌈", "7", " "]
GREEK = ["ΟΔΟΣ", "οδός", "ΣΑΣ", "Ὀδυσσεύς", "σ", "ς", "Σ", "ΆΣ.", "ΐ", "ᾼ"]


def random_prompts(words: list[str], number: int) -> list[str]:
    """Of every kind as many; surrogates, which are not text, are left out."""
    rng = random.Random(0)
    some = lambda draw, least=1, most=15: "".join(draw() for _ in range(rng.randint(least, most)))
    of = lambda choices: lambda: rng.choice(choices)
    within = lambda script: lambda: chr(rng.randint(*script))
    letter = of("abcxyzABCXYZéüñ猫カЖאب한")
    anything = lambda: chr(rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF)]))
    cased = lambda: rng.choice([str.lower, str.upper, str.title])(rng.choice(words))
    word = lambda: cased() + rng.choice([" ", ", ", "!", "'s ", "-"])
    kinds = [
        lambda: some(word),
        lambda: some(within((0x20, 0x7E))),
        lambda: some(within(rng.choice(SCRIPTS))),
        lambda: some(lambda: within(rng.choice(SCRIPTS))()),
        lambda: some(anything),
        lambda: some(of(EMOJI)),
        lambda: some(lambda: letter() + some(within((0x300, 0x36F)), 0, 3)),
        lambda: some(lambda: some(letter, 0, 3) + rng.choice(CONTROLS)),
        lambda: some(lambda: some(letter, 0, 2) + rng.choice(SPACES)),
        lambda: some(lambda: some(of([*words, " ", "a", "B", "ß"]), 0, 2) + rng.choice(TYPED), most=6),
        lambda: some(of([*GREEK, " ", ".", "x", "\u0301"])),
        lambda: some(lambda: rng.choice([some(word, 30, 60), some(letter, 90, 110), some(anything, 20, 110)]), 1, 4),
    ]
    return [kinds[i % len(kinds)]() for i in range(number)]


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    vocab, _ = public_clip()
    words = [entry.removesuffix("</w>") for entry in vocab if entry.isascii() and entry.endswith("</w>")]
    prompts = SPECIAL_CASES + random_prompts(words, 3000 - len(SPECIAL_CASES))
    assert len(prompts) == 3000 and len(set(prompts)) > 2900
    return prompts


@pytest.fixture(scope="module", params=PAIRS)
def pair(request, tmp_path_factory) -> Pair:
    return PAIRS[request.param](tmp_path_factory.mktemp("tokenizer"))


def test_the_files_of_clip_are_the_public_ones(tmp_path):
    write_clip(tmp_path, *public_clip())
    digest = lambda name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert digest("vocab.json") == "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"
    assert digest("merges.txt") == "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"


def test_ids_and_offsets_equal_transformers(pair, prompts):
    """A prompt that is longer than the context, which ours refuses and theirs can cut, is compared in a longer one."""
    uncut = pair.theirs(prompts, return_offsets_mapping=True)
    fits = [len(ids) <= 77 for ids in uncut["input_ids"]]
    assert 100 < fits.count(False) < 1000
    ours = {True: pair.ours(77), False: pair.ours(max(map(len, uncut["input_ids"])))}
    for prompt, ids, offsets, fit in zip(prompts, uncut["input_ids"], uncut["offset_mapping"], fits, strict=True):
        tokens = ours[fit].encode(prompt)
        assert list(tokens.ids[: tokens.count]) == ids, prompt
        # special tokens that were typed have no span with us
        typed = {ours[fit].bos, ours[fit].eos}
        spans = [(0, 0) if id in typed else tuple(offset) for id, offset in zip(ids, offsets, strict=True)]
        assert list(tokens.spans[: tokens.count]) == spans, prompt
    short = [prompt for prompt, fit in zip(prompts, fits) if fit]
    padded = pair.theirs(short, padding="max_length", max_length=77)["input_ids"]
    assert ours[True].batch(short).tolist() == padded


def test_berts_vocabulary_has_all_kinds_of_words(tmp_path, prompts):
    """Otherwise equal ids would say little."""
    pair = bert_pair(tmp_path)
    tokens = [pair.theirs.convert_ids_to_tokens(ids) for ids in pair.theirs(prompts)["input_ids"]]
    used = {token for line in tokens for token in line}
    with_unknown = sum("[UNK]" in line for line in tokens)
    assert 300 < with_unknown < 2000
    assert len(used) > 5000
    assert sum(token.startswith("##") for token in used) > 1500
    assert sum(not token.isascii() for token in used) > 800


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo of a cat", [(320, 0, 1), (516, 2, 7), (512, 8, 10), (320, 11, 12), (699, 13, 16)]),
        # two pieces of one word, apostrophe, two spaces, upper case
        ("A strawberry's  HAT", [(320, 0, 1), (711, 2, 11), (344, 11, 12), (6, 12, 13), (338, 13, 14), (646, 16, 19)]),
        # all bytes of a character span the whole of it; e and an accent after it become é, which spans the e alone
        (
            "cafe\u0301 🐱!",
            [
                *[(550, 0, 2), (69, 2, 3), (127, 3, 4), (358, 3, 4)],
                *[(172, 6, 7), (253, 6, 7), (238, 6, 7), (109, 6, 7), (256, 7, 8)],
            ],
        ),
        ("", []),
    ],
)
def test_padding_and_spans_are_as_written_here(prompt, words):
    tokens = CLIPTokenizer.from_file(SHIPPED, SHIPPED_CONFIG).encode(prompt)
    bos, eos = 721, 722
    padding = 77 - 2 - len(words)
    assert tokens.prompt == prompt
    assert tokens.ids == (bos, *(id for id, _, _ in words), eos, *[eos] * padding)
    assert tokens.spans == ((0, 0), *((start, end) for _, start, end in words), (0, 0), *[(0, 0)] * padding)
    assert tokens.pieces == ("BOS", *(prompt[start:end] for _, start, end in words), "EOS", *["PAD"] * padding)
    assert tokens.count == len(words) + 2
