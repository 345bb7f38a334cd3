"""The mapper M [P6-P8]: which columns of the source's attention each token of the target takes.

A^ = A M. A mapper follows from an alignment: runs of source tokens facing runs of target tokens. Equal words face each
other, and so do the words that an edit says to swap.
"""

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
    """Source tokens whose attention these target tokens would take."""

    source: tuple[int, ...]
    target: tuple[int, ...]
    aligned: bool = True  # whether they correspond; if not, the target tokens are new and have only their own attention


class Unit(NamedTuple):
    """What is aligned as a whole: a word, or a character or token between words (punctuation, an emoji)."""

    text: str  # in the form in which spellings are compared; special tokens by their names
    columns: tuple[int, ...]
    word: Word | None


def units(tokens: Tokens) -> tuple[Unit, ...]:
    """The units of a prompt, in order; they cover every token between BOS and EOS once."""
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
    """How the tokens of two prompts face each other; every source token is in exactly one run.

    Words (or phrases) in `pairs` face each other. The rest is aligned by its longest common subsequence of words; where
    that leaves a choice, words at equal positions face each other. Source words left between two aligned ones face the
    target words left there; where there are none they were deleted, and face BOS: attention that looked at them now
    looks at nothing in particular, and none of it flows into padding.

    Raises:
        ValueError: a word of a pair is not in its prompt, or stands there several times, or is in two pairs.
    """
    if not (isinstance(source, Tokens) and isinstance(target, Tokens)):
        raise ValueError("prompts are aligned by their tokens: write model.tokenizer.encode(prompt)")
    try:
        pairs = checked("pairs", pairs, tuple[tuple[str, str], ...])
    except ValueError:
        raise ValueError(f"pairs must be pairs of words, such as (('cat', 'dog'),), got {pairs!r}") from None
    runs = [Run(columns(source, ours), columns(target, theirs)) for ours, theirs in pairs]
    said = [{column for run in runs for column in run[side]} for side in (0, 1)]
    if any(len(said[side]) < sum(len(run[side]) for run in runs) for side in (0, 1)):
        listed = ", ".join(f"{ours}={theirs}" for ours, theirs in pairs)
        raise ValueError(f"in one mapper a word faces one other; of these pairs some share a word: {listed}")
    ours, theirs = (
        [unit for unit in units(tokens) if not said[side].intersection(unit.columns)]
        for side, tokens in enumerate((source, target))
    )
    common = _common(ours, theirs)
    runs += [Run(ours[i].columns, theirs[j].columns) for i, j in common]
    for (i, j), (i_next, j_next) in pairwise([(-1, -1), *common, (len(ours), len(theirs))]):
        left = tuple(column for unit in ours[i + 1 : i_next] for column in unit.columns)
        new = tuple(column for unit in theirs[j + 1 : j_next] for column in unit.columns)
        if left:
            runs.append(Run(left, new or (BOS,), aligned=False))
    return (*runs, Run((BOS,), (BOS,)), *_ends(source, target))


def _common(ours: list[Unit], theirs: list[Unit]) -> list[tuple[int, int]]:
    """The longest common subsequence, as pairs of positions; of several the one that moves words least."""
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
    return found[::-1]


def _ends(source: Tokens, target: Tokens) -> list[Run]:
    """EOS faces EOS, padding the padding at the same place. Padding where the other prompt has words faces that
    prompt's first padding, or its EOS if it has none: what looked at no word still does, with all of its attention."""
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

    Runs of equal length map one to one. Otherwise every source token of the run is shared out equally over its target
    tokens: if every token is in a run, as in those of `align`, each row of M sums to 1, and so each row of A^ = A M
    stays a distribution. That is `sum`: where several
    tokens become one, their maps are added. `mean` averages them instead, and rows may then sum to less. `copy` gives
    every target token of the run the whole of each source token's attention, and rows sum to more: to 2, where one word
    becomes two. That is why the lecture goes on to split.

    Args:
        alignment: runs, none of which share a source token; the rows of tokens in no run are 0.
        length: number of tokens of either prompt, padding counted.
        merge: what becomes of a run whose numbers of tokens differ.
    """
    checked("merge", merge, Merge)
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
