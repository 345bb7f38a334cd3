"""Known defects of other implementations of Prompt-to-Prompt in finding words, mapping tokens and blending locally.

One test each, named after the defect. Where `p2p.experiments.reference` rebuilds it, it is seen there first; ours does
not have it.
"""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import Site
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.edits import Refine, Reweight, Swap, used
from p2p.experiments.reference import Reference, word_tokens
from p2p.local_blend import LocalBlend, Region
from p2p.words import columns

ALWAYS = Alpha(0)
CAT, DOG, ELEPHANT = (f"a photo of a {noun} on the grass" for noun in ("cat", "dog", "elephant"))


def mapping(tokenizer, edit, source: str, target: str) -> torch.Tensor:
    """P while everything is injected: row i is where source token i's attention goes."""
    return edit.compile(tokenizer.encode(source), tokenizer.encode(target), 1000)(500).P


def column(tokenizer, prompt: str, word: str) -> int:
    return columns(tokenizer.encode(prompt), word)[0]


# --- words -----------------------------------------------------------------------------------------------------------


def test_an_unknown_word_is_an_edit_without_effect(tokenizer):
    """Ours says so, and which word may have been meant."""
    for edit in (Swap("elefant", "dog"), Reweight("grasss", 2.0)):
        with pytest.raises(ValueError, match=r"has no word '(elefant|grasss)'\. Did you mean '(elephant|grass)'\?"):
            mapping(tokenizer, edit, ELEPHANT, DOG)


@pytest.mark.parametrize("prompt", ["a photo of a cat, on the grass", "a photo of a Cat on the grass"])
def test_a_comma_or_a_capital_hides_a_word(tokenizer, prompt):
    assert "cat" not in prompt.split(" ")  # how the others look for it
    assert tokenizer.encode(prompt).pieces[column(tokenizer, prompt, "cat")].lower() == "cat"


def test_a_second_blank_shifts_every_later_word(tokenizer):
    prompt = "a photo of  a cat on the grass"
    tokens = tokenizer.encode(prompt)
    theirs = word_tokens(tokens)[prompt.split(" ").index("cat")]
    assert [tokens.pieces[i] for i in theirs] == ["on", "the"]
    assert tokens.pieces[column(tokenizer, prompt, "cat")] == "cat"


def test_a_letter_of_several_tokens_is_counted_several_times(tokenizer):
    """Its last token goes to the next word. Ours finds the word, however the letter is written."""
    tokens = tokenizer.encode("a café on the grass")
    theirs = word_tokens(tokens)[tokens.prompt.split(" ").index("on")]
    assert [tokens.pieces[i] for i in theirs] == ["é", "on"]
    for prompt in (tokens.prompt, "a cafe\u0301 on the grass"):
        assert tokenizer.encode(prompt).pieces[column(tokenizer, prompt, "on")] == "on"


def test_a_word_that_stands_twice_is_changed_twice(tokenizer):
    """Ours asks which, and changes that one."""
    prompt = "a cat next to a cat"
    with pytest.raises(ValueError, match="write cat#1 or cat#2"):
        mapping(tokenizer, Reweight("cat", 2.0), prompt, prompt)
    P = mapping(tokenizer, Refine(ALWAYS) + Reweight("cat#2", 2.0), prompt, prompt)
    assert P.diagonal()[[2, 6]].tolist() == [1, 2]


def test_a_prompt_beyond_the_context_runs_out_of_the_matrix(tokenizer):
    with pytest.raises(ValueError, match="the prompt has 31 tokens, the model's context holds 30: shorten it"):
        mapping(tokenizer, Refine(), "cat " * 31, CAT)


