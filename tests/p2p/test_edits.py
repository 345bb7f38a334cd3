"""[P4, P9] tau, alpha and the matrices of a swap."""

import pytest
import torch
from torch.testing import assert_close

from p2p.alpha import Alpha, switch_time
from p2p.edits import Matrices, Swap, used

T = 1000


@pytest.fixture
def pair(tokenizer):
    return tuple(map(tokenizer.encode, ("a photo of a cat on the grass", "a photo of a bicycle on the grass")))


@pytest.mark.parametrize("tau", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_a_fraction_of_T_injects_in_the_rest_of_the_steps(tau, steps):
    """0.2 T: exactly the first 80% of evenly spread steps lie above it."""
    visited = [T - i * T // steps for i in range(steps)]
    injected = [t for t in visited if t >= switch_time(tau, T)]
    assert len(injected) == round((1 - tau) * steps)
    assert injected == visited[: len(injected)]  # t counts down: injection comes first


def test_a_whole_number_is_a_time_step():
    """[P4] A while t >= tau, A* once t < tau; 0 is always, T + 1 never."""
    assert switch_time(200, T) == 200
    assert all(t >= switch_time(0, T) for t in range(1, T + 1))
    assert not any(t >= switch_time(T + 1, T) for t in range(1, T + 1))


@pytest.mark.parametrize("tau", [-1, T + 2, -0.1, 1.01, float("nan")])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ValueError, match="must lie in"):
        switch_time(tau, T)


def test_alpha_switches_words_one_by_one(pair):
    """[P9] A word with its own switch time lets go at that time, all its tokens together; the rest at tau."""
    _, target = pair
    alpha = Alpha(tau=500, words={"bicycle": 800})
    bicycle = [5, 6]
    early, middle, late = (alpha.at(t, T, target) for t in (900, 600, 400))
    assert early.eq(1).all() and late.eq(0).all()
    assert middle[bicycle].eq(0).all()
    assert middle.sum() == len(target.ids) - 2


def test_tau_is_alpha_with_one_common_switch_time(pair):
    """[P9] Giving every word the same switch time as tau is tau."""
    _, target = pair
    words = ("photo", "of", "bicycle", "on", "the", "grass")
    for t in range(1, T + 1, 37):
        per_word = Alpha(tau=321, words=dict.fromkeys(words, 321))
        assert torch.equal(per_word.at(t, T, target), Alpha(321).at(t, T, target))


def test_before_the_switch_a_swap_is_the_mapper_and_after_it_nothing(pair):
    """[P4] P = M, Q = 0 while t >= tau; P = 0, Q = I once t < tau."""
    before, after = (Swap(Alpha(300)).matrices(t, T, *pair) for t in (300, 299))
    assert_close(before.P.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-15)  # rounding of 1/2 + 1/2
    assert not before.Q.any() and not before.idle
    assert after.idle


def test_alpha_blends_columns(pair):
    """[P9] alpha (.) A M + (1 - alpha) (.) A*, computed by hand from the definition."""
    generator = torch.Generator().manual_seed(0)
    A, A_own = (torch.rand(6, 32, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    edit = Swap(Alpha(tau=0, words={"bicycle": T + 1}))
    P, Q = edit.matrices(500, T, *pair)
    mapped = Swap(Alpha(0)).matrices(500, T, *pair).P
    by_hand = A @ mapped
    by_hand[:, [5, 6]] = A_own[:, [5, 6]]
    assert_close(used(A, A_own, P, Q), by_hand, rtol=0, atol=1e-15)  # one multiplication by exactly 1 or 0 apart


def test_rows_of_used_attention_sum_to_one_under_tau(pair):
    A = torch.rand(2, 4, 9, 32, dtype=torch.float64).softmax(-1)
    A_own = torch.rand(2, 4, 9, 32, dtype=torch.float64).softmax(-1)
    for t in (1, 200, 1000):
        P, Q = Swap(Alpha(200)).matrices(t, T, *pair)
        # 32 additions of numbers below 1
        assert_close(used(A, A_own, P, Q).sum(-1), torch.ones(2, 4, 9, dtype=torch.float64), rtol=0, atol=1e-14)


def test_unknown_word_in_alpha_names_the_prompts_words(pair):
    with pytest.raises(ValueError, match=r"no word 'boat'.*bicycle"):
        Swap(Alpha(words={"boat": 0.5})).matrices(1, T, *pair)


def test_idle_means_the_targets_own_attention():
    eye, zero, one = torch.eye(3), torch.zeros(3, 3), torch.ones(3)
    assert Matrices(zero, one).idle
    assert not Matrices(eye, one).idle
    assert not Matrices(zero, 0.5 * one).idle
