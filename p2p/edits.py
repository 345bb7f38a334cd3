"""An edit is a pair of matrices for each step: A_used = A P_t + A* Q_t.

A (n x m) is the source's cross-attention, A* (n x m*) the target's own; P_t is m x m*, Q_t an m* x m* diagonal matrix.
Before any edit P = 0 and Q = I: the target uses its own attention. An edit takes such a pair to another, so edits
compose: `a + b` is first a, then b, and (a + b) + c is a + (b + c).

Swap, Refine and Preserve claim columns, target tokens that take the source's attention while alpha_t is 1; a column
claimed twice belongs to the later claim. Reweight scales columns, whoever claimed them. The rows of A_used are not
renormalised, as in the paper, unless the edit includes `Renormalise`.

An edit is compiled once for two prompts and a schedule: whatever does not depend on t, such as the alignment, the
mapper and the switch times, is computed then, and errors are raised then.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.config import STRICT
from ldm.helpers.checks import check_fields
from ldm.tokenizer import Tokens
from p2p.alpha import Alpha, Time, Window, window
from p2p.mappers import Merge, align, aligned_columns, copies, mapper
from p2p.reading import read
from p2p.switch_times import times_of
from p2p.words import columns, listed


class Matrices(NamedTuple):
    """P_t, and the diagonal of Q_t."""

    P: Float[Tensor, "m m2"]
    Q: Float[Tensor, " m2"]
    renormalise: bool = False  # divide each row of A_used by its sum

    @property
    def idle(self) -> bool:
        """True if A_used is A* itself."""
        return not self.P.any() and bool((self.Q == 1).all())


MatricesAt = Callable[[int], Matrices]  # P_t and Q_t at each step t


class Edit(ABC):
    """Base class of all edits."""

    @abstractmethod
    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        """Apply this edit on top of earlier matrices; the other arguments and errors are those of `compile`."""

    def compile(self, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        """Return t -> P_t and Q_t of this edit alone.

        Args:
            source, target: the prompt and the edited prompt.
            T: the schedule's number of timesteps.

        Raises:
            ValueError: the edit does not fit the prompts, or a time is out of range.
        """
        m = len(source.ids)
        nothing = Matrices(torch.zeros(m, m, dtype=torch.float64), torch.ones(m, dtype=torch.float64))
        return self.after(lambda t: nothing, source, target, T)

    @staticmethod
    def between(source: Tokens, target: Tokens, alpha: Alpha | None = None) -> "Edit":
        """Infer an edit from two prompts; its `str` describes it.

        Words of both prompts are kept, and substituted words are swapped as by `swaps`, which distinguishes articles,
        prepositions and phrases; the rest are insertions and deletions. Without alpha, tau is that of `switch_times`.
        """
        reading = read(source, target)
        alpha = alpha or Alpha(times_of(reading.replaces_object).tau)
        return reduce(add, (Swap(*pair, alpha) for pair in reading.swaps), Refine(alpha))

    @property
    def parts(self) -> tuple["Edit", ...]:
        """The single edits that this one is composed of, in order."""
        return (self,)

    def __add__(self, other: "Edit") -> "Edit":
        """Compose: first this edit, then the other."""
        if not isinstance(other, Edit):
            return NotImplemented
        return Composition(self.parts + other.parts)


@dataclass(frozen=True)
class Composition(Edit):
    """A sequence of edits.

    Raises:
        ValueError: one edit has a negative weight, at any steps, and another renormalises the rows.
    """

    edits: tuple[Edit, ...]

    def __post_init__(self):
        negative = any(isinstance(edit, Reweight) and edit.factor < 0 for edit in self.edits)
        if negative and any(isinstance(edit, Renormalise) for edit in self.edits):
            raise ValueError("rows with a negative weight can't be renormalised: drop one of the two")

    @property
    def parts(self) -> tuple[Edit, ...]:
        return self.edits

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        return reduce(lambda matrices, edit: edit.after(matrices, source, target, T), self.edits, before)

    def __str__(self) -> str:
        return "; ".join(map(str, self.edits))


def claim(
    before: MatricesAt,
    a: Float[Tensor, " m2"],
    M: Float[Tensor, "m m2"],
    alpha: Callable[[int], Float[Tensor, " m2"]],
) -> MatricesAt:
    """P = M diag(alpha), Q = diag(1 - alpha) on the columns where a is 1; the others keep the earlier matrices."""

    def at(t: int) -> Matrices:
        matrices, take = before(t), a * alpha(t)
        return matrices._replace(P=matrices.P * (1 - a) + M * take, Q=matrices.Q * (1 - a) + (a - take))

    return at


@dataclass(frozen=True)
class Refine(Edit):
    """[P10] Words that the prompts share take the source's attention, new words have their own.

    Columns are copied, as in the paper. Attention to deleted words, and to padding where the target has words, is lost;
    moving it instead is no better (docs/formulas.md).
    """

    __pydantic_config__ = STRICT

    alpha: Alpha = Alpha()

    def __post_init__(self):
        check_fields(self)

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        alignment, m = copies(source, target), len(source.ids)
        a = aligned_columns(alignment, m)
        return claim(before, a, mapper(alignment, m), self.alpha.compile(target, T))

    def __str__(self) -> str:
        return "shared words keep the source's attention"


@dataclass(frozen=True)
class Swap(Edit):
    """[P6-P9] Replace a word or phrase of the source by one of the target, of any numbers of tokens; words that the
    prompts share are kept.

    The mapper's rows sum to 1: attention displaced by other inserted or deleted words moves to BOS and to the next
    padding, where `Refine` loses it.
    """

    __pydantic_config__ = STRICT

    source: str
    target: str
    alpha: Alpha = Alpha()
    merge: Merge = "sum"

    def __post_init__(self):
        check_fields(self)

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        alignment, m = align(source, target, ((self.source, self.target),)), len(source.ids)
        a = aligned_columns(alignment, m)
        return claim(before, a, mapper(alignment, m, self.merge), self.alpha.compile(target, T))

    def __str__(self) -> str:
        return f"swap {self.source!r} for {self.target!r}"


@dataclass(frozen=True)
class Preserve(Edit):
    """[P11] Only one word or phrase takes the source's attention (by default at every step); all other words have their
    own.

    With `others`, the complement: every shared word except this one.
    """

    __pydantic_config__ = STRICT

    word: str
    alpha: Alpha = Alpha(tau=0.0)
    others: bool = False

    def __post_init__(self):
        check_fields(self)

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        alignment, m = align(source, target), len(source.ids)
        aligned, word = aligned_columns(alignment, m), torch.zeros(m, dtype=torch.float64)
        word[list(columns(target, self.word))] = 1
        if (word > aligned).any():
            raise ValueError(
                f"{self.word!r} cannot be preserved: {source.prompt!r} has no such word at its place. {listed(source)}"
            )
        a = aligned - word if self.others else word
        return claim(before, a, mapper(alignment, m), self.alpha.compile(target, T))

    def __str__(self) -> str:
        return f"preserve {'all but ' if self.others else ''}{self.word!r}"


@dataclass(frozen=True)
class Reweight(Edit):
    """[P10] Multiply a word's columns of the attention by a factor: 0 removes them, 1 changes nothing, 2 doubles them,
    and a negative one pushes away.

    The effect of 0 depends on the word: stripes and snowflakes disappear and fog thins, but a colour, a size or an
    object stays, since the text encoder is causal and later tokens carry the word too.

    By default the factor applies at every step, to injected and own attention. A window limits the steps; with
    `injected_only` it scales only what is injected from the source, hence only until tau. The paper's code does that,
    and during injection also scales a new word's own attention: a window that ends at tau.
    """

    __pydantic_config__ = STRICT

    word: str
    factor: float
    window: Time | Window = 0.0
    injected_only: bool = False

    def __post_init__(self):
        check_fields(self)
        if not math.isfinite(self.factor):
            raise ValueError(f"the weight of {self.word!r} must be a number, got {self.factor}")

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        share, word = window(self.window).compile(T), list(columns(target, self.word))

        def at(t: int) -> Matrices:
            (P, Q, renormalise), c = before(t), torch.ones(len(target.ids), dtype=torch.float64)
            c[word] = 1 + share(t) * (self.factor - 1)
            return Matrices(P * c, Q if self.injected_only else Q * c, renormalise)

        return at

    def __str__(self) -> str:
        return f"weigh {self.word!r} by {self.factor:g}"


@dataclass(frozen=True)
class Renormalise(Edit):
    """[P10] Divide every row of A_used by its sum, after all other edits, wherever this one stands among them.

    With a weight c this equals a weight before the softmax: softmax(S + log c) is A c with its rows renormalised.
    """

    __pydantic_config__ = STRICT

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        return lambda t: before(t)._replace(renormalise=True)

    def __str__(self) -> str:
        return "renormalise the rows"


def used(
    A: Float[Tensor, "... n m"],
    A_own: Float[Tensor, "... n m2"],
    P: Float[Tensor, "... m m2"],
    Q: Float[Tensor, "... m2"],
    renormalise: bool | Bool[Tensor, "..."] = False,
) -> Float[Tensor, "... n m2"]:
    """A_used = A P_t + A* Q_t, with Q_t given by its diagonal; rows divided by their sums if `renormalise`."""
    A_used = A @ P + A_own * Q[..., None, :]
    divide = torch.as_tensor(renormalise, device=A.device)[..., None, None]
    return torch.where(divide, A_used / A_used.sum(dim=-1, keepdim=True), A_used)


Stacked = tuple[Float[Tensor, "k 1 m m2"], Float[Tensor, "k 1 m2"], Bool[Tensor, "k 1"]]


def stack(matrices: list[Matrices], dtype: torch.dtype, device: torch.device) -> Stacked:
    """Batch P_t, Q_t and `renormalise` of several targets, with an axis for the heads."""
    P, Q, renormalise = zip(*matrices)
    cast = lambda parts: torch.stack(parts)[:, None].to(dtype).to(device)  # first: not every device has float64
    return cast(P), cast(Q), torch.tensor(renormalise, device=device)[:, None]
