"""Known defects of other implementations of Prompt-to-Prompt in schedules, weights, composition and bookkeeping.

One test each, named after the defect; each shows that ours does not have it.
"""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import attention_map
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step, window
from p2p.call import Call
from p2p.edits import Edit, Matrices, Refine, Reweight, Swap
from p2p.experiments.baselines import fixed_seed
from p2p.experiments.reference import cross_replace, self_replace
from p2p.inject import Layers, watching
from p2p.maps import WordMaps
from p2p.words import columns

T = 1000
CAT, DOG, ELEPHANT = (f"a photo of {noun} on the grass" for noun in ("a cat", "a dog", "an elephant"))
HOW = dict(steps=3, guidance=3.0)


def matrices(tokenizer, edit: Edit, source: str, target: str, t: int = 500) -> Matrices:
    return edit.compile(tokenizer.encode(source), tokenizer.encode(target), T)(t)


def last(states) -> torch.Tensor:
    *_, state = states
    return state.z_t


# --- schedules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", [0.55, 0.65, 0.75])
def test_a_fraction_means_other_steps_in_self_attention(injected):
    """They count a fraction of 11 rows for the one and of 10 steps for the other."""
    visited = list(range(T, 0, -T // 10))
    count = lambda w: sum(strength > 0 for strength in map(w.compile(T), visited))
    assert count(cross_replace(injected, visited, 10)) == count(self_replace(injected, visited, 10)) + 1
    tau = 1 - injected  # ours is one function of t for both
    assert count(window(tau)) == sum(t > tau * T for t in visited)


def test_a_whole_number_of_steps_is_a_type_error(tokenizer):
    """It is a time step here."""
    at_400 = lambda tau: Alpha(tau).compile(tokenizer.encode(DOG), T)(400)
    assert at_400(Step(400)).eq(1).all() and at_400(Step(401)).eq(0).all()


def test_the_callers_dictionary_of_schedules_is_changed(tokenizer):
    words = {"dog": 0.5}
    matrices(tokenizer, Swap("cat", "dog", Alpha(0.2, words)), CAT, DOG)
    assert words == {"dog": 0.5}


def test_a_misspelt_option_is_ignored_and_the_default_used():
    """The documented names of one pipeline's options are not those that it reads."""
    with pytest.raises(TypeError, match="n_cross_replace"):
        Swap("cat", "dog", n_cross_replace=0.8)
    with pytest.raises(ValueError, match=r"targets\.0\.edits\.0\.swap\.cross_replace_steps: Unexpected"):
        edit = '{"swap": {"source": "cat", "target": "dog", "cross_replace_steps": 0.8}}'
        Call.from_json(f'{{"source": "a cat", "targets": [{{"prompt": "a dog", "edits": [{edit}]}}]}}')


# --- weights and composition -----------------------------------------------------------------------------------------


def test_a_weight_is_gone_once_the_injection_ends(tokenizer):
    grass = columns(tokenizer.encode(CAT), "grass")[0]
    P, Q, _ = matrices(tokenizer, Refine(Alpha(0.8)) + Reweight("grass", 3.0), CAT, CAT, t=100)
    assert Q[grass] == 3 and not P.any()
    paper = Refine(Alpha(0.8)) + Reweight("grass", 3.0, injected_only=True)  # as they do it, where one wants it
    assert matrices(tokenizer, paper, CAT, CAT, t=100).idle


def test_a_weight_alone_scales_the_sources_attention(tokenizer):
    """And so injects it, unasked. Ours scales the target's own."""
    P, Q, _ = matrices(tokenizer, Reweight("grass", 3.0), CAT, DOG)
    assert not P.any() and Q.sum() == 31 + 3


def test_a_composed_edit_loses_its_own_schedule(tokenizer):
    """There the outer edit's schedule is used for both."""
    source, target = map(tokenizer.encode, ("a cat on the grass", "a dog on the beach"))
    edit = Swap("cat", "dog", Alpha(0.8)) + Swap("grass", "beach", Alpha(0.2, {"dog": 0.8}))
    swapped = lambda t, word: edit.compile(source, target, T)(t).P[:, columns(target, word)]
    assert swapped(900, "dog").any() and swapped(900, "beach").any()
    assert not swapped(500, "dog").any() and swapped(500, "beach").any()


def test_weights_of_several_words_land_on_the_wrong_tokens(tokenizer):
    """One list of values is written onto each word's tokens; ours weighs every token of each word by its own."""
    elephant, grass = (columns(tokenizer.encode(ELEPHANT), word) for word in ("elephant", "grass"))
    assert len(elephant) == 3
    Q = matrices(tokenizer, Reweight("elephant", 2.0) + Reweight("grass", 5.0), ELEPHANT, ELEPHANT).Q
    expected = torch.ones(32, dtype=torch.float64)
    expected[list(elephant)], expected[list(grass)] = 2, 5
    assert torch.equal(Q, expected)


def test_weights_are_one_list_for_all_targets(tiny):
    """Each target here has an edit of its own, and gets what it gets alone."""
    edits = (Refine() + Reweight("grass", 9.0), Refine() + Reweight("grass", -1.0))
    both = last(PromptToPrompt(tiny, CAT, (CAT, CAT), edits).denoise(7, **HOW))
    for edit, ours in zip(edits, both[1:]):
        alone = last(PromptToPrompt(tiny, CAT, (CAT,), (edit,)).denoise(7, **HOW))[1]
        assert_close(ours, alone, rtol=1e-4, atol=1e-4)  # float32 sums in batches of other sizes
    assert not torch.allclose(both[1], both[2])


# --- bookkeeping -----------------------------------------------------------------------------------------------------


def p2p_of(model, tau=0.4) -> PromptToPrompt:
    return PromptToPrompt(model, CAT, (DOG,), (Swap("cat", "dog", Alpha(tau)),), SelfInjection(tau, Layers(side=8)))


def test_the_model_stays_patched(tiny):
    before = last(fixed_seed(tiny, [CAT, DOG], 7, **HOW))
    last(p2p_of(tiny).denoise(7, **HOW))
    assert torch.equal(last(fixed_seed(tiny, [CAT, DOG], 7, **HOW)), before)


def test_a_run_broken_off_spoils_the_next(tiny):
    """They count layers and steps, and the count goes on where it was."""
    p2p = p2p_of(tiny)
    whole = last(p2p.denoise(7, **HOW))
    next(p2p.denoise(7, **HOW))
    assert torch.equal(last(p2p.denoise(7, **HOW)), whole)


def test_without_guidance_the_wrong_half_of_the_batch_is_edited(tiny):
    """There is no unconditional half at w = 1: they then edit targets alone, or half of them."""
    z = last(p2p_of(tiny, tau=0).denoise(7, steps=3, guidance=1.0))
    plain = last(fixed_seed(tiny, [CAT, DOG], 7, steps=3, guidance=1.0))
    assert_close(z[0], plain[0], rtol=1e-4, atol=1e-4)  # the target's edit splits the batch's float32 sums
    assert not torch.allclose(z[1], plain[1], rtol=1e-2, atol=1e-2)


def test_the_stored_maps_of_the_source_are_those_after_the_edit(tiny):
    """They write the edit into the stored tensors."""
    plain, edited = WordMaps(8), WordMaps(8)
    last(fixed_seed(tiny, [CAT, DOG], 7, attn_fn=lambda t: watching(plain), **HOW))
    last(p2p_of(tiny).denoise(7, watch=edited, **HOW))
    assert_close(edited.mean()[0], plain.mean()[0], rtol=1e-4, atol=1e-5)  # float32, other batches


def test_every_map_of_every_layer_is_stored(tiny, monkeypatch):
    """An edit that nobody looks at builds none; one that is watched builds those of cross-attention alone."""
    built = []
    monkeypatch.setattr("p2p.inject.attention_map", lambda Q, K: built.append(K.shape[2]) or attention_map(Q, K))
    last(p2p_of(tiny).denoise(7, **HOW))
    assert not built
    last(p2p_of(tiny).denoise(7, watch=WordMaps(8), **HOW))
    assert set(built) == {32}  # tokens, never positions
