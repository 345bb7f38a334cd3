"""[P1, P3-P5] Algorithm 1, on a small random model."""

import itertools

import pytest
import torch
from torch.testing import assert_close

from ldm.attention import attend, attention_map
from ldm.samplers import SAMPLERS, Sampler, ddim_step, times
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Step
from p2p.edits import Edit, Refine, Swap
from p2p.experiments.baselines import fixed_seed
from p2p.inject import Layers
from p2p.maps import WordMaps

CAT = "a photo of a cat on the grass"
BICYCLE = "a photo of a bicycle on the grass"
ALWAYS, NEVER = 0.0, "never"


def swap(model, target, alpha):
    return Edit.between(*map(model.tokenizer.encode, (CAT, target)), alpha)


def run(model, targets, tau, self_until, steps=4, **more):
    edits = tuple(swap(model, target, Alpha(tau)) for target in targets)
    p2p = PromptToPrompt(model, CAT, tuple(targets), edits, SelfInjection(self_until))
    *_, state = p2p.denoise(seed=3, steps=steps, **more)
    return state.z_t


@pytest.mark.machine
def test_editing_a_prompt_into_itself_changes_nothing(tiny):
    z_0 = run(tiny, [CAT], tau=ALWAYS, self_until=ALWAYS)
    assert torch.equal(z_0[0], z_0[1])


@pytest.mark.machine
@pytest.mark.equation("P1")
@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), Sampler(ddim_step(0.7))])
def test_tau_above_all_steps_is_plain_generation_to_the_bit(tiny, sampler):
    """[P1] No injection at all is the fixed-seed baseline."""
    edited = run(tiny, [BICYCLE], tau=NEVER, self_until=NEVER, sampler=sampler)
    *_, plain = fixed_seed(tiny, [CAT, BICYCLE], seed=3, steps=4, sampler=sampler)
    assert torch.equal(edited, plain.z_t)


def test_source_row_is_the_source_alone(tiny):
    """Targets never touch the source, however many there are."""
    *_, alone = fixed_seed(tiny, [CAT], seed=3, steps=4)
    for targets in ([BICYCLE], [BICYCLE, CAT, BICYCLE]):
        edited = run(tiny, targets, tau=0.5, self_until=0.5)
        # float32: explicit and fused attention, and batches of other sizes, add in other orders
        assert_close(edited[:1], alone.z_t, rtol=1e-4, atol=1e-4)


@pytest.mark.machine
def test_a_target_does_not_depend_on_the_others(tiny):
    one = run(tiny, [BICYCLE], tau=0.3, self_until=0.6)
    many = run(tiny, [CAT, BICYCLE, CAT, BICYCLE], tau=0.3, self_until=0.6)
    assert torch.equal(many[2], many[4])
    assert_close(many[2], one[1], rtol=1e-4, atol=1e-4)  # float32, batches of other sizes


def test_injection_changes_the_picture(tiny):
    never, always = (run(tiny, [BICYCLE], tau, NEVER) for tau in (NEVER, ALWAYS))
    assert_close(always[0], never[0], rtol=1e-4, atol=1e-4)  # the source's row, float32 by two paths
    assert (never[1] - always[1]).abs().max() > 1e-2


def test_self_injection_changes_the_picture_only_below_its_limit(tiny):
    def edited(limit):
        p2p = PromptToPrompt(
            tiny, CAT, (BICYCLE,), (Swap("cat", "bicycle", Alpha(NEVER)),), SelfInjection(ALWAYS, Layers(side=limit))
        )
        *_, state = p2p.denoise(seed=3, steps=2)
        return state.z_t[1]

    *_, plain = fixed_seed(tiny, [CAT, BICYCLE], seed=3, steps=2)
    # a limit below every layer leaves explicit attention, equal to the fused one up to float32 rounding
    assert_close(edited(limit=4), plain.z_t[1], rtol=1e-4, atol=1e-4)
    assert (edited(limit=8) - plain.z_t[1]).abs().max() > 1e-2
    assert (edited(limit=16) - edited(limit=8)).abs().max() > 1e-3


