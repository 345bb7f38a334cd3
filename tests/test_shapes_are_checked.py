"""The test run checks the shapes that are annotated."""

import jaxtyping
import pytest
import torch

from ldm.attention import attention_map
from ldm.config import ScheduleConfig
from ldm.samplers import ddpm_step
from ldm.schedule import Prediction, Schedule


def test_shapes_written_out_are_checked():
    with pytest.raises(jaxtyping.TypeCheckError, match="attention_map"):
        attention_map(torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 7, 3))  # widths differ


def test_shapes_with_a_name_are_checked():
    z_t = torch.zeros(4, 8, 8)  # a latent has four dimensions
    with pytest.raises(jaxtyping.TypeCheckError, match="ddpm_step"):
        ddpm_step(Schedule(ScheduleConfig()), z_t, Prediction(z_t, z_t), 10, 5, z_t)
