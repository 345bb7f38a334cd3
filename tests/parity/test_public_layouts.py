"""Public checkpoints, in all the names and kinds of files that they come in, load to the bit and make the pictures that
diffusers makes of them.

Single files are recognised by comparing them with the known models, so here the known models are the small ones.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from compvis_files import compvis, compvis_autoencoder, save_checkpoint, training_losses
from diffusers import DDIMScheduler, LDMTextToImagePipeline, StableDiffusionPipeline
from public_files import (
    Public,
    Tensors,
    bk_sdm,
    celebahq,
    clip,
    names_of_today,
    our_tensors,
    public_names,
    save,
    sd1,
    sd2,
    stem,
    text2im,
    vq_with_attention,
    write_clip_tokenizer,
    write_folder,
)
from torch import nn
from torch.testing import assert_close

from ldm.config import AUTOENCODERS, CLIP_PRESETS, PRESETS
from ldm.pipeline import LatentDiffusion, State
from weights import load as loading
from weights import recognise
from weights.checkpoints import CHECKPOINTS, STABLE_DIFFUSION, Checkpoint
from weights.load import load, load_autoencoder, load_clip
from weights.stored import TensorFile

# of diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MAKERS = {"sd1": sd1, "sd2": sd2, "bk-sdm": bk_sdm, "text2im": text2im, "celebahq": celebahq}
SUFFIX = {"text2im": ".bin", "celebahq": ".bin"}  # these repositories have pickles alone
IN_ONE_FILE = ["sd1", "sd2", "text2im", "celebahq"]

PROMPTS, SEEDS, STEPS, GUIDANCE = ["a photo of a cat", "painting on a painting"], [3, 4], 3, 4.0

# float64 and latents of order 1 to 10. A small network is right to 1e-14 (see the tests of each); guidance makes 4 + 3
# times that of it, and two later calls what a random network makes of a difference. Names taken wrongly, schedules one
# step off, another activation or another padding show at 1e-3 and above.
EXACT = dict(rtol=0, atol=1e-10)


@cache
def public(kind: str, seed: int = 0) -> Public:
    return MAKERS[kind](seed)


@cache
def known() -> tuple[dict, dict, dict]:
    models = {kind: public(kind).config for kind in MAKERS}
    first_stages = {"kl": models["sd1"].autoencoder, "vq": vq_with_attention()[1]}
    return models, first_stages, {"clip-vit-l": clip()[0]}


@pytest.fixture(autouse=True)
def small_models_are_known():
    models, first_stages, clips = known()
    with (
        patch.dict(PRESETS, models, clear=True),
        patch.dict(AUTOENCODERS, first_stages, clear=True),
        patch.dict(CLIP_PRESETS, clips, clear=True),
    ):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Callable[[str], Path]:
    """A public folder; not to be changed."""
    suffix = lambda kind: SUFFIX.get(kind, ".safetensors")
    return cache(lambda kind: write_folder(public(kind), tmp_path_factory.mktemp(kind), suffix(kind)))


@pytest.fixture(scope="module")
def single(folder, tmp_path_factory) -> Callable[[str], Path]:
    """A CompVis file with a tokenizer beside it; not to be changed."""

    def write(kind: str) -> Path:
        place = tmp_path_factory.mktemp(kind)
        if public(kind).config.text:
            shutil.copytree(folder(kind) / "tokenizer", place / "tokenizer")
        return save_checkpoint(compvis(public(kind)), place / "model.safetensors")

    return cache(write)


def tensors_of(model: LatentDiffusion) -> Tensors:
    parts = {"text_encoder": model.text_encoder, "unet": model.unet, "autoencoder": model.autoencoder}
    return {f"{part}.{name}": t for part, module in parts.items() if module for name, t in module.state_dict().items()}


def assert_equal(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def refused(match: str, name: str | Path, **kwargs) -> str:
    """The message of the one ValueError that loading raises."""
    with pytest.raises(ValueError, match=match) as error:
        load(name, **kwargs)
    assert error.type is ValueError
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# diffusers folders


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
def test_of_a_checkpoint_by_name_only_the_verified_files_are_read(folder_with_variants, published, how):
    """Other programs leave more in the same snapshot, and nobody has hashed that."""
    published("sd1", folder_with_variants, STABLE_DIFFUSION)
    dtype = getattr(torch, how.get("dtype", "float32"))
    expected = {name: tensor.to(dtype) for name, tensor in public("sd1").tensors().items()}
    assert_equal(tensors_of(load("sd1", **how)), expected)
    (folder_with_variants / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refused("lacks weights", "sd1", **how)


def test_of_an_autoencoder_by_name_only_the_verified_file_is_read(folder_with_variants, published):
    vae = folder_with_variants / "vae"
    published("kl", vae, ("config.json", "diffusion_pytorch_model.safetensors"), "autoencoder")
    found = load_autoencoder("kl", dtype="float16")
    expected = {name: tensor.half() for name, tensor in our_tensors(public("sd1").parts["autoencoder"]).items()}
    assert_equal(dict(found.state_dict()), expected)


def test_a_pickle_in_place_of_a_verified_file_is_read(tmp_path, published):
    """Some repositories have no other."""
    published("sd1", write_folder(public("sd1"), tmp_path, suffix=".bin"), STABLE_DIFFUSION)
    assert_equal(tensors_of(load("sd1")), public("sd1").tensors())


def test_a_folder_is_said_to_be_the_preset_that_its_configuration_is(folder, caplog):
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
    refused(
        "pytorch_model.bin.index.json is an index of pickled shards, which is not supported: .*save_pretrained", copy
    )


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


# ---------------------------------------------------------------------------------------------------------------------
# CompVis files


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


# ---------------------------------------------------------------------------------------------------------------------
# what does not fit


@pytest.fixture
def nothing_is_read(monkeypatch):
    monkeypatch.setattr(TensorFile, "read", lambda *_: pytest.fail("tensors are read"))
    monkeypatch.setattr(recognise, "fetched", lambda name: pytest.fail(f"{name} is fetched"))


@pytest.fixture
def changed(single, nothing_is_read, tmp_path):
    """Writes a CompVis file with its tensors changed, and no tokenizer beside it."""

    def change(edit: Callable[[Tensors], object]) -> Path:
        tensors = compvis(public("sd1"))
        edit(tensors)
        return save_checkpoint(tensors, tmp_path / "changed.safetensors")

    return change


def test_what_is_missing_is_named_as_in_our_model(changed):
    def edit(tensors: Tensors) -> None:
        for name in [name for name in tensors if ".output_blocks.1.0." in name]:
            del tensors[name]
        del tensors["cond_stage_model.transformer.text_model.final_layer_norm.bias"]

    message = refused("do not fit sd1, a CompVis file", changed(edit))
    assert "13 missing:" in message
    assert "\n    unet.up_blocks.0: resnets.1.conv1.bias, resnets.1.conv1.weight, " in message and "(12)" in message
    assert "\n    text_encoder.final_layer_norm: bias" in message
    assert "left over" not in message and "wrong shape" not in message and "would fit" not in message


def test_what_is_left_over_is_named_as_in_the_file(changed):
    extra = {"model.diffusion_model.label_emb.0.0.weight": torch.zeros(2), "lora_down.weight": torch.zeros(2)}
    message = refused("do not fit sd1", changed(lambda tensors: tensors.update(extra)))
    assert "2 left over:" in message
    assert "\n    model.diffusion_model.label_emb: 0.0.weight" in message and "\n    lora_down: weight" in message
    assert "missing" not in message and "wrong shape" not in message


def test_what_has_another_shape_is_named_with_both(changed):
    """One of as many numbers, and one out of which queries cannot be cut."""

    def edit(tensors: Tensors) -> None:
        tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(32, 9, 3, 3)
        tensors["first_stage_model.quant_conv.weight"] = torch.zeros(64)

    message = refused("do not fit sd1", changed(edit))
    assert "2 of the wrong shape:" in message
    assert "\n    unet.conv_in: weight (32, 9, 3, 3) instead of (32, 4, 3, 3)" in message
    assert "\n    autoencoder.quant_conv: weight (64,) instead of (8, 8, 1, 1)" in message
    assert "missing" not in message and "left over" not in message


@pytest.mark.parametrize("shape", [(), (7,), (100, 64, 1), (192, 64)])
def test_queries_that_cannot_be_cut_out_are_of_the_wrong_shape(shape, nothing_is_read, tmp_path):
    tensors = compvis(public("celebahq"))
    tensors["model.diffusion_model.middle_block.1.qkv.weight"] = torch.zeros(shape)
    message = refused("do not fit celebahq", save_checkpoint(tensors, tmp_path / "model.ckpt"))
    assert f"3 of the wrong shape:\n    unet.mid_block.attentions: 0.to_q.weight {shape} instead of (96, 96)" in message


def test_the_model_that_would_fit_is_named(single, nothing_is_read):
    assert refused("do not fit sd1, a CompVis file", f"sd1={single('sd2')}").endswith("\nthey would fit sd2")


def test_the_model_that_a_folder_would_fit_is_named(folder, nothing_is_read, tmp_path):
    copy = shutil.copytree(folder("sd1"), tmp_path / "copy")
    (copy / "unet" / "config.json").write_text(json.dumps(public("bk-sdm").files["unet/config.json"]))
    assert refused("do not fit .*, a diffusers folder", copy).endswith("\nthey would fit sd1")


def test_a_tensor_that_an_index_lists_in_vain_is_named(tmp_path):
    write_folder(public("bk-sdm"), tmp_path, shards=True)
    (tmp_path / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    refused("diffusion_pytorch_model-00002-of-00002.safetensors", tmp_path)


@pytest.mark.parametrize(
    "part, said",
    [
        ("unet", "is the UNet alone of a diffusers folder: give the folder"),
        ("autoencoder", "is an autoencoder alone: `weights.load.load_autoencoder` loads it"),
        ("text_encoder", "holds no latent diffusion model: its tensors begin text_model"),
    ],
)
def test_a_part_of_a_model_is_refused_with_what_to_do(part, said, tmp_path):
    save(public_names(public("sd1").parts[part]), tmp_path / "model.safetensors")
    refused(said, tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind, wanted", [("sd1", "clip-tokenizer"), ("text2im", "bert-tokenizer")])
def test_a_tokenizer_that_is_not_beside_a_file_is_fetched(kind, wanted, folder, tmp_path, monkeypatch):
    asked = []

    def fetched(name: str) -> Path:
        asked.append(name)
        return folder(kind) if name == "bert-tokenizer" else folder(kind) / "tokenizer"

    monkeypatch.setattr(recognise, "fetched", fetched)
    model = load(save_checkpoint(compvis(public(kind)), tmp_path / "model.safetensors"))
    assert asked == [wanted]
    assert model.encode_prompts(["a cat"]).shape == (1, 77, public(kind).config.text.width)


# ---------------------------------------------------------------------------------------------------------------------
# parts on their own


@pytest.fixture(params=["folder", "file", "old names", "compvis", "compvis, of a whole model"])
def first_stage(request, tmp_path) -> Callable[[nn.Module, dict], Path]:
    """Writes an autoencoder alone in one of its forms."""

    def write(module: nn.Module, content: dict) -> Path:
        match request.param:
            case "folder":
                (tmp_path / "config.json").write_text(json.dumps(content))
                save(names_of_today(module), tmp_path / "diffusion_pytorch_model.safetensors")
                return tmp_path
            case "compvis" | "compvis, of a whole model":
                prefix = "first_stage_model." if "whole" in request.param else ""
                tensors = compvis_autoencoder(module) | training_losses()
                tensors = {prefix + name: tensor for name, tensor in tensors.items()}
                return save_checkpoint(tensors, tmp_path / "model.ckpt")
        save((public_names if request.param == "old names" else names_of_today)(module), tmp_path / "model.bin")
        return tmp_path / "model.bin"

    return write


def test_an_autoencoder_alone(first_stage):
    module = public("sd1").parts["autoencoder"]
    ours = load_autoencoder(first_stage(module, public("sd1").files["vae/config.json"]))
    assert ours.config == public("sd1").config.autoencoder
    assert_equal(dict(ours.state_dict()), our_tensors(module))
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())


@torch.no_grad()
def test_an_autoencoder_with_attention_and_a_codebook_alone(first_stage):
    content, config, module = vq_with_attention()
    ours = load_autoencoder(first_stage(module, content))
    assert ours.config == config  # of scale 1, though the file says nothing of it and diffusers would take 0.18215
    assert_equal(dict(ours.state_dict()), our_tensors(module))
    ours, theirs = ours.double(), vq_with_attention()[2].double()
    x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    z = theirs.encode(x).latents
    assert_close(ours.encode(x), z, **EXACT)
    assert len(ours.quantize.indices(z).unique()) > 10  # entries of the codebook, not one everywhere
    assert_close(ours.decode(z), theirs.decode(z).sample, **EXACT)


def test_an_autoencoder_that_is_none_of_the_known_ones_is_refused(tmp_path):
    tensors = compvis_autoencoder(public("sd1").parts["autoencoder"])
    del tensors["decoder.up.0.block.1.conv1.weight"]
    path = save_checkpoint(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit kl, an autoencoder in a CompVis file") as error:
        load_autoencoder(path)
    assert "1 missing:\n    autoencoder.decoder.up_blocks: 2.resnets.1.conv1.weight" in str(error.value)


@pytest.fixture
def clip_folder(tmp_path) -> Callable[..., Path]:
    """Writes a folder of CLIP as transformers does, with what config.json says of its towers changed."""

    def write(change: dict | None = None, suffix: str = ".safetensors", whole: bool = False) -> Path:
        _, theirs = clip()
        write_clip_tokenizer(tmp_path, pad="<|endoftext|>")
        save(public_names(theirs), tmp_path / (stem(theirs, suffix) + suffix))
        content = json.loads(theirs.config.to_json_string(use_diff=not whole))
        for name, values in (change or {}).items():
            content[name] = content.get(name, {}) | values if isinstance(values, dict) else values
            if isinstance(values, dict):
                content[name] = {key: value for key, value in content[name].items() if value is not ...}
        (tmp_path / "config.json").write_text(json.dumps(content))
        return tmp_path

    return write


TEXT, VISION = "text_config", "vision_config"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {TEXT: {"hidden_act": ..., "layer_norm_eps": ...}, VISION: {"hidden_act": ..., "layer_norm_eps": ...}},
        # as in OpenAI's file: one copy with all, and one with what is not transformers' default
        {f"{TEXT}_dict": {"num_attention_heads": 4, "hidden_size": 32}, f"{VISION}_dict": {"patch_size": 8}},
        {f"{TEXT}_dict": None, f"{VISION}_dict": None},
    ],
    ids=["as written", "silent on defaults", "two copies", "no copies"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["differences", "all"])
def test_a_clip_as_transformers_describes_it_is_loaded(change, whole, clip_folder):
    load_clip(clip_folder(change, whole=whole))


@pytest.mark.parametrize(
    "change, said",
    [
        ({TEXT: {"hidden_act": "gelu"}}, "'hidden_act' of text_config is 'gelu'; the CLIP here has 'quick_gelu'"),
        ({VISION: {"hidden_act": "gelu"}}, "'hidden_act' of vision_config is 'gelu'"),
        ({f"{TEXT}_dict": {"hidden_act": "gelu"}}, "'hidden_act' of text_config is 'gelu'"),
        ({VISION: {"layer_norm_eps": 1e-6}}, "'layer_norm_eps' of vision_config is 1e-06; the CLIP here has 1e-05"),
        ({TEXT: {"num_attention_heads": 2}}, "'num_attention_heads' of text_config is 2; the CLIP here has 4"),
        ({TEXT: {"num_attention_heads": ...}}, "'num_attention_heads' of text_config is 8; the CLIP here has 4"),
        ({VISION: {"num_attention_heads": ...}}, "'num_attention_heads' of vision_config is 12; the CLIP here has 6"),
        ({VISION: {"patch_size": 16}}, "'patch_size' of vision_config is 16; the CLIP here has 8"),
        ({VISION: {"patch_size": ...}}, "'patch_size' of vision_config is 32; the CLIP here has 8"),
        ({"model_type": "siglip"}, "'model_type' is 'siglip', not 'clip'"),
        ({TEXT: [1]}, "'text_config' is [1]"),
    ],
)
def test_a_clip_that_computes_otherwise_is_refused(change, said, clip_folder, nothing_is_read):
    """Its tensors have the same names and shapes: LAION's ViT-L/14 has another activation."""
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        load_clip(clip_folder(change))
    assert "config.json: " in str(error.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_clip_alone(suffix, clip_folder, tmp_path):
    _, theirs = clip()
    clip_folder(suffix=suffix)
    ours, tokenizer = load_clip(tmp_path)
    assert_equal(dict(ours.state_dict()), our_tensors(theirs))
    assert tokenizer.batch(["a cat", "cats on a beach"]).shape == (2, 77)


# ---------------------------------------------------------------------------------------------------------------------
# prompt to picture


def exactly(scheduler: DDIMScheduler) -> DDIMScheduler:
    """Its alphas in float64, where its own float32 would hide all that differs by less than 1e-4 (test_samplers)."""
    c = scheduler.config
    power = {"scaled_linear": 2, "linear": 1}[c.beta_schedule]
    ends = c.beta_start ** (1 / power), c.beta_end ** (1 / power)
    scheduler.alphas_cumprod = (1 - torch.linspace(*ends, 1000, dtype=torch.float64) ** power).cumprod(0)
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    if not c.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    return scheduler


def in_float64(model: LatentDiffusion) -> LatentDiffusion:
    for part in filter(None, (model.text_encoder, model.unet, model.autoencoder)):
        part.double()
    return model


def z_T(model: LatentDiffusion) -> torch.Tensor:
    """As [D16] draws it: a stream of its own for each picture."""
    draws = [torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in SEEDS]
    return torch.stack(draws).double()


def assert_pictures_equal(model: LatentDiffusion, last: State, prompts: list[str], theirs: torch.Tensor) -> None:
    """`theirs` from 0 to 1, channels first."""
    ours = model.autoencoder.decode(last.z_t)
    assert ((theirs > 0) & (theirs < 1)).double().mean() > 0.2  # or it is clamped values that are compared
    assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, **EXACT)
    pictures = model.generate(prompts, SEEDS, steps=STEPS, guidance=GUIDANCE)
    # half a grey level from rounding to bytes, and what float32 loses just before it
    assert (torch.from_numpy(pictures).permute(0, 3, 1, 2) - theirs * 255).abs().max() < 0.501