@pytest.mark.equation("P3", "P5")
def test_one_call_a_step_equals_the_two_calls_of_the_algorithm(tiny):
    """[P3] Lines 6-9 as printed: first A_t from the source's own call, then the target's call with A^ in place of A*.

    Written here with plain network calls on one row each and a list of stored maps.
    """
    source, target = (tiny.tokenizer.encode(p) for p in (CAT, BICYCLE))
    contexts = [tiny.encode_prompts([p]) for p in (CAT, BICYCLE)]
    edit, steps, w = Swap("cat", "bicycle", Alpha(Step(400))), 4, 4.0
    z = z_star = torch.randn(tiny.latent_shape, generator=torch.Generator().manual_seed(3))[None]
    empty = tiny.encode_prompts([""])
    for t, t_prev in itertools.pairwise(times(tiny.schedule, steps)):
        stored = []

        def store(site, Q, K, V):
            A = attention_map(Q, K)
            stored.append(A)
            return A @ V

        def inject(site, Q, K, V):
            A = stored.pop(0)
            if site.kind == "self":
                return attend(Q, K, V)
            P, Q_t, _ = edit.compile(source, target, 1000)(t)
            return (A @ P.float() + attention_map(Q, K) * Q_t.float()) @ V  # [P5] V is the target's

        timestep = torch.tensor([t - 1])
        eps = [tiny.unet(z, timestep, empty), tiny.unet(z, timestep, contexts[0], store)]
        eps_star = [tiny.unet(z_star, timestep, empty), tiny.unet(z_star, timestep, contexts[1], inject)]
        assert not stored
        for (u, c), row in ((eps, "z"), (eps_star, "z*")):
            now = z if row == "z" else z_star
            prediction = tiny.schedule.predict(now, u + w * (c - u), t)
            after = ddim_step(0.0)(tiny.schedule, now, prediction, t, t_prev, torch.zeros_like(now))
            if row == "z":
                z = after
            else:
                z_star = after
    one_pass = run(tiny, [BICYCLE], tau=Step(400), self_until=NEVER)
    # float32 over 4 guided steps: sums in other orders
    assert_close(one_pass, torch.cat([z, z_star]), rtol=1e-3, atol=1e-3)


@pytest.mark.equation("P5")
def test_full_injection_still_makes_another_image(tiny):
    """[P5] V comes from y*: with A from the source everywhere, an unequal prompt still gives an unequal picture."""
    z_0 = run(tiny, [BICYCLE], tau=ALWAYS, self_until=ALWAYS)
    assert (z_0[0] - z_0[1]).abs().max() > 1e-3


@pytest.mark.machine
def test_same_seed_same_picture(tiny):
    first, second = (run(tiny, [BICYCLE], 0.2, 0.6, sampler=SAMPLERS["ddpm"]) for _ in range(2))
    assert torch.equal(first, second)


def test_watched_rows_sum_to_one_and_belong_to_their_prompts(tiny):
    maps = WordMaps(side=16)
    run(tiny, [BICYCLE], 0.2, 0.6, watch=maps)
    mean = maps.mean()
    assert mean.shape == (2, 32, 16, 16)
    assert_close(mean.sum(dim=1), torch.ones(2, 16, 16), rtol=0, atol=1e-5)  # float32 sums over 32 tokens
    found = maps.of_words(1, tiny.tokenizer.encode(BICYCLE))
    assert list(found) == ["a#1", "photo", "of", "a#2", "bicycle", "on", "the", "grass", "BOS EOS PAD"]
    assert_close(found["bicycle"], mean[1, 5] + mean[1, 6])


def test_maps_at_a_resolution_that_is_not_there_are_refused(tiny):
    maps = WordMaps(side=7)
    run(tiny, [BICYCLE], 0.2, 0.6, steps=1, watch=maps)
    with pytest.raises(ValueError, match="no cross-attention layer has 7 positions"):
        maps.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(targets=()), "at least one target"),
        (dict(edits=()), "1 targets and 0 edits"),
        (dict(edits=(Swap("dog", "bicycle"),)), "no word 'dog'"),
        (dict(edits=(Refine(Alpha(1.5)),)), r"must lie in \[0, 1\]"),
        (dict(self_injection=SelfInjection(Step(2000))), r"must lie in 0\.\.1001"),
        (dict(source="cat " * 40), "context holds 30"),
    ],
)
def test_what_cannot_be_is_refused_before_sampling(tiny, monkeypatch, change, message):
    monkeypatch.setattr(tiny.unet, "forward", lambda *_: pytest.fail("sampling began"))
    good = dict(source=CAT, targets=(BICYCLE,), edits=(Refine(),), self_injection=SelfInjection())
    with pytest.raises(ValueError, match=message):
        PromptToPrompt(tiny, **{**good, **change})
