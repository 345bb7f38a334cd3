"""The whole model: prompts, noise, guidance, pictures."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ldm.attention import attend
from ldm.schedule import guided
from ldm.states import Noise

CAT = "a photo of a cat on the grass"


def test_no_prompts_are_refused(tiny):
    with pytest.raises(ValueError, match="at least one prompt"):
        tiny.encode_prompts([])


def test_noise_depends_on_the_seed_alone_and_not_on_the_batch():
    shape = (2, 4, 4)
    alone, batch = Noise([5], shape), Noise([9, 5, 5], shape)
    for _ in range(3):
        first, rows = alone(), batch()
        assert torch.equal(rows[1], first[0]) and torch.equal(rows[2], first[0])
        assert not torch.equal(rows[0], first[0])


@pytest.mark.equation("D18")
def test_guidance_mixes_two_predictions(tiny):
    """[D18] One doubled call equals the formula on two calls; w = 1 makes one call alone."""
    context, empty = tiny.encode_prompts([CAT]), tiny.encode_prompts([""])
    z_t = Noise([0], tiny.latent_shape)()
    conditional = tiny.predict(z_t, 500, context).eps
    unconditional = tiny.predict(z_t, 500, empty).eps
    mixed = tiny.predict(z_t, 500, context, guidance=5.0).eps
    # float32 in a batch of two; guidance multiplies the rounding by 5
    assert_close(mixed, guided(unconditional, conditional, 5.0), rtol=1e-3, atol=1e-4)


def test_an_edit_sees_the_conditional_rows_alone(tiny):
    """Attention to the empty prompt is never edited: the edit gets as many rows as there are prompts."""
    context = tiny.encode_prompts([CAT, CAT])
    z_t = Noise([0, 1], tiny.latent_shape)()
    rows = []

    def watch(site, Q, K, V):
        rows.append(len(Q))
        return attend(Q, K, V)

    edited = tiny.predict(z_t, 500, context, guidance=5.0, attn_fn=watch)
    assert set(rows) == {2} and len(rows) == 2 * tiny.unet.attention_layers
    # the same attention on two halves of the batch: other blocking of the same float32 sums
    assert_close(edited.eps, tiny.predict(z_t, 500, context, guidance=5.0).eps, rtol=1e-4, atol=1e-4)


def test_each_row_may_have_a_time_of_its_own(tiny):
    """And all rows may share a prompt: as each by itself, with guidance and without."""
    context, z_t, t = tiny.encode_prompts([CAT]), Noise([0, 1], tiny.latent_shape)(), torch.tensor([300, 700])
    for w in (1.0, 5.0):
        alone = [tiny.predict(z_t[i : i + 1], int(t[i]), context, w) for i in range(2)]
        # float32 in batches of other sizes; guidance multiplies the rounding by 5, and z_0 is it over 0.3
        expected = (torch.cat(part) for part in zip(*alone))
        for part, by_itself in zip(tiny.predict(z_t, t, context, w), expected):
            assert_close(part, by_itself, rtol=1e-3, atol=1e-3)


def test_errors_come_before_the_first_step_is_asked_for(tiny):
    with pytest.raises(ValueError, match="2 seeds"):
        tiny.denoise(tiny.encode_prompts([CAT]), [0, 1])


def test_the_network_is_told_the_step_counted_from_zero(tiny, monkeypatch):
    told = []
    forward = type(tiny.unet).forward

    def listening(unet, z_t, timestep, *rest):
        told.append(timestep.tolist())
        return forward(unet, z_t, timestep, *rest)

    monkeypatch.setattr(type(tiny.unet), "forward", listening)
    *_, last = tiny.denoise(tiny.encode_prompts([CAT]), [0], steps=4, guidance=1.0)
    assert told == [[999], [749], [499], [249]]
    assert last.t == 0


@pytest.mark.equation("B1")
def test_pictures_and_latents_go_both_ways(tiny):
    """encode multiplies by the scale and decode divides: the autoencoder alone, unscaled, gives the same picture."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    z_0 = tiny.encode_images(pictures)
    assert z_0.shape == (2, *tiny.latent_shape)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    mean = tiny.autoencoder.posterior(x).mean
    assert_close(z_0, 0.5 * mean)  # the tiny model's scale
    again = ((tiny.autoencoder.reconstruct(mean).clamp(-1, 1) + 1) * 127.5).round()
    # batches of other sizes may round a value to the next grey level
    assert abs(tiny.decode(z_0).astype(int) - again.permute(0, 2, 3, 1).numpy()).max() <= 1


def test_a_picture_of_the_wrong_size_is_refused(tiny):
    with pytest.raises(ValueError, match="image is 31x32; both sides must be multiples of 2"):
        tiny.encode_images(np.zeros((1, 32, 31, 3), dtype=np.uint8))


@pytest.mark.parametrize("seeds", [[], [1], [1, 2, 3]])
def test_another_number_of_seeds_than_of_prompts_is_refused(tiny, seeds):
    with pytest.raises(ValueError, match=f"2 prompts and {len(seeds)} seeds"):
        tiny.generate([CAT, CAT], seeds)


def test_generate_gives_a_picture_per_prompt_and_repeats_itself(tiny):
    first, second = (tiny.generate([CAT, CAT], [1, 2], steps=2) for _ in range(2))
    assert first.shape == (2, 32, 32, 3) and first.dtype == np.uint8
    assert (first == second).all() and (first[0] != first[1]).any()
