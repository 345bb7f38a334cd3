"""The .yaml beside a CompVis file: training settings that the tensors do not show.

Other programs put it there too, under the file's name. The UNet's prediction type is taken from it; any other setting
that changes an image and differs from our configuration is an error.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ldm.config import ModelConfig, TextConfig
from weights.files.json_settings import shown

log = logging.getLogger(__name__)

LARGEST = 2**20  # bytes


@dataclass(frozen=True)
class OriginalSettings:
    """The settings under `model.params`."""

    path: Path
    params: dict

    @classmethod
    def beside(cls, file: Path) -> "OriginalSettings":
        """Read the settings beside a checkpoint; empty if it has no .yaml.

        Raises:
            ValueError: the .yaml is not one of a latent diffusion model.
        """
        path = file.with_suffix(".yaml")
        if not path.is_file():
            return cls(path, {})
        try:
            text = path.read_bytes()
            values = yaml.safe_load(text) if len(text) <= LARGEST else None
            params = values["model"]["params"]
        except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError) as e:
            raise ValueError(f"{path}, beside the model, has no settings under model.params: move it away") from e
        if not isinstance(params, dict) or params.get("parameterization", "eps") not in ("eps", "v"):
            raise ValueError(f"{path}: 'parameterization' is not eps or v, or there are no params: move it away")
        return cls(path, params)

    @property
    def parameterisation(self) -> str | None:
        """What the UNet predicts: "eps", which is also the default, or "v"."""
        return self.params.get("parameterization", "eps") if self.params else None

    def checked(self, config: ModelConfig, parameterisation: str | None) -> ModelConfig:
        """The config, with the given parameterisation or else that of the file.

        Raises:
            ValueError: the schedule, scale or layer of the text encoder differs from the config.
        """
        schedule, text = config.schedule, config.text
        ours = {
            "timesteps": schedule.T,
            "linear_start": schedule.beta_start,
            "linear_end": schedule.beta_end,
            "scale_factor": config.autoencoder.scale,
        }
        for key, value in ours.items():
            if self.params.get(key, value) != value:
                raise ValueError(f"{self.path}: {key!r} is {shown(self.params[key])}; {config.name} has {value}")
        stage = self.params.get("cond_stage_config") or {}
        params = (stage.get("params") or {}) if isinstance(stage, dict) else {}
        layer = params.get("layer") if isinstance(params, dict) else None
        usual = "penultimate" if isinstance(text, TextConfig) and text.activation == "gelu" else "last"
        if layer not in (None, usual):
            raise ValueError(f"{self.path}: the text encoder's 'layer' is {shown(layer)}; {config.name} has {usual!r}")
        predicts = parameterisation or self.parameterisation
        if predicts in (None, schedule.parameterisation):
            return config
        log.info("%s predicts %s, %s", config.name, predicts, "as asked for" if parameterisation else f"by {self.path}")
        return replace(config, schedule=replace(schedule, parameterisation=predicts))
