"""Word maps step by step and layer by layer."""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site
from ldm.pipeline import State
from ldm.schedule import Prediction
from p2p.algorithm import PromptToPrompt
from p2p.edits import Swap
from p2p.maps import Group, MapHistory, WordMaps

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"


def test_the_history_averaged_over_everything_is_the_word_map(tiny):
    tokens = tiny.tokenizer.encode(BICYCLE)
    maps, history = WordMaps(side=16), MapHistory(tokens, row=1)

    def both(site, A):
        maps(site, A)
        history(site, A)

    p2p = PromptToPrompt(tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle"),))
    states = list(history.along(p2p.denoise(seed=3, watch=both, steps=3), T=1000))
    assert history.times == [1000, *(state.t for state in states[:-1])]
    assert history.groups == [Group("down", 16), Group("down", 8), Group("mid", 8), Group("up", 8), Group("up", 16)]
    expected = maps.of_words(1, tokens)
    found = history.mean(history.at_side(16))
    assert list(found) == list(expected)
    for word, word_map in found.items():
        assert_close(word_map, expected[word], rtol=1e-5, atol=1e-7)  # float32 sums in another order


@pytest.fixture
def by_hand(tokenizer) -> MapHistory:
    """Two steps of one layer down and two up, at 2 x 2, with attention k / 100 on every token of row 1 in the k-th
    call, and one layer in the middle at 1 x 1."""
    history = MapHistory(tokenizer.encode(BICYCLE), ["bicycle", "grass"], row=1)
    nothing = torch.zeros(2, 1, 1, 1)

    def states():
        for step, t in enumerate((500, 0)):
            for layer, (place, side) in enumerate([("down", 2), ("mid", 1), ("up", 2), ("up", 2)]):
                A = torch.zeros(2, 3, side**2, 32)
                A[1] = (4 * step + layer + 1) / 100
                history(Site("cross", place, layer, side, side), A)
            yield State(t, nothing, Prediction(nothing, nothing))

    assert len(list(history.along(states(), T=1000))) == 2
    return history


@pytest.mark.parametrize(
    ("groups", "times", "expected"),
    [
        ([("down", 2)], [1000], 0.01),
        ([("down", 2)], [500], 0.05),
        ([("mid", 1)], None, 0.04),  # (2 + 6) / 2
        ([("up", 2)], [1000], 0.035),  # (3 + 4) / 2
        ([("down", 2), ("up", 2)], [1000], 0.08 / 3),  # layers count alike: (1 + 3 + 4) / 3
        ([("down", 2), ("up", 2)], None, 0.28 / 6),  # (1 + 3 + 4 + 5 + 7 + 8) / 6
    ],
)
def test_means_are_over_the_layers_and_steps_asked_for(by_hand, groups, times, expected):
    found = by_hand.mean([Group(*group) for group in groups], times)
    side = groups[0][1]
    assert_close(found["grass"], torch.full((side, side), expected))
    assert_close(found["bicycle"], torch.full((side, side), 2 * expected))  # a word of two tokens


def test_steps_are_filed_under_the_step_that_made_them(by_hand):
    assert by_hand.times == [1000, 500]
    assert by_hand.groups == [Group("down", 2), Group("mid", 1), Group("up", 2)]
    assert by_hand.at_side(2) == [Group("down", 2), Group("up", 2)]


@pytest.mark.parametrize(
    ("groups", "times", "message"),
    [
        ([("down", 2)], [999], r"no maps of all the steps \[999\]; those recorded are \[1000, 500\]"),
        ([("down", 2)], [], "no maps of all the steps"),
        ([("down", 4)], None, "no maps of all the groups"),
        ([], None, "no maps of all the groups"),
        ([("down", 2), ("mid", 1)], None, "differ in resolution"),
    ],
)
def test_means_of_what_was_not_recorded_are_refused(by_hand, groups, times, message):
    with pytest.raises(ValueError, match=message):
        by_hand.mean([Group(*group) for group in groups], times)


def test_words_that_are_not_there_are_refused(tokenizer):
    with pytest.raises(ValueError, match="no word 'dog'"):
        MapHistory(tokenizer.encode(CAT), ["dog"])
    with pytest.raises(ValueError, match="has no words"):
        MapHistory(tokenizer.encode(""))
    with pytest.raises(ValueError, match="no maps of all the steps"):
        MapHistory(tokenizer.encode(CAT)).mean([Group("down", 2)])
