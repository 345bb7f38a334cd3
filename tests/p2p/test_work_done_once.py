"""What is the same at every step of an edit is worked out once, before the first."""

from collections import Counter

import pytest
import torch
from PIL import Image

import p2p
import p2p.alpha
import p2p.edits
import p2p.mappers
from ldm.pipeline import LatentDiffusion
from p2p.alpha import Alpha, Step
from p2p.call import Call, Sampling, Target
from p2p.cli.parser import parsed
from p2p.cli.run import make
from p2p.edits import Edit, Preserve, Refine, Renormalise, Reweight, Swap
from p2p.experiments.record import record, rerun
from p2p.experiments.reference import Reference
from p2p.local_blend import Region
from weights.training.world import VOCABULARY

pytestmark = pytest.mark.usefixtures("two_draws")

CAT, BICYCLE, RED = (f"a photo of a {word} on the grass" for word in ("cat", "bicycle", "red cat"))
ALPHA = Alpha(0.2, {"grass": 0.5})
SWAP = Swap("cat", "bicycle", ALPHA) + Preserve("photo") + Reweight("grass", 2.0)
CALL = Call(
    CAT,
    (Target.of(BICYCLE, SWAP, Region(("grass",))), Target.of(RED, Refine(ALPHA))),
    sampling=Sampling(steps=6),
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


@pytest.fixture
def listed(tiny) -> LatentDiffusion:
    """The random model with a list of words, against which prompts are checked."""
    parts = (tiny.text_encoder, tiny.unet, tiny.autoencoder)
    return LatentDiffusion(tiny.config, tiny.tokenizer, *parts, vocabulary=VOCABULARY)


@pytest.fixture
def tokenised(tiny, count, monkeypatch, tmp_path) -> Counter:
    """How often each prompt is tokenised, but for the empty prompt of guidance; in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return count(tiny.tokenizer, "_ids_and_spans", lambda prompt: prompt or "guidance")


COMMANDS = (
    ("edit", CAT, BICYCLE, RED, "--blend", "grass", "--save", "c.json", "--gif", "g.gif", "--save-maps", "m.npz"),
    ("edit", CAT, BICYCLE, "--preserve", "grass", "--alpha", "grass=0.5"),
    ("edit", CAT, BICYCLE, RED, "--compare"),
    ("edit", CAT, BICYCLE, "--seeds", "2"),
    ("show", "mapper", CAT, BICYCLE),
    ("show", "schedule", CAT, BICYCLE),
    ("sweep", "tau", CAT, BICYCLE, RED, "--seeds", "2"),
    ("sweep", "word", CAT, BICYCLE, RED, "--word", "grass"),
    ("attention", CAT, "--save-maps", "m.npz"),
    ("attention", CAT, "--by", "component"),
    ("generate", CAT, "--seeds", "2"),
    ("compare", CAT, BICYCLE, RED, "--mask", "white.png"),
    ("restore", "--task", "colour", "--image", "white.png", "--prompt", CAT),
)


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: " ".join(x for x in line if " " not in x))
def test_a_command_tokenises_each_prompt_once(listed, tokenised, line):
    Image.new("L", (32, 32), "white").save("white.png")
    make(parsed([*line, "--steps", "1", "-o", "x.png"]), listed)
    del tokenised["guidance"]
    assert tokenised == {prompt: 1 for prompt in (CAT, BICYCLE, RED) if prompt in line}


def test_a_replay_tokenises_each_prompt_once(listed, tokenised):
    make(parsed(["edit", CAT, BICYCLE, "--steps", "1", "-o", "x.png"]), listed)
    tokenised.clear()
    p2p.replay("x.png", model=listed)
    del tokenised["guidance"]
    assert tokenised == {CAT: 1, BICYCLE: 1}


def test_python_tokenises_each_prompt_once(listed, tokenised):
    """Also where the maps are made by a second run."""
    result = p2p.edit(CAT, BICYCLE, model=listed, steps=1)
    assert len(result.maps) == 2
    del tokenised["guidance"]
    assert tokenised == {CAT: 1, BICYCLE: 1}


def test_inferring_an_edit_splits_each_prompt_into_words_once(tokenizer, count):
    source, target = (tokenizer.encode(prompt) for prompt in (CAT, RED))
    calls = count(p2p.mappers, "words", lambda tokens: tokens.prompt)
    Edit.between(source, target)
    assert calls == {CAT: 1, RED: 1}


def test_prompts_are_not_tokenized_again_at_each_step(tiny, count):
    """Nor for the text encoder or for the region. The empty prompt is that of guidance."""
    calls = count(tiny.tokenizer, "encode", lambda prompt: prompt)
    assert len([*CALL.start(tiny)]) == 6
    assert calls == {CAT: 1, BICYCLE: 1, RED: 1, "": 1}


def test_prompts_are_not_tokenized_again_for_a_recorded_source(tiny, count):
    recording = record(tiny, CAT, CALL.sampling)
    calls = count(tiny.tokenizer, "encode", lambda prompt: prompt)
    assert len([*rerun(CALL.p2p(tiny), recording)]) == 6
    assert calls == {CAT: 1, BICYCLE: 1, RED: 1, "": 1}


def test_prompts_are_not_aligned_again_at_each_step(tiny, count):
    """Once for each single edit that needs it: a weight does not. Nor is a word or a time looked up again."""
    aligned = count(p2p.edits, "align", lambda source, target, pairs=(): (target.prompt, pairs))
    copied = count(p2p.edits, "copies", lambda source, target: target.prompt)
    found = [count(module, "columns", lambda tokens, word: word) for module in (p2p.edits, p2p.alpha)]
    times = count(p2p.alpha, "switch_time", lambda time, T: "any")
    run = CALL.start(tiny)
    before = times.copy()
    assert len([*run]) == 6
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
