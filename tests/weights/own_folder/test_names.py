"""Names and paths of models; any other is refused before anything is downloaded or read."""

import re
from pathlib import Path

import pytest

from ldm.presets import PRESETS
from tests.support.model_files import refused
from weights import load as loading
from weights.checkpoints import CHECKPOINTS
from weights.load import SHIPPED, load, load_autoencoder, load_clip

FILES = ("config.json", "tokenizer.json", "model.safetensors")


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
            "an autoencoder alone, which `weights.load.load_autoencoder` loads: give sd1",
        ),
        (load, "clip-vit-l", "a CLIP, which `weights.load.load_clip` loads: give sd14 or sd15 or "),
        (load, "stickers-clip", "a CLIP, which `weights.load.load_clip` loads: give sd14 or sd15 or "),
        (load, "clip-tokenizer", "a tokenizer alone: give sd14 or sd15 or "),
        (
            load_autoencoder,
            "sd15",
            "a model, which `weights.load.load` loads: give sd-vae-ft-mse,",
        ),
        (load_autoencoder, "stickers", "a model, which `weights.load.load` loads: give"),
        (load_clip, "sd15", "a model, which `weights.load.load` loads: give clip-vit-l, or a path"),
    ],
)
def test_a_name_of_another_kind_is_refused_before_it_is_fetched(loader, name, said, nothing_is_fetched):
    with pytest.raises(ValueError, match=re.escape(f"{name} is {said}")) as error:
        loader(name)
    assert str(error.value).endswith(", or a path")


@pytest.mark.parametrize(
    "loader, what",
    [
        (load_autoencoder, "no autoencoder 'sd99': .*sd-vae-ft"),
        (load_clip, "no clip 'sd99': .*stickers-clip.*clip-vit-l"),
    ],
)
def test_an_unknown_part_is_refused_with_the_known_ones(loader, what):
    with pytest.raises(ValueError, match=what):
        loader("sd99")


def test_every_preset_can_be_fetched():
    models = {name for name, c in CHECKPOINTS.items() if c.kind == "model"}
    assert models == PRESETS.keys() - SHIPPED.keys() - {"cin256"}  # which its publisher keeps outside the hub


def test_only_a_string_is_a_name(tiny, folder, monkeypatch, nothing_is_fetched):
    folder.rename(folder.with_name("sd15"))
    monkeypatch.chdir(folder.parent)
    for path in (Path("sd15"), "./sd15"):
        assert load(path).config == tiny.config


@pytest.mark.parametrize(
    "name, said",
    [
        ("a\0b", r"'a\\x00b' cannot be a path: (stat: )?embedded null (byte|character)"),
        ("sd15=a\0b", "cannot be a path: (stat: )?embedded null (byte|character)"),
        ("a" * 300, r"^'a{199}\.\.\. cannot be read: File name too long"),
        ("sd15=" + "a" * 300, r"a{190,}\.\.\. cannot be read: File name too long"),
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
    refused(f"{of}' cannot be read: Permission denied", folder)


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
