"""Exercises of lessons 7 and 8: the edits."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(7)


def _attention(n: int, m: int) -> torch.Tensor:
    """A map: n rows, each a distribution over m tokens."""
    return torch.rand(n, m, generator=_generator, dtype=torch.float64).pow(3).add(0.01).softmax(dim=1)


_maps = (_attention(2, 3), _attention(2, 3))

switch = Exercise(
    "switch",
    lambda A, A_star, t, tau: A if t >= tau else A_star,
    [(*_maps, t, 200) for t in (1000, 201, 200, 199, 1)],
    [
        (
            lambda A, A_star, t, tau: A_star if t >= tau else A,
            "the other way round: t counts down from T, and the source's attention comes first, while t >= tau.",
        ),
        (
            lambda A, A_star, t, tau: A if t > tau else A_star,
            "at t = tau itself the source's attention is still used: P4 takes A* if t < tau.",
        ),
        (
            lambda A, A_star, t, tau: (A + A_star) / 2,
            "P4 is a switch: before tau the one, after it the other, never both.",
        ),
    ],
)

inject = Exercise(
    "inject",
    lambda A, M: torch.einsum("ni,ij->nj", A, M),
    [
        (_attention(3, 3), torch.rand(3, 3, generator=_generator, dtype=torch.float64)),  # square: any order is defined
        (_attention(2, 2), torch.tensor([[0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)),
    ],
    [
        (lambda A, M: M @ A, "the order is wrong: A M, as a row of A is a position's attention, which M maps."),
        (
            lambda A, M: A @ M.T,
            "M is transposed in yours: its rows are the source's tokens, which are the columns of A.",
        ),
        (lambda A, M: A, "nothing has been mapped: multiply A by M."),
        (
            lambda A, M: (A @ M) / (A @ M).sum(dim=1, keepdim=True),
            "no division is needed: if rows of M sum to 1, so do those of A M.",
        ),
        (lambda A, M: A @ (M > 0).double(), "M holds shares, not only zeros and ones: use its numbers."),
    ],
)


def _mapper(fill):
    def mapper(runs, m, m_star):
        M = torch.zeros(m, m_star, dtype=torch.float64)
        for source, target in runs:
            fill(M, source, target)
        return M

    return mapper


def _share_out(M, source, target):
    for k, i in enumerate(source):
        for position, j in enumerate(target):
            M[i, j] = float(k == position) if len(source) == len(target) else 1 / len(target)


def _filled(M, source, target, value):
    for i in source:
        for j in target:
            M[i, j] = value


_runs = [
    ([((0,), (0, 1)), ((1,), (2,)), ((2,), (3,))], 3, 4),  # orange -> big tabby
    ([((0, 1), (0,)), ((2,), (1,)), ((3,), (2,))], 4, 3),  # and back
    ([((0,), (0,)), ((1, 2), (1, 2)), ((3,), (3,))], 4, 4),
    ([((0,), (0,)), ((1, 2, 3), (1, 2)), ((4,), (3,))], 5, 4),
]

mapper = Exercise(
    "mapper",
    _mapper(_share_out),
    _runs,
    [
        (
            _mapper(lambda M, source, target: _filled(M, source, target, 1.0)),
            "this copies: rows of M sum to 2 where one token becomes two, and attention is handed out twice.",
        ),
        (
            _mapper(lambda M, source, target: _filled(M, source, target, 1 / len(target))),
            "two tokens that become two others map one to one, the first to the first, not half and half.",
        ),
        (
            _mapper(
                lambda M, source, target: (
                    _filled(M, source, target, 1 / len(source))
                    if len(source) != len(target)
                    else _share_out(M, source, target)
                )
            ),
            "a token shares out its attention over its targets: divide by their number, not by that of the sources.",
        ),
        (
            _mapper(lambda M, source, target: _filled(M, source, target, 1 / len(source))),
            "divide by the number of the targets, not by that of the sources; and runs of equal length map one to one.",
        ),
        (
            lambda runs, m, m_star: torch.eye(m, m_star),
            "this is the identity, whatever the runs are: token i of the source may face another token than i.",
        ),
        (
            _mapper(
                lambda M, source, target: (
                    [M.__setitem__((j, j), 1.0) for j in target if j < len(M)]
                    if len(source) == len(target)
                    else _share_out(M, source, target)
                )
            ),
            "behind a word that became longer or shorter, token i moves to another place: M[i, j], not M[j, j].",
        ),
        (
            lambda runs, m, m_star: _mapper(_share_out)([(t, s) for s, t in runs], m_star, m),
            "this maps the target to the source: M has a row for each token of the source, m x m*.",
        ),
    ],
)

edited_values = Exercise(
    "edited_values",
    lambda A_hat, V, V_star: torch.einsum("nj,je->ne", A_hat, V_star),
    [(_attention(n, 3), *torch.randn(2, 3, 2, generator=_generator, dtype=torch.float64)) for n in (4, 1)],
    [
        (
            lambda A_hat, V, V_star: A_hat @ V,
            "with the source's values the source's image comes back; the values are always the target's [P5].",
        ),
        (lambda A_hat, V, V_star: A_hat @ (V + V_star) / 2, "the values are the target's alone, not a mean of both."),
        (lambda A_hat, V, V_star: A_hat @ (V_star - V), "no difference is taken: Y* = A^ V*."),
    ],
)

_alphas = [
    (torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64), *_maps),
    (torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), *_maps),
]

blend = Exercise(
    "blend",
    lambda alpha, A_hat, A_star: torch.stack(
        [alpha[j] * A_hat[:, j] + (1 - alpha[j]) * A_star[:, j] for j in range(len(alpha))], dim=1
    ),
    _alphas,
    [
        (
            lambda alpha, A_hat, A_star: (1 - alpha) * A_hat + alpha * A_star,
            "the other way round: alpha is the share of the source's attention, A^.",
        ),
        (lambda alpha, A_hat, A_star: alpha * A_hat + A_star, "A* has a factor of 1 - alpha [P9]."),
        (
            lambda alpha, A_hat, A_star: alpha.mean() * A_hat + (1 - alpha.mean()) * A_star,
            "each word, that is each column, has its own alpha; you used their mean for all.",
        ),
    ],
)

alpha = Exercise(
    "alpha",
    lambda t, tau: torch.tensor([1.0 if t >= one else 0.0 for one in tau.tolist()]),
    [(t, torch.tensor([200, 500, 1001])) for t in (1000, 500, 499, 200, 1)],
    [
        (lambda t, tau: (t < tau).double(), "the other way round: alpha is 1 while t >= tau, at the beginning."),
        (lambda t, tau: (t > tau).double(), "at t = tau itself alpha is still 1."),
        (
            lambda t, tau: (t >= tau.min()).double().expand(len(tau)),
            "you used one tau for all words; each has its own.",
        ),
    ],
)

refine = Exercise(
    "refine",
    lambda A, A_star, a: torch.stack([A_star[:, j] if i is None else A[:, i] for j, i in enumerate(a)], dim=1),
    [(_attention(2, 3), _attention(2, 4), [0, None, 1, 2]), (_attention(3, 4), _attention(3, 4), [0, 1, None, None])],
    [
        (
            lambda A, A_star, a: A_star,
            "words that both prompts have take the source's attention; nothing was injected.",
        ),
        (
            lambda A, A_star, a: torch.stack([0 * A_star[:, j] if i is None else A[:, i] for j, i in enumerate(a)], 1),
            "new words got no attention at all; they keep their own, the column of A*.",
        ),
        (
            lambda A, A_star, a: torch.stack(
                [A_star[:, j] if i is None or j >= A.shape[1] else A[:, j] for j, i in enumerate(a)], 1
            ),
            "behind an inserted word the places differ: column j of the target comes from column a(j) of the source.",
        ),
    ],
)

reweight = Exercise(
    "reweight",
    lambda A, j, c: A + (c - 1) * A[:, j : j + 1] * torch.eye(A.shape[1], dtype=A.dtype)[j],
    [(_attention(3, 4), 1, 3.0), (_attention(2, 3), 2, -1.0), (_attention(2, 3), 0, 0.0)],
    [
        (
            lambda A, j, c: (B := A * torch.where(torch.arange(A.shape[1]) == j, c, 1.0)) / B.sum(dim=1, keepdim=True),
            "you divided by the rows' sums; as in the paper, rows are left as they come out.",
        ),
        (
            lambda A, j, c: A + c * torch.eye(A.shape[1], dtype=A.dtype)[j],
            "a weight multiplies the word's attention, it is not added to it.",
        ),
        (lambda A, j, c: A * c, "you weighted every word; only column j."),
        (
            lambda A, j, c: A * torch.where(torch.arange(len(A)) == j, c, 1.0)[:, None],
            "you scaled a row, which is a position; a word is a column.",
        ),
    ],
)

used = Exercise(
    "used",
    lambda A, A_star, P, Q: A @ P + A_star @ torch.diag(Q),
    [
        (_attention(3, 2), _attention(3, 4), *(torch.rand(*s, generator=_generator).double() for s in ((2, 4), (4,)))),
        (_attention(2, 3), _attention(2, 3), torch.eye(3).double(), torch.zeros(3).double()),
    ],
    [
        (lambda A, A_star, P, Q: A @ P, "the target's own attention is missing: A P + A* Q."),
        (lambda A, A_star, P, Q: A_star * Q, "the source's attention is missing: A P + A* Q."),
        (lambda A, A_star, P, Q: (A @ P + A_star * Q) / 2, "it is a sum: P and Q hold the shares already."),
    ],
)

_region = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

local_blend = Exercise(
    "local_blend",
    lambda z, z_star, region: torch.where(region.bool(), z_star, z),
    [(*torch.randn(2, 2, 2, generator=_generator), _region)],
    [
        (
            lambda z, z_star, region: torch.where(region.bool(), z, z_star),
            "the other way round: inside the region the edit, outside it the source.",
        ),
        (lambda z, z_star, region: region * z_star, "outside the region there is nothing: keep the source there."),
        (lambda z, z_star, region: z + region * z_star, "inside the region the source has to go: (1 - region) z."),
    ],
)

_word = [(torch.tensor([[0.02, 0.10], [0.04, 0.05]]), 0.3), (torch.rand(3, 3, generator=_generator) / 10, 0.6)]

region = Exercise(
    "region",
    lambda word_map, threshold: (word_map > threshold * word_map.max()).double(),
    _word,
    [
        (
            lambda word_map, threshold: (word_map > threshold).double(),
            "attention is small everywhere: compare with the map's own maximum.",
        ),
        (
            lambda word_map, threshold: (word_map < threshold * word_map.max()).double(),
            "the other way round: the region is where the word is attended to.",
        ),
        (
            lambda word_map, threshold: word_map / word_map.max(),
            "this is the scaled map: the region is 1 where it exceeds the threshold, else 0.",
        ),
    ],
)
