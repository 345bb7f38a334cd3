"""The edits of google/prompt-to-prompt, reimplemented from their documented behaviour, so that the difference from ours
can be shown and measured. Only the baseline of the same name uses this file.

It deliberately differs from ours:

- `replace` maps source token j to target token j after the last swapped word, whatever the token counts (the "tail
  defect"): if a swap changes the number of tokens, every later word takes another word's attention, rows of M sum to 0
  or 2, and words take padding's attention;
- `replace` refuses prompts with different numbers of words;
- `refine` maps a repeated word to its earliest occurrence, and padding to the source token at the same position, even
  if that is a word: deleted words return through padding;
- words are split at single spaces and found by counting their tokens' letters: a double space shifts every later word;
- cross-attention is injected for a fraction of steps + 1, self-attention for the same fraction of steps.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.helpers.checks import check_fields
from ldm.tokenizer import Tokens
from p2p.alpha import Alpha, Step, Window
from p2p.edits import Edit, MatricesAt, claim

Mapper = Literal["replace", "refine"]
Fraction = float | tuple[float, float]  # of the steps, from the first: up to this fraction, or (from, to)
Mapping = tuple[Float[Tensor, "m m2"], Float[Tensor, " m2"]]  # M, and a: 1 for the injected columns


@dataclass(frozen=True)
class Reference(Edit):
    """The reference's edit. Its re-weight of an injected word is `+ Reweight(..., injected_only=True)`; that of a word
    which a refinement adds is a `Reweight` with the window of the injection."""

    mapper: Mapper
    alpha: Alpha = Alpha()

    def __post_init__(self):
        check_fields(self)

    def after(self, before: MatricesAt, source: Tokens, target: Tokens, T: int) -> MatricesAt:
        M, a = {"replace": replacement, "refine": refinement}[self.mapper](source, target)
        return claim(before, a, M, self.alpha.compile(target, T))

    def __str__(self) -> str:
        return f"{self.mapper} as google/prompt-to-prompt"


def word_tokens(tokens: Tokens) -> list[list[int]]:
    """The columns of each word of the prompt, split at single spaces: tokens are assigned to words in order, until a
    word has as many letters as it should. An empty word takes a token too, which causes the shift."""
    words = tokens.prompt.split(" ")
    found: list[list[int]] = [[] for _ in words]
    word, letters = 0, 0
    for column in range(1, tokens.count - 1):
        if word == len(words):
            break  # a letter in several tokens is counted several times
        found[word].append(column)
        letters += len(tokens.pieces[column])
        if letters >= len(words[word]):
            word, letters = word + 1, 0
    return found


def replacement(source: Tokens, target: Tokens) -> Mapping:
    """M of the reference's word swap; every column is injected.

    Walks through the tokens in parallel, i of the source and j of the target. Up to the last word that differs,
    M[i, j] = 1; the tokens of such a word map one to one if equally many, else each is distributed evenly; after it
    M[j, j] = 1, where M[i, j] = 1 is meant.

    Raises:
        ValueError: the prompts have different numbers of words, or a double space leaves a differing word no tokens.
    """
    ours, theirs = source.prompt.split(" "), target.prompt.split(" ")
    if len(ours) != len(theirs):
        raise ValueError(
            f"the reference replaces words in prompts of equally many words; {source.prompt!r} has {len(ours)}, "
            f"{target.prompt!r} {len(theirs)}: use its refine"
        )
    length = len(source.ids)
    M = torch.zeros(length, length, dtype=torch.float64)
    i = j = 0
    for a, b, S, T in zip(ours, theirs, word_tokens(source), word_tokens(target)):
        if a == b:
            continue
        if not S or not T:
            raise ValueError(f"the reference finds no tokens of {a!r} and {b!r}: write single blanks")
        while i < S[0]:
            M[i, j] = 1
            i, j = i + 1, j + 1
        if len(S) == len(T):
            M[S, T] = 1
        else:
            M[torch.tensor(S)[:, None], torch.tensor(T)] = 1 / len(T)
        i, j = i + len(S), j + len(T)
    while i < length and j < length:
        M[j, j] = 1  # the tail defect
        i, j = i + 1, j + 1
    return M, torch.ones(length, dtype=torch.float64)


def refinement(source: Tokens, target: Tokens) -> Mapping:
    """M and a of the reference's refinement: the longest common subsequence of tokens, including BOS and EOS; among
    several, that with the earliest target tokens, then the earliest source tokens. Padding keeps its own position."""
    x, y, length = source.ids[: source.count], target.ids[: target.count], len(source.ids)
    common = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]  # of the first i and the first j tokens
    for i, token in enumerate(x, start=1):
        for j, other in enumerate(y, start=1):
            common[i][j] = max(common[i - 1][j], common[i][j - 1], common[i - 1][j - 1] + (token == other))
    M, a = torch.zeros(length, length, dtype=torch.float64), torch.zeros(length, dtype=torch.float64)
    i, j = len(x), len(y)
    while i and j:
        if common[i][j] == common[i][j - 1]:
            j -= 1
        elif common[i][j] == common[i - 1][j]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            M[i, j] = a[j] = 1
    padding = list(range(target.count, length))
    M[padding, padding] = a[padding] = 1
    return M, a


def cross_replace(fraction: Fraction, visited: list[int], steps: int) -> Window:
    """Convert the reference's `cross_replace_steps` to a window: its schedule has one more row than there are steps.

    A row is a network call, of which PLMS makes one more than steps. It makes two at its second timestep, and a window
    ends after both or before both.

    Args:
        fraction: of the steps, in [0, 1].
        visited: the timestep of each of the run's network calls.
        steps: of the run.

    Raises:
        ValueError: a fraction lies outside [0, 1].
    """
    return _window(fraction, steps + 1, visited)


def self_replace(fraction: Fraction, visited: list[int], steps: int) -> Window:
    """Convert the reference's `self_replace_steps` to a window: a fraction of the steps; else as `cross_replace`."""
    return _window(fraction, steps, visited)


def _window(fraction: Fraction, rows: int, visited: list[int]) -> Window:
    """The window of timesteps of the calls from int(from * rows) up to, but not including, int(to * rows)."""
    start, end = fraction if isinstance(fraction, tuple) else (0.0, fraction)
    for edge in (start, end):
        if not 0 <= edge <= 1:
            raise ValueError(f"a fraction of the steps must lie in [0, 1], got {edge}")
    inside = visited[int(start * rows) : int(end * rows)]
    return Window(start=Step(inside[0]), end=Step(inside[-1])) if inside else Window(end="never")
