"""A call of Prompt-to-Prompt as a value: what is edited, how, and how it is sampled, with a JSON form.

Calls can be saved, shared and replayed; every image that the command line writes holds its own.
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
from ldm.pipeline import LatentDiffusion
from ldm.samplers import SAMPLERS, Name, Sampler, ddim_step
from ldm.schedule import Schedule
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Time
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.inject import Layers, Watch, layout_side, together
from p2p.inversion.inverted import Inverted, Method
from p2p.local_blend import LocalBlend, Region
from p2p.masks import check_mask
from p2p.photo import Fit


@dataclass(frozen=True)
class Sampling:
    """Sampling settings.

    Raises:
        ValueError: the seed is out of range, guidance is not finite, or eta is given to a sampler without it.
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
        """The keyword arguments of `denoise`."""
        return {"steps": self.steps, "guidance": self.guidance, "sampler": self._sampler()}

    def times(self, schedule: Schedule) -> list[int]:
        """The timesteps of the network calls, then the last one of the run.

        Raises:
            ValueError: more steps than the schedule has.
        """
        return self._sampler().visit(schedule, self.steps, None)

    def check_invertible(self) -> None:
        """Raises ValueError for steps that no image can be inverted along."""
        if (self.sampler, self.eta) != ("ddim", 0):
            raise ValueError(
                "an image is inverted along the steps of ddim without noise: leave out --sampler and --eta"
            )

    def _sampler(self) -> Sampler:
        return Sampler(ddim_step(self.eta)) if self.eta else SAMPLERS[self.sampler]


@dataclass(frozen=True)
class Entry:
    """One edit by its name: `{"swap": {"source": "cat", "target": "dog"}}`."""

    __pydantic_config__ = STRICT

    refine: Refine | None = None
    swap: Swap | None = None
    preserve: Preserve | None = None
    reweight: Reweight | None = None
    renormalise: Renormalise | None = None

    def __post_init__(self):
        check_fields(self)
        if len(self._given()) != 1:
            raise ValueError(f"an edit is exactly one of {', '.join(f.name for f in fields(self))}")

    def _given(self) -> list[Edit]:
        return [edit for f in fields(self) if (edit := getattr(self, f.name)) is not None]

    @property
    def edit(self) -> Edit:
        return self._given()[0]


@dataclass(frozen=True)
class Target:
    """An edited prompt, its edits in order, and where it may differ from the source: in a region, or where a mask is 1;
    everywhere if neither is given. A mask has a string of 0s and 1s for each row of the latent."""

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
        """Raises ValueError for an edit that has no JSON form."""
        kinds = [field.name for field in fields(Entry)]
        names = [type(part).__name__.lower() for part in edit.parts]
        if unknown := sorted(set(names) - set(kinds)):
            raise ValueError(f"an edit of the kind {unknown[0]!r} can't be saved, only {', '.join(kinds)}")
        entries = tuple(Entry(**{name: part}) for name, part in zip(names, edit.parts))
        if isinstance(where, Tensor):
            return cls(prompt, entries, mask=tuple("".join(str(int(x)) for x in row) for row in where.tolist()))
        return cls(prompt, entries, where)

    @property
    def where(self) -> Region | Bool[Tensor, "h w"] | None:
        """The region or mask, as `LocalBlend` takes it."""
        if self.mask is None:
            return self.region
        return torch.tensor([[digit == "1" for digit in row] for row in self.mask])

    @property
    def edit(self) -> Edit:
        return reduce(add, (entry.edit for entry in self.edits))


@dataclass(frozen=True)
class Blend:
    """The switch time from which regions and masks apply, and the positions a side of the layers whose maps give the
    regions; None is the model's `layout_side`."""

    __pydantic_config__ = STRICT

    start: Time = 0.8
    side: int | None = None

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class RealImage:
    """The image that takes the place of a generated source, and how it is inverted.

    Args:
        sha256: of its pixels, by `p2p.photo.digest`. The image itself is not saved: to replay the call, give it again.
        invert: the method of inversion.
        fit: how it is brought to the model's size.
    """

    __pydantic_config__ = STRICT

    sha256: str
    invert: Method = "direct"
    fit: Fit = "crop"

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Call:
    """Everything that determines an image and its edits.

    The model is saved as it was given, by name or by path. A saved path is for information only: to replay the call,
    give the model's path again.
    """

    __pydantic_config__ = STRICT

    source: str
    targets: tuple[Target, ...]
    self_injection: SelfInjection = SelfInjection()
    layers: Layers = Layers()
    blend: Blend = Blend()
    sampling: Sampling = Sampling()
    image: RealImage | None = None
    model: str = "stickers"
    ema: bool = True  # the model's averaged weights, where its file has both
    parameterisation: Literal["eps", "v"] | None = None  # what the UNet predicts; None: as the model's files state
    format: Literal[2] = 2  # of the JSON; without this field it has format 1

    def __post_init__(self):
        check_fields(self)
        if self.image:
            self.sampling.check_invertible()

    def p2p(self, model: LatentDiffusion, tokens: Sequence[Tokens] = ()) -> PromptToPrompt:
        """The edits of the call, compiled for a model.

        Args:
            model: the latent diffusion model.
            tokens: of the prompts, the source's first, if they are tokenised already.

        Raises:
            ValueError: the edits do not fit the prompts.
        """
        source, *targets = tokens or (self.source, *(target.prompt for target in self.targets))
        edits = tuple(target.edit for target in self.targets)
        return PromptToPrompt(model, source, tuple(targets), edits, self.self_injection, self.layers)

    def start(self, model: LatentDiffusion, watch: Sequence[Watch] = ()) -> Iterator[State]:
        """Sample the call: `call.run(call.p2p(model), watch)`."""
        return self.run(self.p2p(model), watch)

    def run(
        self, p2p: PromptToPrompt, watch: Sequence[Watch] = (), inverted: Inverted | None = None
    ) -> Iterator[State]:
        """Sample the call's prompts with its sampling settings, regions and masks: one state per step, row 0 the
        source's.

        Args:
            p2p: the call's, from `p2p`.
            watch: each receives the attention that every cross-attention layer used. Attention maps are then computed,
                which rounds differently than without, by at most 1 in the bytes of an image.
            inverted: the image to start from, instead of noise.

        Raises:
            ValueError: a setting does not fit the model or the prompts; no step has been made.
        """
        model, sampling = p2p.model, self.sampling
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
        if inverted:
            how |= inverted.options(len(p2p.prompts), how.get("blend"))
        return p2p.denoise(sampling.seed, watch=together(watches), **how)

    def to_json(self) -> str:
        return json.dumps(CALL.dump_python(self, mode="json", exclude_none=True), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Call":
        """Read the output of `to_json`; `p2p schema` prints its JSON schema.

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
    """Convert the JSON of a call of format 1 to format 2.

    In format 1 a whole number was a timestep, and an edit applied while t > tau rather than t >= tau, so the fraction
    1.0 was never; only the start of a window was inclusive.
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
