"""Local blend: outside its mask a target is the source, bit for bit; inside, nothing is touched."""

import pytest
import torch

from ldm.attention import Site
from ldm.states import State
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step
from p2p.edits import Swap
from p2p.local_blend import LocalBlend, Mention, Region, looked
from p2p.words import columns

CAT, BICYCLE, DOG = (f"a photo of a {noun} on the grass" for noun in ("cat", "bicycle", "dog"))


def blend_of(tokenizer, regions, targets, source=CAT, **options) -> LocalBlend:
    return LocalBlend(tokenizer.encode(source), [tokenizer.encode(y) for y in targets], regions, T=1000, **options)


def edit(tiny, regions, targets=(BICYCLE, BICYCLE), z_T=None, **options):
    """All states of a run, the masks after each step, and the blend that took part in it."""
    edits = tuple(Swap("cat", target.split()[4], Alpha(Step(500))) for target in targets)
    p2p = PromptToPrompt(tiny, CAT, targets, edits, SelfInjection("never"))
    local = blend_of(tiny.tokenizer, regions, targets, **options)
    masks = []

    def blend(state: State) -> torch.Tensor:
        masks.append(local.masks(tuple(state.z_t.shape[-2:])))
        return local(state)

    start = None if z_T is None else State(1000, z_T.expand(1 + len(targets), -1, -1, -1))
    states = list(p2p.denoise(seed=3, steps=5, watch=local.maps, blend=blend, start=start))
    return states, masks, local


def keeps_the_source(state: State, mask: torch.Tensor, row: int) -> bool:
    """Bit for bit outside a mask that has an inside and an outside; and something moved inside."""
    source, target = state.z_t[0], state.z_t[row]
    inside, outside = bool((target[:, mask] != source[:, mask]).any()), torch.equal(target[:, ~mask], source[:, ~mask])
    return 0 < mask.sum() < mask.numel() and inside and outside


def spots(*at: tuple[int, int, float]) -> torch.Tensor:
    values = torch.zeros(8, 8)
    for y, x, value in at:
        values[y, x] = value
    return values


def show(local: LocalBlend, maps: dict[tuple[int, int], torch.Tensor], rows: int = 2) -> None:
    """Attention of one layer, by hand: zero but for these columns, named (row, column)."""
    A = torch.zeros(rows, 1, 64, 32)
    for (row, column), values in maps.items():
        A[row, 0, :, column] = values.flatten()
    local.maps(Site("cross", "up", 0, 8, 8), A)


def around(*at: tuple[int, int], by: int = 1) -> torch.Tensor:
    """The positions at most so far from these."""
    mask = torch.zeros(8, 8, dtype=torch.bool)
    for y, x in at:
        mask[max(y - by, 0) : y + by + 1, max(x - by, 0) : x + by + 1] = True
    return mask


def test_outside_the_mask_is_the_source_at_every_step(tiny):
    states, masks, _ = edit(tiny, [Region(("bicycle",), threshold=0.9), None], start=1.0)
    assert [state.t for state in states] == [800, 600, 400, 200, 0]
    for state, (mask, everywhere) in zip(states, masks):
        assert keeps_the_source(state, mask, row=1)
        assert everywhere.all() and (state.z_t[2] != state.z_t[0]).any(dim=0).all()


def test_every_target_has_its_own_region(tiny):
    drawn = torch.zeros(16, 16, dtype=torch.bool)
    drawn[3:9, 2:15] = True
    regions = [Region(("bicycle",), threshold=0.9), drawn, Region(("grass",), threshold=0.9), None]
    states, masks, _ = edit(tiny, regions, (BICYCLE, DOG, BICYCLE, BICYCLE))
    bicycle, dog, grass, everywhere = masks[-1]
    assert torch.equal(dog, drawn) and everywhere.all() and not torch.equal(bicycle, grass)
    for row, mask in enumerate((bicycle, dog, grass), start=1):
        assert keeps_the_source(states[-1], mask, row)


