"""An edit in numbers: the share of the source's attention that each token uses, and in how many steps."""

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.alpha import Time, Window, window
from p2p.edits import Composition, Edit, Matrices, Renormalise, Reweight
from p2p.mappers import units

NOTHING = "nothing changes: both prompts have the same tokens, and no word is reweighted; change a word or reweight one"


def shares(
    source: Tokens, target: Tokens, edit: Edit, self_until: Time | Window, times: Sequence[int], T: int
) -> tuple[list[str], Float[Tensor, "k s"]]:
    """The share of the source's attention in each step: 1 - Q_t for each token up to the first padding, then that of
    self-attention; with their names.

    It is alpha_t for the tokens that the edit takes from the source, and 0 for the others.

    Args:
        source, target: the prompt and the edited prompt.
        edit: from one to the other; its weights and renormalisation are ignored.
        self_until: when self-attention is injected, as in `SelfInjection`.
        times: the visited timesteps, decreasing; one column for each but the last, at which sampling ends.
        T: the schedule's number of timesteps.

    Raises:
        ValueError: the edit does not fit the prompts, or a time is out of range.
    """
    shown = min(target.count + 1, len(target.ids))
    claims = Composition(tuple(part for part in edit.parts if not isinstance(part, (Reweight, Renormalise))))
    matrices, self_share = claims.compile(source, target, T), window(self_until).compile(T)
    cross = 1 - torch.stack([matrices(t).Q[:shown] for t in times[:-1]], dim=1)
    own = torch.tensor([[self_share(t) for t in times[:-1]]], dtype=cross.dtype)
    return [*target.pieces[:shown], "self-attention"], torch.cat([cross, own])


def summary(source: Tokens, target: Tokens, edit: Edit, self_until: Time | Window, times: Sequence[int], T: int) -> str:
    """Describe in how many steps the source's attention is used: "source's cross-attention in 25 of 30 steps ('in fog'
    in none), self-attention in 12"; or that the edit can change nothing. Arguments and errors as for `shares`."""
    times = [*dict.fromkeys(times[:-1]), times[-1]]  # a sampler may call the network twice at a step
    if source.ids == target.ids:
        matrices = edit.compile(source, target, T)
        if all(_is_identity(matrices(t)) for t in times[:-1]):
            return NOTHING
    _, used = shares(source, target, edit, self_until, times, T)
    *cross, own = (used > 0).sum(dim=1).tolist()
    usual, others = cross[0], {}  # BOS has the default switch time
    for steps, same in groupby(units(target), lambda unit: max(cross[i] for i in unit.columns)):
        if steps != usual:
            others.setdefault(steps, []).append(repr(_text(target, [i for unit in same for i in unit.columns])))
    listed = "; ".join(f"{', '.join(texts)} in {steps or 'none'}" for steps, texts in others.items())
    cross_steps = f"{usual or 'none'} of {len(times) - 1} steps" + (f" ({listed})" if listed else "")
    return f"source's cross-attention in {cross_steps}, self-attention in {own or 'none'}"


def _is_identity(matrices: Matrices) -> bool:
    """True if A_used = A whenever A* = A."""
    P, Q, _ = matrices
    return bool(torch.allclose(P + Q.diag(), torch.eye(len(Q), dtype=P.dtype), rtol=0, atol=1e-12))  # of 1 - alpha


def _text(tokens: Tokens, columns: Sequence[int]) -> str:
    """The prompt's text at these tokens; the name of a special token, which has no text."""
    spans = [tokens.spans[i] for i in columns if tokens.spans[i] != (0, 0)]
    if not spans:
        return tokens.pieces[columns[0]]
    return " ".join(tokens.prompt[min(a for a, _ in spans) : max(b for _, b in spans)].split())
