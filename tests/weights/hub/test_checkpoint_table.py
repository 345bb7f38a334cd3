"""The table of public checkpoints: names, sizes, pins and hashes."""

import re
from collections import Counter
from pathlib import Path

import huggingface_hub
import pytest

from weights.checkpoints import CHECKPOINTS, LICENCES, STABLE_DIFFUSION

CLIP_L, CLIP_H, KL, SD1, SD2 = 123_060_480, 340_387_840, 83_653_863, 859_520_964, 865_910_724
PARAMETERS = {  # of the networks, counted on the classes of diffusers and transformers
    "sd14": CLIP_L + KL + SD1,
    "sd15": CLIP_L + KL + SD1,
    "sd21-base": CLIP_H + KL + SD2,
    "sd21": CLIP_H + KL + SD2,
    "sd-turbo": CLIP_H + KL + SD2,
    "small-sd": CLIP_L + KL + 579_384_964,
    "tiny-sd": CLIP_L + KL + 323_384_964,
    "bk-sdm-base": CLIP_L + KL + 579_384_964,
    "bk-sdm-small": CLIP_L + KL + 482_346_884,
    "bk-sdm-tiny": CLIP_L + KL + 323_384_964,
    "ldm-text2im": 581_994_042 + 872_300_484 + KL,
    "ldm-celebahq": 274_056_163 + 55_322_782,
    "ldm-super-resolution-4x": 113_622_563 + 55_322_782,
    "sd-vae-ft-mse": KL,
    "clip-vit-l": 427_616_513,
    "clip-tokenizer": 0,
    "bert-tokenizer": 0,
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_an_entry_of_the_table(name):
    entry = CHECKPOINTS[name]
    for repository in (entry.hub, *entry.mirrors):
        huggingface_hub.utils.validate_repo_id(repository)
        # removed by their publishers
        assert not repository.startswith(("runwayml/", "stabilityai/stable-diffusion-2"))
    assert entry.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert entry.licence in LICENCES
    # float32, and beside it vocabularies and headers of at most 2 MB; rounded to 10 MB
    assert -1e7 < entry.size - 4 * PARAMETERS[name] < 1.2e7
    assert not [file for file in entry.files if re.search(r"safety|fp16|ema|flax|onnx|\.ckpt|\.msgpack|\.\.", file)]
    assert entry.sha256.keys() <= set(entry.files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", known) for known in entry.sha256.values())
    weights = [file for file in entry.files if not file.endswith((".json", ".txt"))]
    # which is all that holds a mirror to the same content
    assert not entry.mirrors or set(weights) <= entry.sha256.keys()
    assert (entry.kind == "model") is ("model_index.json" in entry.files)
    assert (entry.kind == "tokenizer") is (not weights)
    # no weights without their configuration
    assert {f"{Path(file).parent}/config.json".removeprefix("./") for file in weights} <= set(entry.files)


def test_no_commit_is_anothers():
    pinned = {entry.revision: entry.hub for entry in CHECKPOINTS.values() if entry.revision != "main"}
    assert len(set(pinned.values())) == len(pinned) == 6
    assert all(pinned.get(entry.revision, entry.hub) == entry.hub for entry in CHECKPOINTS.values())


def test_no_hash_is_anothers():
    """Files that are the same in several checkpoints are counted here; any other repetition is a slip."""
    seen = Counter((file, sha256) for entry in CHECKPOINTS.values() for file, sha256 in entry.sha256.items())
    assert len({sha256 for _, sha256 in seen}) == len(seen)
    assert {file: count for (file, _), count in seen.items() if count > 1} == {
        "tokenizer/vocab.json": 3,
        "tokenizer/merges.txt": 3,
        "vae/diffusion_pytorch_model.safetensors": 2,  # sd14 and sd15
        "text_encoder/model.safetensors": 2,  # sd21-base and sd21
        "tokenizer/vocab.txt": 2,
    }


def test_pickles_that_stand_in_for_safetensors():
    choices = CHECKPOINTS["small-sd"].choices
    assert choices("unet/config.json") == ("unet/config.json",)
    assert choices("unet/diffusion_pytorch_model.safetensors")[1] == "unet/diffusion_pytorch_model.bin"
    assert choices("text_encoder/model.safetensors")[1] == "text_encoder/pytorch_model.bin"
    assert CHECKPOINTS["clip-vit-l"].choices("model.safetensors")[1] == "pytorch_model.bin"
    assert all(len(CHECKPOINTS["sd14"].choices(file)) == 1 for file in STABLE_DIFFUSION)