def sample(model: LatentDiffusion, prompts: list[str]) -> list[State]:
    return list(model.denoise(model.encode_prompts(prompts), SEEDS, steps=STEPS, guidance=GUIDANCE))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd1", "sd2", "bk-sdm"])
def test_prompt_to_picture_equals_stable_diffusion(kind, folder):
    theirs = StableDiffusionPipeline.from_pretrained(
        folder(kind), dtype=torch.float32, safety_checker=None, feature_extractor=None, local_files_only=True
    )
    parts = {"unet": theirs.unet, "autoencoder": theirs.vae, "text_encoder": theirs.text_encoder}
    assert_equal(public(kind)._replace(parts=parts).tensors(), public(kind).tensors())  # it is a folder they read
    model = in_float64(load(folder(kind)))
    theirs.scheduler = exactly(DDIMScheduler.from_config(theirs.scheduler.config))
    theirs.set_progress_bar_config(disable=True)
    z, seen = z_T(model), []
    pictures = theirs.to(torch.float64)(
        PROMPTS,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=z,
        output_type="pt",
        callback_on_step_end=lambda *args: seen.append(args[3]["latents"]) or {},
    ).images
    states = sample(model, PROMPTS)
    for state, latents in zip(states, seen, strict=True):
        assert_close(state.z_t, latents, **EXACT)
    assert_pictures_equal(model, states[-1], PROMPTS, pictures)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*use_return_dict")  # LDMBertModel's, of transformers
