"""The table of public checkpoints: names, sizes, pins and hashes."""

import re
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
    "sd-vae-ft-mse": KL,
    "clip-vit-l": 427_616_513,
    "clip-tokenizer": 0,
    "bert-tokenizer": 0,
}


def test_the_table_has_every_name():
    assert list(CHECKPOINTS) == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_entry_of_the_table(name):
    entry = CHECKPOINTS[name]
    for repository in (entry.hub, *entry.mirrors):
        assert re.fullmatch(r"[\w-]+/[\w.-]+", repository)
        huggingface_hub.utils.validate_repo_id(repository)
        # removed by their publishers
        assert not repository.startswith(("runwayml/", "stabilityai/stable-diffusion-2"))
    assert len({entry.hub, *entry.mirrors}) == 1 + len(entry.mirrors)
    assert entry.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert entry.licence in LICENCES
    # float32, and beside it vocabularies and headers of at most 2 MB
    assert 0 <= entry.size - 4 * PARAMETERS[name] < 2e6
    assert len(set(entry.files)) == len(entry.files)
    assert not [file for file in entry.files if re.search(r"safety|fp16|ema|flax|onnx|\.ckpt|\.msgpack|\.\.", file)]
    assert entry.sha256.keys() <= set(entry.files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", known) for known in entry.sha256.values())
    weights = [file for file in entry.files if not file.endswith((".json", ".txt"))]
    # which is all that holds a mirror to the same content
    assert not entry.mirrors or set(weights) <= entry.sha256.keys()
    assert (entry.kind == "model") is ("model_index.json" in entry.files)
    assert (entry.kind == "tokenizer") is (not weights)
    assert all(file.endswith(".bin" if name.startswith("ldm-") else ".safetensors") for file in weights)
    for file in weights:
        config = f"{Path(file).parent}/config.json".removeprefix("./")
        assert config in entry.files  # no weights without their configuration


def test_the_entries_without_a_pin():
    unpinned = {name for name, entry in CHECKPOINTS.items() if entry.revision == "main"}
    small = {"small-sd", "tiny-sd", "bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"}
    assert unpinned == {"sd21-base", "sd21", "ldm-celebahq", *small}


def test_no_commit_is_anothers():
    repositories = {}
    for entry in CHECKPOINTS.values():
        if entry.revision != "main":
            repositories.setdefault(entry.revision, set()).add(entry.hub)
    assert len(repositories) == 6 and all(len(hubs) == 1 for hubs in repositories.values())


def test_no_hash_is_anothers():
    """Files that are the same in several checkpoints are named here; any other repetition is a slip of the pen."""
    seen = {}
    for name, entry in CHECKPOINTS.items():
        for file, known in entry.sha256.items():
            seen.setdefault(known, set()).add((file, name))
    shared = {frozenset(where) for where in seen.values() if len(where) > 1}
    texts = [frozenset((f"tokenizer/{f}", n) for n in ("sd14", "sd15", "sd21")) for f in ("vocab.json", "merges.txt")]
    assert shared == {
        *texts,
        frozenset(("vae/diffusion_pytorch_model.safetensors", name) for name in ("sd14", "sd15")),
        frozenset(("text_encoder/model.safetensors", name) for name in ("sd21-base", "sd21")),
        frozenset(("tokenizer/vocab.txt", name) for name in ("ldm-text2im", "bert-tokenizer")),
    }


def test_the_pickles_that_stand_in_for_safetensors():
    choices = CHECKPOINTS["small-sd"].choices
    assert choices("unet/config.json") == ("unet/config.json",)
    assert choices("unet/diffusion_pytorch_model.safetensors")[1] == "unet/diffusion_pytorch_model.bin"
    assert choices("text_encoder/model.safetensors")[1] == "text_encoder/pytorch_model.bin"
    assert CHECKPOINTS["clip-vit-l"].choices("model.safetensors")[1] == "pytorch_model.bin"
    assert all(len(CHECKPOINTS["sd14"].choices(file)) == 1 for file in STABLE_DIFFUSION)
