"""Public folders, in all the names and kinds of files that they come in, load to the bit."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.model_files import assert_equal, refused, tensors_of
from tests.support.public_files import names_of_today, public_names, save, stem, write_folder
from tests.support.public_models import KINDS, our_tensors, public
from weights import load as loading
from weights.checkpoints import CHECKPOINTS, STABLE_DIFFUSION, Checkpoint
from weights.load import load, load_autoencoder

TODAY = dict(names=names_of_today)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how", [{}, TODAY, TODAY | {"suffix": ".bin"}, {"suffix": ".bin"}, {"shards": True}], ids=lambda how: "-".join(how)
)
def test_a_public_folder_is_loaded_to_the_bit(kind, how, tmp_path):
    model = load(write_folder(public(kind), tmp_path, **how))
    assert model.config == replace(public(kind).config, name=str(tmp_path))
    assert_equal(tensors_of(model), public(kind).tensors())


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
    for file in folder_with_variants.glob("*/*model.safetensors"):
        file.unlink()
    assert_equal(tensors_of(load(folder_with_variants, dtype=dtype)), halves)  # where there is no other


def test_a_folders_plain_weights_are_read_if_wanted(folder_with_variants):
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
    dtype = getattr(torch, how.get("dtype", "float32"))
    expected = {name: tensor.to(dtype) for name, tensor in public("sd1").tensors().items()}
    published("sd1", folder_with_variants, STABLE_DIFFUSION)
    assert_equal(tensors_of(load("sd1", **how)), expected)
    (folder_with_variants / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused("lacks weights", "sd1", **how)
    published("kl", folder_with_variants / "vae", ("config.json", "diffusion_pytorch_model.safetensors"), "autoencoder")
    alone = {
        f"autoencoder.{name}": tensor
        for name, tensor in load_autoencoder("kl", dtype=str(dtype)[6:]).state_dict().items()
    }
    assert_equal(alone, {name: expected[name] for name in alone})


def test_a_named_checkpoint_reads_only_its_verified_tokenizer(tmp_path, published):
    """Some repositories have pickles alone, which are read in the place of the files in the table."""
    path = write_folder(public("sd1"), tmp_path, suffix=".bin")
    published("sd1", path, STABLE_DIFFUSION)
    (path / "tokenizer" / "tokenizer.json").write_text("not verified")
    assert_equal(tensors_of(load("sd1")), public("sd1").tensors())
    published("sd1", path, [name for name in STABLE_DIFFUSION if "merges" not in name])
    refused("lacks merges.txt", "sd1")


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"])
def test_a_folder_without_weights_is_refused(copied, file):
    copy = copied("sd1", file)
    (copy / file).with_name("pytorch_model.bin.index.json").write_text("{}")
    refused(f"lacks weights: {(copy / file).parent} .* Pickled shards are not supported: .*save_pretrained", copy)


@pytest.mark.parametrize(
    "kind, files", [("sd1", ["merges.txt"]), ("sd1", ["vocab.json", "merges.txt"]), ("text2im", ["vocab.txt"])]
)
def test_a_missing_file_of_a_tokenizer_is_named(kind, files, copied):
    copy = copied(kind, *(f"tokenizer/{file}" for file in files))
    assert refused("the model's tokenizer in .*copy/tokenizer lacks", copy).endswith(f"lacks {', '.join(files)}")


def test_what_pads_is_an_entry_and_never_a_path(copied):
    copy = copied("sd1")
    (copy / "tokenizer" / "special_tokens_map.json").write_text(json.dumps({"pad_token": "../merges.txt"}))
    refused(r"lacks 1 entries \['\.\./merges\.txt'\]", copy)