def test_a_mask_alone_needs_no_maps(tiny):
    drawn = torch.zeros(16, 16, dtype=torch.bool)
    drawn[:, 5:] = True
    local = blend_of(tiny.tokenizer, [drawn], [BICYCLE], start=1.0)
    p2p = PromptToPrompt(tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle"),))
    for state in p2p.denoise(seed=3, steps=2, blend=local):
        assert keeps_the_source(state, drawn, row=1)


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (10, 24)])
def test_any_size_of_picture_has_a_mask(tiny, size):
    """The layers with 8 positions on the shorter side; of a latent of 10 x 24 they have 5 x 12 and are named by 5."""
    z_T = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(0))
    side = {8: 8, 10: 5}[min(size)]
    states, masks, local = edit(tiny, [Region(("bicycle",), threshold=0.9)], (BICYCLE,), z_T, side=side)
    height, width = local.maps.mean().shape[-2:]
    assert min(height, width) == side and height * size[1] == width * size[0]
    assert masks[-1].shape == (1, *size)
    assert keeps_the_source(states[-1], masks[-1][0], row=1)


def test_blending_begins_at_its_start(tiny):
    """t = 800 is not yet under 0.7 T, t = 600 is."""
    states, _, _ = edit(tiny, [Region(("bicycle",), threshold=1.0), None], start=0.7)
    kept = [(state.z_t[1] == state.z_t[0]).all(dim=0).any().item() for state in states]
    assert [state.t for state in states] == [800, 600, 400, 200, 0]
    assert kept == [False, True, True, True, True]


@pytest.mark.parametrize("widen", [0, 1, 2])
def test_the_mask_is_where_the_map_is_high(widen):
    """By hand: one hot position, widened on every side, and a half as hot one under the threshold."""
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 1] = spots((2, 5, 1.0), (6, 1, 0.5))
    mask = looked(maps, [Mention(0, (1,), "a")], threshold=0.6, widen=widen, size=(8, 8))
    assert torch.equal(mask, around((2, 5), by=widen))
    both = looked(maps, [Mention(0, (1,), "a")], threshold=0.4, widen=widen, size=(8, 8))
    assert torch.equal(both, around((2, 5), (6, 1), by=widen))
    assert not looked(maps, [], threshold=0.6, widen=widen, size=(8, 8)).any()


def test_a_word_counts_where_either_prompt_looks(tokenizer):
    """By hand: the source's cat here, each target's own dog there; another word of a target elsewhere."""
    local = blend_of(tokenizer, [Region(("cat", "dog"))] * 2, [DOG, DOG], side=8)
    at = columns(tokenizer.encode(CAT), "cat")[0]
    first, second = {(1, at): spots((5, 6, 0.9)), (1, at + 1): spots((7, 0, 0.9))}, {(2, at): spots((6, 2, 0.9))}
    show(local, {(0, at): spots((1, 1, 0.9)), **first, **second}, rows=3)
    expected = torch.stack([around((1, 1), (5, 6)), around((1, 1), (6, 2))])
    assert torch.equal(local.masks((8, 8)), expected)


def test_a_word_of_several_tokens_is_the_sum_of_their_maps(tokenizer):
    """Its tokens add up to 0.8 at one place, which leaves the 0.3 at another under half of that."""
    local = blend_of(tokenizer, [Region(("bicycle",), threshold=0.5, widen=0)], [BICYCLE], side=8)
    first, second = columns(tokenizer.encode(BICYCLE), "bicycle")
    show(local, {(1, first): spots((2, 2, 0.4), (6, 6, 0.3)), (1, second): spots((2, 2, 0.4))})
    assert torch.equal(local.masks((8, 8))[0], around((2, 2), by=0))


def test_words_of_little_and_of_much_attention_count_alike(tokenizer):
    """Each map is measured by its own highest value: 0.05 is little beside the cat's 0.9, and all the grass has."""
    local = blend_of(tokenizer, [Region(("cat", "grass"), widen=0)], [CAT], side=8)
    cat, grass = (columns(tokenizer.encode(CAT), word)[0] for word in ("cat", "grass"))
    show(local, {(0, cat): spots((1, 1, 0.9)), (0, grass): spots((6, 6, 0.05))})
    assert torch.equal(local.masks((8, 8))[0], around((1, 1), (6, 6), by=0))


