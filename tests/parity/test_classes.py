"""Class-conditional generation: CompVis' cin256-v2, its table of classes beside diffusers' UNet and first stage."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn
from torch.testing import assert_close

from ldm.class_embedder import ClassEmbedder, ClassTokenizer
from ldm.config import AutoencoderConfig, ClassConfig, ModelConfig, UNetConfig
from ldm.presets import PRESETS
from p2p.edits import Edit
from p2p.mappers import align, mapper
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import assert_equal, refused, tensors_of
from tests.support.public_json import WITH, WITHOUT, autoencoder_json, unet_json
from tests.support.public_models import Public, modules_of
from tests.support.public_shapes import VQ_F4, as_file, shapes_of
from tests.support.random_models import randomise
from weights.build import parts_of, shapes
from weights.detect import as_compvis
from weights.files.tokenizers import IMAGENET
from weights.load import load

# diffusers' schedulers, in numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DOWN, UP = [WITHOUT[0], WITH[0], WITH[0]], [WITH[1], WITH[1], WITHOUT[1]]
SMALL = ModelConfig(
    name="cin256",
    image_size=32,
    schedule=PRESETS["cin256"].schedule,
    autoencoder=AutoencoderConfig(channels=(32, 64, 64), latent_channels=3, codebook=40, scale=1.0),
    unet=UNetConfig(
        channels=(32, 64, 96), attention=(False, True, True), heads=(1, 1, 1), context_width=48, latent_channels=3
    ),
    text=ClassConfig(classes=1000, width=48),
)


def public(channels: list[int], down: list[str], up: list[str], width: int, vq: dict, config: ModelConfig) -> Public:
    """What the .yaml of cin256-v2 says, in diffusers' terms; for a UNet `attention_head_dim` is the number of heads."""
    settings = dict(in_channels=3, out_channels=3, attention_head_dim=1, cross_attention_dim=width)
    files = {"unet/config.json": unet_json(down, up, channels, **settings), "vqvae/config.json": vq}
    return Public(files, config, modules_of(files))


def file_of(model: Public, table: nn.Embedding) -> dict:
    return compvis(model) | {"cond_stage_model.embedding.weight": table.weight.detach()}


@pytest.fixture(scope="module")
def small() -> tuple[Public, nn.Embedding]:
    vq = autoencoder_json([32, 64, 64], _class_name="VQModel", latent_channels=3, num_vq_embeddings=40)
    model = public([32, 64, 96], DOWN, UP, 48, vq, SMALL)
    for seed, module in enumerate(model.parts.values()):
        randomise(module, seed).eval()
    return model, randomise(nn.Embedding(1001, 48), 9)


@pytest.fixture
def path(small, tmp_path) -> Iterator[Path]:
    with patch.dict(PRESETS, {"cin256": SMALL}):
        yield save_checkpoint(file_of(*small), tmp_path / "model.ckpt")


@pytest.mark.parametrize("prefix", ["", "cin256="])
def test_a_file_of_cin256_is_loaded_to_the_bit(path, small, prefix):
    model = load(f"{prefix}{path}")
    assert model.config == SMALL
    public, table = small
    assert_equal(tensors_of(model), public.tensors() | {"text_encoder.embedding.weight": table.weight})


def test_a_table_of_another_size_is_refused(small, path):
    tensors = file_of(*small) | {"cond_stage_model.embedding.weight": torch.zeros(1000, 48)}
    refused(r"\(1000, 48\) instead of \(1001, 48\)", f"cin256={save_checkpoint(tensors, path)}")


