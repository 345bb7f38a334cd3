"""A call of Prompt-to-Prompt as a value: what is edited, how, and how it is sampled. It travels as JSON.

An edit that worked can be saved, sent to someone and replayed; every picture of the command line carries its own.
"""

import json
import math
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Literal

import pydantic

from ldm.config import STRICT
from ldm.pipeline import LatentDiffusion
from ldm.samplers import ddim_step, ddpm_step
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.inject import Layers
from p2p.local_blend import Region


@dataclass(frozen=True)
class Sampling:
    """How pictures are sampled.

    Raises:
        ValueError: the seed is out of range, guidance is no number, or eta is given to a sampler that has none.
    """

    __pydantic_config__ = STRICT

    seed: int = 0
    steps: int = 30
    guidance: float = 4.0
    sampler: Literal["ddim", "ddpm"] = "ddim"
    eta: float = 0.0

    def __post_init__(self):
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed must lie in 0..2^63-1, got {self.seed}")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a number, got {self.guidance}")
        if self.sampler == "ddpm" and self.eta:
            raise ValueError("eta belongs to the ddim sampler; ddpm adds all its noise already")
        ddim_step(self.eta)  # refuses an eta out of range

    def options(self) -> dict:
        """As keyword arguments of `denoise`."""
        step = ddpm_step if self.sampler == "ddpm" else ddim_step(self.eta)
        return {"steps": self.steps, "guidance": self.guidance, "step": step}


@dataclass(frozen=True)
class Entry:
    """One edit, under its name: `{"swap": {"source": "cat", "target": "dog"}}`."""

    __pydantic_config__ = STRICT

    refine: Refine | None = None
    swap: Swap | None = None
    preserve: Preserve | None = None
    reweight: Reweight | None = None
    renormalise: Renormalise | None = None

    def __post_init__(self):
        if len(self._said()) != 1:
            raise ValueError(f"an edit is exactly one of {', '.join(f.name for f in fields(self))}")

    def _said(self) -> list[Edit]:
        return [edit for f in fields(self) if (edit := getattr(self, f.name)) is not None]

    @property
    def edit(self) -> Edit:
        return self._said()[0]


@dataclass(frozen=True)
class Target:
    """An edited prompt, its edits in their order, and where it may differ from the source (None is everywhere)."""

    __pydantic_config__ = STRICT

    prompt: str
    edits: tuple[Entry, ...]
    region: Region | None = None

    def __post_init__(self):
        if not self.edits:
            raise ValueError(f"the target {self.prompt!r} has no edits")

    @classmethod
    def of(cls, prompt: str, edit: Edit, region: Region | None = None) -> "Target":
        entries = (Entry(**{type(part).__name__.lower(): part}) for part in edit.parts)
        return cls(prompt, tuple(entries), region)

    @property
    def edit(self) -> Edit:
        return reduce(add, (entry.edit for entry in self.edits))


@dataclass(frozen=True)
class Call:
    """Everything that one picture and its edits were made from."""

    __pydantic_config__ = STRICT

    source: str
    targets: tuple[Target, ...]
    self_injection: SelfInjection = SelfInjection()
    layers: Layers = Layers()
    sampling: Sampling = Sampling()
    model: str = "stickers"

    def p2p(self, model: LatentDiffusion) -> PromptToPrompt:
        """Raises ValueError if the edits do not fit the prompts."""
        prompts, edits = tuple(t.prompt for t in self.targets), tuple(t.edit for t in self.targets)
        return PromptToPrompt(model, self.source, prompts, edits, self.self_injection, self.layers)

    def to_json(self) -> str:
        return json.dumps(CALL.dump_python(self, mode="json", exclude_none=True), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Call":
        """Read what `to_json` wrote; `p2p schema` prints what it may hold.

        Raises:
            ValueError: not JSON, or fields unknown, missing, or of the wrong kind; the error names each.
        """
        try:
            return CALL.validate_json(text)
        except pydantic.ValidationError as e:
            wrong = (f"{'.'.join(map(str, error['loc'])) or 'file'}: {error['msg']}" for error in e.errors())
            raise ValueError("; ".join(wrong)) from e


CALL = pydantic.TypeAdapter(Call)
