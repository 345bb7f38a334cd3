"""Algorithm 1 in two phases, as the slides draw it: run the source and record its attention, then edit the recording.

A map A is stored as its queries and keys, n d + m d values instead of n m. The source is run once, however often it is
edited. Its sampling settings are stored too, so that the targets are sampled in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.attention import AttentionFn, Site, attend
from ldm.config import STRICT
from ldm.helpers.files import save_atomically
from ldm.pipeline import LatentDiffusion
from ldm.schedule import Prediction
from ldm.shapes import Latent
from ldm.states import State
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Time, switch_time, window
from p2p.call import Sampling
from p2p.inject import Layers, Recorded, Watch
from p2p.inversion.inverted import Inverted
from p2p.switch_times import FOR_OTHERS


@dataclass(frozen=True)
class About:
    """The settings of a source run, and the extent of the recorded attention."""

    __pydantic_config__ = STRICT

    model: str
    source: str
    sampling: Sampling
    visited: tuple[int, ...]  # the timesteps of the network calls, then the last one of the run
    cross_end: int  # the smallest t whose cross-attention was recorded
    self_end: int  # ... and self-attention
    layers: Layers  # whose self-attention was recorded
    sites: tuple[Site, ...]  # all attention layers of the model, recorded or not
    inverted: bool = False  # whether the source is a real image
    given: tuple[Literal["noise", "empty"], ...] = ()  # what its inversion gives to every step, beside where to start

    def keeps(self, site: Site, t: int) -> bool:
        """True if the attention of this layer at step t was recorded."""
        return t >= self.cross_end if site.kind == "cross" else t >= self.self_end and site in self.layers

    def names(self) -> set[str]:
        """The names of all tensors in the recording."""
        kinds = ("z_t", "eps", "z_0", *self.given)
        states = {f"{kind}/{call}" for kind in kinds for call in range(len(self.visited) - 1)}
        return states.union(
            ["start"] if self.inverted else [],
            (
                _name(site, call, kind)
                for call, t in enumerate(self.visited[:-1])
                for site in self.sites
                for kind in "QK"
                if self.keeps(site, t)
            ),
        )


@dataclass(frozen=True)
class Recording:
    """A recorded source run: the state after each network call, and the queries and keys of its attention.

    Calls are counted from 0, since a sampler may make two at one t. `z_t/{call}` is the latent after a call,
    `eps/{call}` and `z_0/{call}` are its prediction; queries and keys are `{kind}/{layer}/{call}/Q` and `/K`. Of a real
    image `start` is the latent before the first call, `noise/{call}` and `empty/{call}` are as in `Inverted`.

    Raises:
        ValueError: a tensor is missing.
    """

    about: About
    tensors: dict[str, Tensor]

    def __post_init__(self):
        if missing := sorted(self.about.names() - self.tensors.keys()):
            raise ValueError(f"{len(missing)} of its tensors are missing, {missing[0]} among them: record it again")

    def save(self, path: Path) -> None:
        """Write the recording as a safetensors file, whole or not at all."""
        metadata = {"recording": TypeAdapter(About).dump_json(self.about).decode()}
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_atomically(lambda part: save_file(tensors, part, metadata), path)

    @classmethod
    def open(cls, path: Path, device: torch.device | str = "cpu") -> "Recording":
        """Open a file written by `save`.

        Raises:
            ValueError: the file is missing, damaged or not a recording.
        """
        try:
            with safe_open(path, "pt", str(device)) as file:
                about = TypeAdapter(About).validate_json((file.metadata() or {})["recording"])
                return cls(about, {name: file.get_tensor(name) for name in file.keys()})
        except (OSError, SafetensorError, KeyError, ValueError) as e:
            raise ValueError(f"{path} is no recording: {e}") from e

    def state(self, call: int) -> State:
        """The source's state after a call: one row."""
        z_t, eps, z_0 = (self.tensors[f"{kind}/{call}"] for kind in ("z_t", "eps", "z_0"))
        return State(self.about.visited[call + 1], z_t, Prediction(eps, z_0))

    def inverted(self, like: Tensor) -> Inverted | None:
        """How the targets of a real image are run, on the device of `like`; None for a generated source."""
        if not self.about.inverted:
            return None
        calls = range(len(self.about.visited) - 1)
        start = State(self.about.visited[0], self.tensors["start"].to(like.device))
        noises, empty = (
            {self.about.visited[call]: self.tensors[f"{kind}/{call}"].to(like.device) for call in calls}
            if kind in self.about.given
            else None
            for kind in ("noise", "empty")
        )
        return Inverted((start, *map(self.state, calls)), noises, empty and empty.__getitem__)

    def attention(self, call: int, like: Tensor) -> Recorded:
        """The source's queries and keys in a call, on the device and in the dtype of `like`."""

        def of(site: Site) -> tuple[Tensor, Tensor]:
            Q, K = (self.tensors[_name(site, call, kind)].to(like) for kind in "QK")
            return Q, K

        return of


def _name(site: Site, call: int, kind: str) -> str:
    return f"{site.kind}/{site.layer}/{call}/{kind}"


SELF = SelfInjection()