@torch.no_grad()
def test_guided_samples_are_those_of_diffusers(path, small):
    """The notebook of cin256-v2: the class's row beside row 1000, DDIM from its first step 1000 / steps apart."""
    public, table = small
    model, classes, w = load(path), ["tench", "207"], 3.0
    assert model.encode_prompts([*classes, ""]).equal(table(torch.tensor([[0], [207], [1000]])))
    scheduler = DDIMScheduler(
        1000, 0.0015, 0.0195, "scaled_linear", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    scheduler.set_timesteps(4)
    context = table(torch.tensor([[0], [207], [1000], [1000]]))
    z = torch.stack([torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    states = list(model.denoise(model.encode_prompts(classes), [3, 4], steps=4, guidance=w))
    for t, state in zip(scheduler.timesteps, states, strict=True):
        conditional, empty = public.parts["unet"](torch.cat([z, z]), t, context).sample.chunk(2)
        # rounding is 6e-8 a term; guidance makes 5 times a part's error, and the scheduler's alphas are float32
        z_prev = scheduler.step(empty + w * (conditional - empty), t, z).prev_sample
        assert_close(state.z_t, z_prev, rtol=0, atol=2e-4)
        z = state.z_t
    theirs = (public.parts["autoencoder"].decode(z).sample / 2 + 0.5).clamp(0, 1) * 255
    ours = torch.from_numpy(model.decode(z)).permute(0, 3, 1, 2)
    assert (ours - theirs).abs().max() < 0.5 + 0.02  # rounding to bytes, and 1e-4 of 127.5 grey levels


def test_the_full_shapes_are_those_of_diffusers_and_the_paper():
    config = PRESETS["cin256"]
    with torch.device("meta"):
        model = public([192, 384, 576, 960], [DOWN[0], *[WITH[0]] * 3], [*[WITH[1]] * 3, UP[-1]], 512, VQ_F4, config)
        table = nn.Embedding(1001, 512)
    assert not as_compvis(as_file(shapes_of(file_of(model, table))), "cin256", config, ema=True).misfit()
    numbers = {part: sum(map(prod, shapes(of).values())) for part, of in parts_of(config).items()}
    # CompVis' training prints 400.92 M for the UNet; the paper's table says 400 M
    assert numbers == {"unet": 400_920_579, "text_encoder": 1001 * 512, "autoencoder": 55_322_782}


# ---------------------------------------------------------------------------------------------------------------------
# classes by name and number

PETS = ClassTokenizer(("cat", "Dog", "gold fish"), ClassConfig(classes=3, width=2, length=4))


@pytest.mark.equation("C9")
def test_a_class_is_its_rows_of_the_table():
    embedder = ClassEmbedder(PETS.config)
    with torch.no_grad():
        embedder.embedding.weight.copy_(torch.arange(32.0).reshape(16, 2))
    context = embedder(PETS.batch(["dog", " Gold Fish", "2", ""]))
    assert context[0].tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]]
    assert context[1].equal(context[2]) and context[1, 0, 0] == 16
    assert context[3, 0, 0] == 24  # no class


@pytest.mark.parametrize(
    "prompt, message",
    [
        ("dgo", "^no class 'dgo'. Did you mean 'dog'\\? Give one of cat, Dog, gold fish, or its number, 0 to 2$"),
        ("3", "no class '3'"),  # the row of no class
        ("-1", "no class '-1'"),
        ("a photo of a cat", "no class 'a photo of a cat'"),
    ],
)
def test_an_unknown_class(prompt, message):
    with pytest.raises(ValueError, match=message):
        PETS.encode(prompt)


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat", "dog", "Cat"), ("cat", "dog", "")])
def test_names_that_do_not_tell_classes_apart(names):
    with pytest.raises(ValueError, match=r"names of classes|two classes"):
        ClassTokenizer(names, PETS.config)


def test_the_names_of_imagenet():
    """The numbers of five classes, from its public lists: WordNet's order, fish first and paper last."""
    words = ClassTokenizer(IMAGENET.read_text(encoding="utf-8").splitlines(), PRESETS["cin256"].text)
    numbers = {"tench": 0, "golden retriever": 207, "tabby cat": 281, "projectile": 744, "toilet paper": 999}
    assert {name: words.encode(name).ids for name in numbers} == {name: (n,) for name, n in numbers.items()}


def test_edits_need_a_context_of_several_tokens():
    cat, dog = PETS.encode("cat"), PETS.encode("dog")
    assert "swap 'cat' for 'dog'" in str(Edit.between(cat, dog))
    M = mapper(align(cat, dog, (("cat", "dog"),)), 4)
    assert_close(M.sum(dim=0), torch.ones(4, dtype=M.dtype))  # each token takes one token's attention, or a mean
    assert M[0, 0] == M[3, 3] == 1  # BOS and EOS
    one = ClassTokenizer(PETS.names, replace(PETS.config, length=1))
    with pytest.raises(ValueError, match="'cat' is one token, which gets all attention"):
        Edit.between(one.encode("cat"), one.encode("dog"))
