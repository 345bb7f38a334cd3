"""A whole model in one file, as CompVis' own code saves it, loads to the bit."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diffusers import StableDiffusionPipeline
from PIL import Image

from ldm.presets import PRESETS
from p2p.__main__ import main
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import assert_equal, refused, tensors_of
from tests.support.public_models import our_tensors, public
from weights.files import tokenizers
from weights.load import load

# of diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", ["sd1", "sd2", "text2im", "celebahq", "super-resolution"])
def test_a_compvis_file_is_loaded_to_the_bit(kind, suffix, single):
    """With averages in the pickle, which are taken unless told otherwise."""
    path, expected = single(kind), public(kind).tensors()
    if suffix == ".ckpt":
        averaged = public(kind, 9).parts["unet"]
        path = save_checkpoint(compvis(public(kind), averaged), path.with_suffix(suffix))
        assert_equal(tensors_of(load(path, ema=False)), expected)
        expected = expected | {f"unet.{name}": t for name, t in our_tensors(averaged).items()}
    model = load(path)
    assert model.config == public(kind).config
    assert_equal(tensors_of(model), expected)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_diffusers_reads_the_same_from_a_compvis_file(kind, folder, tmp_path):
    """With averages in the file, which it leaves out unless told otherwise."""
    shutil.copytree(folder(kind) / "tokenizer", tmp_path / "tokenizer")
    tensors = compvis(public(kind), averaged=public(kind, 9).parts["unet"])
    path = save_checkpoint(tensors, tmp_path / "model.ckpt")
    theirs = StableDiffusionPipeline.from_single_file(
        str(path), config=str(folder(kind)), local_files_only=True, safety_checker=None, feature_extractor=None
    )
    parts = {"unet": theirs.unet, "autoencoder": theirs.vae, "text_encoder": theirs.text_encoder}
    assert_equal(tensors_of(load(path, ema=False)), public(kind)._replace(parts=parts).tensors())


def test_a_merged_file_without_text_model_in_its_names(single):
    """And with the positions as floating numbers: both occur."""
    tensors = {name.replace(".text_model.", "."): tensor for name, tensor in compvis(public("sd1")).items()}
    position_ids = "cond_stage_model.transformer.embeddings.position_ids"
    tensors[position_ids] = tensors[position_ids].float()
    merged = save_checkpoint(tensors, single("sd1").with_name("merged.ckpt"))
    assert_equal(tensors_of(load(merged)), public("sd1").tensors())


def test_a_file_that_may_be_several_models_must_be_told(single):
    PRESETS["sd1-again"] = replace(PRESETS["sd1"], name="sd1-again")  # it differs in name alone
    assert load(single("sd1")).config == PRESETS["sd1"]
    schedule = replace(PRESETS["sd2"].schedule, parameterisation="eps")
    PRESETS["sd2-base"] = replace(PRESETS["sd2"], name="sd2-base", schedule=schedule)
    path = single("sd2")
    refused(f"may be any of several models with the same tensors; say which: sd2={path}, sd2-base={path}$", path)
    for kind in ("sd2", "sd2-base"):
        assert load(f"{kind}={path}").config == PRESETS[kind]


@pytest.mark.parametrize("kind, wanted", [("sd1", "clip-tokenizer"), ("text2im", "bert-tokenizer")])
def test_a_tokenizer_that_is_not_beside_a_file_is_fetched(kind, wanted, folder, tmp_path, monkeypatch):
    asked = []

    def fetched(name: str) -> Path:
        asked.append(name)
        return folder(kind) if name == "bert-tokenizer" else folder(kind) / "tokenizer"

    monkeypatch.setattr(tokenizers, "fetched", fetched)
    model = load(save_checkpoint(compvis(public(kind)), tmp_path / "model.safetensors"))
    assert asked == [wanted]
    assert model.encode_prompts(["a cat"]).shape == (1, 77, public(kind).config.text.width)


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
def test_a_file_and_a_folder_are_edited_alike(kind, single, folder, tmp_path, monkeypatch):
    """By `p2p edit --model` with a path."""
    edit = ("edit", "a photo of a cat", "a photo of a dog", "--steps", "2", "--guidance", "7.5", "--seed", "3")
    images = []
    for path in (single(kind), folder(kind)):
        monkeypatch.setattr(sys, "argv", ["p2p", *edit, "--model", str(path), "-o", str(tmp_path / "image.png")])
        main()
        with Image.open(tmp_path / "image.png") as image:
            images.append(np.asarray(image))
    assert np.array_equal(*images) and len(np.unique(images[0])) > 50
