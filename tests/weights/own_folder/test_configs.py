"""Configurations and tokenizers that come with a model: read again as they were written, or refused."""

import dataclasses
import json
from pathlib import Path

import pytest
import tokenizers

from ldm.config import ModelConfig
from ldm.presets import PRESETS
from tests.support.model_files import TOKENIZER, refused
from tests.support.tensor_files import HTML
from weights.load import load

# ---------------------------------------------------------------------------------------------------------------------
# configurations


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_the_round_trip_through_json(name):
    config = PRESETS[name]
    again = ModelConfig.from_json(config.to_json())
    assert again == config
    assert hash(again) == hash(config)  # lists came back as tuples
    assert config.name == name


def test_another_config_is_another_json():
    config = PRESETS["stickers"]
    other = dataclasses.replace(config, unet=dataclasses.replace(config.unet, linear_projection=True))
    assert ModelConfig.from_json(other.to_json()) == other != config


def test_a_config_with_the_former_names_of_fields_is_read(folder, change_config):
    def edit(fields):
        for part in ("unet", "autoencoder"):
            fields[part]["widths"] = fields[part].pop("channels")
        fields["schedule"]["betas"] = fields["schedule"].pop("beta_schedule")

    now = ModelConfig.from_json((folder / "config.json").read_bytes())
    assert load(change_config(edit)).config == now


def test_a_config_with_a_field_by_both_names_is_refused(change_config):
    refused("widths", change_config(lambda fields: fields["unet"].update({"widths": [64, 64]})))


def test_a_name_in_a_config_is_escaped(change_config):
    message = refused("config.json", change_config(lambda fields: fields.update({"\x1b[2J": 1})))
    assert "\x1b" not in message and r"'\x1b[2J' is 1: Unexpected" in message

    def edit(fields):
        del fields["\x1b[2J"]
        fields["name"], fields["unet"]["mid"] = "\x1b[2J", False

    message = refused("do not fit", change_config(edit))
    assert "\x1b" not in message


def test_a_model_without_prompts_is_none_of_ours(change_config, nothing_is_read):
    def edit(fields):
        fields["text"] = fields["unet"]["context_width"] = None

    refused("config.json is no model of ours: they all read prompts by CLIP's text encoder", change_config(edit))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"null", b'"stickers"', b"{}", HTML, b"\xff\xfe\x00"])
def test_a_config_that_is_not_one_is_refused(folder, text):
    (folder / "config.json").write_bytes(text)
    refused("config.json", folder)


MISFITS = [  # of which part, what is changed, ... for taken out, and what is said; more in diffusers_folder
    ("", dict(colour="red"), "colour"),
    ("", dict(name=...), "name"),
    ("", dict(text=...), "text"),
    ("", dict(text=None), "attends to tokens of width 32"),
    ("", dict(image_size="x"), "image_size"),
    ("unet", dict(colour="red"), "unet.colour"),
    ("unet", dict(attention=[True]), "attention names 1 levels, channels 2"),
    ("unet", dict(heads=[2, 2]), "exactly one of heads .* and head_size"),
    ("unet", dict(head_size=0), "exactly one of heads .* and head_size"),
    ("unet", dict(channels="ab"), "unet.channels"),
    ("unet", dict(channels=[], attention=[]), "a model has 1 to 16 levels, channels names 0"),
    ("autoencoder", dict(scale=10**400), "latents cannot be scaled by inf"),
    ("text", dict(vocabulary=10**30), "vocabulary must lie in 1..1048576"),
    ("schedule", dict(parameterisation="V"), "'eps' or 'v'"),
]


@pytest.mark.parametrize("part, change, match", MISFITS)
def test_a_config_with_fields_that_do_not_fit_is_refused_by_name(change_config, part, change, match):
    def edit(fields):
        fields = fields[part] if part else fields
        fields.update(change)
        for key in [key for key, value in change.items() if value is ...]:
            del fields[key]

    refused(match, change_config(edit))


# ---------------------------------------------------------------------------------------------------------------------
# tokenizers


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"{}", b"\xff\xfe", HTML, b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_a_damaged_tokenizer_is_refused(folder, junk):
    (folder / "tokenizer.json").write_bytes(junk)
    refused(r"tokenizer\.json is not a tokenizer\.json|the tokenizer has no token", folder)


@pytest.fixture
def change_tokenizer(folder):
    """Writes tokenizer.json again, with its JSON changed."""

    def change(edit) -> Path:
        path = folder / "tokenizer.json"
        fields = json.loads(path.read_text(encoding="utf-8"))
        edit(fields)
        path.write_text(json.dumps(fields), encoding="utf-8")
        return folder

    return change


def test_a_tokenizer_that_cuts_and_fills_prompts_does_neither(tiny, folder):
    backend = tokenizers.Tokenizer.from_file(str(TOKENIZER))
    backend.enable_truncation(4)
    backend.enable_padding(length=9, pad_id=5)
    backend.save(str(folder / "tokenizer.json"))
    prompt = "a photo of a cat"
    assert len(backend.encode(prompt).ids) == 9  # it does something
    words = load(folder).tokenizer
    assert words.encode(prompt) == tiny.tokenizer.encode(prompt)
    with pytest.raises(ValueError, match="the model's context holds 30"):
        words.encode("cat " * 31)


def test_a_tokenizer_with_an_id_beyond_the_vocabulary_is_refused(change_tokenizer):
    edit = lambda fields: fields["model"]["vocab"].update({"!": 100_000})
    refused("has an entry of the id 100000, the config has 723 ids from 0", change_tokenizer(edit))


def test_a_tokenizer_with_other_special_tokens_is_refused(change_tokenizer):
    edit = lambda fields: fields["post_processor"]["sep"].__setitem__(1, 100_000)
    refused(r"puts the tokens \[721, 100000\] around a prompt, not BOS and EOS: 721, 722", change_tokenizer(edit))


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny, change_config, change_tensors):
    change_config(lambda fields: fields["text"].update(vocabulary=600))
    name = "text_encoder.embeddings.token_embedding.weight"
    refused("vocabulary", change_tensors(lambda tensors: tensors.update({name: tensors[name][:600].clone()})))
