"""[P6-P8] The mapper: the lecture's numbers, and properties over random prompts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from p2p.edits import Edit, Swap
from p2p.mappers import Run, align, aligned_columns, copies, mapper
from p2p.words import names, words
from weights.training.world import COLOURS, NOUNS, PLACES

LECTURE_A = torch.arange(1.0, 16.0, dtype=torch.float64).reshape(3, 5).T  # columns 1..5, 6..10, 11..15


@pytest.mark.equation("P6")
def test_identity_example_of_the_lecture():
    """[P6] The printed 5 x 3 matrix times I_3 is itself."""
    M = mapper(tuple(Run((i,), (i,)) for i in range(3)), length=3)
    assert torch.equal(M, torch.eye(3, dtype=torch.float64))
    assert torch.equal(LECTURE_A @ M, LECTURE_A)


@pytest.mark.equation("P7")
def test_orange_becomes_big_tabby_as_the_lecture_prints_it():
    """[P7] M = [[.5, .5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]; the first column is halved into two."""
    M = mapper(
        (
            Run((0,), (0, 1)),
            Run((1,), (2,)),
            Run((2,), (3,)),
        ),
        length=4,
    )[:3]
    printed = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    assert torch.equal(M, printed)
    half = torch.tensor([0.5, 1, 1.5, 2, 2.5], dtype=torch.float64)
    by_hand = torch.stack([half, half, torch.arange(6.0, 11).double(), torch.arange(11.0, 16).double()], dim=1)
    assert torch.equal(LECTURE_A @ M, by_hand)


@pytest.mark.equation("P6", "P7", "P8")
def test_several_tokens_into_one_are_added_or_averaged():
    """[P7] Back from big tabby to orange: the sum keeps rows distributions, the mean does not."""
    alignment = (Run((0, 1), (0,)), Run((2,), (1,)))
    total, mean = (mapper(alignment, 3, merge)[:, :2] for merge in ("sum", "mean"))
    assert torch.equal(total, torch.tensor([[1, 0], [1, 0], [0, 1]], dtype=torch.float64))
    assert torch.equal(mean, torch.tensor([[0.5, 0], [0.5, 0], [0, 1]], dtype=torch.float64))


@pytest.mark.equation("P7")
def test_a_copied_column_counts_twice():
    """[P7] The lecture copies "orange" to "big" and to "tabby" before it splits: rows of A^ then sum to more than 1."""
    M = mapper((Run((0,), (0, 1)), Run((1,), (2,)), Run((2,), (3,))), 4, "copy")[:3]
    assert torch.equal(M, torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64))
    assert torch.equal(LECTURE_A @ M, LECTURE_A[:, [0, 0, 1, 2]])
    A = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    assert (A @ M).sum() == 1.5
    assert torch.equal(mapper((Run((0, 1), (0,)),), 2, "copy")[:, 0], torch.ones(2, dtype=torch.float64))


@pytest.mark.equation("P6", "P7", "P8")
def test_three_tokens_facing_two_share_out_equally():
    M = mapper((Run((0, 1, 2), (0, 1)),), 3)
    assert_close(M[:, :2], torch.full((3, 2), 0.5, dtype=torch.float64))
    M = mapper((Run((0, 1, 2), (0, 1)),), 3, "mean")
    assert_close(M[:, :2], torch.full((3, 2), 1 / 3, dtype=torch.float64))


def facing(source, target):
    """The alignment in which word i faces word i."""
    ours, theirs = names(source), names(target)
    return align(source, target, tuple(zip(ours, theirs)))


def prompts() -> st.SearchStrategy[tuple[str, str]]:
    """Two prompts of one form: nouns of 1 to 3 tokens, colours, places of equal numbers of words."""
    noun, colour = st.sampled_from(sorted(NOUNS)), st.sampled_from(sorted(COLOURS))
    place = st.sampled_from([p for p in PLACES if len(p.split()) == 3])
    prompt = st.builds("a photo of a {} {} next to a {} {}".format, colour, noun, noun, place)
    return st.tuples(prompt, prompt)


@pytest.mark.equation("P6", "P8")
@given(prompts())
def test_words_map_to_their_own_words(tokenizer, pair):
    """[P8] Each word's mass goes to the word that faces it, also after a swap that changed the number of tokens."""
    source, target = map(tokenizer.encode, pair)
    M = mapper(facing(source, target), len(source.ids))
    for word, other in zip(words(source), words(target)):
        block = M[list(word.columns)][:, list(other.columns)]
        assert_close(block.sum().item(), float(len(word.columns)), rtol=0, atol=1e-12)
    assert M[0, 0] == 1 and M[source.count - 1, target.count - 1] == 1  # BOS, EOS


@given(prompts())
def test_equal_prompts_give_the_identity(tokenizer, pair):
    tokens = tokenizer.encode(pair[0])
    M = mapper(facing(tokens, tokens), len(tokens.ids))
    assert torch.equal(M, torch.eye(len(tokens.ids), dtype=torch.float64))


@pytest.mark.equation("P8")
@pytest.mark.parametrize(("ours", "theirs"), [("cat", "elephant"), ("elephant", "cat"), ("elephant", "bicycle")])
def test_tail_is_aligned_when_the_number_of_tokens_changes(tokenizer, ours, theirs):
    """Every word behind the swapped one keeps its own column (the reference implementation shifts them)."""
    source = tokenizer.encode(f"a photo of a {ours} on the grass")
    target = tokenizer.encode(f"a photo of a {theirs} on the grass")
    M = mapper(facing(source, target), len(source.ids))
    for word in ("on", "the", "grass"):
        i, j = source.pieces.index(word), target.pieces.index(word)
        assert M[i, j] == 1 and M[i].sum() == 1 and M[:, j].sum() == 1


def test_punctuation_between_words_is_aligned(tokenizer):
    source, target = map(tokenizer.encode, ("a cat, on the grass", "an elephant, on the grass"))
    M = mapper(facing(source, target), len(source.ids))
    assert M[source.pieces.index(","), target.pieces.index(",")] == 1


def test_a_full_context_has_no_padding_to_take_the_rest(tokenizer):
    source = tokenizer.encode("cat " * 30)
    target = tokenizer.encode("cat " * 30)
    assert source.count == len(source.ids)
    M = mapper(facing(source, target), len(source.ids))
    assert torch.equal(M, torch.eye(len(source.ids), dtype=torch.float64))


def aligned_words(tokenizer, source: str, target: str) -> list[tuple[str, str]]:
    """The words that face each other, by name."""
    ours, theirs = map(tokenizer.encode, (source, target))
    at = [dict(zip((w.columns for w in words(y)), names(y))) for y in (ours, theirs)]
    return [(at[0][r.source], at[1][r.target]) for r in align(ours, theirs) if r.aligned and r.source in at[0]]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a cat", "a red cat", [("a", "a"), ("cat", "cat")]),
        ("a red cat", "a cat", [("a", "a"), ("cat", "cat")]),
        ("a cat", "a cat and a cat", [("a", "a#1"), ("cat", "cat#1")]),
        # the first "cat" of the source moved to the second place: equal positions win over the first occurrence
        ("dog cat", "cat cat", [("cat", "cat#2")]),
        ("a big cat", "big a cat", [("a", "a"), ("cat", "cat")]),
    ],
)
def test_shared_words_face_each_other(tokenizer, source, target, expected):
    assert aligned_words(tokenizer, source, target) == expected


