"""What an edit does, in numbers: how much of the source's attention each token uses, and in how many steps."""

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.alpha import Time, Window, window
from p2p.edits import Composition, Edit, Moment, Renormalise, Reweight
from p2p.mappers import units

NOTHING = "nothing changes: the model reads both prompts alike, and no word is weighted; change a word or reweight one"


def shares(
    source: Tokens, target: Tokens, edit: Edit, self_until: Time | Window, times: Sequence[int], T: int
) -> tuple[list[str], Float[Tensor, "k s"]]:
    """How much of the source's attention is used: for each token up to the first padding 1 - Q_t, then for
    self-attention; with their names.

    That is alpha_t of the tokens that the edit takes from the source, and 0 of the others.

    Args:
        source, target: the prompt and the edited prompt.
        edit: from one to the other; its weights and whether rows are renormalised have no part in this.
        self_until: when self-attention is injected, as `SelfInjection` has it.
        times: the time steps as they are visited, falling; a column for each but the last, at which sampling ends.
        T: the schedule's number of time steps.

    Raises:
        ValueError: the edit does not fit the prompts, or a time is out of range.
    """
    shown = min(target.count + 1, len(target.ids))
    claims = Composition(tuple(part for part in edit.parts if not isinstance(part, (Reweight, Renormalise))))
    Q = torch.stack([claims.matrices(Moment(t, T, source, target)).Q[:shown] for t in times[:-1]], dim=1)
    cross = 1 - Q
    own = torch.tensor([[window(self_until).at(t, T) for t in times[:-1]]], dtype=cross.dtype)
    return [*target.pieces[:shown], "self-attention"], torch.cat([cross, own])


def summary(source: Tokens, target: Tokens, edit: Edit, self_until: Time | Window, times: Sequence[int], T: int) -> str:
    """In how many of the steps the source's attention is used: "source's cross-attention in 24 of 30 steps ('in fog' in
    none), self-attention in 12"; or that the edit can change nothing. Arguments and errors as for `shares`."""
    times = [*dict.fromkeys(times[:-1]), times[-1]]  # a sampler may call the network twice at a step
    if source.ids == target.ids and all(_is_identity(edit, Moment(t, T, source, target)) for t in times[:-1]):
        return NOTHING
    _, used = shares(source, target, edit, self_until, times, T)
    *cross, own = (used > 0).sum(dim=1).tolist()
    usual, others = cross[0], {}  # BOS has the time of all that has no other
    for steps, same in groupby(units(target), lambda unit: max(cross[i] for i in unit.columns)):
        if steps != usual:
            others.setdefault(steps, []).append(repr(_text(target, [i for unit in same for i in unit.columns])))
    listed = "; ".join(f"{', '.join(texts)} in {steps or 'none'}" for steps, texts in others.items())
    cross_steps = f"{usual or 'none'} of {len(times) - 1} steps" + (f" ({listed})" if listed else "")
    return f"source's cross-attention in {cross_steps}, self-attention in {own or 'none'}"


def _is_identity(edit: Edit, moment: Moment) -> bool:
    """Whether A_used = A where A* = A."""
    P, Q, _ = edit.matrices(moment)
    return bool(torch.allclose(P + Q.diag(), torch.eye(len(Q), dtype=P.dtype), rtol=0, atol=1e-12))  # of 1 - alpha


def _text(tokens: Tokens, columns: Sequence[int]) -> str:
    """The prompt from one token to another; special tokens have no place in it, but names."""
    spans = [tokens.spans[i] for i in columns if tokens.spans[i] != (0, 0)]
    if not spans:
        return tokens.pieces[columns[0]]
    return " ".join(tokens.prompt[min(a for a, _ in spans) : max(b for _, b in spans)].split())
