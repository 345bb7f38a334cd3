"""The numbers that `p2p.equations.explain` shows of Prompt-to-Prompt, worked by hand."""

import torch
from torch.testing import assert_close

from p2p.equations.examples import EXAMPLES

# the lecture's example: five positions, three words
A = [[1, 6, 11], [2, 7, 12], [3, 8, 13], [4, 9, 14], [5, 10, 15]]


def shown(id: str, *labels: str) -> list:
    """Of an example the values whose labels begin so."""
    return [next(v for k, v in EXAMPLES[id]().items() if k.startswith(label)) for label in labels]


def same(value: torch.Tensor, expected: list) -> None:
    # float64 numbers of one or two digits, a few operations
    assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


def test_p2_the_source_stays_outside_the_mask():
    same(shown("P2", "z* goes on as")[0], [-0.1, 2, 3])


def test_p6_a_word_for_a_word():
    M, product = shown("P6", "cat becomes", "A M")
    same(M, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    same(product, A)


def test_p7_orange_becomes_big_tabby():
    copied, sums = shown("P7", "orange copied", "its rows' sums")
    same(copied, [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    same(sums, [2, 1, 1])
    M, product, added, averaged = shown("P7", "orange split", "A M", "the way back", "... averaged")
    same(M, [[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    same(product, [[a / 2, a / 2, b, c] for a, b, c in A])
    same(added, [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    same(averaged, [[0.5, 0, 0], [0.5, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_p9_every_word_its_own_time():
    early, between, late = shown("P9", "tau = 300", "at t = 500", "at t = 200")
    same(early, [[0.1, 0.2, 0.6, 0.1]])  # all of A
    same(between, [[0.1, 0.2, 0.2, 0.1]])  # of dog, the third, A*
    same(late, [[0.3, 0.1, 0.2, 0.4]])  # all of A*


def test_p9_the_columns_of_alpha_switch_off_word_by_word():
    """n x m matrices of 5 positions and 4 words: at t = T all take A, then "sitting" has its own, then "cat"."""
    for name, row in (("t", [1, 1, 1, 1]), ("t-1", [1, 1, 1, 0]), ("t-2", [1, 1, 0, 0])):
        same(shown("P9", f"alpha_{name} over")[0], [row] * 5)


def test_p10_a_new_word_and_a_weight():
    refined, weighed, total = shown("P10", "refine", "and cat", "its sum")
    same(refined, [[0.1, 0.1, 0.4, 0.5, 0.1]])
    same(weighed, [[0.1, 0.1, 0.8, 0.5, 0.1]])
    assert round(total, 12) == 1.6


def test_p12_and_p13_how_many_of_20_steps_inject():
    assert list(EXAMPLES["P12"]().values()) == [0, 5, 9, 13, 17, 20]  # from never, 0.8 T, ... to always
    assert list(EXAMPLES["P13"]().values()) == [800, 400, 50]


def test_p3_the_sources_attention_with_the_targets_values():
    own, injected, folded = shown("P3", "Y* of the target", "Y* with", "the same")
    e = torch.tensor(3 / 2**0.5, dtype=torch.float64).exp().item()  # the scores are 3 / sqrt(2) and 0
    assert round(own - (10 + 20 * e) / (1 + e), 12) == round(injected - (10 * e + 20) / (1 + e), 12) == 0
    assert round(injected - folded, 12) == 0
