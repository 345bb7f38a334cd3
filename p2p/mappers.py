"""The mapper M [P6-P8]: the columns of the source's attention that each token of the target takes.

A^ = A M. A mapper is computed from an alignment of runs of source tokens with runs of target tokens. Equal words are
aligned, and so are the words that an edit swaps.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.helpers.checks import checked
from ldm.tokenizer import Tokens
from p2p.words import Word, columns, normal, words

Merge = Literal["sum", "mean", "copy"]
BOS = 0


class Run(NamedTuple):
    """A run of source tokens, and the run of target tokens matched with it."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    aligned: bool = True  # if false, the target tokens are new: they would take that attention, but have their own


class Unit(NamedTuple):
    """A unit of alignment: a word, or a character or token between words (punctuation, an emoji)."""

    text: str  # in the form in which spellings are compared; special tokens by their names
    columns: tuple[int, ...]
    word: Word | None


def units(tokens: Tokens) -> tuple[Unit, ...]:
    """The units of a prompt, in order; they cover every token between BOS and EOS once.

    Raises:
        ValueError: the context is one token, as that of a class can be.
    """
    if len(tokens.ids) < 3:
        raise ValueError(f"the context of {tokens.prompt!r} is one token, which gets all attention: no edit changes it")
    found = [Unit(normal(word.text), word.columns, word) for word in words(tokens)]
    taken = {column for unit in found for column in unit.columns}
    others = (i for i in range(1, tokens.count - 1) if i not in taken)
    for (start, end), same in groupby(others, lambda i: tokens.spans[i]):  # an emoji may be several tokens
        columns = tuple(same)
        if start < end:
            found.append(Unit(normal(tokens.prompt[start:end]), columns, None))
        else:  # special tokens, each by itself
            found += [Unit(tokens.pieces[i], (i,), None) for i in columns]
    return tuple(sorted(found, key=lambda unit: unit.columns))


def align(source: Tokens, target: Tokens, pairs: tuple[tuple[str, str], ...] = ()) -> tuple[Run, ...]:
    """Align the tokens of two prompts; every source token is in exactly one run.

    The words (or phrases) of each of `pairs` are aligned, the rest by the longest common subsequence of words; among
    several, the one that shifts words least. Source words left between two aligned ones are matched with the target
    words left there. If there are none they were deleted, and are matched with BOS: their attention moves to no word in
    particular, and none of it to padding.

    Raises:
        ValueError: a word of a pair is not in its prompt, occurs there several times, or is in two pairs.
    """
    if not (isinstance(source, Tokens) and isinstance(target, Tokens)):
        raise ValueError("prompts are aligned by their tokens: write model.tokenizer.encode(prompt)")
    try:
        pairs = checked("pairs", pairs, tuple[tuple[str, str], ...])
    except ValueError:
        raise ValueError(f"pairs must be pairs of words, such as (('cat', 'dog'),), got {pairs!r}") from None
    runs = [Run(columns(source, ours), columns(target, theirs)) for ours, theirs in pairs]
    paired = [{column for run in runs for column in run[side]} for side in (0, 1)]
    if any(len(paired[side]) < sum(len(run[side]) for run in runs) for side in (0, 1)):
        listed = ", ".join(f"{ours}={theirs}" for ours, theirs in pairs)
        raise ValueError(f"a word can be swapped for one other only; of these pairs some share a word: {listed}")
    ours, theirs = (
        [unit for unit in units(tokens) if not paired[side].intersection(unit.columns)]
        for side, tokens in enumerate((source, target))
    )
    same, gaps = common(ours, theirs)
    runs += [Run(unit.columns, other.columns) for unit, other in same]
    for left, new in ([tuple(i for unit in side for i in unit.columns) for side in gap] for gap in gaps):
        if left:
            runs.append(Run(left, new or (BOS,), aligned=False))
    return (*runs, Run((BOS,), (BOS,)), *_ends(source, target))


