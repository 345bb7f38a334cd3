"""The .yaml beside a CompVis file: training settings that the tensors do not show.

Other programs put it there too, under the file's name. The UNet's prediction type is taken from it; any other setting
that changes an image and differs from our configuration is an error.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ldm.config import ModelConfig, TextConfig
from weights.files.json_settings import shown

LARGEST = 2**20  # bytes


class WithoutAliases(yaml.SafeLoader):
    """Refuses aliases, by which a short file can expand to any length."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def training_settings(path: Path) -> dict[str, Any]:
    """Read the settings under `model.params`; empty if there is no such .yaml.

    Raises:
        ValueError: the .yaml is not one of a latent diffusion model.
    """
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
        params = {"parameterization": "eps"} | WithoutAliases(text[:LARGEST]).get_single_data()["model"]["params"]
        if len(text) > LARGEST or params["parameterization"] not in ("eps", "v"):
            raise ValueError("it is larger than any, or predicts something else")
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError) as e:
        raise ValueError(f"{path}, beside the model, has no model.params that predict eps or v: move it away") from e
    return params


def refuse_others(config: ModelConfig, path: Path, params: dict[str, Any]) -> None:
    """Raises ValueError if the schedule, scale or layer of the text encoder differs from the config."""
    schedule, text = config.schedule, config.text
    last = "penultimate" if isinstance(text, TextConfig) and text.activation == "gelu" else "last"
    with suppress(KeyError, TypeError):
        params = params | {"layer": params["cond_stage_config"]["params"]["layer"]}
    for key, ours in {
        "timesteps": schedule.T,
        "linear_start": schedule.beta_start,
        "linear_end": schedule.beta_end,
        "scale_factor": config.autoencoder.scale,
        "layer": last,
    }.items():
        if params.get(key) not in (None, ours):
            raise ValueError(f"{path}: {key!r} is {shown(params[key])}; {config.name} has {ours!r}")
