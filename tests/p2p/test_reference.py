"""The reference implementation's edits, defects included, on examples worked by hand from their description."""

import re
import zlib

import pytest
import torch
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.samplers import SAMPLERS
from ldm.schedule import Schedule
from ldm.tokenizer import Tokens
from p2p.alpha import Alpha, Step
from p2p.edits import Refine, Reweight, Swap
from p2p.experiments.reference import Reference, cross_replace, refinement, replacement, self_replace, word_tokens

LENGTH = 12
VISITED = list(range(1000, 0, -100))  # the ten steps of a run
HIPPOPOTAMUS, MATCHSTICK = ["hip", "popot", "amus"], ["matc", "hsti", "ck"]


def by_hand(prompt: str, *split: list[str]) -> Tokens:
    """A prompt of single-token words, but for those that are split into pieces."""
    in_pieces = {"".join(pieces): pieces for pieces in split}
    pieces, spans = ["BOS"], [(0, 0)]
    for word in re.finditer(r"\S+", prompt):
        start = word.start()
        for piece in in_pieces.get(word.group(), [word.group()]):
            pieces.append(piece)
            spans.append((start, start + len(piece)))
            start += len(piece)
    count, padding = len(pieces) + 1, LENGTH - len(pieces) - 1
    pieces, spans = [*pieces, "EOS", *["PAD"] * padding], [*spans, *[(0, 0)] * (padding + 1)]
    return Tokens(prompt, tuple(zlib.crc32(p.encode()) for p in pieces), tuple(pieces), tuple(spans), count)


def taken(M: torch.Tensor, source: Tokens, target: Tokens) -> list[tuple[str, dict[str, float]]]:
    """What each target token before the padding takes, by name: from which source tokens, and which share."""
    return [
        (target.pieces[j], {source.pieces[i]: M[i, j].item() for i in range(LENGTH) if M[i, j]})
        for j in range(target.count)
    ]


def test_the_tail_defect_where_one_token_becomes_three():
    """'eat' looks where 'bun' did, 'a' where EOS did, 'bun' where padding did; 'eat' and 'a' of the source are lost."""
    source, target = by_hand("a lion eat a bun"), by_hand("a hippopotamus eat a bun", HIPPOPOTAMUS)
    M, a = replacement(source, target)
    assert taken(M, source, target) == [
        ("BOS", {"BOS": 1}),
        ("a", {"a": 1}),
        *((piece, {"lion": 1 / 3}) for piece in HIPPOPOTAMUS),
        ("eat", {"bun": 1}),
        ("a", {"EOS": 1}),
        ("bun", {"PAD": 1}),
        ("EOS", {"PAD": 1}),
    ]
    assert_close(M.sum(dim=1), torch.tensor([1, 1, 1, 0, 0, *[1] * 7], dtype=torch.float64))
    assert a.all()


def test_the_tail_defect_where_three_tokens_become_one():
    """'fell' looks where 'hsti' did, 'on' where 'ck' did, 'it' where 'fell' did; the pieces count twice, and the last
    two columns are empty."""
    source, target = by_hand("a matchstick fell on it", MATCHSTICK), by_hand("a ball fell on it")
    M, _ = replacement(source, target)
    assert taken(M, source, target) == [
        ("BOS", {"BOS": 1}),
        ("a", {"a": 1}),
        ("ball", {piece: 1 for piece in MATCHSTICK}),
        ("fell", {"hsti": 1}),
        ("on", {"ck": 1}),
        ("it", {"fell": 1}),
        ("EOS", {"on": 1}),
    ]
    assert M.sum(dim=1).tolist() == [1, 1, 1, 2, 2, 1, 1, 1, 1, 1, 0, 0]
    assert M.sum(dim=0).tolist() == [1, 1, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0]


