"""Tokens that were added to a tokenizer, as learned concepts are: ids, spans and latents equal the libraries'."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import CLIPTokenizer

from tests.support.model_files import refused
from tests.support.public_files import write_folder
from tests.support.public_json import TEXT, small_clip
from tests.support.public_models import public
from weights.load import load

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

FIRST = len(small_clip()[0])  # the id of the first added token
TOY = "<cat-toy>"
PROMPTS = [
    "a photo of <cat-toy>",
    "a <Cat-Toy>s",
    "a<cat-toy>cat",
    "<cat-toy>  <cat-toy>, <cat toy>",
    "a <|STARTOFTEXT|> b <|endoftext|>",
]
FLAGS = dict(lstrip=False, rstrip=False, single_word=False, normalized=True, special=False)
SPECIAL = FLAGS | dict(normalized=False, special=True)


def named_by_itself(tokenizer: Path) -> None:
    """As transformers wrote until 4.33."""
    (tokenizer / "added_tokens.json").write_text(json.dumps({TOY: FIRST}))


def named_as_special(tokenizer: Path) -> None:
    named_by_itself(tokenizer)
    change(tokenizer / "special_tokens_map.json", additional_special_tokens=[TOY])


def decoder(tokenizer: Path, **flags) -> None:
    """As from 4.34 on, with the special tokens among them, of which only one may be written in upper case."""
    tokens = {FIRST - 2: FLAGS | {"content": "<|startoftext|>", "special": True}}
    tokens |= {FIRST - 1: SPECIAL | {"content": "<|endoftext|>"}, FIRST: FLAGS | {"content": TOY} | flags}
    change(tokenizer / "tokenizer_config.json", added_tokens_decoder=tokens)


def written_today(tokenizer: Path) -> None:
    """By transformers 5: tokenizer.json and its configuration alone."""
    theirs = CLIPTokenizer.from_pretrained(tokenizer)
    theirs.add_tokens(TOY)
    for file in tokenizer.iterdir():
        file.unlink()
    theirs.save_pretrained(tokenizer)
    assert {file.name for file in tokenizer.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}


HOW = {
    "added_tokens.json": named_by_itself,
    "additional_special_tokens": named_as_special,
    "added_tokens_decoder": decoder,
    "special": lambda tokenizer: decoder(tokenizer, special=True, normalized=False),
    "a word, with the blank before it": lambda tokenizer: decoder(tokenizer, single_word=True, lstrip=True),
    "tokenizer.json": written_today,
}


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def written(folder: Path, how, rows: int = 1) -> Path:
    """The small Stable Diffusion 1 with so many rows more in its table of embeddings."""
    write_folder(public("sd1"), folder)
    change(folder / TEXT, vocab_size=FIRST + rows)
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    name = "text_model.embeddings.token_embedding.weight"
    more = torch.randn(rows, tensors[name].shape[1], generator=torch.Generator().manual_seed(1))
    save_file(tensors | {name: torch.cat([tensors[name], more])}, file, metadata={"format": "pt"})
    how(folder / "tokenizer")
    return folder


@pytest.mark.parametrize("how", HOW)
def test_added_tokens_have_the_ids_and_spans_of_transformers(how, tmp_path):
    path = written(tmp_path, HOW[how])
    ours, theirs = load(path).tokenizer, CLIPTokenizer.from_pretrained(path / "tokenizer")
    for prompt in PROMPTS:
        tokens, expected = ours.encode(prompt), theirs(prompt, return_offsets_mapping=True)
        assert list(tokens.ids[: tokens.count]) == expected["input_ids"], prompt
        special = {ours.bos, ours.eos}
        for id, span, other in zip(tokens.ids, tokens.spans, expected["offset_mapping"]):
            assert id in special or span == tuple(other), prompt
    assert ours.encode(PROMPTS[0]).ids[:8].count(FIRST) == 1


@pytest.mark.parametrize("how", [lambda folder: None, decoder], ids=["none added", "added_tokens_decoder"])
def test_of_two_paddings_the_right_files_counts(how, tmp_path):
    """special_tokens_map.json, as for Stable Diffusion 2, unless tokenizer_config.json lists the added tokens."""
    path = written(tmp_path, how, rows=int(how is decoder))
    change(path / "tokenizer" / "special_tokens_map.json", pad_token="!")
    theirs = CLIPTokenizer.from_pretrained(path / "tokenizer")
    assert theirs.pad_token == ("<|endoftext|>" if how is decoder else "!")
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


@pytest.mark.parametrize("rows, how", [(1, lambda folder: None), (0, named_by_itself), (3, named_by_itself)])
def test_as_many_entries_as_embeddings(rows, how, tmp_path):
    refused("the tokenizer's vocabulary has 81[45] entries, the text encoder 81[457] emb", written(tmp_path, how, rows))


@pytest.mark.parametrize("id", [FIRST + 1, FIRST - 1, 5, -1])
def test_an_added_token_has_the_next_id(id, tmp_path):
    """Another, transformers passes over and counts on."""
    tokens = lambda folder: (folder / "added_tokens.json").write_text(json.dumps({TOY: id}))
    refused(f"the added token '<cat-toy>' has the id {id}; the next one is {FIRST}", written(tmp_path, tokens))


@pytest.mark.parametrize(
    "file, values, said",
    [
        ("added_tokens.json", {"<a>": "b"}, "added_tokens.json: '<a>' is 'b'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, "tokenizer_config.json: invalid literal"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {}}}, "tokenizer_config.json lacks 'content'"),
        ("tokenizer.json", {"model": {}}, "is not a tokenizer.json"),
        ("tokenizer_config.json", {"padding_side": "left"}, "'padding_side' is 'left'"),
        ("tokenizer_config.json", {"split_special_tokens": True}, "'split_special_tokens' is True"),
        ("tokenizer_config.json", {"eos_token": "!"}, "'eos_token' is '!'"),
        ("tokenizer_config.json", {"model_max_length": 40}, "'model_max_length' is 40; the text encoder's is 77"),
    ],
)
def test_a_tokenizers_settings_are_honoured_or_refused(file, values, said, tmp_path):
    def how(folder: Path) -> None:
        if file.endswith("config.json"):
            (folder / "special_tokens_map.json").unlink()
            change(folder / file, **values)
        else:
            (folder / file).write_text(json.dumps(values))

    assert refused(said, written(tmp_path, how, 0)).count("\n") == 0


@pytest.mark.parametrize(
    "values", [dict(do_lower_case=False), dict(strip_accents=False), dict(tokenize_chinese_chars=False)]
)
def test_settings_of_berts_tokenizer_are_honoured_or_refused(values, tmp_path):
    path = write_folder(public("text2im"), tmp_path, ".bin")
    (path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(values))
    refused("which the tokenizer here does not have", path)
