"""An autoencoder and CLIP on their own."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.support.compvis_files import compvis_autoencoder, save_checkpoint, training_losses
from tests.support.model_files import assert_equal
from tests.support.public_files import names_of_today, public_names, save, stem, write_clip_tokenizer
from tests.support.public_models import clip, our_tensors, public, vq_with_attention
from weights.load import load_autoencoder, load_clip

# float64 and outputs of order 1 to 10: rounding is 1e-16 a term, of a few hundred terms in some twenty layers. A tensor
# taken for another, or rows of it in another order, show at 1e-3 and above.
EXACT = dict(rtol=0, atol=1e-10)

# ---------------------------------------------------------------------------------------------------------------------
# autoencoders


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


def test_an_unknown_autoencoder_is_refused(tmp_path):
    tensors = compvis_autoencoder(public("sd1").parts["autoencoder"])
    del tensors["decoder.up.0.block.1.conv1.weight"]
    path = save_checkpoint(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit kl, an autoencoder in a CompVis file") as error:
        load_autoencoder(path)
    assert "1 missing ('autoencoder.decoder.up_blocks.2.resnets.1.conv1.weight')" in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# CLIP


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
    ours, _ = load_clip(clip_folder(change, whole=whole))
    assert_equal(dict(ours.state_dict()), our_tensors(clip()[1]))


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
        ({"model_type": "siglip"}, "'model_type' is 'siglip'; here it can be 'clip'"),
        ({TEXT: [1]}, "'text_config' or its copy is not an object"),
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
