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
from tests.support.public_json import DATA
from tests.support.public_models import Public, Tensors, module_of, modules_of
from weights.files.tensors import TensorFile

PATH = Path("model.safetensors")
Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]

FIRST_STAGES = DATA["first_stages"]
VQ_F4 = FIRST_STAGES["vq-f4"]
FILES = {preset: entry["files"] for preset, entry in DATA["full"].items()}


@cache
def full(preset: str) -> Public:
    with torch.device("meta"):
        return Public(FILES[preset], PRESETS[preset], modules_of(FILES[preset]))


def first_stage(name: str) -> nn.Module:
    with torch.device("meta"):
        return module_of(FIRST_STAGES[name])


def shapes_of(tensors: Tensors, dtype: torch.dtype = torch.float32) -> Shapes:
    """The numbers in this dtype; what is no floating number as it is."""
    dtypes = {name: dtype if tensor.is_floating_point() else tensor.dtype for name, tensor in tensors.items()}
    return {name: (dtypes[name], tuple(tensor.shape)) for name, tensor in tensors.items()}


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