def test_prompt_to_picture_equals_latent_diffusion(folder):
    theirs = LDMTextToImagePipeline.from_pretrained(folder("text2im"), dtype=torch.float32, local_files_only=True)
    parts = {"unet": theirs.unet, "autoencoder": theirs.vqvae, "text_encoder": theirs.bert}
    assert_equal(public("text2im")._replace(parts=parts).tensors(), public("text2im").tensors())
    model = in_float64(load(folder("text2im")))
    exactly(theirs.scheduler)
    theirs.set_progress_bar_config(disable=True)
    pictures = theirs.to(torch.float64)(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=z_T(model), output_type="pt"
    ).images
    assert_pictures_equal(model, sample(model, PROMPTS)[-1], PROMPTS, pictures)


@torch.no_grad()
def test_noise_to_picture_without_prompts(folder):
    """As the model's card unrolls it, for its pipeline divides by a scale that such a model has not."""
    model, theirs = in_float64(load(folder("celebahq"))), celebahq().parts
    unet, first_stage = theirs["unet"].double(), theirs["autoencoder"].double()
    scheduler = exactly(DDIMScheduler.from_pretrained(folder("celebahq") / "scheduler"))
    scheduler.set_timesteps(STEPS)
    z, states = z_T(model), sample(model, ["", ""])
    for t, state in zip(scheduler.timesteps, states, strict=True):
        z = scheduler.step(unet(z, t).sample, t, z).prev_sample
        assert_close(state.z_t, z, **EXACT)
    pictures = (first_stage.decode(z).sample / 2 + 0.5).clamp(0, 1)
    assert_pictures_equal(model, states[-1], ["", ""], pictures)
