"""[P3] Running the source once and editing from the recording is the one-pass algorithm."""

import dataclasses
from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from ldm.pipeline import LatentDiffusion
from ldm.samplers import SAMPLERS
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Window
from p2p.edits import Reweight, Swap
from p2p.inject import Layers
from p2p.local_blend import LocalBlend, Region
from p2p.maps import WordMaps
from p2p.record import Recording, record, rerun

CAT, DOG, BICYCLE = (f"a photo of a {noun} on the grass" for noun in ("cat", "dog", "bicycle"))
HOW = dict(steps=5, guidance=3.0)


@pytest.fixture(scope="module")
def exact(tiny) -> LatentDiffusion:
    """The small model in float64: what two forms of one sum differ by is then no excuse."""
    parts = (deepcopy(part).double() for part in (tiny.text_encoder, tiny.unet, tiny.autoencoder))
    return LatentDiffusion(tiny.config, tiny.tokenizer, *parts)


def p2p_of(model, until=0.5) -> PromptToPrompt:
    edits = (Swap("cat", "dog", Alpha(0.4)) + Reweight("grass", 2.0), Swap("cat", "bicycle", Alpha(0.2)))
    return PromptToPrompt(model, CAT, (DOG, BICYCLE), edits, SelfInjection(until, Layers(side=8)))


def assert_same_states(one_pass, two_phases) -> None:
    for ours, theirs in zip(one_pass, two_phases, strict=True):
        assert ours.t == theirs.t
        # float64 sums, in batches of other sizes; the network is random and its sampling not contractive
        assert_close(theirs.z_t, ours.z_t, rtol=1e-9, atol=1e-9)
        assert_close(theirs.prediction.z_0, ours.prediction.z_0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("until", [0.5, Window(end=0.2, level=0.6)])
def test_two_phases_are_one_pass(exact, until):
    p2p = p2p_of(exact, until)
    recording = record(exact, CAT, 7, self_injection=p2p.self_injection, **HOW)
    assert_same_states(p2p.denoise(7, **HOW), rerun(p2p, recording))


@pytest.mark.parametrize("name", ["ddpm", "dpm++"])
def test_two_phases_are_one_pass_with_noise_in_every_step_or_with_a_memory(exact, name):
    p2p, sampler = p2p_of(exact), SAMPLERS[name]
    recording = record(exact, CAT, 7, self_injection=p2p.self_injection, sampler=sampler, **HOW)
    assert_same_states(p2p.denoise(7, sampler=sampler, **HOW), rerun(p2p, recording, sampler=sampler))


def test_a_sampler_that_visits_a_time_step_twice_is_refused(tiny):
    with pytest.raises(ValueError, match="calls the network twice at one t"):
        record(tiny, CAT, 7, sampler=SAMPLERS["plms"], **HOW)


def test_two_phases_are_one_pass_with_local_blend_and_watched_maps(exact):
    p2p, results = p2p_of(exact), []
    recording = record(exact, CAT, 7, self_injection=p2p.self_injection, **HOW)
    tokens = [exact.tokenizer.encode(prompt) for prompt in p2p.prompts]
    for run in (lambda **kw: p2p.denoise(7, **kw, **HOW), lambda **kw: rerun(p2p, recording, **kw)):
        blend = LocalBlend(tokens[0], tokens[1:], [Region(("dog",)), None], exact.schedule.T, start=0.9, side=8)
        results.append((list(run(watch=blend.maps, blend=blend)), blend.maps.mean()))
    (one_pass, maps), (two_phases, maps_again) = results
    assert_same_states(one_pass, two_phases)
    assert_close(maps_again, maps, rtol=1e-9, atol=1e-9)  # as above


def test_a_recording_survives_the_disk_to_the_bit(exact, tmp_path):
    recording = record(exact, CAT, 7, **HOW)
    recording.save(tmp_path / "cat.safetensors")
    again = Recording.open(tmp_path / "cat.safetensors")
    assert again.about == recording.about
    assert_close(again.tensors, recording.tensors, rtol=0, atol=0)


def test_only_what_is_asked_for_is_kept(tiny):
    """t = 1000, 800, 600 lie above half of T; the model has layers of 16 and 8 positions a side."""
    until = SelfInjection(0.7, Layers(side=8))
    kept = record(tiny, CAT, 7, tau=0.5, self_injection=until, dtype=torch.float16, **HOW).tensors
    times_of = lambda kind: {int(name.split("/")[2]) for name in kept if name.startswith(kind)}
    assert times_of("cross") == {1000, 800, 600} and times_of("self") == {1000, 800}
    assert {tensor.shape[2] for name, tensor in kept.items() if name.startswith("self")} == {64}
    assert {tensor.dtype for name, tensor in kept.items() if name.endswith(("Q", "K"))} == {torch.float16}


def test_half_precision_is_close(tiny):
    """The recording in float16 beside float32: attention to three digits."""
    p2p = p2p_of(tiny)
    keep = lambda dtype: record(tiny, CAT, 7, self_injection=p2p.self_injection, dtype=dtype, **HOW)
    whole, half = (list(rerun(p2p, keep(dtype)))[-1].z_t for dtype in (None, torch.float16))
    assert (half - whole).abs().max() < 0.02 * whole.std()  # 2^-11 of each score, through five steps
    assert not torch.equal(half, whole)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (dict(tau=0.5, self_injection=SelfInjection(0.5)), "cross-attention at t = 400, recorded down to t = 501"),
        (dict(self_injection=SelfInjection(0.9)), "self-attention at t = 800, recorded down to t = 901"),
        (dict(self_injection=SelfInjection(0.2, Layers(side=4))), "layers that were not recorded"),
        (dict(self_injection=SelfInjection(0.2, Layers(places=("up",)))), "layers that were not recorded"),
    ],
)
def test_a_recording_that_lacks_what_an_edit_needs_is_refused(tiny, recorded, message):
    recording = record(tiny, CAT, 7, **recorded, **HOW)
    with pytest.raises(ValueError, match=message):
        rerun(p2p_of(tiny), recording)


def test_a_recording_of_another_source_is_refused(tiny):
    recording = record(tiny, DOG, 7, **HOW)
    with pytest.raises(ValueError, match="recording is of 'a photo of a dog"):
        rerun(p2p_of(tiny), recording)


def test_watching_needs_every_step(tiny):
    p2p = dataclasses.replace(p2p_of(tiny), edits=(Swap("cat", "dog", Alpha(0.6)), Swap("cat", "bicycle", Alpha(0.6))))
    recording = record(tiny, CAT, 7, tau=0.5, self_injection=p2p.self_injection, **HOW)
    assert len(list(rerun(p2p, recording))) == 5
    with pytest.raises(ValueError, match="recorded down to"):
        rerun(p2p, recording, watch=WordMaps(8))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_file_that_is_no_recording_is_refused(tmp_path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.safetensors is no recording"):
        Recording.open(path)
    with pytest.raises(ValueError, match=r"missing\.safetensors is no recording"):
        Recording.open(tmp_path / "missing.safetensors")
