"""Tokens that were added to a tokenizer, as learned concepts are: ids, spans and contexts equal the libraries'."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import CLIPTokenizer

from tests.support.model_files import refused
from tests.support.public_json import TEXT, small_clip
from weights.load import load

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FIRST = len(small_clip()[0])  # the id of the first added token
TOY = "<cat-toy>"
PROMPTS = ["a photo of <cat-toy>", "a <Cat-Toy>s", "a<cat-toy>cat", "<cat-toy>  <cat-toy>, <cat toy>"]
PROMPTS += ["a <|STARTOFTEXT|> b <|endoftext|>"]
FLAGS = dict(lstrip=False, rstrip=False, single_word=False, normalized=True, special=False)
ADDED, SPECIAL, CONFIG = "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"


def decoder(**flags: bool) -> dict:
    """With the special tokens in it, of which only one may be written in upper case."""
    tokens = {FIRST - 2: {"content": "<|startoftext|>", "special": True}, FIRST: {"content": TOY} | flags}
    tokens[FIRST - 1] = {"content": "<|endoftext|>", "normalized": False, "special": True}
    return {CONFIG: {"added_tokens_decoder": {id: FLAGS | token for id, token in tokens.items()}}}


ALONE = {ADDED: {TOY: FIRST}}
HOW = {  # what is in which file
    "until transformers 4.33": ALONE,
    "the same, special": ALONE | {SPECIAL: {"additional_special_tokens": [TOY]}},
    "the same, by its later name": ALONE | {CONFIG: {"extra_special_tokens": [TOY]}},
    "special tokens in any case": ALONE | {SPECIAL: {"bos_token": FLAGS | {"content": "<|startoftext|>"}}},
    "from transformers 4.34": decoder(),
    "the same as special": decoder(special=True, normalized=False),
    "a word, with the blank before it": decoder(single_word=True, lstrip=True),
}


def change(path: Path, values: dict) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))


@pytest.fixture
def write(copied):
    def write(how: dict[str, dict], rows: int = 1) -> Path:
        """The small Stable Diffusion 1 with so many rows more in its table of embeddings."""
        path = copied("sd1")
        change(path / TEXT, {"vocab_size": FIRST + rows})
        file, name = path / "text_encoder/model.safetensors", "text_model.embeddings.token_embedding.weight"
        tensors = load_file(file)
        more = torch.randn(rows, tensors[name].shape[1], generator=torch.Generator().manual_seed(1))
        save_file(tensors | {name: torch.cat([tensors[name], more])}, file, metadata={"format": "pt"})
        for file, values in how.items():
            change(path / "tokenizer" / file, values)
        return path

    return write


def assert_spans_equal(path: Path) -> None:
    ours, theirs = load(path).tokenizer, CLIPTokenizer.from_pretrained(path / "tokenizer")
    for prompt in PROMPTS:
        tokens, expected = ours.encode(prompt), theirs(prompt, return_offsets_mapping=True)
        assert list(tokens.ids[: tokens.count]) == expected["input_ids"], prompt
        for id, span, other in zip(tokens.ids, tokens.spans, expected["offset_mapping"]):
            assert id in {ours.bos, ours.eos} or span == tuple(other), prompt
    assert ours.encode(PROMPTS[0]).ids[:8].count(FIRST) == 1


@pytest.mark.parametrize("how", HOW)
def test_added_tokens_have_the_ids_and_spans_of_transformers(how, write):
    assert_spans_equal(write(HOW[how]))


def test_a_tokenizer_that_transformers_writes_today_is_the_same(write):
    """tokenizer.json and its configuration alone."""
    path = write({})
    theirs = CLIPTokenizer.from_pretrained(path / "tokenizer")
    theirs.add_tokens(TOY)
    for file in (path / "tokenizer").iterdir():
        file.unlink()
    theirs.save_pretrained(path / "tokenizer")
    assert {file.name for file in (path / "tokenizer").iterdir()} == {"tokenizer.json", CONFIG}
    assert_spans_equal(path)


@pytest.mark.parametrize("how, pad", [({}, "!"), (decoder(), "<|endoftext|>")], ids=["none added", "decoder"])
def test_of_two_paddings_the_right_files_counts(how, pad, write):
    """special_tokens_map.json, as for Stable Diffusion 2, unless tokenizer_config.json lists the added tokens."""
    path = write(how | {SPECIAL: {"pad_token": "!"}}, rows=len(how))
    theirs = CLIPTokenizer.from_pretrained(path / "tokenizer")
    assert theirs.pad_token == pad
    expected = theirs("a cat", padding="max_length", max_length=77)["input_ids"]
    assert list(load(path).tokenizer.encode("a cat").ids) == expected


@torch.no_grad()
def test_an_embedding_that_diffusers_saved_is_one_word(folder, tmp_path):
    """The advice for an embedding, followed: diffusers adds it to a model, and writes the folder that is read here. Of
    several vectors the first token stands for all in a prompt."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder("sd1"), safety_checker=None, feature_extractor=None)
    pipeline.load_textual_inversion({TOY: torch.randn(2, 32, generator=torch.Generator().manual_seed(1))})
    pipeline.save_pretrained(tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None, feature_extractor=None)
    model, prompt = load(tmp_path), PROMPTS[0]
    encoded = model.tokenizer.encode(prompt)
    learned = [(id, encoded.spans[i]) for i, id in enumerate(encoded.ids) if id >= FIRST]
    assert learned == [(FIRST, (11, 20)), (FIRST + 1, (11, 20))]
    expected, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
    # float32 in two layers, of order 1; without the token they differ by whole units
    assert_close(model.encode_prompts([prompt]), expected, rtol=0, atol=1e-5)


