"""Public folders, in all the names and kinds of files that they come in, load to the bit."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ldm.presets import PRESETS
from tests.support.model_files import assert_equal, refused, tensors_of
from tests.support.public_files import names_of_today, public_names, save, stem, write_folder
from tests.support.public_models import MAKERS, our_tensors, public
from weights import load as loading
from weights.checkpoints import CHECKPOINTS, STABLE_DIFFUSION, Checkpoint
from weights.load import load, load_autoencoder


@pytest.mark.parametrize("kind", MAKERS)
def test_a_public_folder_is_loaded_to_the_bit(kind, folder):
    model = load(folder(kind))
    assert model.config == replace(public(kind).config, name=str(folder(kind)))
    assert_equal(tensors_of(model), public(kind).tensors())


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "how",
    [
        dict(names=names_of_today),
        dict(names=names_of_today, suffix=".bin"),
        dict(suffix=".bin"),
        dict(shards=True),
    ],
    ids=["today's names", "today's names, pickles", "pickles", "shards"],
)
def test_other_names_and_kinds_of_files_hold_the_same(kind, how, tmp_path):
    assert_equal(tensors_of(load(write_folder(public(kind), tmp_path, **how))), public(kind).tensors())


@pytest.fixture
def folder_with_variants(tmp_path) -> Path:
    """Each of the parts in half precision besides, told apart by the sign; of the UNet another, not averaged. In such a
    repository the old names of attention are in one file of an autoencoder and the new ones in the other."""
    folder = write_folder(public("sd1"), tmp_path)
    for part, module in public("sd1").parts.items():
        names = names_of_today if part == "autoencoder" else public_names
        half = {name: -t.half() if t.is_floating_point() else t for name, t in names(module).items()}
        save(half, folder / public("sd1").folder_of(part) / f"{stem(module, '.safetensors')}.fp16.safetensors")
    plain = names_of_today(public("sd1", 9).parts["unet"])
    save(plain, folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors")
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_half_precision_is_read_from_files_in_half_precision(folder_with_variants, dtype):
    whole = public("sd1").tensors()
    halves = {name: -tensor.half().to(getattr(torch, dtype)) for name, tensor in whole.items()}
    assert_equal(tensors_of(load(folder_with_variants, dtype=dtype)), whole if dtype == "float32" else halves)


def test_half_precision_is_read_where_there_is_no_other(folder_with_variants):
    for file in folder_with_variants.glob("*/*.safetensors"):
        if ".fp16." not in file.name:
            file.unlink()
    expected = {name: -tensor.half().float() for name, tensor in public("sd1").tensors().items()}
    assert_equal(tensors_of(load(folder_with_variants)), expected)


def test_a_folders_plain_weights_are_read_where_they_are_wanted(folder_with_variants):
    plain = {f"unet.{name}": tensor for name, tensor in our_tensors(public("sd1", 9).parts["unet"]).items()}
    assert_equal(tensors_of(load(folder_with_variants, ema=False)), public("sd1").tensors() | plain)


@pytest.fixture
def published(monkeypatch) -> Callable[..., None]:
    """Makes a folder the snapshot of a checkpoint of a name, as the hub's client keeps it."""

    def publish(name: str, folder: Path, files: tuple[str, ...], kind: str = "model") -> None:
        entry = Checkpoint(about="", hub="maker/it", licence="mit", size=0, files=files, kind=kind)
        monkeypatch.setitem(CHECKPOINTS, name, entry)
        monkeypatch.setattr(loading, "fetched", lambda asked: {name: folder}[asked])

    return publish


@pytest.mark.parametrize("how", [dict(dtype="float16"), dict(dtype="bfloat16"), dict(ema=False)], ids=str)
def test_a_named_checkpoint_reads_only_its_verified_files(folder_with_variants, published, how):
    """Other programs leave more in the same snapshot, and nobody has hashed that."""
    published("sd1", folder_with_variants, STABLE_DIFFUSION)
    dtype = getattr(torch, how.get("dtype", "float32"))
    expected = {name: tensor.to(dtype) for name, tensor in public("sd1").tensors().items()}
    assert_equal(tensors_of(load("sd1", **how)), expected)
    (folder_with_variants / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused("lacks weights", "sd1", **how)


def test_a_named_autoencoder_reads_only_its_verified_file(folder_with_variants, published):
    vae = folder_with_variants / "vae"
    published("kl", vae, ("config.json", "diffusion_pytorch_model.safetensors"), "autoencoder")
    found = load_autoencoder("kl", dtype="float16")
    expected = {name: tensor.half() for name, tensor in our_tensors(public("sd1").parts["autoencoder"]).items()}
    assert_equal(dict(found.state_dict()), expected)


def test_a_pickle_in_place_of_a_verified_file_is_read(tmp_path, published):
    """Some repositories have no other."""
    published("sd1", write_folder(public("sd1"), tmp_path, suffix=".bin"), STABLE_DIFFUSION)
    assert_equal(tensors_of(load("sd1")), public("sd1").tensors())


def test_a_folder_is_named_by_its_configuration(folder, caplog):
    with caplog.at_level(logging.INFO, "weights"):
        load(folder("sd1"))
    assert f"{folder('sd1')}, which is sd1 by its configuration, a diffusers folder (" in caplog.text
    caplog.clear()
    PRESETS["sd1"] = replace(PRESETS["sd1"], image_size=64)
    with caplog.at_level(logging.INFO, "weights"):
        load(folder("sd1"))
    assert f"{folder('sd1')}, a diffusers folder (" in caplog.text


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_a_folder_without_weights_is_refused(folder, tmp_path, file):
    copy = shutil.copytree(folder("sd1"), tmp_path / "copy")
    (copy / file).unlink()
    assert str((copy / file).parent) in refused("lacks weights", copy)


def test_pickled_shards_are_refused_with_what_to_do(folder, tmp_path):
    copy = shutil.copytree(folder("sd1"), tmp_path / "copy")
    (copy / "text_encoder" / "model.safetensors").unlink()
    (copy / "text_encoder" / "pytorch_model.bin.index.json").write_text("{}")
    refused("lacks weights: .*text_encoder .* Pickled shards are not supported: .*save_pretrained", copy)


@pytest.mark.parametrize(
    "kind, files", [("sd1", ["merges.txt"]), ("sd1", ["vocab.json", "merges.txt"]), ("text2im", ["vocab.txt"])]
)
def test_a_missing_file_of_a_tokenizer_is_named(kind, files, folder, tmp_path):
    copy = shutil.copytree(folder(kind), tmp_path / "copy")
    for file in files:
        (copy / "tokenizer" / file).unlink()
    assert refused("the model's tokenizer in .*copy/tokenizer lacks", copy).endswith(f"lacks {', '.join(files)}")


def test_what_pads_is_an_entry_and_never_a_path(folder, tmp_path):
    copy = shutil.copytree(folder("sd1"), tmp_path / "copy")
    (copy / "tokenizer" / "special_tokens_map.json").write_text(json.dumps({"pad_token": "../merges.txt"}))
    refused(r"lacks 1 entries \['\.\./merges\.txt'\]", copy)