def test_words_between_two_swapped_ones_are_aligned():
    """The defect begins behind the last: 'eat' is right, 'today' is two tokens off."""
    source = by_hand("a lion eat a bun today")
    target = by_hand("a hippopotamus eat a cake today", HIPPOPOTAMUS)
    M, _ = replacement(source, target)
    assert taken(M, source, target)[5:9] == [
        ("eat", {"eat": 1}),
        ("a", {"a": 1}),
        ("cake", {"bun": 1}),
        ("today", {"PAD": 1}),
    ]


def test_as_many_tokens_map_one_to_one_and_others_share_out():
    source, target = by_hand("a matchstick fell", MATCHSTICK), by_hand("a hippopotamus fell", HIPPOPOTAMUS)
    assert torch.equal(replacement(source, target)[0], torch.eye(LENGTH, dtype=torch.float64))
    M, _ = replacement(by_hand("a lioness fell", ["lion", "ess"]), target)
    assert torch.equal(M[2:4, 2:5], torch.full((2, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize("mapper", ["replace", "refine"])
def test_an_equal_prompt_maps_to_itself(mapper):
    tokens = by_hand("a matchstick fell on it", MATCHSTICK)
    P, Q, _ = Reference(mapper, Alpha(0)).compile(tokens, tokens, 1000)(500)
    assert torch.equal(P, torch.eye(LENGTH, dtype=torch.float64)) and not Q.any()


def test_swaps_of_single_tokens_are_ours(tokenizer):
    """M = I: the reference and our Swap inject the same, with the switch of one word apart too."""
    source, target = map(tokenizer.encode, ("a cat on the grass", "a dog on the grass"))
    alpha = Alpha(Step(400), {"dog": Step(800)})
    edits = Swap("cat", "dog", alpha), Reference("replace", alpha)
    for t in (1000, 700, 300):
        ours, theirs = (edit.compile(source, target, 1000)(t) for edit in edits)
        assert torch.equal(ours.P, theirs.P) and torch.equal(ours.Q, theirs.Q)


def test_insertions_of_a_phrase_are_ours(tokenizer):
    source, target = map(tokenizer.encode, ("a cat on the grass", "a striped purple cat on the grass"))
    edits = Refine(Alpha(Step(400))), Reference("refine", Alpha(Step(400)))
    ours, theirs = (edit.compile(source, target, 1000)(700) for edit in edits)
    assert torch.equal(ours.P, theirs.P) and torch.equal(ours.Q, theirs.Q)


def test_deleted_words_come_back_through_padding():
    """The padding of the target takes 'dog', 'on', 'mat' and EOS, which stood at its place; 'dog' counts twice."""
    source, target = by_hand("a big red dog on mat"), by_hand("a dog")
    M, a = refinement(source, target)
    assert taken(M, source, target) == [
        ("BOS", {"BOS": 1}),
        ("a", {"a": 1}),
        ("dog", {"dog": 1}),
        ("EOS", {"EOS": 1}),
    ]
    assert [source.pieces[M[:, j].argmax()] for j in range(4, 8)] == ["dog", "on", "mat", "EOS"]
    assert M.sum(dim=1).tolist() == [1, 1, 0, 0, 2, 1, 1, 2, 1, 1, 1, 1]
    assert a.all()


@pytest.mark.parametrize(
    ("source", "target", "aligned"),
    [
        ("a cat", "a cat and a cat", [0, 1, 2, 6]),
        ("dog cat", "cat cat", [0, 1, 3]),
        ("red cat", "cat red", [0, 1, 3]),  # one of the two can be aligned: the first of the target
        ("a cat", "a red cat", [0, 1, 3, 4]),
        ("a red cat", "a blue cat", [0, 1, 3, 4]),
    ],
)
def test_refine_aligns_the_earliest_occurrences(source, target, aligned):
    """By position in the target: BOS, words, EOS."""
    source, target = by_hand(source), by_hand(target)
    M, a = refinement(source, target)
    assert [j for j in range(target.count) if a[j]] == aligned
    assert (M.sum(dim=0) == a).all()
    assert a[target.count :].all()


def test_new_tokens_keep_their_own_attention():
    """A* (.) alpha = a A M + (1 - a) A*: P = M diag(a alpha), Q = 1 - a alpha."""
    source, target = by_hand("a cat fell"), by_hand("a red cat fell")
    P, Q, _ = Reference("refine", Alpha(Step(500), {"fell": Step(700)})).compile(source, target, 1000)(600)
    assert Q.tolist() == [0, 0, 1, 0, 1, 0, *[0] * 6]  # 'red' is new, and 'fell' switched before
    assert P.sum(dim=0).tolist() == [1, 1, 0, 1, 0, 1, *[1] * 6]


def test_a_weight_holds_inside_the_window_alone():
    source, target = by_hand("a cat fell"), by_hand("a dog fell")
    edit = Reference("replace", Alpha(Step(500))) + Reweight("fell", 3.0, injected_only=True)
    inside, after = (edit.compile(source, target, 1000)(t) for t in (500, 400))
    assert inside.P[3, 3] == 3 and inside.P[2, 2] == 1
    assert after.Q[3] == 1 and not after.P.any()


@pytest.mark.parametrize(
    ("fraction", "cross", "self_attention"),
    [
        (0.0, 0, 0),
        (0.5, 5, 5),
        (0.55, 6, 5),  # int(0.55 * 11) and int(0.55 * 10)
        (0.65, 7, 6),
        (0.75, 8, 7),
        (0.8, 8, 8),
        (1.0, 10, 10),
        ((0.2, 0.55), 4, 3),
        ((0.5, 0.5), 0, 0),
    ],
)
def test_the_same_fraction_is_one_step_more_for_cross_attention(fraction, cross, self_attention):
    """Of 10 steps, which are counted here."""
    injected = lambda window: [*filter(window.compile(1000), VISITED)]
    assert len(injected(cross_replace(fraction, VISITED, 10))) == cross
    assert len(injected(self_replace(fraction, VISITED, 10))) == self_attention
    if cross and not isinstance(fraction, tuple):
        assert injected(cross_replace(fraction, VISITED, 10)) == VISITED[:cross]


@pytest.mark.parametrize(("fraction", "cross", "self_attention"), [(0.8, 40, 40), (0.4, 20, 20), (1.0, 51, 50)])
def test_of_plms_steps_are_counted_and_not_its_extra_call(fraction, cross, self_attention):
    """The reference's table for 50 steps has 51 rows, and its 51 calls take one each: int(0.8 * 51) = 40 of them."""
    schedule = Schedule(ScheduleConfig(spacing="leading", offset=1, last=1))
    visited = SAMPLERS["plms"].visit(schedule, 50, None)[:-1]
    assert len(visited) == 51
    injected = lambda window: [*filter(window.compile(1000), visited)]
    assert injected(cross_replace(fraction, visited, 50)) == visited[:cross]
    assert injected(self_replace(fraction, visited, 50)) == visited[:self_attention]


def test_words_are_found_by_counting_letters_and_shift_at_a_second_blank():
    assert word_tokens(by_hand("a matchstick fell", MATCHSTICK)) == [[1], [2, 3, 4], [5]]
    # "", the word between the blanks, takes 'cat', and 'cat' takes 'on' and 'mat'
    assert word_tokens(by_hand("a  cat on mat")) == [[1], [2], [3, 4], [], []]


@pytest.mark.parametrize(
    ("target", "message"),
    [("a dog", "'a cat fell' has 3, 'a dog' 2: use its refine"), ("a  dog", "finds no tokens of 'fell' and 'dog'")],
)
def test_prompts_that_the_reference_cannot_replace_in_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        replacement(by_hand("a cat fell"), by_hand(target))


def test_a_fraction_of_the_steps_lies_between_0_and_1():
    for wrong in (1.2, (-0.1, 0.5), float("nan")):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            cross_replace(wrong, VISITED, 10)