@pytest.mark.equation("P10")
def test_new_words_are_not_aligned(tokenizer):
    """[P10] a = 0 on the new word, 1 on every other token."""
    source, target = map(tokenizer.encode, ("a cat on the grass", "a purple cat on the grass"))
    a = aligned_columns(align(source, target), len(source.ids))
    assert [i for i in range(32) if a[i] == 0] == [target.pieces.index("purple")]


@pytest.mark.equation("P10")
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a cat on the grass", "a purple cat on the grass in fog"),
        ("a purple cat on the grass in fog", "a cat on the grass"),
        ("a cat on the grass", "the grass and a dog"),
        ("cat " * 30, "a cat"),  # no padding
        ("a cat", "cat " * 30),
    ],
)
def test_every_shared_token_copies_one_column_and_no_other(tokenizer, source, target):
    """[P10] A^_j = A_a(j), whatever is inserted or deleted: column j of M has a single 1, at a token with j's text, or
    at padding in j's place; or it is 0."""
    source, target = map(tokenizer.encode, (source, target))
    alignment = copies(source, target)
    M, a = mapper(alignment, 32), aligned_columns(alignment, 32)
    assert set(M.flatten().tolist()) == {0.0, 1.0} and torch.equal(M.sum(dim=0), a)
    assert M.sum(dim=1).max() == 1  # and no column is copied twice
    for i, j in M.nonzero().tolist():
        assert source.pieces[i] == target.pieces[j]
        assert i == j or max(i - source.count, j - target.count) < 0
    common = [piece for piece in set(source.pieces) & set(target.pieces) if source.pieces.count(piece) == 1]
    for piece in (p for p in common if target.pieces.count(p) == 1):  # BOS and EOS among them
        assert M[source.pieces.index(piece), target.pieces.index(piece)] == 1 or not in_order(source, target)
    padding = [i for i in range(32) if i >= max(source.count, target.count)]
    assert M[padding, padding].all()


