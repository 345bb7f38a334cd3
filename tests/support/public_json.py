"""The JSON files of public repositories, from public_models.json, and small vocabularies for them."""

import json
from functools import cache
from pathlib import Path

from parity.test_tokenizer import BOS, EOS, public_clip

DATA = json.loads(Path(__file__).with_name("public_models.json").read_text(encoding="utf-8"))
PNDM, DDIM_V, FIRST_DDIM, SD_INDEX = (DATA[name] for name in ("PNDM", "DDIM_V", "FIRST_DDIM", "SD_INDEX"))

MODEL, UNET, VAE, VQ = "model_index.json", "unet/config.json", "vae/config.json", "vqvae/config.json"
TEXT, BERT, SCHEDULER = "text_encoder/config.json", "bert/config.json", "scheduler/scheduler_config.json"
WITH, WITHOUT = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D"), ("DownBlock2D", "UpBlock2D")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDPIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{c}" for c in LETTERS)]
WORDPIECES += ["photo", "of", "cat", "on", "##ing", "paint"]


@cache
def small_clip() -> tuple[dict[str, int], list[str]]:
    """The beginning of CLIP's vocabulary: bytes, bytes that end a word, the first merges; then the special tokens."""
    vocab, merges = public_clip()
    entries = [*list(vocab)[: 512 + 300], BOS, EOS]
    return {entry: i for i, entry in enumerate(entries)}, merges[:300]


def unet_json(down: list[str], up: list[str], channels: list[int], **more) -> dict:
    """Stable Diffusion 1's, as far as all have it."""
    return DATA["unet"] | {"block_out_channels": channels, "down_block_types": down, "up_block_types": up} | more


def autoencoder_json(channels: list[int], **more) -> dict:
    blocks = {f"{way}_block_types": [block] * len(channels) for way, block in DATA["autoencoder_blocks"].items()}
    return DATA["autoencoder"] | {"block_out_channels": channels} | blocks | more
