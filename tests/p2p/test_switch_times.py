"""The default switch times: by what the prompts replace, for each target, and the same in a saved call."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

import p2p
from p2p.call import Call, Sampling, Target
from p2p.switch_times import FOR_OBJECTS, FOR_OTHERS, switch_times

CAT, DOG, FOG = "a photo of a cat on the grass", "a photo of a dog on the grass", "a photo of a cat on the grass in fog"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a cat", "a dog"),
        (CAT, DOG),
        ("a photo of a small cat", "a photo of a big dog"),
        ("a photo of a red car on the street", "a photo of a bicycle on the street"),
        ("a cat next to a tree", "a cat next to a house"),
        ("a hat above a cat at night", "a hat above a frog at night"),
        ("a cat riding a bicycle", "a cat riding a car"),
        ("a cat on the grass", "a dog in the snow"),
        ("Cats", "Dogs"),
    ],
)
def test_another_object_has_times_of_its_own(tokenizer, source, target):
    assert switch_times(tokenizer.encode(source), tokenizer.encode(target)) == FOR_OBJECTS


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a cat", "a cat"),
        ("a cat", "a red cat"),
        (CAT, FOG),
        (FOG, CAT),
        ("a red car on the street", "a blue car on the street"),
        ("lemon cake", "apple cake"),
        ("an orange cat", "a big striped cat"),
        ("a cat on the grass", "a cat in the snow"),
        ("a cat at night", "a cat on a table"),
        ("In Paris, a cat", "In Rome, a cat"),
        ("a photo of a cat", "a pencil drawing of a cat"),
        ("Photo of a cat", "Painting of a cat"),
        ("a cat above a ball", "a cat next to a ball"),
        ("a cat", "a cat and a dog"),
        ("", "a cat"),
    ],
)
def test_all_other_edits_have_the_other_times(tokenizer, source, target):
    assert switch_times(tokenizer.encode(source), tokenizer.encode(target)) == FOR_OTHERS


def test_each_target_of_a_call_has_its_own_times(tiny):
    """Together they are edited as alone."""
    both, *each = (p2p.edit(CAT, *of, model=tiny, steps=5, seed=3) for of in ((DOG, FOG), (DOG,), (FOG,)))
    assert both.call.self_injection.until == (FOR_OBJECTS.until, FOR_OTHERS.until)
    assert [entry.edit.alpha.tau for target in both.call.targets for entry in target.edits[:1]] == [
        FOR_OBJECTS.tau,
        FOR_OTHERS.tau,
    ]
    assert [one.call.self_injection.until for one in each] == [FOR_OBJECTS.until, FOR_OTHERS.until]
    for row, one in enumerate(each, start=1):
        # float32 sums in batches of another size
        assert_close(both.states[-1].z_t[row], one.states[-1].z_t[1], rtol=1e-4, atol=1e-4)


def test_a_saved_call_has_the_times_in_numbers(tiny):
    call = p2p.edit(CAT, DOG, FOG, model=tiny, steps=1).call
    assert Call.from_json(call.to_json()) == call and '"until": [\n' in call.to_json()
    alone = p2p.edit(CAT, DOG, "a photo of a frog on the grass", model=tiny, steps=1).call
    assert f'"until": {FOR_OBJECTS.until}' in alone.to_json()


def test_a_call_made_without_times_reads_them_from_the_prompts(tiny):
    encode = tiny.tokenizer.encode
    target = Target.of(DOG, p2p.Edit.between(encode(CAT), encode(DOG)))
    silent = Call(CAT, (target,), sampling=Sampling(steps=5))
    spoken = dataclasses.replace(silent, self_injection=p2p.SelfInjection(FOR_OBJECTS.until))
    ours, theirs = ([state.z_t for state in call.start(tiny)] for call in (silent, spoken))
    assert torch.equal(torch.stack(ours), torch.stack(theirs))


def test_there_are_as_many_times_as_targets(tiny):
    edits = (p2p.Refine(), p2p.Refine())
    with pytest.raises(ValueError, match=r"^there are 2 targets and 3 times of self-attention$"):
        p2p.PromptToPrompt(tiny, CAT, (DOG, FOG), edits, p2p.SelfInjection((0.2, 0.5, 0.8)))
    shares = p2p.PromptToPrompt(tiny, CAT, (DOG, FOG), edits, p2p.SelfInjection((0.2, 0.8))).injection(500).self_shares
    assert shares == [1.0, 0.0]
