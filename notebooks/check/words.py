"""Exercises of lesson 4: tokens, the causal text encoder, and contrastive training."""

from collections import Counter
from itertools import pairwise

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(4)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


Words = dict[tuple[str, ...], int]


def _pairs(words: Words) -> Counter:
    return Counter(pair for pieces, times in words.items() for pair in [*pairwise(pieces)] * times)


def _without_times(words: Words) -> tuple[str, str]:
    return Counter(pair for pieces in words for pair in pairwise(pieces)).most_common(1)[0][0]


def _unordered(words: Words) -> tuple[str, ...]:
    return Counter(tuple(sorted(pair)) for pair in _pairs(words).elements()).most_common(1)[0][0]


best_pair = Exercise(  # every count has one maximum, the mistaken ones too: there is no tie to break
    "best_pair",
    lambda words: max(_pairs(words), key=_pairs(words).get),
    [
        ({("c", "a", "t</w>"): 3, ("c", "a", "r", "t</w>"): 1, ("a", "t</w>"): 2},),
        ({("o", "n</w>"): 5, ("b", "a", "n</w>"): 1, ("c", "a", "n</w>"): 1, ("n", "o</w>"): 2},),
        ({("a", "b"): 3, ("b", "a"): 2, ("b", "c"): 4, ("a", "b", "d"): 1, ("b", "c", "d"): 1},),
    ],
    [
        (
            _without_times,
            "count a word as often as it occurs: words[pieces] says how often.",
        ),
        (
            lambda words: min(_pairs(words), key=_pairs(words).get),
            "this pair is the rarest; the most frequent one is merged.",
        ),
        (
            lambda words: "".join(max(_pairs(words), key=_pairs(words).get)),
            "this is the piece that the merge makes; return the pair, a tuple of two pieces.",
        ),
        (_unordered, "order matters: a before b is another pair than b before a."),
        (
            lambda words: max(_pairs(words).values()),
            "this is how often it occurs; return the pair itself.",
        ),
    ],
)


