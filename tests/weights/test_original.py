"""The UNet's prediction type, which tensors do not show: as requested, or from the .yaml beside a CompVis file."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from ldm.presets import PRESETS
from tests.support.compvis_files import compvis, save_checkpoint
from tests.support.model_files import refused
from tests.support.public_files import write_folder, write_tokenizer
from tests.support.public_models import public
from weights.load import load

V1 = """\
model:
  base_learning_rate: 1.0e-04
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    {parameterization}linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    scale_factor: 0.18215
    conditioning_key: crossattn
    ckpt_path: nowhere.ckpt
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {{in_channels: 4}}
    cond_stage_config:
      target: ldm.modules.encoders.modules.FrozenCLIPEmbedder
"""  # CompVis' own, shortened; what it names is neither imported nor opened
EPS, V = (V1.format(parameterization=f"parameterization: {said}\n    ") for said in ("eps", '"v"'))


@pytest.fixture
def file(tmp_path):
    """A CompVis file whose shapes are those of the small Stable Diffusion 1, with its tokenizer beside it."""
    write_tokenizer(public("sd1"), tmp_path / "tokenizer")
    with patch.dict(PRESETS, {"sd1": public("sd1").config}, clear=True):
        yield save_checkpoint(compvis(public("sd1")), tmp_path / "model.v2.safetensors")


@pytest.mark.parametrize(
    "text, asked, predicts",
    [
        (None, None, "eps"),
        (None, "v", "v"),
        (V, None, "v"),
        (V, "eps", "eps"),
        (V1.format(parameterization=""), None, "eps"),
        (EPS, "v", "v"),
    ],
)
def test_what_was_asked_for_counts_before_the_yaml(text, asked, predicts, file):
    if text:
        file.with_name("model.v2.yaml").write_text(text)
    schedule = replace(public("sd1").config.schedule, parameterisation=predicts)
    assert load(file, parameterisation=asked).config == replace(public("sd1").config, schedule=schedule)


def test_what_was_asked_for_counts_before_a_folders_scheduler(tmp_path):
    model = load(write_folder(public("sd2"), tmp_path), parameterisation="eps")
    assert public("sd2").config.schedule.parameterisation == "v" and model.schedule.config.parameterisation == "eps"


def test_of_models_with_the_same_tensors_the_yaml_tells_which(file):
    v = replace(PRESETS["sd1"].schedule, parameterisation="v")
    PRESETS["sd1-v"] = replace(PRESETS["sd1"], name="sd1-v", image_size=64, schedule=v)
    refused("may be any of several models", file)
    file.with_name("model.v2.yaml").write_text(V)
    assert load(file).config == PRESETS["sd1-v"]
    assert load(file, parameterisation="eps").config == PRESETS["sd1"]
    assert load(f"sd1={file}").config == replace(PRESETS["sd1"], schedule=v)


ENCODER = "FrozenCLIPEmbedder"
NONE = "has no model.params that predict eps or v: move it away"


@pytest.mark.parametrize(
    "before, after, said",
    [
        ("linear_start: 0.00085", "linear_start: 0.0015", "'linear_start' is 0.0015; sd1 has 0.00085"),
        ("linear_end: 0.0120", "linear_end: 0.02", "'linear_end' is 0.02; sd1 has 0.012"),
        ("timesteps: 1000", "timesteps: 500", "'timesteps' is 500; sd1 has 1000"),
        ("0.18215", "0.13025", "'scale_factor' is 0.13025; sd1 has 0.18215"),
        (ENCODER, f"{ENCODER}\n      params: {{layer: hidden}}", "'layer' is 'hidden'; sd1 has 'last'"),
        ('"v"', "x0", NONE),
        ("model:", "a: &a [1]\nb: *a\nmodel:", NONE),  # by which a short file can expand to any length
        ('"v"', "[v]", NONE),
        ("model:", "models:", NONE),
        ("model:", "model: [", NONE),
        ("model:", "x: !!python/object/apply:os.mkdir [sprung]\nmodel:", NONE),
        ("model:", "x: &a [" + "[" * 100_000 + "\nmodel:", NONE),
        (ENCODER, f"{ENCODER}\n#" + "#" * 2**20, NONE),  # of which the beginning alone would be read
    ],
)
def test_a_yaml_that_cannot_be_honoured_is_refused(before, after, said, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file.with_name("model.v2.yaml").write_text(V.replace(before, after))
    message = refused(said, file)
    assert "model.v2.yaml" in message and "\n" not in message
    assert not Path("sprung").exists()


def test_a_parameterisation_that_is_none_is_refused(file):
    refused("no parameterisation 'velocity': give eps or v", file, parameterisation="velocity")
