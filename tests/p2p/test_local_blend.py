"""[P2] Outside a mask the source stays, bit for bit; inside, nothing is touched."""

import pytest
import torch

from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.baselines import blended, fixed_seed
from p2p.edits import Swap
from p2p.local_blend import LocalBlend, Region

CAT, BICYCLE = "a photo of a cat on the grass", "a photo of a bicycle on the grass"
NEVER = 1001


def test_blended_keeps_the_source_outside_the_mask_at_every_step(tiny):
    """[P2]"""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:9, 3:12] = True
    plain = list(fixed_seed(tiny, [CAT, BICYCLE], seed=3, steps=4))
    states = list(blended(tiny, [CAT, BICYCLE], mask, seed=3, steps=4))
    assert len(states) == 4
    for state, unblended in zip(states, plain):
        assert torch.equal(state.z_t[0], unblended.z_t[0])  # the source knows nothing of it
        assert torch.equal(state.z_t[1][:, ~mask], state.z_t[0][:, ~mask])
        assert (state.z_t[1][:, mask] != state.z_t[0][:, mask]).any()
    assert torch.equal(states[0].z_t[1][:, mask], plain[0].z_t[1][:, mask])


def test_a_mask_of_the_wrong_size_is_refused(tiny):
    with pytest.raises(ValueError, match=r"the mask is \(8, 16\), the latent \(16, 16\)"):
        blended(tiny, [CAT, BICYCLE], torch.ones(8, 16, dtype=torch.bool), seed=0)


def edit(tiny, regions, targets=(BICYCLE, BICYCLE), **blend):
    """All states of a run with and the blend that took part in it."""
    edits = (Swap("cat", "bicycle", Alpha(500)),) * len(targets)
    p2p = PromptToPrompt(tiny, CAT, targets, edits, SelfInjection(NEVER))
    encode = tiny.tokenizer.encode
    local = LocalBlend(encode(CAT), [encode(y) for y in targets], regions, T=1000, **blend)
    return list(p2p.denoise(seed=3, steps=5, watch=local.maps, blend=local)), local


def test_local_blend_keeps_the_source_outside_its_mask(tiny):
    states, local = edit(tiny, [Region(("bicycle",), threshold=0.9), None])
    mask, everywhere = local.masks((16, 16))
    last = states[-1].z_t
    assert 0 < mask.sum() < mask.numel() and everywhere.all()
    assert torch.equal(last[1][:, ~mask], last[0][:, ~mask])
    assert (last[1][:, mask] != last[0][:, mask]).any()
    assert (last[2] != last[0]).any(dim=0).all()


def test_local_blend_begins_at_its_start(tiny):
    """t = 800 is not yet under 0.8 T, t = 600 is."""
    states, _ = edit(tiny, [Region(("bicycle",), threshold=1.0), None], start=0.7)
    kept = [(state.z_t[1] == state.z_t[0]).all(dim=0).any().item() for state in states]
    assert [state.t for state in states] == [800, 600, 400, 200, 0]
    assert kept == [False, True, True, True, True]


def test_a_subtracted_word_is_cut_out_of_the_mask(tiny):
    _, local = edit(tiny, [Region(("bicycle",), threshold=0.5), Region(("bicycle",), ("bicycle",), threshold=0.5)])
    mask, cut = local.masks((16, 16))
    assert mask.any() and not cut.any()


def test_the_mask_is_where_the_map_is_high():
    """By hand: one hot position, widened to its 3 x 3 neighbourhood, and a half as hot one under the threshold."""
    from p2p.local_blend import _over

    maps = torch.zeros(2, 8, 8)
    maps[1, 2, 5], maps[1, 6, 1] = 1.0, 0.5
    mask = _over(maps, [1], threshold=0.6, size=(8, 8))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:4, 4:7] = True
    assert torch.equal(mask, expected)
    assert not _over(maps, [], threshold=0.6, size=(8, 8)).any()


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([Region(("boat",)), None], "neither prompt has 'boat'.*cat.*bicycle"),
        ([Region(("bicycle",), ("boat",)), None], "neither prompt has 'boat'"),
        ([None], "2 targets and 1 regions"),
    ],
)
def test_a_blend_that_cannot_be_is_refused(tiny, regions, message):
    with pytest.raises(ValueError, match=message):
        edit(tiny, regions)


def test_a_region_needs_words_and_a_threshold_in_range():
    with pytest.raises(ValueError, match="at least one word"):
        Region(())
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        Region(("cat",), threshold=1.2)
