"""The network gets no row that nothing needs: counted at each of its calls, with the result unchanged."""

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import attend
from ldm.pipeline import LatentDiffusion
from ldm.schedule import guided
from ldm.states import Noise
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha
from p2p.call import Sampling
from p2p.edits import Swap
from p2p.inversion.methods import invert_latent

CAT, DOG, BICYCLE = (f"a photo of a {word}" for word in ("cat", "dog", "bicycle"))


@pytest.fixture
def rows(tiny, monkeypatch) -> list[int]:
    """The number of rows of each network call from here on."""
    counted, forward = [], tiny.unet.forward

    def counting(z_t, *args):
        counted.append(len(z_t))
        return forward(z_t, *args)

    monkeypatch.setattr(tiny.unet, "forward", counting)
    return counted


def edit_of(model: LatentDiffusion, until: float = 0.5) -> PromptToPrompt:
    swaps = tuple(Swap("cat", word, Alpha(0.5)) for word in ("dog", "bicycle"))
    return PromptToPrompt(model, CAT, (DOG, BICYCLE), swaps, SelfInjection(until))


def test_equal_latents_share_their_unconditional_row(tiny, rows):
    """Three prompts from one z_T: four rows in place of six at the first step, and six once the latents differ."""
    list(edit_of(tiny).denoise(0, steps=3, guidance=3.0))
    assert rows == [4, 6, 6]


def test_a_shared_row_serves_every_prompt(tiny):
    """As each prompt by itself, by [D18] on two calls."""
    context, empty = tiny.encode_prompts([CAT, DOG]), tiny.encode_prompts([""])
    z_t = Noise([4, 4], tiny.latent_shape)()
    found = tiny.predict(z_t, 900, context, guidance=3.0).eps
    away = tiny.predict(z_t[:1], 900, empty).eps
    for row in range(2):
        own = tiny.predict(z_t[:1], 900, context[row : row + 1]).eps
        # float32 in batches of three and of one; guidance multiplies the rounding by 3
        assert_close(found[row : row + 1], guided(away, own, 3.0), rtol=1e-3, atol=1e-4)
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("w, wanted", [(3.0, [4, 5, 4]), (1.0, [3, 3, 2])])
def test_a_pinned_source_is_computed_for_its_attention_alone(tiny, rows, w, wanted):
    """Direct inversion: without guidance, and once no target takes its attention (after the second step) not at all."""
    sampling = Sampling(steps=3, guidance=w)
    z_0 = Noise([1], tiny.latent_shape)() / 2
    inverted = invert_latent(tiny, z_0, tiny.encode_prompts([CAT]), "direct", sampling)
    how = sampling.options() | inverted.options(3)
    rows.clear()
    lean = list(edit_of(tiny).denoise(0, **how))
    assert rows == wanted
    rows.clear()
    full = list(edit_of(tiny).denoise(0, **how | {"known": None}))
    assert sum(rows) > sum(wanted)
    for ours, all_rows in zip(lean, full):
        # float32, in batches of other sizes, over three guided steps
        assert_close(ours.z_t, all_rows.z_t, rtol=0, atol=1e-4)
        assert_close(ours.prediction.z_0[1:], all_rows.prediction.z_0[1:], rtol=1e-3, atol=1e-3)
        # of the source's prediction there is only one that is right: the image, and the noise that leads from it to z_t
        assert torch.equal(ours.prediction.z_0[:1], z_0)
    before = [inverted.states[0], *lean][:-1]
    for state, ours in zip(before, lean):
        noisy = tiny.schedule.add_noise(z_0, ours.prediction.eps[:1], state.t)
        assert_close(noisy, state.z_t[:1], rtol=0, atol=1e-5)  # float32, subtracted and added again


def test_rows_that_are_all_known_need_no_network(tiny, rows):
    z_0, z_t = (Noise([seed], tiny.latent_shape)() for seed in (1, 2))
    found = tiny.predict(z_t, 500, tiny.encode_prompts([CAT]), guidance=3.0, known=z_0)
    assert not rows and torch.equal(found.z_0, z_0)
    # with an attention function they are computed, for whoever records
    seen = []
    watch = lambda site, Q, K, V: seen.append(len(Q)) or attend(Q, K, V)
    tiny.predict(z_t, 500, tiny.encode_prompts([CAT]), guidance=3.0, attn_fn=watch, known=z_0)
    assert rows == [1] and set(seen) == {1}


def test_prompts_are_encoded_once_however_often_an_edit_is_run(tiny, monkeypatch):
    encoded, forward = [], tiny.text_encoder.forward
    monkeypatch.setattr(tiny.text_encoder, "forward", lambda ids: encoded.append(len(ids)) or forward(ids))
    edit = edit_of(tiny)
    for seed in range(2):
        list(edit.denoise(seed, steps=1, guidance=1.0))
    assert encoded == [3]
