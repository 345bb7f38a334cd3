"""A whole model in one file, as CompVis' own code saves it, loads to the bit."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from ldm.presets import PRESETS
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import assert_equal, refused, tensors_of
from tests.support.public_models import our_tensors, public
from weights.files import tokenizers
from weights.load import load

# of diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

IN_ONE_FILE = ["sd1", "sd2", "text2im", "celebahq", "super-resolution"]


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("kind", IN_ONE_FILE)
def test_a_compvis_file_is_loaded_to_the_bit(kind, suffix, single):
    path = single(kind)
    if suffix == ".ckpt":
        path = save_checkpoint(compvis(public(kind)), path.with_suffix(suffix))
    model = load(path)
    assert model.config == public(kind).config
    assert_equal(tensors_of(model), public(kind).tensors())


@pytest.mark.parametrize("kind", ["sd1", "sd2"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_diffusers_reads_the_same_from_a_compvis_file(kind, suffix, folder, tmp_path):
    """With averages in the file, which it leaves out unless told otherwise."""
    shutil.copytree(folder(kind) / "tokenizer", tmp_path / "tokenizer")
    tensors = compvis(public(kind), averaged=public(kind, 9).parts["unet"])
    path = save_checkpoint(tensors, tmp_path / f"model{suffix}")
    theirs = StableDiffusionPipeline.from_single_file(
        str(path), config=str(folder(kind)), local_files_only=True, safety_checker=None, feature_extractor=None
    )
    parts = {"unet": theirs.unet, "autoencoder": theirs.vae, "text_encoder": theirs.text_encoder}
    assert_equal(tensors_of(load(path, ema=False)), public(kind)._replace(parts=parts).tensors())


@pytest.mark.parametrize("kind", IN_ONE_FILE)
def test_averaged_weights_are_taken_where_a_file_has_both(kind, single, caplog):
    averaged = public(kind, 9).parts["unet"]
    path = save_checkpoint(compvis(public(kind), averaged), single(kind).with_name("both.ckpt"))
    plain = public(kind).tensors()
    with caplog.at_level(logging.INFO, "weights"):
        model = load(path)
    assert_equal(tensors_of(model), plain | {f"unet.{name}": t for name, t in our_tensors(averaged).items()})
    assert f"{kind}, a CompVis file, averaged weights: " in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "weights"):
        assert_equal(tensors_of(load(path, ema=False)), plain)
    assert f"{kind}, a CompVis file: " in caplog.text


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_compvis_file_in_half_precision(single, dtype):
    expected = {name: tensor.to(getattr(torch, dtype)) for name, tensor in public("celebahq").tensors().items()}
    assert_equal(tensors_of(load(single("celebahq"), dtype=dtype)), expected)


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_is_told_by_its_content_and_not_by_its_name(single, suffix):
    written = save_checkpoint(compvis(public("sd1")), single("sd1").with_name(f"right{suffix}"))
    renamed = written.rename(written.with_name("wrong" + {".ckpt": ".safetensors", ".safetensors": ".ckpt"}[suffix]))
    assert_equal(tensors_of(load(renamed)), public("sd1").tensors())


def test_a_merged_file_without_text_model_in_its_names(single):
    """And with the positions as floating numbers: both occur."""
    tensors = {name.replace(".text_model.", "."): tensor for name, tensor in compvis(public("sd1")).items()}
    position_ids = "cond_stage_model.transformer.embeddings.position_ids"
    tensors[position_ids] = tensors[position_ids].float()
    assert_equal(
        tensors_of(load(save_checkpoint(tensors, single("sd1").with_name("merged.ckpt")))), public("sd1").tensors()
    )


def test_models_that_differ_in_name_alone_are_one(single, caplog):
    PRESETS["sd1-again"] = replace(PRESETS["sd1"], name="sd1-again")
    with caplog.at_level(logging.INFO, "weights"):
        assert load(single("sd1")).config == PRESETS["sd1"]
    assert "sd1 or sd1-again (the same model), a CompVis file: " in caplog.text


def test_a_file_that_may_be_several_models_must_be_told(single):
    schedule = replace(PRESETS["sd2"].schedule, parameterisation="eps")
    PRESETS["sd2-base"] = replace(PRESETS["sd2"], name="sd2-base", schedule=schedule)
    path = single("sd2")
    message = refused("may be any of several models with the same tensors; say which", path)
    assert f"sd2={path}, sd2-base={path}" in message and "sd1=" not in message
    for kind in ("sd2", "sd2-base"):
        model = load(f"{kind}={path}")
        assert model.config == PRESETS[kind]
        assert_equal(tensors_of(model), public("sd2").tensors())


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
