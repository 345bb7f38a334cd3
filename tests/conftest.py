"""A tiny random model and the shipped tokenizer. Shapes are checked in the test run, and only there."""

import os

import ldm  # noqa: F401 sets how threads wait, before torch is loaded

# Products of equal rows are equal to the bit, however many rows there are; MKL promises that in this mode alone, and
# reads its settings when torch is loaded.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
os.environ.pop("MPLBACKEND", None)  # which may name a backend that is not here, and then matplotlib is not imported

import tests.support.check_shapes  # noqa: F401 before what it checks is imported

# isort: split
import dataclasses
import gc
from pathlib import Path

import hypothesis
import jaxtyping
import pytest
import torch

import weights.stickers
from ldm.config import AutoencoderConfig, ModelConfig, ScheduleConfig, UNetConfig
from ldm.pipeline import LatentDiffusion
from ldm.presets import PRESETS
from ldm.tokenizer import CLIPTokenizer
from tests.support.random_models import random_model

torch.use_deterministic_algorithms(True)
# a busy machine is slow, not wrong; and a test that fails should fail again
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture
def unchecked():
    """No checks of shapes and types, which take longer than small arithmetic; for loops of thousands of the same."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    """The shipped tokenizer."""
    path = Path(weights.stickers.__file__).parent / "tokenizer.json"
    return CLIPTokenizer.from_file(path, PRESETS["stickers"].text)


@pytest.fixture(scope="session")
def tiny(tokenizer) -> LatentDiffusion:
    """A random model, small enough for a sampling run in a fraction of a second, with the shipped vocabulary."""
    config = ModelConfig(
        name="tiny",
        image_size=32,
        schedule=ScheduleConfig(),
        autoencoder=AutoencoderConfig(channels=(16, 16), layers=1, latent_channels=4, groups=8, scale=0.5),
        unet=UNetConfig(
            channels=(32, 64),
            layers=1,
            attention=(True, True),
            heads=None,
            head_size=16,
            context_width=32,
            latent_channels=4,
            groups=8,
        ),
        text=dataclasses.replace(PRESETS["stickers"].text, width=32, layers=1, heads=2, hidden=64),
    )
    return random_model(config, tokenizer)


def pytest_collection_finish():
    """What lives from here on, torch's modules above all, is no longer searched for garbage."""
    gc.freeze()
    gc.set_threshold(50_000)
