"""Loading is a contract: the model that was saved, to the bit, or one ValueError that says what does not fit."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file

import weights.stickers
from ldm.config import PRESETS, ModelConfig
from ldm.pipeline import LatentDiffusion
from weights import load as loading
from weights.checkpoints import CHECKPOINTS
from weights.load import SHIPPED, load, load_autoencoder, load_clip
from weights.stored import TensorFile

PARTS = ("text_encoder", "unet", "autoencoder")
FILES = ("config.json", "tokenizer.json", "model.safetensors")
BIAS = "unet.conv_in.bias"
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


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Of tensors: what is wrong shows before."""
    monkeypatch.setattr(TensorFile, "read", lambda *_: pytest.fail("tensors are read"))


@pytest.mark.parametrize("name", ["sticker", "sd", "no/such/folder", "sd99=file.ckpt", "sd-vae-ft-mse=file.ckpt"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    message = refused(f"no model '{name}'", name)
    assert all(known in message for known in [*PRESETS, "PRESET=FILE"])


@pytest.fixture
def nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(loading, "fetched", lambda name: pytest.fail(f"{name} is fetched"))


def test_a_missing_file_of_a_named_preset_is_said_to_be_missing(tmp_path, nothing_is_fetched):
    refused("there is no file 'no/such.ckpt', which 'sd15=no/such.ckpt' says to be sd15", "sd15=no/such.ckpt")
    assert refused("is a folder, which says itself what it is", f"sd15={tmp_path}").endswith("without sd15=")


@pytest.mark.parametrize(
    "loader, name, said",
    [
        (
            load,
            "sd-vae-ft-mse",
            "an autoencoder alone, which `weights.load.load_autoencoder` loads, not a model: give sd1",
        ),
        (load, "clip-vit-l", "a CLIP, which `weights.load.load_clip` loads, not a model: give sd14 or sd15 or "),
        (load, "clip-tokenizer", "a tokenizer alone, not a model: give sd14 or sd15 or "),
        (
            load_autoencoder,
            "sd15",
            "a model, which `weights.load.load` loads, not an autoencoder alone: give sd-vae-ft-mse,",
        ),
        (load_autoencoder, "stickers", "a model, which `weights.load.load` loads, not an autoencoder alone"),
        (load_clip, "sd15", "a model, which `weights.load.load` loads, not a CLIP: give clip-vit-l, or a path"),
    ],
)
def test_a_name_of_another_kind_is_refused_before_it_is_fetched(loader, name, said, nothing_is_fetched):
    with pytest.raises(ValueError, match=re.escape(f"{name} is {said}")) as error:
        loader(name)
    assert str(error.value).endswith(", or a path")


@pytest.mark.parametrize(
    "loader, what",
    [(load_autoencoder, "no autoencoder 'sd99': .*sd-vae-ft"), (load_clip, "no clip 'sd99': .*clip-vit-l")],
)
def test_an_unknown_name_of_a_part_is_refused_with_the_known_ones(loader, what):
    with pytest.raises(ValueError, match=what):
        loader("sd99")


def test_every_preset_can_be_fetched():
    assert {name for name, c in CHECKPOINTS.items() if c.kind == "model"} == PRESETS.keys() - SHIPPED.keys()


def test_only_a_string_is_a_name(tiny, folder, monkeypatch, nothing_is_fetched):
    folder.rename(folder.with_name("sd15"))
    monkeypatch.chdir(folder.parent)
    for path in (Path("sd15"), "./sd15"):
        assert load(path).config == tiny.config


@pytest.mark.parametrize(
    "name, said",
    [
        ("a\0b", r"'a\\x00b' cannot be a path: embedded null byte"),
        ("sd15=a\0b", "cannot be a path: embedded null byte"),
        ("a" * 300, "^a{300} cannot be read: File name too long"),
        ("sd15=" + "a" * 300, r"a{290,}\.\.\. cannot be read: File name too long"),
        ("a/" * 5000, "cannot be read: File name too long"),
    ],
    ids=["NUL", "NUL in a file", "long", "long file", "deep"],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_what_cannot_be_a_path_is_refused(name, said, kind):
    refused(said, kind(name))


@pytest.mark.parametrize("of", ["model", "config.json"])
def test_what_may_not_be_looked_at_is_refused_with_its_path(folder, monkeypatch, of):
    """Of another user's folder not even what is in it may be asked."""
    stat = Path.stat

    def refuse(self, **options):
        if self.name == of:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    refused(f"{of} cannot be read: Permission denied", folder)


def test_what_ships_is_no_name_for_a_file(saved):
    """Files of its kind are in folders, with a tokenizer."""
    refused("no model 'stickers=", f"stickers={saved / 'model.safetensors'}")


def test_a_file_in_place_of_a_folder_is_refused(saved, nothing_is_read):
    path = saved / "model.safetensors"
    message = refused("is the weights of a model of ours, without its configuration: give its folder", path)
    assert str(path) in message


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"{folder} lacks {name}" in refused("lacks", folder)


def test_all_missing_files_are_named_at_once(tmp_path):
    message = refused("lacks", tmp_path)
    assert message.endswith("lacks " + ", ".join(FILES) + " (a diffusers folder has a model_index.json)")


def test_a_folder_in_place_of_a_file_is_a_missing_file(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    refused("lacks model.safetensors", folder)


HTML = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head><body>Not Found</body></html>"


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: HTML],
    ids=["half", "empty", "web page"],
)
def test_a_damaged_file_of_tensors_is_refused(folder, damage, nothing_is_read):
    """All the ways to damage one: test_tensors."""
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert refused("cannot be read: it is ", folder).startswith(str(path))


def test_a_file_that_changes_while_it_is_read_gives_no_model(folder, monkeypatch):
    """Cut short in the middle: what has been read till then is of no use to anyone."""
    path, read = folder / "model.safetensors", TensorFile.read

    def cut_and_read(self, *args):
        path.write_bytes(path.read_bytes()[:-100])
        yield from read(self, *args)

    monkeypatch.setattr(TensorFile, "read", cut_and_read)
    refused("cut short, or was changed while it was read", folder)


def test_a_missing_tensor_is_named(change_tensors, nothing_is_read):
    message = refused("do not fit tiny, a model of ours", change_tensors(lambda tensors: tensors.pop(BIAS)))
    assert message.endswith("1 missing:\n    unet.conv_in: bias")


def test_an_extra_tensor_is_named(change_tensors, nothing_is_read):
    extra = {"unet.conv_in.scale": torch.ones(3)}
    message = refused("do not fit", change_tensors(lambda tensors: tensors.update(extra)))
    assert message.endswith("1 left over:\n    unet.conv_in: scale")


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (32, 4, 9), (4, 32, 3, 3), ()])
def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(change_tensors, nothing_is_read, shape):
    """One that would broadcast, one with as many numbers, a transposed one, a scalar."""
    wrong = {"unet.conv_in.weight": torch.zeros(shape)}
    message = refused("do not fit", change_tensors(lambda tensors: tensors.update(wrong)))
    assert message.endswith(f"1 of the wrong shape:\n    unet.conv_in: weight {shape} instead of (32, 4, 3, 3)")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_whole_numbers_are_no_parameters(change_tensors, nothing_is_read, dtype):
    edit = lambda tensors: tensors.update({BIAS: tensors[BIAS].to(getattr(torch, dtype))})
    message = refused("do not fit", change_tensors(edit))
    assert message.endswith(f"unet.conv_in: bias whole numbers ({dtype}) instead of floating-point ones")


