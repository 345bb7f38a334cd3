"""Algorithm 1 in two phases, as the slides draw it: run the source and store its attention, then edit from the store.

A map A is stored as the queries and keys that make it, n d + m d numbers instead of n m. The source is then not run
again, however often it is edited.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ldm.attention import AttentionEdit, Site, attend
from ldm.files import save_atomically
from ldm.pipeline import LatentDiffusion, State
from ldm.samplers import DDIM, Sampler
from ldm.schedule import Prediction
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import switch_time, window
from p2p.inject import Place, Recorded, Watch


@dataclass(frozen=True)
class About:
    """How a source was run, and for which edits its attention was kept."""

    model: str
    source: str
    seed: int
    steps: int
    guidance: float
    cross_end: int  # the smallest t whose cross-attention was kept
    self_end: int  # ... and self-attention
    side: int | None  # of the self-attention layers that were kept, as `Layers` has them
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Recording:
    """A source run: where it stood after each step, and the queries and keys of its attention.

    Tensors are named `z_t/{t}`, `eps/{t}`, `z_0/{t}` for the time step t reached, and `{kind}/{layer}/{t}/Q` and `/K`
    for the time step t left.
    """

    about: About
    tensors: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all."""
        metadata = {"recording": TypeAdapter(About).dump_json(self.about).decode()}
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_atomically(lambda part: save_file(tensors, part, metadata), path)

    @classmethod
    def open(cls, path: Path, device: torch.device | str = "cpu") -> "Recording":
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged, or not a recording.
        """
        try:
            with safe_open(path, "pt", str(device)) as file:
                about = TypeAdapter(About).validate_json((file.metadata() or {})["recording"])
                return cls(about, {name: file.get_tensor(name) for name in file.keys()})
        except (OSError, SafetensorError, KeyError, ValidationError) as e:
            raise ValueError(f"{path} is no recording: {e}") from e

    def state(self, t: int) -> State:
        """Where the source stood at the time step t reached: one row."""
        return State(t, self.tensors[f"z_t/{t}"], Prediction(self.tensors[f"eps/{t}"], self.tensors[f"z_0/{t}"]))

    def attention(self, t: int, like: Tensor) -> Recorded:
        """The source's queries and keys at step t, in the device and dtype of `like`."""

        def of(site: Site) -> tuple[Tensor, Tensor]:
            Q, K = (self.tensors[f"{site.kind}/{site.layer}/{t}/{name}"].to(like) for name in "QK")
            return Q, K

        return of


SELF = SelfInjection()


def record(
    model: LatentDiffusion,
    source: str,
    seed: int,
    *,
    tau: float | int = 0,
    self_injection: SelfInjection = SELF,
    steps: int = 30,
    guidance: float = 4.0,
    sampler: Sampler = DDIM,
    dtype: torch.dtype | None = None,
) -> Recording:
    """Phase one: run the source, and keep what edits will need.

    Args:
        model, source, seed, steps, guidance, sampler: of the run, as for `LatentDiffusion.denoise`.
        tau: cross-attention is kept while t >= tau; edits with an earlier switch can then be made.
        self_injection: of which self-attention is kept.
        dtype: of what is kept; None is the model's own, and then edits come out as in one pass.

    Raises:
        ValueError: as `LatentDiffusion.denoise`, a time is out of range, or the sampler visits one twice.
    """
    visited = sampler.visit(model.schedule, steps, None)
    if len(set(visited)) < len(visited):
        raise ValueError("this sampler calls the network twice at one t, of which a recording keeps one: take another")
    T, until, layers = model.schedule.T, window(self_injection.until), self_injection.layers
    until.at(T, T)  # refuses a window that can't be
    about = About(
        model.config.name,
        source,
        seed,
        steps,
        guidance,
        cross_end=switch_time(tau, T),
        self_end=switch_time(until.end, T),
        side=layers.side,
        places=layers.places,
    )
    tensors: dict[str, Tensor] = {}
    keep = lambda tensor: tensor.to(dtype or model.dtype, copy=True)

    def edit(t: int) -> AttentionEdit:
        def kept(site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
            end = about.cross_end if site.kind == "cross" else about.self_end
            if t >= end and (site.kind == "cross" or site in layers):
                tensors[f"{site.kind}/{site.layer}/{t}/Q"], tensors[f"{site.kind}/{site.layer}/{t}/K"] = map(
                    keep, (Q, K)
                )
            return attend(Q, K, V)

        return kept

    context = model.encode_prompts([source])
    for state in model.denoise(context, [seed], steps=steps, guidance=guidance, sampler=sampler, edit=edit):
        tensors[f"z_t/{state.t}"] = state.z_t
        tensors[f"eps/{state.t}"], tensors[f"z_0/{state.t}"] = state.prediction
    return Recording(about, tensors)


def rerun(
    p2p: PromptToPrompt,
    recording: Recording,
    watch: Watch | None = None,
    blend: Callable[[State], Float[Tensor, "b c h w"]] = lambda state: state.z_t,
    sampler: Sampler = DDIM,
) -> Iterator[State]:
    """Phase two: run the targets with the recorded source's attention; row 0 of every state is the source's.

    Args:
        p2p: what to edit and how.
        recording: of its source, by its model.
        watch, blend: as for `PromptToPrompt.denoise`.
        sampler: that the source was recorded with.

    Raises:
        ValueError: the recording is of another source or model, or lacks attention that the edit needs.
    """
    model, about = p2p.model, recording.about
    check(p2p, recording.about, sampler, watch is not None)
    like = model.unet.conv_in.weight

    def with_source(state: State) -> State:
        source = recording.state(state.t)
        join = lambda ours, theirs: torch.cat([ours.to(theirs), theirs])
        prediction = Prediction(*map(join, source.prediction, state.prediction))
        return State(state.t, join(source.z_t, state.z_t), prediction)

    states = model.denoise(
        model.encode_prompts(list(p2p.targets)),
        [about.seed] * len(p2p.targets),
        steps=about.steps,
        guidance=about.guidance,
        sampler=sampler,
        edit=lambda t: p2p.attention_edit(t, watch, recording.attention(t, like)),
        blend=lambda state: blend(with_source(state))[1:],
    )
    return map(with_source, states)


def check(p2p: PromptToPrompt, about: About, sampler: Sampler, watched: bool) -> None:
    """Raises ValueError unless a recording holds all the attention that an edit takes from its source."""
    if (about.model, about.source) != (p2p.model.config.name, p2p.source):
        raise ValueError(
            f"the recording is of {about.source!r} by {about.model}, "
            f"the edit of {p2p.source!r} by {p2p.model.config.name}"
        )
    for t in sampler.visit(p2p.model.schedule, about.steps, None)[:-1]:
        injection = p2p.injection(t)
        cross = watched or any(matrices.P.any() for matrices in injection.matrices)
        for kind, needed, end in (("cross", cross, about.cross_end), ("self", injection.self_share, about.self_end)):
            if needed and t < end:
                raise ValueError(
                    f"the edit needs the source's {kind}-attention at t = {t}, recorded down to t = {end}: "
                    "record it for longer"
                )
        kept, wanted = about.side or float("inf"), injection.self_layers.side or float("inf")
        if injection.self_share and not (wanted <= kept and set(injection.self_layers.places) <= set(about.places)):
            raise ValueError("the edit injects self-attention into layers that were not recorded: record it for more")
