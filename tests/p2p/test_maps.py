"""Word maps step by step and layer by layer."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site
from ldm.config import ScheduleConfig
from ldm.samplers import SAMPLERS
from ldm.schedule import Prediction, Schedule
from ldm.states import State
from p2p.algorithm import PromptToPrompt
from p2p.edits import Swap
from p2p.figures import sheets
from p2p.maps import OTHERS, SPECIAL, Group, MapHistory, WordMaps, parts

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"


@pytest.mark.parametrize(
    ("schedule", "sampler", "times"),
    [
        (ScheduleConfig(), "ddim", [1000, 667, 333]),
        (ScheduleConfig(spacing="leading", offset=1, last=1), "ddim", [668, 335, 2]),
        (ScheduleConfig(spacing="leading", offset=1, last=1), "plms", [668, 335, 2]),  # 335 twice
    ],
)
def test_the_history_averaged_over_everything_is_the_word_map(tiny, monkeypatch, schedule, sampler, times):
    monkeypatch.setattr(tiny, "schedule", Schedule(schedule))
    tokens = tiny.tokenizer.encode(BICYCLE)
    maps, history = WordMaps(side=16), MapHistory(tokens, row=1)

    def both(site, A):
        maps(site, A)
        history(site, A)

    p2p = PromptToPrompt(tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle"),))
    run = p2p.denoise(seed=3, watch=both, steps=3, sampler=SAMPLERS[sampler])
    list(history.along(run, SAMPLERS[sampler].visit(tiny.schedule, 3, None)))
    assert history.times == times
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

    assert len(list(history.along(states(), [1000, 500, 0]))) == 2
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


def calls(history, times, height=1, width=1):
    """The states of a run that ends each of its calls at the next of these times; the k-th call's attention is k / 100
    everywhere."""
    nothing = torch.zeros(1, 1, 1, 1)
    for k, t in enumerate(times, start=1):
        history(Site("cross", "up", 0, height, width), torch.full((1, 3, height * width, 32), k / 100))
        yield State(t, nothing, Prediction(nothing, nothing))


def test_two_calls_at_one_step_are_averaged(tokenizer):
    history = MapHistory(tokenizer.encode(CAT), ["cat"])
    assert len(list(history.along(calls(history, [500, 500, 1]), [982, 500, 500, 1]))) == 3
    assert history.times == [982, 500]
    for times, expected in (([982], 0.01), ([500], 0.025), (None, 0.02)):  # (2 + 3) / 2; (1 + 2 + 3) / 3
        assert_close(history.mean([Group("up", 1)], times)["cat"], torch.tensor([[expected]]))


@pytest.mark.parametrize("visited", [[1000, 667, 333, 0], [1000, 500]])
def test_the_times_of_another_run_are_refused(tokenizer, visited):
    history = MapHistory(tokenizer.encode(CAT))
    with pytest.raises(ValueError, match="give `along` those of this run"):
        list(history.along(calls(history, [500, 0]), visited))


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 4)])
def test_layers_go_by_the_shorter_side(tokenizer, height, width):
    tokens = tokenizer.encode(CAT)
    maps, history = WordMaps(side=4), MapHistory(tokens)

    def both(site, A):
        maps(site, A)
        history(site, A)

    list(history.along(calls(both, [0], height, width), [1000, 0]))
    (group,) = history.at_side(4)
    found = history.mean([group])
    assert_close(found, maps.of_words(0, tokens))
    assert found["cat"].shape == (height, width)
    figure = sheets.by_layer(history, np.zeros((8, 8, 3), np.uint8))
    titles = [axis.get_title() for axis in figure.axes]
    assert f"up\n{height}×{width}" in titles


def test_half_precision_is_averaged_in_float32():
    """What bfloat16 keeps of A, averaged as if it had come in float32."""
    A = torch.rand(2, 3, 16, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=-1).bfloat16()
    narrow, wide = WordMaps(side=4), WordMaps(side=4)
    for _ in range(2):
        narrow(Site("cross", "up", 0, 4, 4), A)
        wide(Site("cross", "up", 0, 4, 4), A.float())
    assert torch.equal(narrow.mean(), wide.mean())


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat", {"a": [1], "cat": [2], SPECIAL: [0, *range(3, 32)]}),
        ("a cat, a bicycle", {"a#1": [1], "cat": [2], "a#2": [4], "bicycle": [5, 6], OTHERS: [3]}),
        (" ", {SPECIAL: list(range(32))}),
    ],
)
def test_every_column_is_shown_once(tokenizer, prompt, expected):
    """'bicycle' is two tokens, the comma is in no word."""
    found = parts(tokenizer.encode(prompt))
    assert found == expected | {SPECIAL: found[SPECIAL]}
    assert sorted(i for columns in found.values() for i in columns) == list(range(32))


@hypothesis.given(st.text(alphabet="ab cat,.-'#é:)(^_<|>", max_size=24))
def test_what_is_shown_of_any_prompt_is_all_of_the_attention(tokenizer, prompt):
    tokens = tokenizer.encode(prompt)
    A = torch.rand(1, 2, 4, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(dim=-1)
    maps = WordMaps(side=2)
    maps(Site("cross", "up", 0, 2, 2), A)
    # averaged in float32, of 32 numbers below 1
    assert_close(sum(maps.of_words(0, tokens).values()), torch.ones(2, 2), rtol=0, atol=1e-6)


def test_words_that_are_not_there_are_refused(tokenizer):
    with pytest.raises(ValueError, match="no word 'dog'"):
        MapHistory(tokenizer.encode(CAT), ["dog"])
    with pytest.raises(ValueError, match="has no words"):
        MapHistory(tokenizer.encode(""))
    with pytest.raises(ValueError, match="no maps of all the steps"):
        MapHistory(tokenizer.encode(CAT)).mean([Group("down", 2)])