LONG = "n" * 1_000_000


@pytest.mark.parametrize(
    "name, said",
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("unet.\x1b[2J.a\nb", r"unet.\x1b[2J: a\nb"),
        (f"{LONG}.{LONG}", f"{'n' * 120}...: {'n' * 120}..."),
        (LONG, f"{'n' * 120}..."),
    ],
    ids=["terminal", "terminal and line", "long module", "long"],
)
def test_a_tensors_name_is_escaped_and_cut(change_tensors, nothing_is_read, name, said):
    message = refused("do not fit", change_tensors(lambda tensors: tensors.update({name: torch.ones(1)})))
    assert message.endswith(f"1 left over:\n    {said}")


@pytest.mark.parametrize("name, said", [("\x1b[2J", r"\x1b[2J"), (LONG, f"{'n' * 120}...")])
def test_the_names_of_a_file_that_is_no_model_are_escaped_and_cut(tmp_path, name, said):
    save_file({name: torch.ones(1)}, tmp_path / "file")
    assert refused("holds no latent diffusion model", tmp_path / "file").endswith(f"begin {said}")


def test_a_name_in_a_config_is_escaped(change_config):
    message = refused("not a model configuration", change_config(lambda fields: fields.update({"\x1b[2J": 1})))
    assert "\x1b" not in message and r"\x1b[2J: Unexpected" in message

    def edit(fields):
        del fields["\x1b[2J"]
        fields["name"], fields["unet"]["mid"] = "\x1b[2J", False

    message = refused("do not fit", change_config(edit))
    assert "\x1b" not in message


