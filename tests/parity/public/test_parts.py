"""An autoencoder and CLIP on their own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm.zoo.clip import prepare
from tests.support.compvis_files import compvis_autoencoder, save_checkpoint, training_losses
from tests.support.model_files import assert_equal
from tests.support.public_files import names_of_today, public_names, save, stem, write_clip_tokenizer
from tests.support.public_models import clip, our_tensors, public, vq_with_attention
from weights.load import load_autoencoder, load_clip

# float64 and outputs of order 1 to 10: rounding is 1e-16 a term, of a few hundred terms in some twenty layers. A tensor
# taken for another, or rows of it in another order, show at 1e-3 and above.
EXACT = dict(rtol=0, atol=1e-10)


@pytest.fixture(params=["folder", "file", "old names", "compvis", "compvis, of a whole model"])
def first_stage(request, tmp_path) -> Callable[[nn.Module, dict], Path]:
    """Writes an autoencoder alone in one of its forms."""

    def write(module: nn.Module, content: dict) -> Path:
        if request.param.startswith("compvis"):
            prefix = "first_stage_model." if "whole" in request.param else ""
            tensors = compvis_autoencoder(module) | training_losses()
            return save_checkpoint({prefix + name: t for name, t in tensors.items()}, tmp_path / "model.ckpt")
        (tmp_path / "config.json").write_text(json.dumps(content))
        path = tmp_path / "diffusion_pytorch_model.bin"
        save((public_names if request.param == "old names" else names_of_today)(module), path)
        return tmp_path if request.param == "folder" else path

    return write


@torch.no_grad()
@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_an_autoencoder_alone(kind, first_stage):
    """VQ: with attention and a codebook, and of scale 1, though diffusers would take 0.18215 for a silent file."""
    sd1 = public("sd1")
    kl = sd1.files["vae/config.json"], sd1.config.autoencoder, sd1.parts["autoencoder"]
    content, config, theirs = kl if kind == "kl" else vq_with_attention()
    ours = load_autoencoder(first_stage(theirs, content))
    assert ours.config == config and not ours.training
    assert_equal(dict(ours.state_dict()), our_tensors(theirs))
    if kind == "vq":
        ours, theirs = ours.double(), theirs.double()
        x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
        z = theirs.encode(x).latents
        assert_close(ours.encode(x), z, **EXACT)
        assert len(ours.quantize.indices(z).unique()) > 10  # entries of the codebook, not one everywhere
        assert_close(ours.decode(z), theirs.decode(z).sample, **EXACT)


def test_an_unknown_autoencoder_is_refused(tmp_path):
    tensors = compvis_autoencoder(public("sd1").parts["autoencoder"])
    del tensors["decoder.up.0.block.1.conv1.weight"]
    path = save_checkpoint(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"kl, an autoencoder in a CompVis file: 1 missing \('autoencoder.decoder.up_"):
        load_autoencoder(path)


# ---------------------------------------------------------------------------------------------------------------------
# CLIP

TEXT, VISION = "text_config", "vision_config"
SECOND = f"{TEXT}_dict"


@pytest.fixture
def clip_folder(tmp_path) -> Callable[..., Path]:
    """Writes a folder of CLIP as transformers does, what config.json says of its towers changed; ... is left out."""

    def write(change: dict, suffix: str = ".safetensors", whole: bool = False, **text: object) -> Path:
        _, theirs = clip(**text)
        write_clip_tokenizer(tmp_path, pad="<|endoftext|>")
        save(public_names(theirs), tmp_path / (stem(theirs, suffix) + suffix))
        content = json.loads(theirs.config.to_json_string(use_diff=not whole))
        for name, values in change.items():
            content[name] = content.get(name, {}) | values if isinstance(values, dict) else values
            if isinstance(values, dict):
                content[name] = {key: value for key, value in content[name].items() if value is not ...}
        (tmp_path / "config.json").write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "change",
    [
        {},
        {TEXT: {"hidden_act": ..., "layer_norm_eps": ...}, VISION: {"hidden_act": ..., "layer_norm_eps": ...}},
        # as in OpenAI's file: one copy with all, and one with what is not transformers' default
        {SECOND: {"num_attention_heads": 4, "hidden_size": 32}, f"{VISION}_dict": {"patch_size": 8}},
        {SECOND: None, f"{VISION}_dict": None},
    ],
    ids=["as written", "silent on defaults", "two copies", "no copies"],
)
@pytest.mark.parametrize("whole", [False, True], ids=["differences", "all"])
def test_a_clip_as_transformers_describes_it_is_loaded(change, whole, clip_folder):
    ours, _ = load_clip(clip_folder(change, whole=whole))
    assert ours.config == clip()[0]
    assert_equal(dict(ours.state_dict()), our_tensors(clip()[1]))


@torch.no_grad()
@pytest.mark.parametrize("text", [{}, {"hidden_act": "gelu", "num_attention_heads": 2}], ids=["OpenAI", "LAION"])
def test_a_clip_of_other_numbers_embeds_as_in_transformers(text, clip_folder):
    """LAION's have tensors of the same names and shapes as OpenAI's, and another activation."""
    ours, tokenizer = load_clip(clip_folder({}, suffix=".bin", **text))
    ours, theirs = ours.double(), clip(**text)[1].double()
    ids = tokenizer.batch(["a cat", "cats on a beach"])
    expected = theirs.text_projection(theirs.text_model(ids).last_hidden_state[range(2), ids.argmax(-1)])
    assert_close(ours.embed_text(ids), expected / expected.norm(dim=-1, keepdim=True), **EXACT)
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    expected = theirs.visual_projection(theirs.vision_model(prepare(images, 32).double()).pooler_output)
    assert_close(ours.embed_images(images), expected / expected.norm(dim=-1, keepdim=True), **EXACT)


@pytest.mark.parametrize(
    "change, said",
    [
        ({SECOND: {"hidden_act": "gelu"}}, "'text_config' and 'text_config_dict' differ"),
        ({VISION: {"layer_norm_eps": 1e-6}}, "'layer_norm_eps' is 1e-06, which the classes here do not have"),
        ({TEXT: {"num_attention_heads": 5}}, "a text encoder of width 32 cannot have 5 heads"),
        ({VISION: {"hidden_act": "relu"}}, "'activation' is 'relu': Input should be 'quick_gelu' or 'gelu'"),
        ({VISION: {"patch_size": 16}}, "do not fit CLIP"),
        ({VISION: {"patch_size": ...}}, "do not fit CLIP"),
        ({"model_type": "siglip"}, "model_type must be 'clip', got 'siglip'"),
        ({TEXT: [1]}, "text_config must be "),
    ],
)
def test_a_clip_that_computes_otherwise_is_refused(change, said, clip_folder, nothing_is_read):
    with pytest.raises(ValueError, match=said):
        load_clip(clip_folder(change))
