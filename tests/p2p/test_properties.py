"""What holds for every edit between any two prompts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ldm.tokenizer import Tokens
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step, Window
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.mappers import align, aligned_columns, mapper
from p2p.words import columns, names
from weights.training.world import COLOURS, NOUNS

T = 1000
I = torch.eye(32, dtype=torch.float64)  # noqa: E741 the lecture's letter
# known words are 1 to 3 tokens; made-up ones, as many as they have syllables the vocabulary lacks
KNOWN = st.sampled_from([*sorted(NOUNS), *sorted(COLOURS), "a", "the", "photo", "of", "grass", "next", "to"])
MADE_UP = st.text("abcdefgh", min_size=1, max_size=4)
PROMPTS = st.lists(KNOWN | MADE_UP, min_size=1, max_size=7).map(" ".join)
TIMES = st.integers(0, T + 1).map(Step) | st.floats(0, 1) | st.just("never")
FRACTION = st.floats(0, 1)
# numbers only: an edit is built from them in the test, where its types are checked
KINDS = st.sampled_from(["refine", "swap", "preserve", "reweight", "renormalise"])
SPECS = st.tuples(KINDS, *[st.integers(0, 99)] * 2, *[FRACTION] * 4)


def edit_of(spec: tuple, source: Tokens, target: Tokens) -> Edit:
    """One edit of any kind, which fits the prompts."""
    kind, i, j, u, v, ramp, level = spec
    ours, theirs = names(source), names(target)
    word, other = ours[i % len(ours)], theirs[j % len(theirs)]
    alpha = Alpha(u, {other: Window(end=v / 2, start=1 - v / 2, ramp=ramp, level=level)})
    match kind:
        case "refine":
            return Refine(alpha)
        case "swap":
            return Swap(word, other, alpha, "sum" if i % 2 else "mean")
        case "preserve":
            aligned = aligned_columns(align(source, target), 32)
            shared = [word for word in theirs if aligned[columns(target, word)[0]]]
            return Preserve(shared[i % len(shared)], alpha, others=bool(j % 2)) if shared else Refine(alpha)
        case "reweight":
            return Reweight(other, 5 * u, Window(end=v, level=level), injected_only=bool(i % 2))
        case _:
            return Renormalise()


@pytest.mark.equation("P8")
@given(PROMPTS, PROMPTS)
def test_mapper_rows_sum_to_1_and_no_word_goes_to_padding(tokenizer, source, target):
    """[P8] Whatever the prompts' numbers of words and tokens, whether refined or with one word or all of them swapped:
    rows of A M stay distributions."""
    source, target = map(tokenizer.encode, (source, target))
    facing = tuple(zip(names(source), names(target)))
    for pairs in ((), ((names(source)[0], names(target)[-1]),), facing):
        M = mapper(align(source, target, pairs), 32)
        assert_close(M.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-14)  # rounding of shares
        assert not M[: source.count, target.count :].any()
        assert not M[source.count :, : target.count].any()


@given(PROMPTS, st.integers(1, T), TIMES)
def test_an_edit_between_equal_prompts_is_the_identity(tokenizer, prompt, t, tau):
    """A and A* are then one matrix, so P + Q = I means A_used = A."""
    tokens = tokenizer.encode(prompt)
    P, Q, _ = Edit.between(tokens, tokens, Alpha(tau)).compile(tokens, tokens, T)(t)
    assert torch.equal(P + Q.diag(), I)


@given(PROMPTS, KNOWN | MADE_UP, st.integers(0, 99))
def test_a_swap_there_and_back_maps_every_other_token_to_itself(tokenizer, prompt, other, k):
    k %= len(prompt.split())
    target = " ".join([*prompt.split()[:k], other, *prompt.split()[k + 1 :]])
    source, target = map(tokenizer.encode, (prompt, target))
    word, new = names(source)[k], names(target)[k]
    there, back = align(source, target, ((word, new),)), align(target, source, ((new, word),))
    round_trip = mapper(there, 32) @ mapper(back, 32)
    swapped = set(next(run.source for run in there))
    # with a repeated word beside the swapped one the alignment of the rest may be shifted, but both ways alike
    kept = [i for i in range(source.count) if i not in swapped]
    assert_close(round_trip.diagonal()[kept], torch.ones(len(kept), dtype=torch.float64), rtol=0, atol=0)


@given(PROMPTS, PROMPTS, st.integers(1, T), st.integers(0, 99))
def test_without_alpha_nothing_is_injected(tokenizer, source, target, t, k):
    """P_t = 0 and Q_t = I for alpha = 0."""
    (source, target), never = map(tokenizer.encode, (source, target)), Alpha("never")
    word, other = (names(tokens)[k % len(names(tokens))] for tokens in (source, target))
    for edit in (Refine(never), Swap(word, other, never), Edit.between(source, target, never)):
        P, Q, _ = edit.compile(source, target, T)(t)
        assert not P.any() and torch.equal(Q, torch.ones(32, dtype=torch.float64))


@given(PROMPTS, PROMPTS, st.integers(1, T), SPECS)
def test_a_weight_of_1_is_the_identity(tokenizer, source, target, t, spec):
    pair = tuple(map(tokenizer.encode, (source, target)))
    edit, word = edit_of(spec, *pair), names(pair[1])[-1]
    for ours, theirs in zip((edit + Reweight(word, 1.0)).compile(*pair, T)(t), edit.compile(*pair, T)(t)):
        assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


@given(PROMPTS, PROMPTS, st.integers(1, T), st.tuples(SPECS, SPECS, SPECS))
def test_composition_is_associative(tokenizer, source, target, t, specs):
    pair = tuple(map(tokenizer.encode, (source, target)))
    a, b, c = (edit_of(spec, *pair) for spec in specs)
    left, right = ((a + b) + c).compile(*pair, T)(t), (a + (b + c)).compile(*pair, T)(t)
    by_steps = c.after(b.after(a.compile(*pair, T), *pair, T), *pair, T)(t)
    for other in (right, by_steps):
        assert torch.equal(left.P, other.P) and torch.equal(left.Q, other.Q) and left.renormalise == other.renormalise


@given(PROMPTS, PROMPTS, st.integers(1, T), SPECS.filter(lambda spec: spec[0] != "reweight"))
def test_alpha_blends_between_the_source_and_the_target(tokenizer, source, target, t, spec):
    """[P9] 0 <= P, Q; and no row of P sums to more than 1 when nothing is weighted."""
    pair = tuple(map(tokenizer.encode, (source, target)))
    P, Q, _ = edit_of(spec, *pair).compile(*pair, T)(t)
    assert P.min() >= 0 and Q.min() >= 0 and Q.max() <= 1
    assert P.sum(dim=1).max() <= 1 + 1e-14  # rounding of shares


CAT = "a photo of a cat on the grass"
OTHERS = (
    "a photo of a dog on the grass",
    "a photo of an elephant on the grass",
    "a photo of a red cat on the grass",
    CAT,
)
HOW = dict(steps=2, guidance=3.0)


def last(model, targets: tuple[str, ...], tau: float, until: float) -> torch.Tensor:
    encode = model.tokenizer.encode
    edits = tuple(Edit.between(encode(CAT), encode(y), Alpha(tau)) for y in targets)
    *_, state = PromptToPrompt(model, CAT, targets, edits, SelfInjection(until)).denoise(7, **HOW)
    return state.z_t


@pytest.mark.machine
@settings(max_examples=8)
@given(order=st.permutations(OTHERS), tau=st.sampled_from([0.0, 0.3, 1.0]), until=st.sampled_from([0.3, 1.0]))
def test_permuting_the_targets_permutes_the_results(tiny, order, tau, until):
    plain, permuted = last(tiny, OTHERS, tau, until), last(tiny, tuple(order), tau, until)
    back = [0, *(1 + order.index(target) for target in OTHERS)]
    assert torch.equal(plain, permuted[back])  # rows of one batch are computed by the same operations


@settings(max_examples=6)
@given(targets=st.lists(st.sampled_from(OTHERS), min_size=1, max_size=4).map(tuple), tau=st.sampled_from([0.0, 0.5]))
def test_the_source_is_the_same_whatever_its_targets(tiny, targets, tau):
    *_, alone = tiny.denoise(tiny.encode_prompts([CAT]), [7], **HOW)
    # batches of other sizes split the same float32 sums otherwise; 2 steps of a random network
    assert_close(last(tiny, targets, tau, 0.3)[0], alone.z_t[0], rtol=1e-4, atol=1e-4)


@pytest.mark.machine
@pytest.mark.parametrize("target", OTHERS)
def test_a_target_alone_is_the_target_among_five(tiny, target):
    """Batch invariance: to rounding between batches of two and of six, to the bit between two places of one batch."""
    alone = last(tiny, (target,), 0.3, 0.3)
    among = last(tiny, (*OTHERS, target), 0.3, 0.3)
    assert torch.equal(among[1 + OTHERS.index(target)], among[5])
    assert_close(alone[1], among[5], rtol=1e-4, atol=1e-4)  # as above