def test_all_that_does_not_fit_is_said_at_once(change_tensors, nothing_is_read):
    """By module, the one with most of it first; long lists are cut."""

    def edit(tensors):
        for name in [name for name in tensors if name.startswith(("text_encoder.", "autoencoder.decoder."))]:
            del tensors[name]
        tensors["extra"] = torch.ones(1)
        tensors["unet.conv_out.bias"] = torch.ones(3)

    message = refused("do not fit", change_tensors(edit))
    lines = message.split("\n")[1:]
    assert re.fullmatch(r"  \d+ missing:", lines[0])
    counts = [int(re.search(r"\((\d+)\)$", line)[1]) for line in lines[1:4]]
    assert counts == sorted(counts, reverse=True) and all(line.count(", ") == 3 for line in lines[1:4])
    assert lines[3].startswith("    text_encoder.encoder.layers: 0.layer_norm1.bias, 0.layer_norm1.weight, ")
    assert re.search(r"\n    \.\.\. and in \d+ other modules\n", message)
    assert message.endswith(
        "  1 left over:\n    extra\n  1 of the wrong shape:\n    unet.conv_out: bias (3,) instead of (4,)"
    )


def test_the_weights_of_a_model_of_another_size_are_refused(change_config, nothing_is_read):
    refused("do not fit tiny", change_config(lambda fields: fields["text"].update(width=32, hidden=32)))


def test_a_model_without_prompts_is_none_of_ours(change_config, nothing_is_read):
    def edit(fields):
        fields["text"] = fields["unet"]["context_width"] = None

    refused("config.json is no model of ours: they all read prompts by CLIP's text encoder", change_config(edit))


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
        *(
            (lambda fields, part=part, change=change: fields[part].update(change), match)
            for part, change, match in (
                ("unet", dict(groups=0), "groups must lie in 1..1048576, got 0"),
                ("unet", dict(groups=-8), "groups must lie in 1..1048576, got -8"),
                ("unet", dict(groups=24), r"widths of \(32, 64\) cannot all be cut into 24 groups"),
                ("unet", dict(widths=[], attention=[]), "a model has 1 to 16 levels, widths names 0"),
                ("unet", dict(widths=[10**30, 64]), "widths must lie in 1..1048576, got"),
                ("unet", dict(widths=[32] * 17, attention=[True] * 17), "a model has 1 to 16 levels, widths names 17"),
                ("unet", dict(layers=10**9), "layers must lie in 1..64, got 1000000000"),
                ("unet", dict(head_size=24), "a level of width 32 cannot have heads of 24"),
                ("unet", dict(head_size=None, heads=[2, 5]), "a level of width 64 cannot have 5 heads"),
                ("autoencoder", dict(groups=0), "groups must lie in 1..1048576, got 0"),
                ("autoencoder", dict(widths=[]), "a model has 1 to 16 levels, widths names 0"),
                ("autoencoder", dict(layers=0), "layers must lie in 1..64, got 0"),
                ("autoencoder", dict(latent_channels=10**30), "latent_channels must lie in 1..1048576"),
                ("autoencoder", dict(scale=0.0), "latents cannot be scaled by 0.0"),
                ("autoencoder", dict(scale=10**400), "autoencoder"),
                ("text", dict(heads=0), "heads must lie in 1..1048576, got 0"),
                ("text", dict(vocabulary=10**30), "vocabulary must lie in 1..1048576"),
                ("text", dict(layers=10**9), "layers must lie in 1..64"),
                ("schedule", dict(T=10**12), "a schedule has at most 100000 steps, T is 1000000000000"),
            )
        ),
    ],
    ids=[
        *("unknown field", "unknown field of a part", "levels", "heads", "no name", "no part", "null part"),
        *("parameterisation", "activation", "text heads", "T", "widths", "head size", "image size"),
        *(f"hostile {i}" for i in range(19)),
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


def test_a_tokenizer_that_puts_other_tokens_around_a_prompt_is_refused(change_tokenizer):
    edit = lambda fields: fields["post_processor"]["sep"].__setitem__(1, 100_000)
    refused(r"puts the tokens \[721, 100000\] around a prompt, not BOS and EOS: 721, 722", change_tokenizer(edit))


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