def _merge(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged = list(pieces)
    at = 0
    while at < len(merged) - 1:
        if (merged[at], merged[at + 1]) == pair:
            merged[at : at + 2] = ["".join(pair)]
        at += 1
    return tuple(merged)


def _merge_once(pieces, pair):
    at = next((i for i, two in enumerate(pairwise(pieces)) if two == pair), None)
    return pieces if at is None else (*pieces[:at], "".join(pair), *pieces[at + 2 :])


def _overlapping(pieces, pair):
    """Every occurrence becomes a piece, and of what is left only the last can go missing."""
    found = [two == pair for two in pairwise(pieces)]
    return tuple("".join(pair) if hit else piece for piece, hit in zip(pieces, [*found, False]))


merge = Exercise(
    "merge",
    _merge,
    [
        (("c", "a", "t</w>"), ("a", "t</w>")),
        (("b", "a", "n", "a", "n", "a</w>"), ("a", "n")),
        (("a", "a", "a"), ("a", "a")),
        (("n", "a"), ("a", "n")),
    ],
    [
        (_merge_once, "the pair can occur several times in a word: merge each of them."),
        (
            _overlapping,
            "a merged piece stands for both: the second one is used up and must not be kept, or merged again.",
        ),
        (
            lambda pieces, pair: _merge(_merge(pieces, pair), pair[::-1]),
            "only this order is merged: a before n, and not n before a.",
        ),
        (lambda pieces, pair: "".join(_merge(pieces, pair)), "return the pieces, a tuple, and not the word in one."),
    ],
)

_spans = ((0, 0), (0, 1), (2, 6), (6, 11), (11, 12), (13, 16), (0, 0), (0, 0))  # of "a butterfly, cat"

columns = Exercise(
    "columns",
    lambda spans, start, end: [i for i, span in enumerate(spans) if {*range(*span)} & {*range(start, end)}],
    [(_spans, 0, 1), (_spans, 2, 11), (_spans, 13, 16), (_spans, 0, 11)],
    [
        (
            lambda spans, start, end: [i for i, (a, b) in enumerate(spans) if a <= end and start <= b],
            "a span ends before its second number: tokens that only touch the word do not belong to it.",
        ),
        (
            lambda spans, start, end: [i for i, (a, b) in enumerate(spans) if start <= a and b <= end],
            "BOS, EOS and padding have the span (0, 0): inside a word at the beginning, and yet without a character.",
        ),
        (
            lambda spans, start, end: [i for i, (a, b) in enumerate(spans) if a == start and b > a],
            "this is the first token of the word; a word can have several.",
        ),
        (
            lambda spans, start, end: [(a, b) for a, b in spans if a < end and start < b],
            "these are the spans; return the numbers of the tokens.",
        ),
    ],
)

visible = Exercise(
    "visible",
    lambda m: torch.tensor([[float(j <= i) for j in range(m)] for i in range(m)]),
    [(2,), (5,)],
    [
        (
            lambda m: torch.ones(m, m).triu(),
            "this is transposed: token i, a row, may look at the tokens before it, and yours looks at those behind.",
        ),
        (lambda m: torch.ones(m, m).tril(-1), "a token also sees itself; BOS could otherwise look at nothing."),
        (lambda m: torch.ones(m, m), "nothing is hidden here: token i sees no token behind it."),
        (
            lambda m: torch.ones(m, m).tril() / torch.arange(1.0, m + 1)[:, None],
            "these are weights that sum to 1; only ones and zeros are asked for.",
        ),
    ],
)


def _cosines(images, texts):
    return torch.tensor([[(x @ y / (x.norm() * y.norm())).item() for y in texts] for x in images], dtype=torch.float64)


_features = [(2 * _draw(2, 4), _draw(3, 4), 1.0), (_draw(3, 5) + 1, 3 * _draw(4, 5), 10.0)]

similarity = Exercise(
    "similarity",
    lambda images, texts, scale: scale * _cosines(images, texts),
    _features,
    [
        (
            lambda images, texts, scale: scale * images @ texts.T,
            "divide each vector by its norm first: a cosine does not depend on lengths.",
        ),
        (lambda images, texts, scale: _cosines(images, texts), "the scale is missing."),
        (
            lambda images, texts, scale: scale * _cosines(texts, images),
            "this is transposed: row i belongs to image i, column j to text j.",
        ),
        (
            lambda images, texts, scale: (
                scale * torch.nn.functional.normalize(images, dim=0) @ torch.nn.functional.normalize(texts, dim=0).T
            ),
            "you divided each column by its norm; a vector is a row here.",
        ),
    ],
)

_S = [
    (torch.tensor([[3.0, 0.0], [0.0, 3.0]]).log1p(),),
    (torch.tensor([[2.0, 1.0, 0.0], [-1.0, 3.0, 1.0], [0.5, 0.0, 0.0]]),),
    (_draw(4, 4),),
]


def _of_rows(S: torch.Tensor) -> torch.Tensor:
    return -torch.stack([(row[i].exp() / row.exp().sum()).log() for i, row in enumerate(S)])


contrastive_loss = Exercise(
    "contrastive_loss",
    lambda S: (_of_rows(S).mean() + _of_rows(S.T).mean()) / 2,
    _S,
    [
        (
            lambda S: _of_rows(S).mean(),
            "this classifies the images among the texts only; the loss does the other way too.",
        ),
        (
            lambda S: _of_rows(S.T).mean(),
            "this classifies the texts among the images only; the loss does the other way too.",
        ),
        (lambda S: _of_rows(S).mean() + _of_rows(S.T).mean(), "twice too much: take the mean of both directions."),
        (
            lambda S: (_of_rows(S).sum() + _of_rows(S.T).sum()) / 2,
            "take the mean over the pairs, so that a larger batch is not a larger loss.",
        ),
        (
            lambda S: -(_of_rows(S).mean() + _of_rows(S.T).mean()) / 2,
            "the sign is wrong: a loss falls when the probability of the right one rises.",
        ),
    ],
)

zero_shot = Exercise(
    "zero_shot",
    lambda images, labels, scale: torch.stack(
        [row.exp() / row.exp().sum() for row in scale * _cosines(images, labels)]
    ),
    _features,
    [
        (
            lambda images, labels, scale: (scale * _cosines(images, labels)).softmax(dim=0),
            "your columns sum to 1; each image has one label, so its row sums to 1.",
        ),
        (
            lambda images, labels, scale: _cosines(images, labels).softmax(dim=1),
            "multiply by the scale before the softmax: cosines alone differ too little.",
        ),
        (lambda images, labels, scale: scale * _cosines(images, labels), "these are scores; probabilities sum to 1."),
        (
            lambda images, labels, scale: (scale * images @ labels.T).softmax(dim=1),
            "use cosines, as in the loss: divide each vector by its norm.",
        ),
        (
            lambda images, labels, scale: _cosines(images, labels).argmax(dim=1),
            "this is the most probable label; return the probability of each.",
        ),
    ],
)
