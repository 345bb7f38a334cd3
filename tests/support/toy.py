"""A checkpoint of a few small files, beside others that it does not want."""

from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import huggingface_hub.constants

from tests.support.server import Repository
from weights.checkpoints import Checkpoint

UNET, VAE, VOCABULARY = "unet/diffusion_pytorch_model.safetensors", "vae/model.safetensors", "tokenizer/vocab.json"
CONTENT = {
    "model_index.json": b'{"a": 1}',
    VOCABULARY: b'{"a</w>": 0}' * 100,
    VAE: b"vae" * 1000,
    UNET: bytes(range(256)) * 100,  # 25,600 bytes
}
NOT_WANTED = {"README.md": b"hello", "unet/diffusion_pytorch_model.fp16.safetensors": b"half", "../../../evil": b"evil"}
REPOSITORY = Repository(CONTENT | NOT_WANTED)
TOY = Checkpoint("a toy", "maker/toy", licence="openrail++", size=0, files=[*CONTENT], revision=REPOSITORY.commit)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def offline() -> AbstractContextManager:
    """As the variable HF_HUB_OFFLINE has it, which the client reads when it is imported."""
    return patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
