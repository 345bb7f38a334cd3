"""What is the same at every step of an edit is worked out once, before the first."""

from collections import Counter

import pytest
import torch

import p2p.alpha
import p2p.edits
from p2p.alpha import Alpha, Step
from p2p.call import Call, Sampling, Target
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.experiments.record import record, rerun
from p2p.experiments.reference import Reference
from p2p.local_blend import Region

CAT, BICYCLE, RED = (f"a photo of a {word} on the grass" for word in ("cat", "bicycle", "red cat"))
ALPHA = Alpha(0.2, {"grass": 0.5})
SWAP = Swap("cat", "bicycle", ALPHA) + Preserve("photo") + Reweight("grass", 2.0)
CALL = Call(
    CAT,
    (Target.of(BICYCLE, SWAP, Region(("grass",))), Target.of(RED, Refine(ALPHA))),
    sampling=Sampling(steps=30),
)


@pytest.fixture
def count(monkeypatch):
    """Count the calls of a function from here on, by what `key` makes of their arguments."""

    def counted(owner, name: str, key) -> Counter:
        calls, function = Counter(), getattr(owner, name)

        def counting(*args):
            calls[key(*args)] += 1
            return function(*args)

        monkeypatch.setattr(owner, name, counting)
        return calls

    return counted


def test_prompts_are_not_tokenized_again_at_each_step(tiny, count):
    """Nor for the text encoder or for the region. The empty prompt is that of guidance."""
    calls = count(tiny.tokenizer, "encode", lambda prompt: prompt)
    assert len([*CALL.start(tiny)]) == 30
    assert calls == {CAT: 1, BICYCLE: 1, RED: 1, "": 1}


def test_prompts_are_not_tokenized_again_for_a_recorded_source(tiny, count):
    recording = record(tiny, CAT, CALL.sampling)
    calls = count(tiny.tokenizer, "encode", lambda prompt: prompt)
    assert len([*rerun(CALL.p2p(tiny), recording)]) == 30
    assert calls == {CAT: 1, BICYCLE: 1, RED: 1, "": 1}


def test_prompts_are_not_aligned_again_at_each_step(tiny, count):
    """Once for each single edit that needs it: a weight does not. Nor is a word or a time looked up again."""
    aligned = count(p2p.edits, "align", lambda source, target, pairs=(): (target.prompt, pairs))
    copied = count(p2p.edits, "copies", lambda source, target: target.prompt)
    found = [count(module, "columns", lambda tokens, word: word) for module in (p2p.edits, p2p.alpha)]
    times = count(p2p.alpha, "switch_time", lambda time, T: "any")
    run = CALL.start(tiny)
    before = times.copy()
    assert len([*run]) == 30
    assert aligned == {(BICYCLE, (("cat", "bicycle"),)): 1, (BICYCLE, ()): 1} and copied == {RED: 1}
    assert found == [{"photo": 1, "grass": 1}, {"grass": 2}]  # those that are preserved and weighed; in two alphas
    assert times == before


@pytest.mark.parametrize(
    "edit",
    [SWAP, Refine(ALPHA) + Renormalise(), Reference("refine", ALPHA) + Reweight("grass", -1.0, Step(300))],
    ids=str,
)
def test_a_step_does_not_depend_on_those_asked_for_before(tokenizer, edit: Edit):
    """A compiled edit keeps tensors from step to step, and changes none of them."""
    pair = tokenizer.encode(CAT), tokenizer.encode(BICYCLE)
    compiled = edit.compile(*pair, 1000)
    for t in (100, 1000, 400, 100, 200, 1000):
        for kept, fresh in zip(compiled(t), edit.compile(*pair, 1000)(t)):
            assert torch.equal(torch.as_tensor(kept), torch.as_tensor(fresh))
