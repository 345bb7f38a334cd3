"""[P4, P9] tau, alpha and the matrices of a swap."""

import inspect
from fractions import Fraction
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from p2p.alpha import Alpha, Step, Window, switch_time
from p2p.edits import Edit, Matrices, Preserve, Refine, Renormalise, Reweight, Swap, used
from p2p.words import columns

T = 1000


def swap(alpha: Alpha) -> Swap:
    return Swap("cat", "bicycle", alpha)


@pytest.fixture(scope="module")
def pair(tokenizer):
    return tuple(map(tokenizer.encode, ("a photo of a cat on the grass", "a photo of a bicycle on the grass")))


@pytest.mark.parametrize("tau", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("steps", [10, 20, 50])
def test_a_fraction_of_T_injects_in_the_rest_of_the_steps(tau, steps):
    """0.2 T: the first 80% of evenly spread steps lie above it, and the next one at it."""
    visited = [T - i * T // steps for i in range(steps)]
    injected = [t for t in visited if t >= switch_time(tau, T)]
    assert len(injected) == min(round((1 - tau) * steps) + 1, steps)
    assert injected == visited[: len(injected)]  # t counts down: injection comes first


@pytest.mark.equation("P4")
def test_fractions_and_time_steps_have_one_boundary():
    """[P4] A while t >= tau, A* once t < tau; 0 is always, T + 1 never."""
    assert switch_time(0.2, T) == switch_time(Step(200), T) == 200
    assert switch_time(1, T) == switch_time(1.0, T) == switch_time(Step(T), T) == T
    assert switch_time(0, T) == switch_time(0.0, T) == switch_time(Step(0), T) == 0
    assert switch_time("never", T) == switch_time(Step(T + 1), T) == T + 1


# beneath the check of types, which wants Python's own
@pytest.mark.parametrize("number", [np.float64(0.5), np.float32(0.5), Fraction(1, 2)])
def test_any_real_number_is_a_fraction_of_T(number):
    assert inspect.unwrap(switch_time)(number, T) == 500


@pytest.mark.parametrize(("tau", "T", "first"), [(0.07, 100, 7), (0.55, 100, 55), (0.3, 7, 3), (0.2, 1000, 200)])
def test_a_fraction_is_the_decimal_that_was_written(tau, T, first):
    """The smallest step from tau T on. By hand: 7, 55, 2.1 and 200; in floats 0.07 * 100 and 0.55 * 100 lie above."""
    assert switch_time(tau, T) == first


@pytest.mark.parametrize("tau", [Step(-1), Step(T + 2), -0.1, 1.01, 200, float("nan")])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ValueError, match="must lie in"):
        switch_time(tau, T)


@pytest.mark.equation("P4", "P9")
def test_alpha_switches_words_one_by_one(pair):
    """[P9] A word with its own switch time lets go at that time, all its tokens together; the rest at tau."""
    _, target = pair
    alpha = Alpha(tau=Step(500), words={"bicycle": Step(800)})
    bicycle = [5, 6]
    early, middle, late = map(alpha.compile(target, T), (900, 600, 400))
    assert early.eq(1).all() and late.eq(0).all()
    assert middle[bicycle].eq(0).all()
    assert middle.sum() == len(target.ids) - 2


@pytest.mark.equation("P9")
def test_tau_is_alpha_with_one_common_switch_time(pair):
    """[P9] Giving every word the same switch time as tau is tau."""
    _, target = pair
    words = ("photo", "of", "bicycle", "on", "the", "grass")
    per_word, common = Alpha(Step(321), dict.fromkeys(words, Step(321))), Alpha(Step(321))
    for t in range(1, T + 1, 37):
        assert torch.equal(per_word.compile(target, T)(t), common.compile(target, T)(t))


@pytest.mark.equation("P4", "P9")
def test_a_window_holds_from_its_start_to_its_end():
    """0.8:0.3 of 10 steps: t = 800 .. 300, both included."""
    visited = range(1000, 0, -100)
    held = lambda window: [*filter(window.compile(T), visited)]
    assert held(Window(end=0.3, start=0.8)) == [800, 700, 600, 500, 400, 300]
    assert held(Window(end=0.8)) == [1000, 900, 800] and held(Window(end=0.0, start=0.3)) == [300, 200, 100]
    assert held(Window(end=Step(400), start=Step(800))) == [800, 700, 600, 500, 400]
    assert held(Window(end=0.5, start=0.5)) == [500] and held(Window(end=1)) == [1000]
    assert held(Window(end="never")) == []


@pytest.mark.equation("P4", "P9")
def test_a_ramp_falls_linearly_to_the_end_of_the_window():
    window = Window(end=0.2, ramp=0.4, level=0.8)
    by_hand = {1000: 0.8, 600: 0.8, 599: 0.8, 399: 0.4, 299: 0.2, 200: 0.002, 199: 0.0, 1: 0.0}
    for t, value in by_hand.items():
        assert window.compile(T)(t) == pytest.approx(value, abs=1e-12)  # one division


@pytest.mark.equation("P4", "P9")
@pytest.mark.parametrize(
    ("window", "message"),
    [
        (Window(end=0.5, start=0.4), "after its end"),
        (Window(end=Step(500), start=Step(400)), "starts at t = 400, after its end at t = 500"),
        (Window(ramp=1.5), r"ramp of a window must lie in \[0, 1\], got 1.5"),
        (Window(level=-0.1), r"level of a window must lie in \[0, 1\], got -0.1"),
        (Window(start=1.1), r"must lie in \[0, 1\], got 1.1"),
        (Window(end=Step(1002)), "must lie in"),
    ],
)
def test_a_window_that_cannot_be_is_refused(window, message):
    with pytest.raises(ValueError, match=message):
        window.compile(T)


def test_a_soft_alpha_blends_the_two_maps(pair):
    """[P9] alpha = 0.25: a quarter of A M and three quarters of A*."""
    P, Q, _ = swap(Alpha(Window(end=0, level=0.25))).compile(*pair, T)(500)
    M = swap(Alpha(0)).compile(*pair, T)(500).P
    assert_close(P, 0.25 * M, rtol=0, atol=0)
    assert_close(Q, torch.full((32,), 0.75, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.equation("P4")
def test_a_swap_is_the_mapper_until_the_switch(pair):
    """[P4] P = M, Q = 0 while t >= tau; P = 0, Q = I once t < tau."""
    before, after = (swap(Alpha(Step(300))).compile(*pair, T)(t) for t in (300, 299))
    assert_close(before.P.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-15)  # rounding of 1/2 + 1/2
    assert not before.Q.any() and not before.idle
    assert after.idle


@pytest.mark.equation("P9")
def test_alpha_blends_columns(pair):
    """[P9] alpha (.) A M + (1 - alpha) (.) A*, computed by hand from the definition."""
    generator = torch.Generator().manual_seed(0)
    A, A_own = (torch.rand(6, 32, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    edit = swap(Alpha(tau=0, words={"bicycle": "never"}))
    P, Q, _ = edit.compile(*pair, T)(500)
    mapped = swap(Alpha(0)).compile(*pair, T)(500).P
    by_hand = A @ mapped
    by_hand[:, [5, 6]] = A_own[:, [5, 6]]
    assert_close(used(A, A_own, P, Q), by_hand, rtol=0, atol=1e-15)  # one multiplication by exactly 1 or 0 apart


def test_rows_of_used_attention_sum_to_one_under_tau(pair):
    A = torch.rand(2, 4, 9, 32, dtype=torch.float64).softmax(-1)
    A_own = torch.rand(2, 4, 9, 32, dtype=torch.float64).softmax(-1)
    for t in (1, 200, 1000):
        P, Q, _ = swap(Alpha(Step(200))).compile(*pair, T)(t)
        # 32 additions of numbers below 1
        assert_close(used(A, A_own, P, Q).sum(-1), torch.ones(2, 4, 9, dtype=torch.float64), rtol=0, atol=1e-14)


def test_unknown_word_in_alpha_names_the_prompts_words(pair):
    with pytest.raises(ValueError, match=r"no word 'boat'.*bicycle"):
        swap(Alpha(words={"boat": 0.5})).compile(*pair, T)(1)


def test_idle_means_the_targets_own_attention():
    eye, zero, one = torch.eye(3), torch.zeros(3, 3), torch.ones(3)
    assert Matrices(zero, one).idle
    assert not Matrices(eye, one).idle
    assert not Matrices(zero, 0.5 * one).idle


def close(one: Matrices, other: Matrices) -> None:
    # products of a few numbers, in another order
    for a, b in zip(one, other):
        assert_close(a, b, rtol=0, atol=1e-14)


@pytest.mark.equation("P10")
def test_refine_leaves_new_words_their_own_attention(tokenizer):
    """[P10] Aligned columns are A's, the new word's are A*'s: the matrices of the paper's refinement."""
    source, target = map(tokenizer.encode, ("a cat on the grass", "a purple cat on the grass"))
    P, Q, _ = Refine(Alpha(tau=0)).compile(source, target, T)(1)
    purple = target.pieces.index("purple")
    assert Q.tolist() == [float(i == purple) for i in range(32)]
    assert not P[:, purple].any()
    for word in ("cat", "on", "the", "grass"):
        assert P[source.pieces.index(word), target.pieces.index(word)] == 1


@pytest.mark.equation("P11")
def test_preserve_injects_one_word_alone(tokenizer):
    """[P11] Only the word's column comes from the source, at every step."""
    source, target = map(tokenizer.encode, ("a photo of a butterfly", "a painting of a butterfly"))
    for t in (1, T):
        P, Q, _ = Preserve("butterfly").compile(source, target, T)(t)
        assert [i for i in range(32) if Q[i] == 0] == [5, 6]
        assert P.sum() == P[5, 5] + P[6, 6] == 2
    complement = Preserve("butterfly", Alpha(tau=0), others=True).compile(source, target, T)(1)
    assert complement.Q[[5, 6]].eq(1).all() and complement.Q[target.pieces.index("painting")] == 1
    assert complement.Q.sum() == 3


@pytest.mark.equation("P11")
def test_a_preserved_word_may_stand_elsewhere(tokenizer):
    """[P11] From where it stands in the source to where it stands in the target."""
    source, target = map(tokenizer.encode, ("a cat on the grass", "a photo of a red cat on the grass"))
    P, _, _ = Preserve("cat").compile(source, target, T)(1)
    assert P.nonzero().tolist() == [[source.pieces.index("cat"), target.pieces.index("cat")]]


def test_a_word_that_the_source_lacks_cannot_be_preserved(tokenizer):
    source, target = map(tokenizer.encode, ("a cat", "a dog"))
    with pytest.raises(ValueError, match="'dog' cannot be preserved"):
        Preserve("dog").compile(source, target, T)(1)


@pytest.mark.equation("P10")
@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.5, 3.0])
def test_reweight_scales_all_tokens_of_a_word_and_nothing_else(pair, factor):
    """[P10] The word's columns of A_used are multiplied by c, inside and beyond the window."""
    generator = torch.Generator().manual_seed(0)
    A, A_own = (torch.rand(6, 32, generator=generator, dtype=torch.float64).softmax(-1) for _ in range(2))
    for t in (900, 100):
        base, weighted = swap(Alpha(Step(500))), swap(Alpha(Step(500))) + Reweight("bicycle", factor)
        expected = used(A, A_own, *base.compile(*pair, T)(t))
        expected[:, [5, 6]] *= factor
        assert_close(used(A, A_own, *weighted.compile(*pair, T)(t)), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused(factor):
    with pytest.raises(ValueError, match=f"the weight of 'cat' must be a number, got {factor}"):
        Reweight("cat", factor)


def test_reweight_of_what_is_injected_ends_with_the_injection(pair):
    edit = swap(Alpha(Step(500))) + Reweight("bicycle", 3.0, injected_only=True)
    assert edit.compile(*pair, T)(499).idle
    assert edit.compile(*pair, T)(500).P[5].sum() == 3 * 1


def edits() -> st.SearchStrategy[Edit]:
    """Any edit that fits the pair of prompts of this file."""
    alpha = st.builds(
        Alpha,
        st.integers(0, T + 1).map(Step),
        st.dictionaries(st.sampled_from(["grass", "bicycle"]), st.integers(0, T).map(Step)),
    )
    word = st.sampled_from(["photo", "grass", "on"])
    return st.one_of(
        st.builds(swap, alpha),
        st.builds(Refine, alpha),
        st.builds(Preserve, word, alpha, st.booleans()),
        st.builds(Reweight, st.sampled_from(["bicycle", "grass"]), st.floats(-2, 3), injected_only=st.booleans()),
    )


@given(edits(), st.integers(1, T))
def test_a_claim_made_twice_is_made_once(pair, before, t):
    """Swap, Refine and Preserve overwrite: repeating one changes nothing."""
    claim = swap(Alpha(Step(400)))
    close((before + claim + claim).compile(*pair, T)(t), (before + claim).compile(*pair, T)(t))


def test_order_matters_between_a_weight_and_a_later_claim(pair):
    """A later claim of the weighted column replaces the weight; an earlier one is weighted."""
    claim, weight = swap(Alpha(0)), Reweight("bicycle", 3.0)
    close((weight + claim).compile(*pair, T)(900), claim.compile(*pair, T)(900))
    assert (claim + weight).compile(*pair, T)(900).P[5].sum() == 3


def test_a_weight_in_a_window_holds_there_alone(pair):
    edit = Reweight("bicycle", 3.0, Window(end=0.5))
    for t, c in ((1000, 3.0), (500, 3.0), (499, 1.0)):
        Q = edit.compile(*pair, T)(t).Q
        assert Q[[5, 6]].tolist() == [c, c] and Q.sum() == 30 + 2 * c
    assert Reweight("bicycle", 3.0, Window(0, level=0.5)).compile(*pair, T)(9).Q[5] == 2  # half way from 1 to 3


@pytest.mark.parametrize("tau", [0, "never"])
@pytest.mark.parametrize("factor", [0.0, 0.3, 5.0])
def test_a_renormalised_weight_is_a_weight_before_the_softmax(pair, tau, factor):
    """softmax(S + log c) on the word's columns, of the target's scores or of the source's, which are then swapped."""
    generator = torch.Generator().manual_seed(0)
    S, S_own = (torch.randn(6, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    edit = swap(Alpha(tau)) + Reweight("grass", factor) + Renormalise()
    P, Q, renormalise = edit.compile(*pair, T)(500)
    A_used = used(S.softmax(-1), S_own.softmax(-1), P, Q, renormalise)
    grass = lambda tokens: list(columns(tokens, "grass"))
    bias = torch.zeros(32, dtype=torch.float64)
    scores, tokens = (S, pair[0]) if tau == 0 else (S_own, pair[1])
    bias[grass(tokens)] = torch.tensor(factor, dtype=torch.float64).log()
    biased = (scores + bias).softmax(-1)
    if tau == 0:
        biased = biased @ swap(Alpha(0)).compile(*pair, T)(500).P
    assert_close(A_used, biased, rtol=1e-13, atol=1e-15)  # exp(log c) and the order of sums
    assert_close(A_used.sum(-1), torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("window", [0, Window(end=0.0, start=0.5)], ids=["always", "in the second half"])
def test_rows_with_a_negative_weight_cannot_be_renormalised(window):
    """Whenever the weight holds, so that nothing is sampled first."""
    weight = Reweight("bicycle", -1.0, window)
    for parts in ((Renormalise(), weight), (weight, Renormalise()), (weight, Swap("cat", "bicycle"), Renormalise())):
        with pytest.raises(ValueError, match="negative weight can't be renormalised"):
            reduce(add, parts)


def test_two_swaps_are_one_edit(tokenizer):
    source, target = map(tokenizer.encode, ("a cat on the beach", "a bicycle on the grass"))
    edit = Swap("cat", "bicycle", Alpha(0)) + Swap("beach", "grass", Alpha(0))
    P, Q, _ = edit.compile(source, target, T)(1)
    assert not Q.any()
    assert_close(P.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-15)  # 1/2 + 1/2
