"""Outdated values in a folder are repaired as diffusers' StableDiffusionPipeline repairs them when loading."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.testing import assert_close

from ldm.pipeline import State
from ldm.samplers import SAMPLERS
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
def write(folder, tmp_path):
    """A copy of a folder with one of its JSON files changed; a value of ... takes the key out."""

    def copy(file: str, change: dict, kind: str = "sd1") -> Path:
        path = shutil.copytree(folder(kind), tmp_path / "copy", dirs_exist_ok=True)
        content = {key: value for key, value in (public(kind).files[file] | change).items() if value is not ...}
        (path / file).write_text(json.dumps(content))
        index = public(kind).files[MODEL] | {"scheduler": ["diffusers", content.get("_class_name")]}
        (path / MODEL).write_text(json.dumps(index if file == SCHEDULER else public(kind).files[MODEL]))
        return path

    return copy


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
        ("ddim", DDIM | {"set_alpha_to_one": True, "steps_offset": 0}),
        ("ddim", DDIM | {"set_alpha_to_one": False}),
        ("ddim", DDIM | {"set_alpha_to_one": True, "steps_offset": 1}),
        ("ddim", DDIM | {"set_alpha_to_one": False, "steps_offset": 7, "clip_sample": True}),
        ("ddim", DDIM | {"steps_offset": -1}),
        ("ddim", DDIM | {"steps_offset": 0, "timestep_spacing": "trailing"}),
        ("plms", {}),
        ("plms", {"steps_offset": ..., "set_alpha_to_one": ...}),
        ("plms", {"steps_offset": 0, "set_alpha_to_one": True}),
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
    start = State(model.schedule.T, z_T)
    *_, last = model.denoise(
        model.encode_prompts([PROMPT]), [0], steps=STEPS, guidance=GUIDANCE, sampler=SAMPLERS[sampler], start=start
    )
    # float32: 1e-6 of a network call, times ten calls and the 15 of 1 / sqrt(alpha_bar_T); the wrong steps give 0.1 up
    assert_close(last.z_t, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "version, side, repaired",
    [
        ("0.6.0", 32, 64),
        ("0.8.1", 32, 64),
        ("0.9.0.dev0", 32, 32),
        ("0.9.0", 32, 32),
        ("0.10.2", 8, 8),
        ("0.6.0", 96, 96),
    ],
)
def test_the_side_that_old_versions_wrote_is_repaired(version, side, repaired, write, caplog):
    path = write(UNET, {"_diffusers_version": version, "sample_size": side})
    with caplog.at_level(logging.INFO, "weights"):
        model = load(path)
    assert model.latent_shape[1:] == (repaired, repaired)
    assert theirs(path).unet.config.sample_size == repaired
    assert ("is outdated; 64 is taken" in caplog.text) is (side != repaired)


def test_the_folders_of_latent_diffusion_are_taken_as_they_are(folder):
    """Their pipelines repair nothing: the public text2im counts from 0."""
    schedule = load(folder("text2im")).config.schedule
    assert (schedule.spacing, schedule.offset, schedule.last) == ("leading", 0, 0)
