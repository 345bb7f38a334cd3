"""Outdated values in a folder are repaired as diffusers' StableDiffusionPipeline repairs them when loading."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.testing import assert_close

from ldm.samplers import SAMPLERS
from ldm.states import State
from tests.support.public_json import MODEL, SCHEDULER, UNET
from tests.support.public_models import public
from weights.load import load

pytestmark = [
    # of diffusers' schedulers, in numpy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # what diffusers says of each repair
    pytest.mark.filterwarnings("ignore:The configuration file of:FutureWarning"),
]

PROMPT, STEPS, GUIDANCE = "a photo of a cat", 10, 4.0
DDIM = {"_class_name": "DDIMScheduler", "steps_offset": ..., "set_alpha_to_one": ..., "clip_sample": ...}


@pytest.fixture
def write(copied):
    """A copy of a folder with one of its JSON files changed; a value of ... takes the key out."""

    def write(file: str, change: dict) -> Path:
        path, index = copied("sd1"), public("sd1").files[MODEL]
        content = {key: value for key, value in (public("sd1").files[file] | change).items() if value is not ...}
        (path / file).write_text(json.dumps(content))
        scheduler = {"scheduler": ["diffusers", content["_class_name"]]} if file == SCHEDULER else {}
        (path / MODEL).write_text(json.dumps(index | scheduler))
        return path

    return write


def theirs(path: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        path, safety_checker=None, feature_extractor=None, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    "sampler, change",
    [
        ("ddim", DDIM),  # of one that is silent: offset 1, and its end at alpha_bar_0
        ("ddim", DDIM | {"set_alpha_to_one": True, "steps_offset": 1}),
        ("ddim", DDIM | {"set_alpha_to_one": False, "steps_offset": 7, "clip_sample": True}),
        ("ddim", DDIM | {"steps_offset": 0, "timestep_spacing": "trailing"}),
        ("plms", {}),
        ("plms", {"steps_offset": ..., "set_alpha_to_one": ...}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(str(v) for v in value.values()),
)
@torch.no_grad()
def test_time_steps_and_latents_are_those_of_diffusers(sampler, change, write):
    path = write(SCHEDULER, change)
    pipeline, model = theirs(path), load(path)
    z_T = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    run = dict(num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent")
    expected = pipeline(PROMPT, latents=z_T.clone(), **run).images
    visited = SAMPLERS[sampler].visit(model.schedule, STEPS, None)
    assert [t - 1 for t in visited[:-1]] == pipeline.scheduler.timesteps.tolist()
    run = dict(steps=STEPS, guidance=GUIDANCE, sampler=SAMPLERS[sampler], start=State(model.schedule.T, z_T))
    *_, last = model.denoise(model.encode_prompts([PROMPT]), [0], **run)
    # float32: 1e-6 of a network call, times ten calls and the 15 of 1 / sqrt(alpha_bar_T); the wrong steps give 0.1 up
    assert_close(last.z_t, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "version, side, repaired", [("0.8.1", 32, 64), ("0.9.0.dev0", 32, 32), ("0.10.2", 8, 8), ("0.6.0", 96, 96)]
)
def test_the_side_that_old_versions_wrote_is_repaired(version, side, repaired, write):
    path = write(UNET, {"_diffusers_version": version, "sample_size": side})
    assert load(path).latent_shape[1:] == (repaired, repaired)
    assert theirs(path).unet.config.sample_size == repaired
