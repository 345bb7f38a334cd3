"""Names and shapes at the public sizes, without any weights: the numbers that the hub records of its files.

A .safetensors file is a header, which holds each tensor's name, kind, shape and place, and the numbers. So its size
follows from names and shapes; that the sizes of public files come out to the byte says that these are theirs.
"""

from math import prod

import pytest
import torch

from ldm.presets import AUTOENCODERS, CLIP_PRESETS, PRESETS
from tests.support.public_files import names_of_today, public_names
from tests.support.public_shapes import Shapes, compvis_file, full, shapes_of, size
from weights.build import parts_of, shapes
from weights.key_names import in_diffusers

NAMED = ("sd15", "sd21", "ldm-text2im", "ldm-celebahq", "ldm-super-resolution-4x")
SD1, SD2, TEXT2IM, CELEBAHQ, SUPER_RESOLUTION = (PRESETS[name] for name in NAMED)


@pytest.mark.parametrize(
    "config, parameters, tensors",
    [
        (SD1.unet, 859_520_964, 686),
        (SD2.unet, 865_910_724, 686),
        (TEXT2IM.unet, 872_300_484, 686),
        (CELEBAHQ.unet, 274_056_163, 432),
        (SUPER_RESOLUTION.unet, 113_622_563, None),
        (PRESETS["bk-sdm-base"].unet, 579_384_964, None),
        (PRESETS["bk-sdm-small"].unet, 482_346_884, None),
        (PRESETS["bk-sdm-tiny"].unet, 323_384_964, None),
        (SD1.autoencoder, 83_653_863, 248),
        (CELEBAHQ.autoencoder, 55_322_782, 205),
        (AUTOENCODERS["vq-f8"], 67_717_295, None),
        (SD1.text, 123_060_480, 196),
        (SD2.text, 340_387_840, 372),
        # the file has a head besides, which training alone uses: weight and bias, a row per entry
        (TEXT2IM.text, 581_994_042 - 30_522 * (1280 + 1), 422 - 2),
        (CLIP_PRESETS["clip-vit-l"], 427_616_513, None),
    ],
    ids=[
        *("sd1", "sd2", "text2im", "celebahq", "super-resolution", "bk-base", "bk-small", "bk-tiny"),
        *("kl-f8", "vq-f4", "vq-f8", "clip-l", "open-clip-h", "bert", "clip"),
    ],
)
def test_numbers_of_parameters_are_those_of_the_public_models(config, parameters, tensors):
    assert sum(map(prod, shapes(config).values())) == parameters
    assert tensors is None or len(shapes(config)) == tensors


# ---------------------------------------------------------------------------------------------------------------------
# sizes of files


@pytest.mark.parametrize(
    "preset, part, names, dtype, first_version, expected",
    [
        ("sd15", "unet", public_names, torch.float32, True, 3_438_167_534),  # sd14
        ("sd15", "unet", public_names, torch.float32, False, 3_438_167_536),  # sd14, not averaged
        ("sd15", "unet", public_names, torch.float16, False, 1_719_125_304),  # sd14, half
        ("sd21", "unet", public_names, torch.float32, True, 3_463_726_498),
        ("sd15", "text_encoder", public_names, torch.float32, True, 492_265_879),  # sd14
        ("sd15", "text_encoder", public_names, torch.float16, False, 246_144_864),  # sd14, half
        ("sd21", "text_encoder", public_names, torch.float32, True, 1_361_597_018),
        ("sd15", "autoencoder", public_names, torch.float32, True, 334_643_276),  # sd14, sd15, sd21
        ("sd15", "autoencoder", names_of_today, torch.float16, False, 167_335_342),  # sd14, half
    ],
)
def test_diffusers_files_have_the_sizes_that_the_hub_records(preset, part, names, dtype, first_version, expected):
    """And every name in them but for the buffer's is where we look for a parameter of its shape."""
    file = shapes_of(names(full(preset).parts[part]), dtype)
    assert size(file, first_version) == expected
    ours = shapes(parts_of(PRESETS[preset])[part])
    looked_for = {source.name: (dtype, ours[name]) for name, source in in_diffusers(ours, file).items()}
    assert looked_for == {name: shape for name, shape in file.items() if not name.endswith("position_ids")}


def without(tensors: Shapes, prefix: str) -> Shapes:
    return {name: shape for name, shape in tensors.items() if not name.startswith(prefix)}


def test_compvis_files_have_the_sizes_that_the_hub_records():
    """That our parameters are found in the same files is a test of test_layouts."""
    sd1, sd2 = compvis_file("sd15"), compvis_file("sd21")
    assert (len(sd1), size(sd1, True)) == (1145, 4_265_146_304)  # v1-5-pruned-emaonly
    plain = without(sd2, "model_ema.")
    assert (len(plain), size(plain, True)) == (1240, 5_214_604_312)  # v2-1_*-nonema-pruned
    assert size(sd2, True) == 5_214_604_494  # v2-1_*-ema-pruned
    # v1-5-pruned: in another order, hence with a few digits more or less in its tensors' places; without the dots'
    # removal, it would be thousands
    averaged = compvis_file("sd15", averaged=True)
    assert len(averaged) == 1831
    assert size(averaged, True) == pytest.approx(7_703_324_286, rel=0, abs=8)
