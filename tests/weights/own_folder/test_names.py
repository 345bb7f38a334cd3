"""Names and paths of models; any other is refused before anything is downloaded or read."""

from pathlib import Path

import pytest

from ldm.presets import PRESETS
from tests.support.model_files import refused
from weights import load as loading
from weights.load import load, load_autoencoder, load_clip

FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(loading, "fetched", lambda name: pytest.fail(f"{name} is fetched"))


@pytest.mark.parametrize(
    "name",
    [
        "sticker",
        "no/such/folder",
        "sd99=file.ckpt",
        "sd-vae-ft-mse=file.ckpt",
        "sd15=no/such.ckpt",
        "a\0b",
        "sd15=a\0b",
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_an_unknown_name_is_refused_with_the_known_ones(name, kind, nothing_is_fetched):
    message = refused("^no model ", kind(name))
    assert all(known in message for known in [*(PRESETS.keys() - {"cin256"}), "PRESET=FILE", repr(name)])


@pytest.mark.parametrize(
    "loader, name, said",
    [
        (load, "sd-vae-ft-mse", "no model .*, which is for `weights.load.load_autoencoder`: give stickers or "),
        (load, "clip-vit-l", "no model .*, which is for `weights.load.load_clip`: give "),
        (load, "stickers-clip", "no model .*, which is for `weights.load.load_clip`: give "),
        (load, "clip-tokenizer", "no model 'clip-tokenizer': give "),
        (
            load_autoencoder,
            "sd15",
            "no autoencoder .*, which is for `weights.load.load`: give stickers-vq, included; ",
        ),
        (load_autoencoder, "stickers", "no autoencoder .*, which is for `weights.load.load`: give "),
        (
            load_clip,
            "sd15",
            "no clip .*, which is for `weights.load.load`: give stickers-clip, included; one to download .clip-vit-l.",
        ),
        (load_clip, "sd99", "no clip 'sd99': give stickers-clip, included; one to download .clip-vit-l."),
    ],
)
def test_a_name_of_another_kind_is_refused_before_it_is_fetched(loader, name, said, nothing_is_fetched):
    with pytest.raises(ValueError, match=said):
        loader(name)


def test_only_a_string_is_a_name(tiny, folder, monkeypatch, nothing_is_fetched):
    folder.rename(folder.with_name("sd15"))
    monkeypatch.chdir(folder.parent)
    for path in (Path("sd15"), "./sd15"):
        assert load(path).config == tiny.config


@pytest.mark.parametrize("name", ["a" * 300, "sd15=" + "a" * 300, "a/" * 5000], ids=["long", "long file", "deep"])
def test_a_name_that_is_too_long_is_refused(name):
    assert len(refused(r"\.\.\. cannot be read: File name too long", name)) < 300


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


def test_a_file_in_place_of_a_folder_is_refused(saved, nothing_is_read):
    refused("model.safetensors is the weights of a model of ours, .*: give its folder", saved / "model.safetensors")
    refused("no model 'stickers=", f"stickers={saved / 'model.safetensors'}")  # what ships is no name for a file
    refused("no model 'sd15=", Path(f"sd15={saved / 'model.safetensors'}"))


@pytest.mark.parametrize("names", [*([name] for name in FILES), FILES])
def test_all_missing_files_are_named_at_once(folder, names):
    for name in names:
        (folder / name).unlink()
    (folder / names[-1]).mkdir()  # a folder in place of a file is a missing file
    assert f"{folder} lacks {', '.join(names)} (or model_index.json" in refused("lacks", folder)
