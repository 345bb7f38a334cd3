"""diffusers' own readers of CompVis files take every parameter from the same place, at the full sizes of public models.

Nothing is loaded: in place of each tensor stands one of its shape, whose numbers say which tensor and which row they
are, and which takes the memory of one column.
"""

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from ldm.presets import PRESETS
from tests.support.public_shapes import FILES, compvis_file, full
from weights.build import parts_of
from weights.key_names import in_compvis

ROWS = 2**16  # more than the longest tensor has, which is a vocabulary of 49,408


def marked(which: int, shape: tuple[int, ...]) -> Tensor:
    if not shape:
        return torch.tensor(which * ROWS, dtype=torch.int32)
    rows = which * ROWS + torch.arange(shape[0], dtype=torch.int32)
    return rows.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)


def read_by_diffusers(preset: str, file: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Every part's tensors, by diffusers' names."""
    text_encoder = full(preset).parts["text_encoder"]
    if preset == "sd15":
        text = convert_ldm_clip_checkpoint(dict(file))
    else:
        text = convert_open_clip_checkpoint(text_encoder, dict(file))
    return {
        "unet": convert_ldm_unet_checkpoint(dict(file), FILES[preset]["unet/config.json"]),
        "autoencoder": convert_ldm_vae_checkpoint(dict(file), FILES[preset]["vae/config.json"]),
        "text_encoder": {name.removeprefix("text_model."): tensor for name, tensor in text.items()},
    }


@pytest.mark.parametrize("preset", ["sd15", "sd21"])
def test_diffusers_takes_every_parameter_from_the_same_place(preset):
    file = {name: marked(i, shape) for i, (name, (_, shape)) in enumerate(compvis_file(preset).items())}
    theirs = read_by_diffusers(preset, file)
    for part, config in parts_of(PRESETS[preset]).items():
        layout = in_compvis(part, config, file)
        theirs[part].pop("embeddings.position_ids", None)  # a buffer, 0 1 2 ...
        assert layout.keys() == theirs[part].keys()
        for name, source in layout.items():
            ours, other = source.pick(file[source.name]), theirs[part][name]
            assert ours.shape == other.shape, name
            column = (slice(None), *[0] * (ours.dim() - 1))  # all columns are alike
            assert torch.equal(ours[column], other[column]), f"{part}.{name} is not {source.name}"
