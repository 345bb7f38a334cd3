"""Loading is a contract: the model that was saved, to the bit, or one ValueError that says what does not fit."""

import dataclasses
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_model
from safetensors.torch import load_file, save_file

import weights.stickers
from ldm.config import PRESETS, ModelConfig
from ldm.pipeline import LatentDiffusion
from weights.load import SHIPPED, fill, load

PARTS = ("text_encoder", "unet", "autoencoder")
FILES = ("config.json", "tokenizer.json", "model.safetensors")
TOKENIZER = Path(weights.stickers.__file__).parent / "tokenizer.json"


def tensors_of(model: LatentDiffusion) -> dict[str, torch.Tensor]:
    """All parameters, under the names that a model's file has."""
    return {
        f"{part}.{name}": tensor.contiguous()
        for part in PARTS
        for name, tensor in getattr(model, part).state_dict().items()
    }


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory) -> Path:
    """The tiny random model as a folder; not to be written to."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "config.json").write_text(tiny.config.to_json(), encoding="utf-8")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    save_file(tensors_of(tiny), folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture
def change_tensors(folder):
    """Writes the model's file again, with its dictionary of tensors changed."""

    def change(edit) -> Path:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return change


@pytest.fixture
def change_config(folder):
    """Writes config.json again, with its JSON changed."""

    def change(edit) -> Path:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        edit(fields)
        (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
        return folder

    return change


# ---------------------------------------------------------------------------------------------------------------------
# what is loaded is what was saved


def test_a_loaded_model_gives_the_originals_outputs_to_the_bit(tiny, saved):
    model = load(saved)
    prompts, seeds = ["a photo of a cat", "a painting of a red umbrella"], [1, 2]
    assert torch.equal(model.encode_prompts(prompts), tiny.encode_prompts(prompts))
    pictures = tiny.generate(prompts, seeds, steps=2)
    np.testing.assert_array_equal(model.generate(prompts, seeds, steps=2), pictures)
    assert torch.equal(model.encode_pictures(pictures), tiny.encode_pictures(pictures))
    assert len(np.unique(pictures)) > 50  # not two blank pictures that agree


def test_every_parameter_is_loaded_and_ready_for_use(tiny, saved):
    model = load(str(saved))
    assert model.config == tiny.config
    original = tensors_of(tiny)
    for part in PARTS:
        module = getattr(model, part)
        assert not module.training
        for name, parameter in module.named_parameters():
            assert torch.equal(parameter, original[f"{part}.{name}"]), name
            assert parameter.device.type == "cpu" and not parameter.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_is_the_one_asked_for_whatever_the_files(tiny, change_tensors, dtype):
    half = {name: tensor.half() for name, tensor in tensors_of(tiny).items()}
    model = load(change_tensors(lambda tensors: tensors.update(half)), dtype=dtype)
    assert model.dtype == getattr(torch, dtype)
    for name, tensor in tensors_of(model).items():
        assert torch.equal(tensor, half[name].to(getattr(torch, dtype))), name


def test_a_model_in_bfloat16_makes_pictures(saved):
    assert load(saved, dtype="bfloat16").generate(["a cat"], [0], steps=2).shape == (1, 32, 32, 3)


def test_a_name_stands_for_the_shipped_folder(saved, monkeypatch):
    monkeypatch.setitem(SHIPPED, "stickers", saved)
    assert load().config.name == load("stickers").config.name == "tiny"


def test_loading_again_does_not_share_parameters(saved):
    first, second = load(saved), load(saved)
    first.unet.conv_in.weight.data.zero_()
    assert second.unet.conv_in.weight.abs().max() > 0


# ---------------------------------------------------------------------------------------------------------------------
# everything else is refused


def refused(match: str, *args, **kwargs) -> str:
    """The message of the one ValueError that loading raises: a plain one, and not a subclass that slipped through."""
    with pytest.raises(ValueError, match=match) as error:
        load(*args, **kwargs)
    assert error.type is ValueError
    return str(error.value)


def test_an_unknown_name_is_refused_with_the_known_ones():
    message = refused("no model 'sticker'", "sticker")
    assert all(name in message for name in SHIPPED)


def test_a_file_in_place_of_a_folder_is_refused(saved):
    refused("no model .*model.safetensors", saved / "model.safetensors")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert refused("lacks", folder).endswith(f"lacks {name}")


def test_all_missing_files_are_named_at_once(tmp_path):
    assert refused("lacks", tmp_path).endswith("lacks " + ", ".join(FILES))


def test_a_folder_in_place_of_a_file_is_a_missing_file(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    refused("lacks model.safetensors", folder)


HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:4],
        lambda whole: whole[:1000],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: bytes(8) + whole[8:],
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: b"\x93" * 5000,
        lambda whole: HTML,
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n",
    ],
    ids=["empty", "four", "1000 bytes", "half", "one less", "one more", "no size", "huge", "junk", "html", "pointer"],
)
def test_a_damaged_file_of_tensors_is_refused(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refused("is damaged or not a safetensors file", folder)


class Trap:
    """Unpickled, it creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [lambda trap, path: path.write_bytes(pickle.dumps(trap)), torch.save])
def test_a_pickle_is_refused_and_not_run(folder, tmp_path, write):
    write(Trap(tmp_path / "sprung"), folder / "model.safetensors")
    refused("is damaged or not a safetensors file", folder)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap does work


def test_a_missing_tensor_is_named(change_tensors):
    message = refused("do not fit the model", change_tensors(lambda tensors: tensors.pop("unet.conv_in.bias")))
    assert "1 missing: unet.conv_in.bias" in message
    assert "left over" not in message and "wrong shape" not in message


def test_an_extra_tensor_is_named(change_tensors):
    extra = {"unet.conv_in.scale": torch.ones(3)}
    message = refused("do not fit the model", change_tensors(lambda tensors: tensors.update(extra)))
    assert "1 left over: unet.conv_in.scale" in message
    assert "missing" not in message and "wrong shape" not in message


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (32, 4, 9), (4, 32, 3, 3), ()])
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(change_tensors, shape):
    """One that would broadcast, one with as many numbers, a transposed one, a scalar."""
    wrong = {"unet.conv_in.weight": torch.zeros(shape)}
    message = refused("do not fit the model", change_tensors(lambda tensors: tensors.update(wrong)))
    assert f"1 of the wrong shape: unet.conv_in.weight {shape} instead of (32, 4, 3, 3)" in message


def test_all_that_does_not_fit_is_said_at_once(change_tensors):
    def edit(tensors):
        for name in [name for name in tensors if name.startswith("text_encoder.")]:
            del tensors[name]
        tensors["extra"] = torch.ones(1)
        tensors["unet.conv_out.bias"] = torch.ones(3)

    message = refused("do not fit the model", change_tensors(edit))
    assert ", ...\n" in message  # a long list is cut
    assert "1 left over: extra" in message
    assert "1 of the wrong shape: unet.conv_out.bias (3,) instead of (4,)" in message


def test_tensors_that_do_not_fit_leave_the_model_as_it_was(tiny):
    model = random_model(tiny.config, tiny.tokenizer)
    before = {name: tensor.clone() for name, tensor in model.unet.state_dict().items()}
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    tensors["conv_in.weight"] = torch.zeros(1)
    with pytest.raises(ValueError):
        fill(model.unet, tensors, Path("elsewhere.safetensors"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.unet.state_dict().items())


def test_the_weights_of_a_model_of_another_size_are_refused(change_config):
    refused("do not fit the model", change_config(lambda fields: fields["text"].update(width=32, hidden=32)))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"stickers"', "{}", HTML.decode()])
def test_a_config_that_is_not_one_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="utf-8")
    refused("not a model configuration", folder)


def test_a_config_that_is_not_text_is_refused(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    refused("not a model configuration", folder)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda fields: fields.update(colour="red"), "colour"),
        (lambda fields: fields["unet"].update(colour="red"), "colour"),
        (lambda fields: fields["unet"].update(attention=[True]), "attention names 1 levels, widths 2"),
        (lambda fields: fields["unet"].update(heads=[2, 2]), "either heads .* or head_size"),
        (lambda fields: fields.pop("name"), "name"),
        (lambda fields: fields.pop("text"), "text"),
        (lambda fields: fields.update(text=None), "not a model configuration"),
        (lambda fields: fields["schedule"].update(parameterisation="V"), "'eps' or 'v'"),
        (lambda fields: fields["text"].update(activation="relu"), "quick_gelu"),
        (lambda fields: fields["text"].update(heads=3), "width 32 cannot have 3 heads"),
        (lambda fields: fields["schedule"].update(T="x"), "schedule.T"),
        (lambda fields: fields["unet"].update(widths="ab"), "unet.widths"),
        (lambda fields: fields["unet"].update(head_size=0), "either heads .* or head_size"),
        (lambda fields: fields.update(image_size="x"), "image_size"),
    ],
    ids=[
        *("unknown field", "unknown field of a part", "levels", "heads", "no name", "no part", "null part"),
        *("parameterisation", "activation", "text heads", "T", "widths", "head size", "image size"),
    ],
)
def test_a_config_with_fields_that_do_not_fit_is_refused_by_name(change_config, edit, match):
    refused(match, change_config(edit))


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"{}", b"\xff\xfe", HTML, b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_a_damaged_tokenizer_is_refused(folder, junk):
    (folder / "tokenizer.json").write_bytes(junk)
    refused(r"tokenizer\.json is not a tokenizer\.json|the tokenizer has no token", folder)


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny, change_config, change_tensors):
    change_config(lambda fields: fields["text"].update(vocabulary=600))
    name = "text_encoder.embeddings.token_embedding.weight"
    refused("vocabulary", change_tensors(lambda tensors: tensors.update({name: tensors[name][:600].clone()})))


@pytest.mark.parametrize("dtype", ["float64", "int8", "half", ""])
def test_an_unknown_dtype_is_refused_with_the_known_ones(saved, dtype):
    message = refused("no dtype", saved, dtype=dtype)
    assert all(known in message for known in ("float32", "bfloat16", "float16"))


def test_an_unknown_device_is_refused(saved):
    refused("no device 'gpu' here", saved, device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_here_is_refused(saved):
    refused("no device 'cuda' here", saved, device="cuda")


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
