"""Our tokenizer equals transformers' CLIPTokenizer, given the same vocabulary in its public form."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
from transformers import CLIPTokenizerFast

import weights.stickers
from ldm.config import PRESETS
from ldm.tokenizer import CLIPTokenizer

VOCABULARY = Path(weights.stickers.__file__).parent / "tokenizer.json"
CONFIG = dataclasses.replace(PRESETS["stickers"].text, length=77)
BOS, EOS = 721, 722


@pytest.fixture(scope="module")
def model() -> dict:
    """The shipped vocabulary and merges."""
    return json.loads(VOCABULARY.read_text(encoding="utf-8"))["model"]


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory) -> CLIPTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(["#version: 0.2", *(" ".join(merge) for merge in model["merges"]), ""])
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    return CLIPTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module", params=["from its vocabulary", "from its file"])
def ours(model, request) -> CLIPTokenizer:
    if request.param == "from its file":
        return CLIPTokenizer.from_file(VOCABULARY, CONFIG)
    return CLIPTokenizer.from_vocabulary(model["vocab"], [tuple(merge) for merge in model["merges"]], CONFIG)


def random_prompts(words: list[str]) -> list[str]:
    """Few enough characters that none has more than the 75 tokens of the context, at 4 bytes a character."""
    rng = random.Random(0)
    some = lambda draw, most=15: "".join(draw() for _ in range(rng.randint(0, most)))
    ascii_ = lambda: chr(rng.randint(0x20, 0x7E))
    # Latin to CJK, emoji, and anything at all but surrogates, which are not text
    character = lambda: chr(rng.choice([rng.randint(0xA0, 0x9FFF), rng.randint(0x1F300, 0x1FAFF)]))
    anything = lambda: chr(rng.choice([rng.randint(0, 0xD7FF), rng.randint(0xE000, 0x10FFFF)]))
    word = lambda: (
        rng.choice([str.lower, str.upper, str.title])(rng.choice(words)) + rng.choice([" ", "  ", ",\t", "\n"])
    )
    return (
        [some(ascii_) for _ in range(100)]
        + [some(character) for _ in range(100)]
        + [some(anything) for _ in range(100)]
        + [some(word) for _ in range(100)]
    )


SPECIAL_CASES = [
    "",
    " ",
    "\t\n \u00a0\u3000",
    " a cat ",
    "A CAT'S HAT, it's; they'll 'RE",
    "x2 10 1000 ½ ٣",
    "cafe\u0301 café CAFÉ",
    "ΟΔΟΣ İstanbul straße ﬁ Ａ",
    "👩\u200d🚀🇫🇷☂\ufe0f",
    "a <|endoftext|> b<|startoftext|>",
    "a <|ENDOFTEXT|> b",
    "cat</w> </w>",
    "\x00\x7f\u200b\ufeff",
    "l'été aujourd'hui",
]


def test_ids_and_offsets_equal_transformers(ours, theirs, model):
    words = [entry.removesuffix("</w>") for entry in model["vocab"] if entry.isascii() and entry.endswith("</w>")]
    prompts = SPECIAL_CASES + random_prompts(words)
    expected = theirs(prompts, padding="max_length", max_length=CONFIG.length, return_offsets_mapping=True)
    assert len(set(prompts)) > 350
    for prompt, ids, offsets in zip(prompts, expected["input_ids"], expected["offset_mapping"], strict=True):
        tokens = ours.encode(prompt)
        assert list(tokens.ids) == ids, prompt
        # special tokens that were typed have no span with us
        spans = [(0, 0) if id in (BOS, EOS) else tuple(offset) for id, offset in zip(ids, offsets, strict=True)]
        assert list(tokens.spans) == spans, prompt


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
def test_padding_and_spans_are_as_written_here(ours, prompt, words):
    tokens = ours.encode(prompt)
    padding = 77 - 2 - len(words)
    assert tokens.prompt == prompt
    assert tokens.ids == (BOS, *(id for id, _, _ in words), EOS, *[EOS] * padding)
    assert tokens.spans == ((0, 0), *((start, end) for _, start, end in words), (0, 0), *[(0, 0)] * padding)
    assert tokens.pieces == ("BOS", *(prompt[start:end] for _, start, end in words), "EOS", *["PAD"] * padding)
    assert tokens.count == len(words) + 2
