"""Exercises of lesson 5: attention."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(5)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


def _scores(Q, K):
    return torch.tensor([[sum(a * b for a, b in zip(q, k)) / len(q) ** 0.5 for k in K.tolist()] for q in Q.tolist()])


def _map(Q, K):
    e = _scores(Q, K).double().exp()
    return e / e.sum(dim=1, keepdim=True)


# n, m and d are all different, so that exchanged axes show
_pairs = [(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]])), (_draw(2, 4), _draw(3, 4))]

scores = Exercise(
    "scores",
    _scores,
    _pairs,
    [
        (lambda Q, K: Q @ K.T, "the division by sqrt(d) is missing: without it, scores grow with the width of a head."),
        (lambda Q, K: Q @ K.T / Q.shape[1], "you divide by d; C3 divides by its root."),
        (lambda Q, K: Q @ K.T / K.shape[0] ** 0.5, "you divide by the root of m, the number of tokens; C3 has d."),
        (
            lambda Q, K: K @ Q.T / Q.shape[1] ** 0.5,
            "this is transposed: row i belongs to query i, column j to key j, so S is Q K^T.",
        ),
    ],
    tolerance=1e-4,
)

attention_map = Exercise(
    "attention_map",
    _map,
    _pairs,
    [
        (
            lambda Q, K: _scores(Q, K).double().softmax(dim=0),
            "your columns sum to 1; each position distributes its attention over the tokens, so rows do.",
        ),
        (lambda Q, K: (Q @ K.T).double().softmax(dim=1), "divide the scores by sqrt(d) before the softmax."),
        (lambda Q, K: _scores(Q, K).double().exp(), "e^s alone does not sum to 1: divide each row by its sum."),
        (lambda Q, K: _scores(Q, K).double(), "these are the scores; A is their softmax."),
    ],
    tolerance=1e-4,
)

_triples = [(*pair, _draw(3, 2).to(pair[0].dtype)) for pair in _pairs]

attend = Exercise(
    "attend",
    lambda Q, K, V: torch.stack([sum(a * v for a, v in zip(row, V.double())) for row in _map(Q, K)]),
    _triples,
    [
        (
            lambda Q, K, V: V.double().mean(dim=0).expand(len(Q), -1),
            "this is the plain mean of the values; each is weighted by a_j.",
        ),
        (
            lambda Q, K, V: V.double()[_map(Q, K).argmax(dim=1)],
            "you took the value of the best key; attention is soft and takes a weighted mean of all.",
        ),
        (
            lambda Q, K, V: _scores(Q, K).double() @ V.double(),
            "you weighted by the scores; weigh by their softmax, which is a distribution.",
        ),
        (
            lambda Q, K, V: _map(Q, K) @ V.double() / len(V),
            "a weighted mean needs no division by m: the weights sum to 1 already.",
        ),
    ],
    tolerance=1e-4,
)


def _heads(split):
    def multi_head(q, k, v, heads):
        parts = [split(x, heads) for x in (q, k, v)]
        return torch.cat([_map(Q, K) @ V.double() for Q, K, V in zip(*parts)], dim=1)

    return multi_head


multi_head = Exercise(
    "multi_head",
    _heads(lambda x, heads: x.chunk(heads, dim=1)),
    [(_draw(3, 4), _draw(2, 4), _draw(2, 4), 2), (_draw(2, 6), _draw(3, 6), _draw(3, 6), 3)],
    [
        (
            _heads(lambda x, heads: [x]),
            "this is a single head: split the columns of q, k and v among the heads first.",
        ),
        (
            _heads(lambda x, heads: [x[:, h::heads] for h in range(heads)]),
            "head h takes d neighbouring columns, h d to (h + 1) d, not every h-th.",
        ),
        (
            lambda q, k, v, heads: sum(
                _map(*p[:2]) @ p[2].double() for p in zip(*(x.chunk(heads, 1) for x in (q, k, v)))
            ),
            "you added the heads; their results are put side by side.",
        ),
        (
            lambda q, k, v, heads: torch.cat(
                [_map(Q, K) @ v.double() for Q, K in zip(q.chunk(heads, 1), k.chunk(heads, 1))], 1
            ),
            "every head took all columns of v; it gets its own slice of the values too.",
        ),
    ],
    tolerance=1e-4,
)

positions = Exercise(
    "positions",
    lambda height, width, level: (height >> level) * (width >> level),
    [(64, 64, 0), (64, 64, 2), (16, 32, 1)],
    [
        (lambda height, width, level: height * width, "this is level 0; every level down halves height and width."),
        (
            lambda height, width, level: height * width // 2**level,
            "both sides are halved at each level, so there are 4 times fewer positions, not 2.",
        ),
        (
            lambda height, width, level: 4 * height * width // 4**level,
            "channels do not count [C5]: a position attends as a whole, whatever the number of its channels.",
        ),
    ],
)

_A = [
    (torch.rand(heads, h * w, m, generator=_generator), j, h, w)
    for heads, h, w, m, j in ((2, 2, 3, 4, 1), (3, 3, 2, 5, 4))
]

word_map = Exercise(
    "word_map",
    lambda A, j, height, width: (
        torch.stack([sum(a[:, j] for a in A)[r * width : (r + 1) * width] for r in range(height)]) / len(A)
    ),
    _A,
    [
        (
            lambda A, j, height, width: A[:, :, j].reshape(-1, height, width),
            "there is a map for every head here: average over the heads.",
        ),
        (
            lambda A, j, height, width: A[:, :, j].sum(0).reshape(height, width),
            "average over the heads rather than adding them up: a share of attention is at most 1.",
        ),
        (
            lambda A, j, height, width: A[:, :, j].mean(0).reshape(width, height).T,
            "positions are counted along rows: position i lies at row i // width, column i % width.",
        ),
        (
            lambda A, j, height, width: A.mean(0).mean(1).reshape(height, width),
            "you averaged over all tokens; the word's map is column j.",
        ),
    ],
)
