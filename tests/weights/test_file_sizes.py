"""Names and shapes at the public sizes, without any weights: the numbers that the hub records of its files.

A .safetensors file is a header, which holds each tensor's name, kind, shape and place, and the numbers. So its size
follows from names and shapes; that the sizes of public files come out to the byte says that these are theirs.
"""

from math import prod

import pytest
import torch

from ldm.presets import AUTOENCODERS, CLIP_PRESETS, PRESETS
from tests.support.public_files import names_of_today, public_names
from tests.support.public_shapes import compvis_file, full, shapes_of, size
from weights.build import parts_of, shapes
from weights.key_names import in_diffusers


# of the others, the sizes of files below say it
@pytest.mark.parametrize(
    "config, parameters",
    [
        (PRESETS["ldm-text2im"].unet, 872_300_484),
        (PRESETS["ldm-celebahq"].unet, 274_056_163),
        (PRESETS["ldm-super-resolution-4x"].unet, 113_622_563),
        (PRESETS["bk-sdm-base"].unet, 579_384_964),
        (PRESETS["bk-sdm-small"].unet, 482_346_884),
        (PRESETS["bk-sdm-tiny"].unet, 323_384_964),
        (PRESETS["ldm-celebahq"].autoencoder, 55_322_782),
        (AUTOENCODERS["vq-f8"], 67_717_295),
        # the file has a head besides, which training alone uses: weight and bias, a row per entry
        (PRESETS["ldm-text2im"].text, 581_994_042 - 30_522 * (1280 + 1)),
        (CLIP_PRESETS["clip-vit-l"], 427_616_513),
    ],
    ids=("text2im", "celebahq", "super", "bk-base", "bk-small", "bk-tiny", "vq-f4", "vq-f8", "bert", "clip"),
)
def test_numbers_of_parameters_are_those_of_the_public_models(config, parameters):
    assert sum(map(prod, shapes(config).values())) == parameters


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


def test_compvis_files_have_the_sizes_that_the_hub_records():
    """That our parameters are found in the same files is a test of test_layouts."""
    sd1, sd2 = compvis_file("sd15"), compvis_file("sd21")
    assert (len(sd1), size(sd1, True)) == (1145, 4_265_146_304)  # v1-5-pruned-emaonly
    plain = {name: shape for name, shape in sd2.items() if not name.startswith("model_ema.")}
    assert (len(plain), size(plain, True)) == (1240, 5_214_604_312)  # v2-1_*-nonema-pruned
    assert size(sd2, True) == 5_214_604_494  # v2-1_*-ema-pruned
    # v1-5-pruned: in another order, hence with a few digits more or less in its tensors' places; without the dots'
    # removal, it would be thousands
    averaged = compvis_file("sd15", averaged=True)
    assert len(averaged) == 1831
    assert size(averaged, True) == pytest.approx(7_703_324_286, rel=0, abs=8)
