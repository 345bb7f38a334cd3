"""The mapper M [P6-P8]: which columns of the source's attention each token of the target takes.

A^ = A M. A mapper follows from an alignment: runs of source tokens facing runs of target tokens.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.tokenizer import Tokens
from p2p.words import Word, words

Merge = Literal["sum", "mean"]


class Run(NamedTuple):
    """Tokens of the source that become tokens of the target."""

    source: tuple[int, ...]
    target: tuple[int, ...]


def swap_alignment(source: Tokens, target: Tokens) -> list[Run]:
    """Word i of the source faces word i of the target, whatever their numbers of tokens; all else faces itself.

    Raises:
        ValueError: the prompts have different numbers of words.
    """
    ours, theirs = words(source), words(target)
    if len(ours) != len(theirs):
        raise ValueError(
            f"a swap needs prompts with the same number of words; {source.prompt!r} has {len(ours)}, "
            f"{target.prompt!r} has {len(theirs)}"
        )
    runs = [Run((0,), (0,))]  # BOS
    at, at_target = 1, 1
    for word, other in zip(ours, theirs):
        # what stands between words (punctuation, or nothing) is a run of its own
        runs.append(Run(_between(at, word), _between(at_target, other)))
        runs.append(Run(word.columns, other.columns))
        at, at_target = word.columns[-1] + 1, other.columns[-1] + 1
    runs.append(Run(tuple(range(at, source.count - 1)), tuple(range(at_target, target.count - 1))))
    runs.append(Run((source.count - 1,), (target.count - 1,)))  # EOS
    return [run for run in runs if run.source or run.target] + padding(source, target)


def _between(at: int, word: Word) -> tuple[int, ...]:
    return tuple(range(at, word.columns[0]))


def padding(source: Tokens, target: Tokens) -> list[Run]:
    """Padding faces padding at the same place. Padding of the source where the target has words faces the target's
    first padding (its EOS if it has none), so that its share of the attention stays with padding."""
    length = len(source.ids)
    first = min(target.count, length - 1)
    return [Run((i,), (max(i, first),)) for i in range(source.count, length)]


def mapper(alignment: list[Run], length: int, merge: Merge = "sum") -> Float[Tensor, "m m2"]:
    """[P6-P8] The matrix of an alignment: M[i, j] is the share of source token i's attention that target token j takes.

    Runs of equal length map one to one. Otherwise every source token of the run is shared out equally over its target
    tokens: each row of M sums to 1, and so each row of A^ = A M stays a distribution. That is `sum`: where several
    tokens become one, their maps are added. `mean` averages them instead, and rows may then sum to less.

    Args:
        alignment: runs that cover every source token once.
        length: number of tokens of either prompt, padding counted.
        merge: what several source tokens become in one target token.
    """
    M = torch.zeros(length, length, dtype=torch.float64)
    for source, target in alignment:
        if len(source) == len(target):
            M[list(source), list(target)] += 1
        elif source and target:
            share = 1 / len(target) if merge == "sum" else 1 / max(len(source), len(target))
            M[torch.tensor(source)[:, None], torch.tensor(target)] += share
    return M