COUNT = "the tokenizer's vocabulary has 81[45] entries, the text encoder 81[457] emb"


@pytest.mark.parametrize(
    "rows, how, said",
    [
        *[(1, {}, COUNT), (0, ALONE, COUNT), (3, ALONE, COUNT)],
        # an id other than the next one transformers passes over, and counts on
        *[(1, {ADDED: {TOY: id}}, f"'{TOY}' has the id {id}; the next one is {FIRST}") for id in (FIRST + 1, 5, -1)],
        (0, {ADDED: {"<a>": "b"}}, "added_tokens.json: '<a>' is 'b'"),
        (0, {CONFIG: {"added_tokens_decoder": {"x": {}}}}, "tokenizer_config.json: invalid literal"),
        (0, {CONFIG: {"added_tokens_decoder": {"9": {}}}}, "tokenizer_config.json lacks 'content'"),
        (0, {SPECIAL: {"extra_special_tokens": 5}}, "tokenizer_config.json: .* iterable"),
        (0, {"tokenizer.json": {"model": {}}}, "is not a tokenizer.json"),
        (0, {SPECIAL: {"padding_side": "left"}}, "'padding_side' is 'left'"),
        (0, {SPECIAL: {"split_special_tokens": True}}, "'split_special_tokens' is True"),
        (0, {SPECIAL: {"eos_token": "!"}}, "'eos_token' is '!'"),
        (0, {SPECIAL: {"model_max_length": 40}}, "'model_max_length' is 40; the text encoder's is 77"),
    ],
)
def test_what_does_not_fit_a_tokenizer_is_refused(rows, how, said, write):
    assert "\n" not in refused(said, write(how, rows))


@pytest.mark.parametrize("key, value", {"do_lower_case": False, "strip_accents": False, "padding_side": "left"}.items())
def test_settings_of_berts_tokenizer_are_honoured_or_refused(key, value, copied):
    path = copied("text2im")
    change(path / "tokenizer" / CONFIG, {key: value})
    refused(f"'{key}' is {value!r}, which no tokenizer here has", path)