def test_subtracted_words_have_a_threshold_and_are_not_widened(tokenizer):
    cat, grass = (columns(tokenizer.encode(CAT), word)[0] for word in ("cat", "grass"))
    for threshold, cut in ((0.3, [(3, 3), (3, 4)]), (0.8, [(3, 3)])):
        region = Region(("cat",), ("grass",), subtract_threshold=threshold)
        local = blend_of(tokenizer, [region], [CAT], side=8)
        show(local, {(0, cat): spots((3, 3, 0.9)), (0, grass): spots((3, 3, 0.2), (3, 4, 0.1))})
        assert torch.equal(local.masks((8, 8))[0], around((3, 3)) & ~around(*cut, by=0))


def test_a_region_needs_words_and_numbers_in_range():
    with pytest.raises(ValueError, match="at least one word"):
        Region(())
    for wrong in ({"threshold": 1.2}, {"subtract_threshold": -0.1}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            Region(("cat",), **wrong)
    with pytest.raises(ValueError, match="widened by 0 positions or more, got -1"):
        Region(("cat",), widen=-1)


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([Region(("boat",))], "neither prompt has 'boat'.*cat.*bicycle"),
        ([Region(("bicycle",), ("boat",))], "neither prompt has 'boat'"),
        ([Region(("cat#2",))], "neither prompt has 'cat#2'"),
        ([Region(("a",))], "'a' occurs 2 times in .* write a#1 or a#2"),
        ([None, None], "1 targets and 2 regions"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_when_it_is_made(tokenizer, regions, message):
    with pytest.raises(ValueError, match=message):
        blend_of(tokenizer, regions, [BICYCLE])


@pytest.mark.parametrize(
    ("region", "options", "message"),
    [
        (torch.ones(8, 16, dtype=torch.bool), {}, r"the mask is \(8, 16\), the latent \(16, 16\)"),
        (Region(("cat",)), {"side": 7}, "has 7 positions a side, these have 16x16, 8x8"),
    ],
)
def test_a_misfit_is_refused_before_blending_begins(tiny, region, options, message):
    with pytest.raises(ValueError, match=message):
        edit(tiny, [region], (BICYCLE,), start=0.1, **options)


def test_maps_that_were_not_watched_are_missed(tiny):
    local = blend_of(tiny.tokenizer, [Region(("cat",))], [BICYCLE])
    p2p = PromptToPrompt(tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle"),))
    with pytest.raises(ValueError, match="no attention was watched: pass the maps to the run as `watch`"):
        next(p2p.denoise(seed=3, steps=2, blend=local))


def warnings_of(local: LocalBlend, caplog) -> list[str]:
    """What a blend warns of in the steps t = 900, 700 and 500, the last two of which it cuts by."""
    for t in (900, 700, 500):
        local(State(t, torch.zeros(2, 4, 16, 16)))
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("chosen", [Region(("bicycle", "grass")), Region(("bicycle",), ("grass",))])
def test_a_word_of_hardly_any_attention_is_warned_of(tokenizer, caplog, chosen):
    """A peak of 6% for one of 32 tokens is under twice an even share, 6.25%; a mean of 1% says nothing of that."""
    local = blend_of(tokenizer, [chosen], [BICYCLE], side=8)
    bicycle, (grass,) = columns(tokenizer.encode(BICYCLE), "bicycle"), columns(tokenizer.encode(CAT), "grass")
    faint = spots((2, 2, 0.06), (4, 4, 0.02), (5, 5, 0.02))
    there = columns(tokenizer.encode(BICYCLE), "grass")[0]
    show(local, {(1, bicycle[0]): spots((3, 3, 0.5)), (0, grass): faint, (1, there): faint})
    (warning,) = warnings_of(local, caplog)
    assert "'grass'" in warning and "0.2% of the attention, 6.0% at its peak" in warning


def test_a_small_thing_is_not_warned_of(tokenizer, caplog):
    """A peak of 7% at one position of 64: 0.1% of the attention in all."""
    local = blend_of(tokenizer, [Region(("grass",))], [CAT], side=8)
    show(local, {(row, columns(tokenizer.encode(CAT), "grass")[0]): spots((2, 2, 0.07)) for row in (0, 1)})
    assert warnings_of(local, caplog) == []


def test_a_mask_is_not_warned_of(tokenizer, caplog):
    local = blend_of(tokenizer, [torch.ones(16, 16, dtype=torch.bool)], [CAT])
    assert warnings_of(local, caplog) == []
