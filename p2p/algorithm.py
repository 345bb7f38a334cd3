"""Algorithm 1 of Prompt-to-Prompt [P3]: a source and its edited targets, from one noise, in one batch."""

from collections.abc import Iterator
from dataclasses import dataclass

from ldm.attention import AttentionEdit
from ldm.pipeline import LatentDiffusion, State
from p2p.alpha import switch_time
from p2p.edits import Edit, Moment
from p2p.inject import Injection, Watch, explicit, folded, watching


@dataclass(frozen=True)
class SelfInjection:
    """The window of self-attention injection: targets use the source's self-attention maps while t >= `until`.

    `until` is given as tau is; `limit` leaves out layers of more positions a side, which carry texture, not layout.
    """

    until: float | int = 0.6
    limit: int = 16


@dataclass(frozen=True)
class PromptToPrompt:
    """A source prompt, its targets, and how each is edited.

    Checked when it is made: prompts that do not fit the context, edits that do not fit the prompts, and times out of
    range raise ValueError before anything is sampled.

    Args:
        model: the latent diffusion model.
        source: the prompt y.
        targets: the prompts y*.
        edits: one per target.
        self_injection: the window of self-attention injection.
    """

    model: LatentDiffusion
    source: str
    targets: tuple[str, ...]
    edits: tuple[Edit, ...]
    self_injection: SelfInjection = SelfInjection()

    def __post_init__(self):
        if not self.targets:
            raise ValueError("give at least one target prompt")
        if len(self.edits) != len(self.targets):
            raise ValueError(f"there are {len(self.targets)} targets and {len(self.edits)} edits")
        self.injection(self.model.schedule.T)

    @property
    def prompts(self) -> list[str]:
        """The source, then the targets: the rows of the batch."""
        return [self.source, *self.targets]

    def injection(self, t: int) -> Injection:
        """What step t injects."""
        T = self.model.schedule.T
        source, *targets = map(self.model.tokenizer.encode, self.prompts)
        return Injection(
            matrices=[edit.matrices(Moment(t, T, source, y)) for edit, y in zip(self.edits, targets)],
            inject_self=t >= switch_time(self.self_injection.until, T),
            self_limit=self.self_injection.limit,
        )

    def denoise(self, seed: int, watch: Watch | None = None, **sampling) -> Iterator[State]:
        """Lines 2-12: one yield per step; row 0 of every state is the source's.

        One network call a step does both of the algorithm's lines 6-9: within the call each layer hands the source's
        map to its targets before they use their own, which is what re-running the targets with A^ would compute.

        Args:
            seed: of the one z_T that all rows start from (line 3), and of the noise that stochastic steps add.
            watch: shown the attention that every cross-attention layer used; without it no map is built.
            sampling: as for `LatentDiffusion.denoise`.
        """

        def edit(t: int) -> AttentionEdit | None:
            injection = self.injection(t)
            if injection.idle:  # plain attention, to the bit
                return watching(watch) if watch else None
            return explicit(injection, watch) if watch else folded(injection)

        context = self.model.encode_prompts(self.prompts)
        return self.model.denoise(context, [seed] * len(self.prompts), edit=edit, **sampling)
