"""A call of Prompt-to-Prompt as a value: what is edited, how, and how it is sampled. It travels as JSON.

An edit that worked can be saved, sent to someone and replayed; every picture of the command line carries its own.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import Literal

import pydantic
import pydantic_core
import torch
from jaxtyping import Bool
from torch import Tensor

from ldm.config import STRICT
from ldm.helpers.checks import check_fields
from ldm.pipeline import LatentDiffusion, State
from ldm.samplers import SAMPLERS, Name, Sampler, ddim_step
from ldm.schedule import Schedule
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Time
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.inject import Layers, Watch, layout_side, together
from p2p.local_blend import LocalBlend, Region
from p2p.masks import check_mask


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
    sampler: Name = "ddim"
    eta: float = 0.0

    def __post_init__(self):
        check_fields(self)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed must lie in 0..2^63-1, got {self.seed}")
        if not math.isfinite(self.guidance):
            raise ValueError(f"guidance must be a number, got {self.guidance}")
        if self.sampler != "ddim" and self.eta:
            raise ValueError(f"eta belongs to the ddim sampler: leave it out for {self.sampler}")
        ddim_step(self.eta)  # refuses an eta out of range

    def options(self) -> dict:
        """As keyword arguments of `denoise`."""
        return {"steps": self.steps, "guidance": self.guidance, "sampler": self._sampler()}

    def times(self, schedule: Schedule) -> list[int]:
        """The time steps of the network calls, and the one at which the run ends.

        Raises:
            ValueError: the schedule has not so many.
        """
        return self._sampler().visit(schedule, self.steps, None)

    def _sampler(self) -> Sampler:
        return Sampler(ddim_step(self.eta)) if self.eta else SAMPLERS[self.sampler]


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
        check_fields(self)
        if len(self._said()) != 1:
            raise ValueError(f"an edit is exactly one of {', '.join(f.name for f in fields(self))}")

    def _said(self) -> list[Edit]:
        return [edit for f in fields(self) if (edit := getattr(self, f.name)) is not None]

    @property
    def edit(self) -> Edit:
        return self._said()[0]


@dataclass(frozen=True)
class Target:
    """An edited prompt, its edits in their order, and where it may differ from the source: in a region, or where a mask
    is 1; everywhere if neither is given. A mask is a string of 0s and 1s for each row of the latent."""

    __pydantic_config__ = STRICT

    prompt: str
    edits: tuple[Entry, ...]
    region: Region | None = None
    mask: tuple[str, ...] | None = None

    def __post_init__(self):
        check_fields(self)
        if not self.edits:
            raise ValueError(f"the target {self.prompt!r} has no edits")
        if self.region and self.mask:
            raise ValueError(f"the target {self.prompt!r} has a region and a mask: give one of them")
        if self.mask is not None and (len(set(map(len, self.mask))) != 1 or not set("".join(self.mask)) <= set("01")):
            raise ValueError("a mask is rows of 0s and 1s, all of one length")

    @classmethod
    def of(cls, prompt: str, edit: Edit, where: Region | Bool[Tensor, "h w"] | None = None) -> "Target":
        """Raises ValueError for an edit that a saved call has no name for."""
        kinds = [field.name for field in fields(Entry)]
        names = [type(part).__name__.lower() for part in edit.parts]
        if unknown := sorted(set(names) - set(kinds)):
            raise ValueError(f"an edit of the kind {unknown[0]!r} can't be written down, only {', '.join(kinds)}")
        entries = tuple(Entry(**{name: part}) for name, part in zip(names, edit.parts))
        if isinstance(where, Tensor):
            return cls(prompt, entries, mask=tuple("".join(str(int(x)) for x in row) for row in where.tolist()))
        return cls(prompt, entries, where)

    @property
    def where(self) -> Region | Bool[Tensor, "h w"] | None:
        """What `LocalBlend` takes."""
        if self.mask is None:
            return self.region
        return torch.tensor([[digit == "1" for digit in row] for row in self.mask])

    @property
    def edit(self) -> Edit:
        return reduce(add, (entry.edit for entry in self.edits))


@dataclass(frozen=True)
class Blend:
    """When regions and masks begin to hold, as `LocalBlend` has it, and the layers that regions are read from: by their
    positions a side, or None for the model's `layout_side`."""

    __pydantic_config__ = STRICT

    start: Time = 0.8
    side: int | None = None

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Call:
    """Everything that one picture and its edits were made from.

    The model is written down as it was asked for: by name, or by a path. A path says to people what was used; whoever
    makes the call again says where the model is.
    """

    __pydantic_config__ = STRICT

    source: str
    targets: tuple[Target, ...]
    self_injection: SelfInjection = SelfInjection()
    layers: Layers = Layers()
    blend: Blend = Blend()
    sampling: Sampling = Sampling()
    model: str = "stickers"
    ema: bool = True  # the model's averaged weights, where its file has both
    parameterisation: Literal["eps", "v"] | None = None  # what the UNet predicts; None: as the model's files say
    format: Literal[2] = 2  # of the file; one without is of format 1

    def __post_init__(self):
        check_fields(self)

    def p2p(self, model: LatentDiffusion) -> PromptToPrompt:
        """Raises ValueError if the edits do not fit the prompts."""
        prompts, edits = tuple(t.prompt for t in self.targets), tuple(t.edit for t in self.targets)
        return PromptToPrompt(model, self.source, prompts, edits, self.self_injection, self.layers)

    def start(self, model: LatentDiffusion, watch: Sequence[Watch] = ()) -> Iterator[State]:
        """The run: one yield per step, row 0 the source's.

        Args:
            model: the latent diffusion model.
            watch: each shown the attention that every cross-attention layer used; then maps are built, which round
                otherwise than the call without them, by at most a grey level.

        Raises:
            ValueError: something does not fit; no step has been made.
        """
        p2p, sampling = self.p2p(model), self.sampling
        sampling.times(model.schedule)
        how, wheres = sampling.options(), [target.where for target in self.targets]
        watches = list(watch)
        if any(where is not None for where in wheres):
            source, *targets = p2p.tokens
            side = layout_side(model, self.blend.side)
            blend = LocalBlend(source, targets, wheres, model.schedule.T, self.blend.start, side)
            for mask in (where for where in wheres if isinstance(where, Tensor)):
                check_mask(mask, model.latent_shape[1:])
            how["blend"] = blend
            if any(isinstance(where, Region) for where in wheres):
                watches.append(blend.maps)
        return p2p.denoise(sampling.seed, watch=together(watches), **how)

    def to_json(self) -> str:
        return json.dumps(CALL.dump_python(self, mode="json", exclude_none=True), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Call":
        """Read what `to_json` wrote; `p2p schema` prints what it may hold.

        Raises:
            ValueError: not JSON, or fields unknown, missing, or of the wrong kind; the error names each.
        """
        try:
            read = pydantic_core.from_json(text)
            if isinstance(read, dict) and "format" not in read:
                text = json.dumps(of_format_1(read))
            return CALL.validate_json(text)
        except pydantic.ValidationError as e:
            wrong = (f"{'.'.join(map(str, error['loc'])) or 'file'}: {error['msg']}" for error in e.errors())
            raise ValueError("; ".join(wrong)) from e


TIMES = ("tau", "until", "end", "start", "window")
EARLIER = 1e-9  # less than the distance from a fraction of T to the next time step


def of_format_1(value: object, key: str = "", window: bool = False) -> object:
    """A call of format 1, in JSON's terms, as one of today's.

    There a whole number was a time step, and a fraction held while t was above it, not from it on; but for the start of
    a window, up to which it held. So no fraction held at T: there, 1.0 was never.
    """
    if isinstance(value, dict):
        words = key == "words"  # the values are times, by word
        return {k: of_format_1(v, "tau" if words else k, key in TIMES or words) for k, v in value.items()}
    if isinstance(value, list):
        return [of_format_1(v) for v in value]
    if key not in TIMES or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return {"t": value}
    if (key == "start" and window) or not 0 <= value <= 1:
        return value
    return "never" if value == 1 else value + EARLIER


CALL = pydantic.TypeAdapter(Call)