# --- the mapper of a swap --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), [(CAT, ELEPHANT), (ELEPHANT, CAT)])
def test_words_behind_a_swap_look_where_others_did(tokenizer, source, target):
    """The tail defect, for 1 token that becomes 3 and back. Ours gives each its own column of A, to the bit."""
    swap = Swap(source.split()[4], target.split()[4], ALWAYS)
    theirs, ours = (mapping(tokenizer, edit, source, target) for edit in (Reference("replace", ALWAYS), swap))
    A = torch.rand(5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    for word in ("on", "the", "grass"):
        i, j = column(tokenizer, source, word), column(tokenizer, target, word)
        none_of_its_own = torch.zeros(32, dtype=torch.float64)
        assert theirs[i, j] == 0
        assert torch.equal(used(A, A, ours, none_of_its_own)[:, j], A[:, i])


@pytest.mark.parametrize(
    ("source", "target", "theirs"), [(CAT, ELEPHANT, {0.0, 1.0}), (ELEPHANT, CAT, {0.0, 1.0, 2.0})]
)
def test_attention_is_lost_or_counted_twice_in_a_swap(tokenizer, source, target, theirs):
    """Rows of M sum to 1 in ours: rows of A M stay distributions."""
    rows = mapping(tokenizer, Reference("replace", ALWAYS), source, target).sum(dim=1)
    assert set(rows.round(decimals=9).tolist()) == theirs
    ours = mapping(tokenizer, Swap(source.split()[4], target.split()[4], ALWAYS), source, target)
    assert_close(ours.sum(dim=1), torch.ones(32, dtype=torch.float64), rtol=0, atol=1e-15)  # thirds


def test_words_take_the_attention_of_padding_in_a_swap(tokenizer):
    source, target = tokenizer.encode(CAT), tokenizer.encode(ELEPHANT)
    theirs, ours = (
        mapping(tokenizer, edit, CAT, ELEPHANT) for edit in (Reference("replace", ALWAYS), Swap("cat", "elephant"))
    )
    assert theirs[source.count :, 1 : target.count].any()
    # two fewer paddings: the share of those that are gone stays with padding
    assert not ours[source.count :, : target.count].any() and not ours[: source.count, target.count :].any()


def test_prompts_of_different_numbers_of_words_cannot_be_swapped_between(tokenizer):
    target = "a photo of a big dog on the grass"
    with pytest.raises(ValueError, match="equally many words"):
        mapping(tokenizer, Reference("replace"), CAT, target)
    row = mapping(tokenizer, Swap("cat", "big dog", ALWAYS), CAT, target)[column(tokenizer, CAT, "cat")]
    assert row[column(tokenizer, target, "big")] == row[column(tokenizer, target, "dog")] == 0.5


# --- refinement ------------------------------------------------------------------------------------------------------


def test_a_repeated_word_is_aligned_with_its_first_occurrence(tokenizer):
    """Where the numbers of aligned words are equal, ours keeps the word that stayed in its place."""
    theirs, ours = (mapping(tokenizer, edit, "dog cat", "cat cat") for edit in (Reference("refine"), Refine()))
    assert theirs[2, 1] == 1 and theirs[2, 2] == 0
    assert ours[2, 2] == 1 and ours[2, 1] == 0


def test_deleted_words_are_injected_again_through_padding(tokenizer):
    source, target = "a big red cat on the grass", "a cat"
    theirs, ours = (mapping(tokenizer, edit, source, target) for edit in (Reference("refine", ALWAYS), Refine(ALWAYS)))
    deleted, padding = [column(tokenizer, source, word) for word in ("on", "the", "grass")], slice(4, None)
    assert (theirs[deleted, padding].sum(dim=1) == 1).all()
    assert not ours[1:8, padding].any()
    assert not ours[deleted].any()


# --- local blend -----------------------------------------------------------------------------------------------------


def blended(tiny, targets, edits, regions, source=CAT, **options):
    """The last state and the last masks of a short run."""
    encode = tiny.tokenizer.encode
    local = LocalBlend(encode(source), [encode(y) for y in targets], regions, T=1000, **options)
    p2p = PromptToPrompt(tiny, source, targets, edits, SelfInjection("never"))
    *_, last = p2p.denoise(seed=3, steps=3, watch=local.maps, blend=local)
    return last.z_t, local.masks(tuple(last.z_t.shape[-2:]))


def test_a_blend_word_that_is_missing_returns_the_source(tokenizer):
    """0 / 0 is not over any threshold, and an empty mask is no edit. Ours asks for a word that is there."""
    with pytest.raises(ValueError, match="neither prompt has 'boat' to blend by"):
        LocalBlend(tokenizer.encode(CAT), [tokenizer.encode(DOG)], [Region(("boat",))], T=1000)


@pytest.mark.parametrize(("source", "target", "word"), [(CAT, DOG, "dog"), (CAT, DOG, "cat")])
def test_a_blend_word_must_stand_in_every_prompt(tiny, source, target, word):
    """In ours one of the two is enough."""
    _, masks = blended(tiny, (target,), (Swap("cat", "dog"),), [Region((word,), threshold=0.95)], source)
    assert 0 < masks.sum() < masks.numel()


def test_blending_fails_with_three_prompts_or_more(tiny):
    targets = (DOG, ELEPHANT, DOG)
    edits = tuple(Swap("cat", target.split()[4]) for target in targets)
    z_0, masks = blended(tiny, targets, edits, [Region((y.split()[4],), threshold=0.9) for y in targets])
    for row, mask in enumerate(masks, start=1):
        assert 0 < mask.sum() < mask.numel() and torch.equal(z_0[row][:, ~mask], z_0[0][:, ~mask])
    assert torch.equal(z_0[1], z_0[3])


def test_all_targets_are_blended_by_one_global_word(tiny):
    regions = [Region(("dog",), threshold=0.9), Region(("grass",), threshold=0.9)]
    _, (dog, grass) = blended(tiny, (DOG, DOG), (Swap("cat", "dog"),) * 2, regions)
    assert not torch.equal(dog, grass)


def test_words_to_subtract_thresholds_and_start_cannot_be_reached(tiny):
    """They are arguments, and each changes the mask or when it holds."""
    plain = Region(("cat",), threshold=0.9)
    others = [
        Region(("cat",), threshold=0.6),
        Region(("cat",), ("grass",), threshold=0.9, subtract_threshold=0.5),
        Region(("cat",), threshold=0.9, widen=0),
    ]
    regions = [plain, *others]
    z_0, (mask, *rest) = blended(tiny, (DOG,) * 4, (Swap("cat", "dog"),) * 4, regions)
    assert not any(torch.equal(mask, other) for other in rest)
    never, _ = blended(tiny, (DOG,), (Swap("cat", "dog"),), [plain], start=0)
    assert not torch.equal(never[1], z_0[1])


def test_widening_has_no_effect(tiny):
    """The widened map is computed, and then the other one used. Ours is wider by a position on every side."""
    regions = [Region(("grass",), threshold=0.95, widen=widen) for widen in (0, 1)]
    _, (bare, wide) = blended(tiny, (CAT, CAT), (Refine(),) * 2, regions)
    neighbours = torch.nn.functional.max_pool2d(bare[None].float(), 3, 1, 1)[0].bool()
    assert torch.equal(wide, neighbours) and not torch.equal(wide, bare)


def test_only_square_pictures_of_512_pixels_can_be_blended(tokenizer):
    """Their maps are read as 16 x 16, whatever the picture. Ours have the shape of the layer that made them."""
    source, target = tokenizer.encode(CAT), tokenizer.encode(DOG)
    local = LocalBlend(source, [target], [Region(("dog",), threshold=0.5, widen=0)], T=1000)
    A = torch.zeros(2, 1, 16, 24, 32)
    A[1, :, :8, :, columns(target, "dog")[0]] = 1  # the upper half of the target looks at its dog
    local.maps(Site("cross", "up", 0, 16, 24), A.flatten(2, 3))
    (mask,) = local.masks((64, 96))
    assert mask[:32].all() and not mask[32:].any()


def test_the_maps_of_one_run_leak_into_the_next(tiny):
    """The counter is never reset. Ours serves one run and refuses the second."""
    encode = tiny.tokenizer.encode
    local = LocalBlend(encode(CAT), [encode(DOG)], [Region(("dog",))], T=1000)
    p2p = PromptToPrompt(tiny, CAT, (DOG,), (Swap("cat", "dog"),))
    run = lambda: list(p2p.denoise(seed=3, steps=2, watch=local.maps, blend=local))
    run()
    with pytest.raises(ValueError, match="make another for the next"):
        run()


def test_a_blend_is_dropped_where_a_word_is_reweighted(tiny):
    edit = Refine() + Reweight("grass", 50.0)
    z_0, (mask,) = blended(tiny, (CAT,), (edit,), [Region(("cat",), threshold=0.9)])
    assert torch.equal(z_0[1][:, ~mask], z_0[0][:, ~mask])
    assert (z_0[1][:, mask] != z_0[0][:, mask]).any()