def in_order(source, target) -> bool:
    """Whether the prompts' shared words stand in one order."""
    shared = lambda one, other: [piece for piece in one.pieces if piece in other.pieces]
    return shared(source, target) == shared(target, source)


def test_deleted_words_flow_to_bos_and_not_into_padding(tokenizer):
    """Beside a swap. The reference implementation maps padding of the shorter target onto the source's last words."""
    source, target = map(tokenizer.encode, ("a big red cat on the grass", "a cat"))
    M = mapper(align(source, target), len(source.ids))
    assert_close(M.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-15)  # rounding of thirds
    assert not M[: source.count, target.count :].any()
    for word in ("big", "red", "on", "the", "grass"):
        assert M[source.pieces.index(word), 0] == 1


def test_a_phrase_may_face_a_word(tokenizer):
    source, target = map(tokenizer.encode, ("an orange on a table", "a big tree on a table"))
    alignment = align(source, target, (("orange", "big tree"),))
    M = mapper(alignment, 32)
    row = M[source.pieces.index("orange")]
    assert row[target.pieces.index("big")] == row[target.pieces.index("tree")] == 0.5


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a cat on the grass", "a dog on the grass", ["swap 'cat' for 'dog'"]),
        ("a red car", "a blue bicycle", ["swap 'red' for 'blue'", "swap 'car' for 'bicycle'"]),
        ("a cat", "a big dog", ["swap 'cat' for 'dog'"]),
        ("a cat", "a purple cat", []),
        ("a purple cat", "a cat", []),
        ("a cat and a cat", "a cat and a dog", ["swap 'cat#2' for 'dog'"]),
    ],
)
def test_the_edit_between_two_prompts_says_what_it_is(tokenizer, source, target, expected):
    edit = Edit.between(*map(tokenizer.encode, (source, target)))
    assert str(edit).split("; ") == ["shared words keep the source's attention", *expected]


def test_words_of_a_swap_must_be_there(tokenizer):
    with pytest.raises(ValueError, match="no word 'dog'"):
        align(*map(tokenizer.encode, ("a cat", "a cat")), (("cat", "dog"),))
    assert str(Swap("cat", "dog")) == "swap 'cat' for 'dog'"
