"""The tensors of the public models at full size: names, dtypes and shapes, without any numbers.

The modules are diffusers' and transformers' own, made from the numbers of the public JSON files; of CompVis' files the
names are those that tests/support/compvis_files.py gives. Nothing here is by the rules of weights/key_names.py.
"""

import json
from functools import cache
from math import prod
from pathlib import Path

import torch
from torch import nn

from ldm.presets import PRESETS
from tests.support.compvis_files import compvis
from tests.support.public_json import WITH, WITHOUT, autoencoder_json, bert_json, text_json, unet_json
from tests.support.public_models import Public, Tensors, module_of, modules_of
from weights.files.tensors import TensorFile

PATH = Path("model.safetensors")
Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]

DOWN, UP = [WITH[0]] * 3 + [WITHOUT[0]], [WITHOUT[1]] + [WITH[1]] * 3
WIDTHS = [320, 640, 1280, 1280]
KL = autoencoder_json([128, 256, 512, 512])
FACES = unet_json(
    ["DownBlock2D", *["AttnDownBlock2D"] * 3],
    [*["AttnUpBlock2D"] * 3, "UpBlock2D"],
    [224, 448, 672, 896],
    _class_name="UNet2DModel",
    attention_head_dim=32,
    in_channels=3,
    out_channels=3,
)
SUPER_RESOLUTION = unet_json(
    [*["DownBlock2D"] * 3, "AttnDownBlock2D"],
    ["AttnUpBlock2D", *["UpBlock2D"] * 3],
    [160, 320, 320, 640],
    _class_name="UNet2DModel",
    attention_head_dim=32,
    in_channels=6,
    out_channels=3,
)
VQ_F4 = autoencoder_json([128, 256, 512], _class_name="VQModel", latent_channels=3, num_vq_embeddings=8192)
VQ_F8 = autoencoder_json(
    [128, 256, 256, 512],
    _class_name="VQModel",
    down_block_types=[*["DownEncoderBlock2D"] * 3, "AttnDownEncoderBlock2D"],
    up_block_types=["AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3],
    num_vq_embeddings=16384,
    vq_embed_dim=4,
)
FIRST_STAGES = {"kl-f8": KL, "vq-f4": VQ_F4, "vq-f8": VQ_F8}
FILES = {
    "sd15": {
        "unet/config.json": unet_json(DOWN, UP, WIDTHS, cross_attention_dim=768),
        "vae/config.json": KL,
        "text_encoder/config.json": text_json(
            vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        ),
    },
    "sd21": {
        "unet/config.json": unet_json(
            DOWN,
            UP,
            WIDTHS,
            attention_head_dim=[5, 10, 20, 20],
            cross_attention_dim=1024,
            use_linear_projection=True,
        ),
        "vae/config.json": KL,
        "text_encoder/config.json": text_json(
            hidden_act="gelu",
            vocab_size=49408,
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=23,
            num_attention_heads=16,
        ),
    },
    "ldm-text2im": {
        "unet/config.json": unet_json(DOWN, UP, WIDTHS, cross_attention_dim=1280),
        "vqvae/config.json": KL,
        "bert/config.json": bert_json(
            vocab_size=30522, encoder_layers=32, encoder_attention_heads=8, head_dim=64, encoder_ffn_dim=5120
        ),
    },
    "ldm-celebahq": {"unet/config.json": FACES, "vqvae/config.json": VQ_F4},
    "ldm-super-resolution-4x": {"unet/config.json": SUPER_RESOLUTION, "vqvae/config.json": VQ_F4},
}


@cache
def full(preset: str) -> Public:
    with torch.device("meta"):
        return Public(FILES[preset], PRESETS[preset], modules_of(FILES[preset]))


def first_stage(name: str) -> nn.Module:
    with torch.device("meta"):
        return module_of(FIRST_STAGES[name])


def shapes_of(tensors: Tensors, dtype: torch.dtype = torch.float32) -> Shapes:
    """The numbers in this dtype; what is no floating number as it is."""
    return {
        name: (dtype if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape))
        for name, tensor in tensors.items()
    }


def compvis_file(preset: str, averaged: bool = False) -> Shapes:
    """As published, which is without the first stage's training losses."""
    tensors = compvis(full(preset), full(preset).parts["unet"] if averaged else None)
    return {name: shape for name, shape in shapes_of(tensors).items() if ".loss." not in name}


KIND = {torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16"}  # as they are sorted


def header(tensors: Shapes, **metadata: dict) -> tuple[bytes, int]:
    """The header of a .safetensors file, and how many bytes of numbers follow it."""
    entries, end = dict(metadata), 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + prod(shape) * dtype.itemsize
        entries[name] = {"dtype": KIND[dtype], "shape": shape, "data_offsets": [start, end]}
    return json.dumps(entries, separators=(",", ":")).encode(), end


def size(tensors: Shapes, first_version: bool) -> int:
    """Bytes of a .safetensors file: the header's length in 8 bytes, the header, the numbers.

    Tensors lie by kind, then by name, and spaces fill the header up to a multiple of 8 bytes. The library's first
    versions, which wrote many of the public files, sorted by name alone and filled nothing up.
    """
    order = lambda name: (0 if first_version else list(KIND).index(tensors[name][0]), name)
    text, end = header({name: tensors[name] for name in sorted(tensors, key=order)}, __metadata__={"format": "pt"})
    return 8 + (len(text) if first_version else -(-len(text) // 8) * 8) + end


def as_file(tensors: Shapes) -> TensorFile:
    meta = {name: torch.empty(shape, dtype=dtype, device="meta") for name, (dtype, shape) in tensors.items()}
    return TensorFile(PATH, meta)
