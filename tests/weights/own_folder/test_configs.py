"""Configurations and tokenizers that come with a model: read again as they were written, or refused."""

import dataclasses

import pytest
import tokenizers

from ldm.config import ModelConfig
from ldm.presets import PRESETS
from tests.support.model_files import TOKENIZER, refused
from tests.support.tensor_files import HTML
from weights.load import load

CONFIG = "config.json"


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_the_round_trip_through_json(name):
    config = PRESETS[name]
    again = ModelConfig.from_json(config.to_json())
    assert again == config and hash(again) == hash(config) and config.name == name  # lists came back as tuples
    other = dataclasses.replace(config, unet=dataclasses.replace(config.unet, mid=not config.unet.mid))
    assert ModelConfig.from_json(other.to_json()) == other != config


def test_a_config_with_the_former_names_of_fields_is_read(folder, change):
    def edit(fields):
        for part in ("unet", "autoencoder"):
            fields[part]["widths"] = fields[part].pop("channels")
        fields["schedule"]["betas"] = fields["schedule"].pop("beta_schedule")

    now = ModelConfig.from_json((folder / CONFIG).read_bytes())
    assert load(change(edit, CONFIG)).config == now


def test_a_name_in_a_config_is_escaped(change):
    refused(r"'\\x1b\[2J' is 1: Unexpected", change(lambda fields: fields.update({"\x1b[2J": 1}), CONFIG))

    def edit(fields):
        fields["name"], fields["unet"]["mid"] = fields.popitem()[0], False

    assert "\x1b" not in refused("do not fit", change(edit, CONFIG))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"null", b'"stickers"', b"{}", HTML, b"\xff\xfe\x00"])
def test_a_config_that_is_not_one_is_refused(folder, text):
    (folder / CONFIG).write_bytes(text)
    refused("config.json", folder)


@pytest.mark.parametrize(
    "part, change_of, said",  # of which part, what is changed, ... for taken out; more in diffusers_folder
    [
        (None, dict(colour="red"), "colour"),
        (None, dict(name=...), "name"),
        (None, dict(text=None), "attends to tokens of width 32"),
        (None, dict(image_size="x"), "image_size"),
        ("unet", dict(widths=[64, 64]), "widths"),
        ("unet", dict(attention=[True]), "attention names 1 levels, channels 2"),
        ("unet", dict(heads=[2, 2]), "exactly one of heads .* and head_size"),
        ("unet", dict(channels="ab"), "unet.channels"),
        ("unet", dict(channels=[], attention=[]), "a model has 1 to 16 levels, channels names 0"),
        ("autoencoder", dict(scale=10**400), "latents cannot be scaled by inf"),
        ("text", dict(vocabulary=10**30), "vocabulary must lie in 1..1048576"),
        ("text", dict(width=32, hidden=32), "do not fit 'tiny'"),
        ("text", dict(vocabulary=600), "do not fit 'tiny'"),
        ("schedule", dict(parameterisation="V"), "'eps' or 'v'"),
    ],
)
def test_a_config_with_fields_that_do_not_fit_is_refused(change, nothing_is_read, part, change_of, said):
    def edit(fields):
        fields = fields[part] if part else fields
        fields.update(change_of)
        for key in [key for key, value in change_of.items() if value is ...]:
            del fields[key]

    refused(said, change(edit, CONFIG))


def test_a_model_without_prompts_is_none_of_ours(change, nothing_is_read):
    def edit(fields):
        fields["text"] = fields["unet"]["context_width"] = None

    refused("config.json: it is no model of ours", change(edit, CONFIG))


@pytest.mark.parametrize(
    "junk", [b"", b"{}", b"\xff\xfe", HTML, b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_a_damaged_tokenizer_is_refused(folder, junk):
    (folder / "tokenizer.json").write_bytes(junk)
    refused(r"tokenizer\.json is not a tokenizer\.json|the tokenizer has no token", folder)


@pytest.mark.parametrize(
    "edit, said",
    [
        (
            lambda fields: fields["model"]["vocab"].update({"!": 100_000}),
            "an entry of the id 100000, the config has 723",
        ),
        (lambda fields: fields["post_processor"]["sep"].__setitem__(1, 100_000), r"the tokens \[721, 100000\] around"),
        (lambda fields: fields["model"]["vocab"].update({"more": 723}), "has 724 entries, the text encoder 723"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(edit, said, change):
    refused(said, change(edit, "tokenizer.json"))


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
