"""Algorithm 1 in two phases, as the slides draw it: run the source and record its attention, then edit the recording.

A map A is stored as its queries and keys, n d + m d values instead of n m. The source is run once, however often it is
edited. Its sampling settings are stored too, so that the targets are sampled in the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.attention import AttentionFn, Site, attend
from ldm.config import STRICT
from ldm.helpers.files import save_atomically
from ldm.pipeline import LatentDiffusion, State
from ldm.schedule import Prediction
from ldm.shapes import Latent
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Time, switch_time, window
from p2p.call import Sampling
from p2p.inject import Layers, Recorded, Watch


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

    def keeps(self, site: Site, t: int) -> bool:
        """True if the attention of this layer at step t was recorded."""
        return t >= self.cross_end if site.kind == "cross" else t >= self.self_end and site in self.layers

    def names(self) -> set[str]:
        """The names of all tensors in the recording."""
        states = {f"{kind}/{call}" for kind in ("z_t", "eps", "z_0") for call in range(len(self.visited) - 1)}
        return states.union(
            _name(site, call, kind)
            for call, t in enumerate(self.visited[:-1])
            for site in self.sites
            for kind in "QK"
            if self.keeps(site, t)
        )


@dataclass(frozen=True)
class Recording:
    """A recorded source run: the state after each network call, and the queries and keys of its attention.

    Calls are counted from 0, since a sampler may make two at one t. `z_t/{call}` is the latent after a call,
    `eps/{call}` and `z_0/{call}` are its prediction; queries and keys are `{kind}/{layer}/{call}/Q` and `/K`.

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
    tau: Time = 0.0,
    self_injection: SelfInjection = SELF,
    dtype: torch.dtype | None = None,
) -> Recording:
    """Phase one: run the source, and record the attention that edits need.

    Args:
        model, source: the model and the prompt to run.
        sampling: the sampling settings.
        tau: cross-attention is recorded while t >= tau, for edits that switch then or earlier.
        self_injection: whose self-attention is recorded.
        dtype: of the recorded queries and keys; None is the model's own, with which edits are the same as in one pass.
            The latents always keep their dtype.

    Raises:
        ValueError: as `LatentDiffusion.denoise`, or a time is out of range.
    """
    T, until = model.schedule.T, window(self_injection.until)
    until.compile(T)  # raises for an invalid window
    about = About(
        model.config.name,
        source,
        sampling,
        visited=tuple(sampling.times(model.schedule)),
        cross_end=switch_time(tau, T),
        self_end=switch_time(until.end, T),
        layers=self_injection.layers,
        sites=(),  # filled in once the model has run
    )
    tensors: dict[str, Tensor] = {}
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
    for call, state in enumerate(model.denoise(context, [sampling.seed], attn_fn=attn_fn, **sampling.options())):
        tensors[f"z_t/{call}"] = state.z_t
        tensors[f"eps/{call}"], tensors[f"z_0/{call}"] = state.prediction
    return Recording(replace(about, sites=tuple(sites)), tensors)


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

    states = model.denoise(
        model.encode_tokens(p2p.tokens[1:]),
        [about.sampling.seed] * len(p2p.targets),
        attn_fn=lambda t: p2p.attn_fn(t, watch, recording.attention(next(edited), like)),
        blend=lambda state: blend(with_source(state, next(blended)))[1:],
        **about.sampling.options(),
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
        for kind, needed, end in (("cross", cross, about.cross_end), ("self", injection.self_share, about.self_end)):
            if needed and t < end:
                raise ValueError(
                    f"the edit needs the source's {kind}-attention at t = {t}, recorded down to t = {end}: "
                    "record it for longer"
                )
        wanted = (site for site in about.sites if site.kind == "self" and site in injection.self_layers)
        if injection.self_share and not all(site in about.layers for site in wanted):
            raise ValueError("the edit injects self-attention into layers that were not recorded: record it for more")
