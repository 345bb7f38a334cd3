"""Algorithm 1 of Prompt-to-Prompt [P3]: a source and its edited targets, from one noise, in one batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from ldm.attention import AttentionFn
from ldm.config import STRICT
from ldm.helpers.checks import check_fields, check_prompts, checked
from ldm.pipeline import LatentDiffusion
from ldm.states import State, States
from ldm.tokenizer import Tokens
from p2p.alpha import Time, Window, window
from p2p.edits import Edit, Reweight
from p2p.inject import Injection, Layers, Recorded, Watch, explicit, folded, watching
from p2p.switch_times import switch_times


@dataclass(frozen=True)
class SelfInjection:
    """Self-attention injection: targets use the source's self-attention maps while t >= `until`, or in that window.

    One time is for all targets, a tuple has one for each; None is that of `switch_times`, which depends on what a
    target's prompt replaces.

    Layers with more than 16 positions a side are excluded: they carry texture, not layout. For a model without layers
    of 16, pass `Layers(side=layout_side(model))`, as the command line does.
    """

    __pydantic_config__ = STRICT

    until: Time | Window | tuple[Time | Window, ...] | None = None
    layers: Layers = Layers(side=16)

    def __post_init__(self):
        check_fields(self)

    def untils(self, tokens: Sequence[Tokens]) -> list[Time | Window]:
        """`until` of each target, given the tokens of the prompts, the source's first.

        Raises:
            ValueError: there are more or fewer times than targets.
        """
        source, *targets = tokens
        if self.until is None:
            return [switch_times(source, target).until for target in targets]
        if not isinstance(self.until, tuple):
            return [self.until] * len(targets)
        if len(self.until) != len(targets):
            raise ValueError(f"there are {len(targets)} targets and {len(self.until)} times of self-attention")
        return list(self.until)


@dataclass(frozen=True)
class PromptToPrompt:
    """A source prompt, its targets, and the edit of each.

    Validated on construction: prompts longer than the context, edits that do not fit the prompts, and times out of
    range raise ValueError before any sampling.

    Args:
        model: the latent diffusion model.
        source: the prompt y, or its tokens.
        targets: the prompts y*, or their tokens.
        edits: one per target.
        self_injection: the window and the layers of self-attention injection.
        layers: the cross-attention layers that the edits apply to.
    """

    model: LatentDiffusion
    source: str | Tokens
    targets: tuple[str | Tokens, ...]
    edits: tuple[Edit, ...]
    self_injection: SelfInjection = SelfInjection()
    layers: Layers = Layers()
    tokens: list[Tokens] = field(init=False, repr=False, compare=False)  # of the prompts, the source's first

    def __post_init__(self):
        if isinstance(self.model, str):
            raise ValueError(f"the model comes first: write PromptToPrompt(model, {self.model!r}, targets, edits)")
        given = [self.source, *self.targets] if isinstance(self.targets, tuple | list) else []
        texts = [y.prompt if isinstance(y, Tokens) else y for y in given]
        check_prompts("targets", texts[1:] if given else self.targets)
        if isinstance(self.edits, Edit) or not all(isinstance(edit, Edit) for edit in self.edits):
            raise ValueError(f"edits must be a tuple of edits, one for each target, got {self.edits!r}: write (edit,)")
        checked("self_injection", self.self_injection, SelfInjection)
        checked("layers", self.layers, Layers)
        if not self.targets:
            raise ValueError("give at least one target prompt")
        if len(self.edits) != len(self.targets):
            raise ValueError(f"there are {len(self.targets)} targets and {len(self.edits)} edits")
        tokens = [y if isinstance(y, Tokens) else self.model.tokenizer.encode(y) for y in given]
        for name, value in (("source", texts[0]), ("targets", tuple(texts[1:])), ("tokens", tokens)):
            object.__setattr__(self, name, value)  # the dataclass is frozen
        self.injection(self.model.schedule.T)

    @property
    def prompts(self) -> list[str]:
        """The source, then the targets: the rows of the batch."""
        return [self.source, *self.targets]

    @cached_property
    def context(self) -> Float[Tensor, "b m e"]:
        """tau_theta of the prompts, encoded once."""
        return self.model.encode_tokens(self.tokens)

    @cached_property
    def injection(self) -> Callable[[int], Injection]:
        """The injection of each step t; the edits are compiled once, here."""
        T, (source, *targets) = self.model.schedule.T, self.tokens
        compiled = [edit.compile(source, y, T) for edit, y in zip(self.edits, targets)]
        self_shares = [window(until).compile(T) for until in self.self_injection.untils(self.tokens)]
        return lambda t: Injection(
            matrices=[matrices(t) for matrices in compiled],
            cross_layers=self.layers,
            self_shares=[share(t) for share in self_shares],
            self_layers=self.self_injection.layers,
        )

    def denoise(self, seed: int, watch: Watch | None = None, **sampling) -> Iterator[State]:
        """[P3] Lines 2-12: yield the state after each step; row 0 of every state is the source's.

        One network call per step covers lines 6-9: in each layer the targets use the source's map of the same call,
        which gives the same result as calling the network for the targets again with A^.

        Args:
            seed: of the one z_T that all rows start from (line 3), and of the noise that stochastic steps add.
            watch: called with the attention that each cross-attention layer used; without it no map is built.
            sampling: as for `LatentDiffusion.denoise`, except `attn_fn`.

        Raises:
            FloatingPointError: the latents after a step are not finite.
        """
        attn_fn = lambda t: self.attn_fn(t, watch)
        states = self.model.denoise(self.context, [seed] * len(self.context), attn_fn=attn_fn, **sampling)
        return States(self._explained(states))

    def _explained(self, states: Iterator[State]) -> Iterator[State]:
        """The same states; an error also names the edits' weights."""
        try:
            yield from states
        except FloatingPointError as e:
            weights = dict.fromkeys(
                str(part) for edit in self.edits for part in edit.parts if isinstance(part, Reweight)
            )
            raise FloatingPointError(f"{e}, or the weights ({'; '.join(weights)})" if weights else str(e)) from e

    def attn_fn(self, t: int, watch: Watch | None = None, recorded: Recorded | None = None) -> AttentionFn | None:
        """Line 9 at step t, as an attention function; None for plain attention, to the bit."""
        injection = self.injection(t)
        if injection.idle:
            return watching(watch, recorded) if watch else None
        return explicit(injection, watch, recorded) if watch else folded(injection, recorded)