def common(
    ours: Sequence[Unit], theirs: Sequence[Unit]
) -> tuple[list[tuple[Unit, Unit]], list[tuple[Sequence[Unit], Sequence[Unit]]]]:
    """The longest common subsequence, in pairs, and the units in the gaps between them. Of several such subsequences it
    is the one that moves words least."""
    # best[i][j]: (pairs, minus the total shift) of the first i and the first j units
    best = [[(0, 0)] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            best[i + 1][j + 1] = max(best[i][j + 1], best[i + 1][j])
            if a.text == b.text:
                pairs, shift = best[i][j]
                best[i + 1][j + 1] = max(best[i + 1][j + 1], (pairs + 1, shift - abs(i - j)))
    found, i, j = [], len(ours), len(theirs)
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    found.reverse()
    around = pairwise([(-1, -1), *found, (len(ours), len(theirs))])
    gaps = [(ours[i + 1 : i_next], theirs[j + 1 : j_next]) for (i, j), (i_next, j_next) in around]
    return [(ours[i], theirs[j]) for i, j in found], gaps


def _ends(source: Tokens, target: Tokens) -> list[Run]:
    """Align EOS with EOS, and padding with the padding at the same place. Padding at a place where the other prompt has
    words is aligned with that prompt's first padding, or its EOS if it has none: attention to no word stays so."""
    length = len(source.ids)
    ours, theirs = (min(tokens.count, length - 1) for tokens in (source, target))
    facing: dict[int, list[int]] = {source.count - 1: [target.count - 1]}
    for i in range(min(source.count, target.count), length):
        facing.setdefault(max(i, ours), []).append(max(i, theirs))
    return [Run((i,), tuple(dict.fromkeys(targets))) for i, targets in facing.items()]


def copies(source: Tokens, target: Tokens) -> tuple[Run, ...]:
    """[P10] The runs of A^_j = A_a(j): the words that both prompts have, BOS, EOS, and padding at equal positions.

    Unlike `align`, nothing is displaced. Attention to a deleted word, or to padding where the target has words, is
    lost; a new word, and padding where the source has words, are in no run. So rows of A_used may sum to less than 1,
    or to more, as in the paper.
    """
    end, padding = source.count - 1, range(max(source.count, target.count), len(source.ids))
    shared = [run for run in align(source, target) if run.aligned and max(run.source) < end]
    return (*shared, Run((end,), (target.count - 1,)), *(Run((i,), (i,)) for i in padding))


def mapper(alignment: tuple[Run, ...], length: int, merge: Merge = "sum") -> Float[Tensor, "m m2"]:
    """[P6-P8] The matrix of an alignment: M[i, j] is the share of source token i's attention that target token j takes.

    Runs of equal length map one to one. Otherwise every source token of the run is distributed equally over its target
    tokens: if every token is in a run, as in those of `align`, each row of M sums to 1, and so each row of A^ = A M
    stays a distribution. That is `sum`: where several tokens become one, their maps are added. `mean` averages them
    instead, and rows may then sum to less. `copy` gives every target token of the run the whole attention of each
    source token, and rows may sum to more: to 2, where one word becomes two. Hence the lecture splits.

    Args:
        alignment: runs, none of which share a source token; the rows of tokens in no run are 0.
        length: number of tokens of either prompt, padding counted.
        merge: how a run with different numbers of tokens is mapped.
    """
    checked("merge", merge, Merge)
    if isinstance(alignment, int):
        raise ValueError(f"the alignment comes first: write mapper(align(source, target), {alignment})")
    M = torch.zeros(length, length, dtype=torch.float64)
    for source, target, _ in alignment:
        if len(source) == len(target):
            M[list(source), list(target)] += 1
        elif source:
            share = {"sum": 1 / len(target), "mean": 1 / max(len(source), len(target)), "copy": 1.0}[merge]
            M[torch.tensor(source)[:, None], torch.tensor(target)] += share
    return M


def aligned_columns(alignment: tuple[Run, ...], length: int) -> Float[Tensor, " m2"]:
    """[P10] a: 1 for the target tokens that correspond to source tokens, 0 for the new ones."""
    a = torch.zeros(length, dtype=torch.float64)
    for run in alignment:
        if run.aligned:
            a[list(run.target)] = 1
    return a
