"""The .yaml beside a CompVis file: training settings that the tensors do not show.

Other programs put it there too, under the file's name. The UNet's prediction type is taken from it; any other setting
that changes an image and differs from our configuration is an error.
"""

import logging
from dataclasses import replace
from pathlib import Path

import yaml

from ldm.config import ModelConfig, TextConfig
from weights.files.json_settings import shown

log = logging.getLogger(__name__)

LARGEST = 2**20  # bytes


def training_settings(path: Path) -> dict:
    """Read the settings under `model.params`; empty if there is no such .yaml.

    Raises:
        ValueError: the .yaml is not one of a latent diffusion model.
    """
    if not path.is_file():
        return {}
    try:
        text = path.read_bytes()
        params = yaml.safe_load(text)["model"]["params"] if len(text) <= LARGEST else None
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError) as e:
        raise ValueError(f"{path}, beside the model, has no settings under model.params: move it away") from e
    if not isinstance(params, dict) or params.get("parameterization", "eps") not in ("eps", "v"):
        raise ValueError(f"{path}: 'parameterization' is not eps or v, or there are no params: move it away")
    return params


def predicted(params: dict) -> str | None:
    """The UNet's parameterisation: "eps", which is also the default, or "v"; None if there are no settings."""
    return params.get("parameterization", "eps") if params else None


def checked(config: ModelConfig, path: Path, params: dict, parameterisation: str | None) -> ModelConfig:
    """The config, with the given parameterisation or else that of the .yaml.

    Raises:
        ValueError: the schedule, scale or layer of the text encoder differs from the config.
    """
    schedule, text = config.schedule, config.text
    stage = params.get("cond_stage_config")
    encoder = stage.get("params") if isinstance(stage, dict) else None
    layer = encoder.get("layer") if isinstance(encoder, dict) else None
    last = "penultimate" if isinstance(text, TextConfig) and text.activation == "gelu" else "last"
    for key, said, ours in (
        ("timesteps", params.get("timesteps", schedule.T), schedule.T),
        ("linear_start", params.get("linear_start", schedule.beta_start), schedule.beta_start),
        ("linear_end", params.get("linear_end", schedule.beta_end), schedule.beta_end),
        ("scale_factor", params.get("scale_factor", config.autoencoder.scale), config.autoencoder.scale),
        ("layer", last if layer is None else layer, last),
    ):
        if said != ours:
            raise ValueError(f"{path}: {key!r} is {shown(said)}; {config.name} has {ours!r}")
    predicts = parameterisation or predicted(params)
    if predicts in (None, schedule.parameterisation):
        return config
    log.info("%s predicts %s, %s", config.name, predicts, "as asked for" if parameterisation else f"by {path}")
    return replace(config, schedule=replace(schedule, parameterisation=predicts))