def record(
    model: LatentDiffusion,
    source: str,
    sampling: Sampling,
    *,
    inverted: Inverted | None = None,
    tau: Time = 0.0,
    self_injection: SelfInjection = SELF,
    dtype: torch.dtype | None = None,
) -> Recording:
    """Phase one: run the source, and record the attention that edits need.

    Args:
        model, source: the model and the prompt to run.
        sampling: the sampling settings.
        inverted: a real image, inverted by these settings, to run the source from instead of noise.
        tau: cross-attention is recorded while t >= tau, for edits that switch then or earlier.
        self_injection: whose self-attention is recorded; by default for as long as any edit's default needs.
        dtype: of the recorded queries and keys; None is the model's own, with which edits are the same as in one pass.
            The latents always keep their dtype.

    Raises:
        ValueError: as `LatentDiffusion.denoise`, a time is out of range, or the image is inverted by other settings.
    """
    T, visited, given = model.schedule.T, sampling.times(model.schedule), {}
    if inverted:
        inverted_at = [state.t for state in inverted.states]
        if inverted_at != visited or sampling != replace(sampling, sampler="ddim", eta=0.0):
            raise ValueError("the image is inverted by other settings than these: invert it with the same `Sampling`")
        noises = inverted.noises and inverted.noises.__getitem__
        given = {kind: of for kind, of in (("noise", noises), ("empty", inverted.empty)) if of}
    about = About(
        model.config.name,
        source,
        sampling,
        visited=tuple(visited),
        cross_end=switch_time(tau, T),
        self_end=_self_end(self_injection, T),
        layers=self_injection.layers,
        sites=(),  # filled in once the model has run
        inverted=inverted is not None,
        given=tuple(given),
    )
    tensors = {f"{kind}/{i}": of(t).clone() for kind, of in given.items() for i, t in enumerate(visited[:-1])}
    how = sampling.options()
    if inverted:
        tensors["start"] = inverted.states[0].z_t
        how |= inverted.options(1)
    sites: dict[Site, None] = {}
    calls = count()

    def attn_fn(t: int) -> AttentionFn:
        call = next(calls)

        def kept(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
            sites[site] = None
            if about.keeps(site, t):
                for kind, tensor in (("Q", Q), ("K", K)):
                    tensors[_name(site, call, kind)] = tensor.to(dtype or model.dtype, copy=True)
            return attend(Q, K, V)

        return kept

    context = model.encode_prompts([source])
    for call, state in enumerate(model.denoise(context, [sampling.seed], attn_fn=attn_fn, **how)):
        tensors[f"z_t/{call}"] = state.z_t
        tensors[f"eps/{call}"], tensors[f"z_0/{call}"] = state.prediction
    return Recording(replace(about, sites=tuple(sites)), tensors)


def _self_end(self_injection: SelfInjection, T: int) -> int:
    """The smallest t whose self-attention a target may need; raises ValueError for an invalid window."""
    until = FOR_OTHERS.until if self_injection.until is None else self_injection.until
    windows = [window(each) for each in (until if isinstance(until, tuple) else (until,))]
    for each in windows:
        each.compile(T)
    return min(switch_time(each.end, T) for each in windows)


def rerun(
    p2p: PromptToPrompt,
    recording: Recording,
    watch: Watch | None = None,
    blend: Callable[[State], Latent] = lambda state: state.z_t,
) -> Iterator[State]:
    """Phase two: run the targets with the recorded source's attention; row 0 of every state is the source's.

    Args:
        p2p: the source, the targets and their edits.
        recording: of the same source and model; the targets are sampled with its settings.
        watch, blend: as for `PromptToPrompt.denoise`.

    Raises:
        ValueError: the recording has another source or model, or lacks attention that the edit needs.
    """
    model, about = p2p.model, recording.about
    check(p2p, about, watch is not None)
    like = model.unet.conv_in.weight
    edited, blended = count(), count()  # the calls

    def with_source(state: State, call: int) -> State:
        source = recording.state(call)
        join = lambda ours, theirs: torch.cat([ours.to(theirs), theirs])
        prediction = Prediction(*map(join, source.prediction, state.prediction))
        return State(state.t, join(source.z_t, state.z_t), prediction)

    blended_targets = lambda state: blend(with_source(state, next(blended)))[1:]
    how = about.sampling.options() | {"blend": blended_targets}
    if inverted := recording.inverted(like):
        how |= inverted.options(len(p2p.targets), blended_targets)
    states = model.denoise(
        p2p.context[1:],
        [about.sampling.seed] * len(p2p.targets),
        attn_fn=lambda t: p2p.attn_fn(t, watch, recording.attention(next(edited), like)),
        **how,
    )
    return map(with_source, states, count())


def check(p2p: PromptToPrompt, about: About, watched: bool) -> None:
    """Raises ValueError unless the recording has this source and model, and all the attention that the edit needs."""
    model = p2p.model
    if (about.model, about.source) != (model.config.name, p2p.source):
        raise ValueError(
            f"the recording is of {about.source!r} by {about.model}, the edit of {p2p.source!r} by {model.config.name}"
        )
    visited = tuple(about.sampling.times(model.schedule))
    if visited != about.visited:
        raise ValueError(
            f"the recording visits t = {', '.join(map(str, about.visited))}, "
            f"and by this model's schedule it would be {', '.join(map(str, visited))}: record it again"
        )
    layers = set(product(("self", "cross"), range(model.unet.attention_layers)))
    if {(site.kind, site.layer) for site in about.sites} != layers:
        raise ValueError("the recording is of a model with other attention layers: record it again")
    for t in visited[:-1]:
        injection = p2p.injection(t)
        cross = watched or any(matrices.P.any() for matrices in injection.matrices)
        layout = any(injection.self_shares)
        for kind, needed, end in (("cross", cross, about.cross_end), ("self", layout, about.self_end)):
            if needed and t < end:
                raise ValueError(
                    f"the edit needs the source's {kind}-attention at t = {t}, recorded down to t = {end}: "
                    "record it for longer"
                )
        wanted = (site for site in about.sites if site.kind == "self" and site in injection.self_layers)
        if layout and not all(site in about.layers for site in wanted):
            raise ValueError("the edit injects self-attention into layers that were not recorded: record it for more")
