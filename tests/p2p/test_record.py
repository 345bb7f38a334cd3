"""[P3] Running the source once and editing from the recording is the one-pass algorithm."""

import dataclasses
from typing import get_args

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.pipeline import LatentDiffusion
from ldm.schedule import Schedule
from p2p.algorithm import PromptToPrompt, SelfInjection
from p2p.alpha import Alpha, Window
from p2p.call import Sampling
from p2p.edits import Reweight, Swap
from p2p.experiments.record import Recording, record, rerun
from p2p.inject import Layers
from p2p.inversion.inverted import Method
from p2p.inversion.methods import invert_latent
from p2p.local_blend import LocalBlend, Region
from p2p.maps import WordMaps
from tests.support.model_files import in_dtype

CAT, DOG, BICYCLE = (f"a photo of a {noun} on the grass" for noun in ("cat", "dog", "bicycle"))
SAMPLING = Sampling(seed=7, steps=5, guidance=3.0)
STABLE_DIFFUSION = ScheduleConfig(spacing="leading", offset=1, last=1)


@pytest.fixture(scope="module")
def exact(tiny) -> LatentDiffusion:
    """The small model in float64: what two forms of one sum differ by is then no excuse."""
    return in_dtype(tiny, torch.float64)


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
    recording = record(exact, CAT, SAMPLING, self_injection=p2p.self_injection)
    assert_same_states(p2p.denoise(7, **SAMPLING.options()), rerun(p2p, recording))


@pytest.mark.parametrize(
    ("schedule", "how"),
    [
        (ScheduleConfig(), dict(sampler="ddpm")),
        (ScheduleConfig(), dict(eta=0.5)),
        (STABLE_DIFFUSION, dict(sampler="euler")),
        (STABLE_DIFFUSION, dict(sampler="plms")),
        (STABLE_DIFFUSION, dict(sampler="dpm++")),
    ],
)
def test_two_phases_are_one_pass_however_the_source_was_sampled(exact, monkeypatch, schedule, how):
    """With noise in every step, with a memory, with two calls at one time step, and where sampling ends at 1: targets
    are sampled as their source was, without being told how."""
    monkeypatch.setattr(exact, "schedule", Schedule(schedule))
    p2p, sampling = p2p_of(exact), dataclasses.replace(SAMPLING, steps=4, **how)
    recording = record(exact, CAT, sampling, self_injection=p2p.self_injection)
    assert_same_states(p2p.denoise(7, **sampling.options()), rerun(p2p, recording))


def test_two_phases_equal_one_pass_with_blend_and_maps(exact):
    p2p, results = p2p_of(exact), []
    recording = record(exact, CAT, SAMPLING, self_injection=p2p.self_injection)
    tokens = [exact.tokenizer.encode(prompt) for prompt in p2p.prompts]
    for run in (lambda **kw: p2p.denoise(7, **kw, **SAMPLING.options()), lambda **kw: rerun(p2p, recording, **kw)):
        blend = LocalBlend(tokens[0], tokens[1:], [Region(("dog",)), None], exact.schedule.T, start=0.9, side=8)
        results.append((list(run(watch=blend.maps, blend=blend)), blend.maps.mean()))
    (one_pass, maps), (two_phases, maps_again) = results
    assert_same_states(one_pass, two_phases)
    assert_close(maps_again, maps, rtol=1e-9, atol=1e-9)  # as above


def inverted_by(method, model, sampling=SAMPLING):
    z_0 = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2
    return invert_latent(model, z_0, model.encode_prompts([CAT]), method, sampling)


@pytest.mark.parametrize("schedule", [ScheduleConfig(), STABLE_DIFFUSION], ids=["trailing", "leading"])
@pytest.mark.parametrize("method", get_args(Method))
def test_a_real_image_is_edited_from_its_recording(exact, monkeypatch, tmp_path, method, schedule):
    """By every method of inversion and through a file, with a region and maps, as in one pass from the inversion."""
    monkeypatch.setattr(exact, "schedule", Schedule(schedule))
    sampling = dataclasses.replace(SAMPLING, steps=3)
    p2p, inverted = p2p_of(exact), inverted_by(method, exact, sampling)
    record(exact, CAT, sampling, inverted=inverted, self_injection=p2p.self_injection).save(tmp_path / "cat")
    recording = Recording.open(tmp_path / "cat")
    tokens = [exact.tokenizer.encode(prompt) for prompt in p2p.prompts]
    blends = [
        LocalBlend(tokens[0], tokens[1:], [Region(("dog",)), None], exact.schedule.T, start=0.9, side=8) for _ in "12"
    ]
    how = sampling.options() | inverted.options(3, blends[0])
    one_pass = list(p2p.denoise(sampling.seed, watch=blends[0].maps, **how))
    two_phases = list(rerun(p2p, recording, watch=blends[1].maps, blend=blends[1]))
    assert_same_states(one_pass, two_phases)
    assert_close(blends[1].maps.mean(), blends[0].maps.mean(), rtol=1e-9, atol=1e-9)  # as above
    if method == "direct":
        assert torch.equal(two_phases[-1].z_t[:1], inverted.states[-1].z_t)


def test_an_image_inverted_by_other_settings_is_refused(tiny):
    inverted = inverted_by("direct", tiny)
    for other in (dict(steps=4), dict(sampler="euler"), dict(eta=0.5)):
        with pytest.raises(ValueError, match="inverted by other settings"):
            record(tiny, CAT, dataclasses.replace(SAMPLING, **other), inverted=inverted)


def test_a_recording_survives_the_disk_to_the_bit(exact, tmp_path):
    recording = record(exact, CAT, dataclasses.replace(SAMPLING, sampler="plms"), self_injection=SelfInjection(0.7))
    recording.save(tmp_path / "cat.safetensors")
    again = Recording.open(tmp_path / "cat.safetensors")
    assert again.about == recording.about
    assert_close(again.tensors, recording.tensors, rtol=0, atol=0)


def test_only_what_is_asked_for_is_kept(tiny):
    """t = 1000, 800, 600, the first three calls, lie above half of T; the model has layers of 16 and 8 positions a
    side."""
    until = SelfInjection(0.7, Layers(side=8))
    recording = record(tiny, CAT, SAMPLING, tau=0.5, self_injection=until, dtype=torch.float16)
    kept = recording.tensors
    calls_of = lambda kind: {int(name.split("/")[2]) for name in kept if name.startswith(kind)}
    assert recording.about.visited == (1000, 800, 600, 400, 200, 0)
    assert calls_of("cross") == {0, 1, 2} and calls_of("self") == {0, 1}
    assert {tensor.shape[2] for name, tensor in kept.items() if name.startswith("self")} == {64}
    assert {tensor.dtype for name, tensor in kept.items() if name.endswith(("Q", "K"))} == {torch.float16}
    assert {tensor.dtype for name, tensor in kept.items() if not name.endswith(("Q", "K"))} == {torch.float32}
    assert set(kept) == recording.about.names()


def test_what_an_edit_does_not_need_may_be_left_out(exact):
    """At t = 400 and 200 a weight goes on, and self-attention too, but no cross-attention of the source's."""
    edits = (Swap("cat", "dog", Alpha(0.5)) + Reweight("grass", 2.0), Swap("cat", "bicycle", Alpha(0.5)))
    p2p = PromptToPrompt(exact, CAT, (DOG, BICYCLE), edits, SelfInjection(0.1))
    recording = record(exact, CAT, SAMPLING, tau=0.5, self_injection=p2p.self_injection)
    assert_same_states(p2p.denoise(7, **SAMPLING.options()), rerun(p2p, recording))


def test_half_precision_is_close(tiny):
    """The recording in float16 beside float32: attention to three digits."""
    p2p = p2p_of(tiny)
    keep = lambda dtype: record(tiny, CAT, SAMPLING, self_injection=p2p.self_injection, dtype=dtype)
    whole, half = (list(rerun(p2p, keep(dtype)))[-1].z_t for dtype in (None, torch.float16))
    assert (half - whole).abs().max() < 0.02 * whole.std()  # 2^-11 of each score, through five steps
    assert not torch.equal(half, whole)


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (dict(tau=0.5, self_injection=SelfInjection(0.5)), "cross-attention at t = 400, recorded down to t = 500"),
        (dict(self_injection=SelfInjection(0.9)), "self-attention at t = 800, recorded down to t = 900"),
        (dict(self_injection=SelfInjection(0.2, Layers(side=4))), "layers that were not recorded"),
        (dict(self_injection=SelfInjection(0.2, Layers(places=("up",)))), "layers that were not recorded"),
    ],
)
def test_a_recording_that_lacks_what_an_edit_needs_is_refused(tiny, recorded, message):
    recording = record(tiny, CAT, SAMPLING, **recorded)
    with pytest.raises(ValueError, match=message):
        rerun(p2p_of(tiny), recording)


def test_a_recording_of_another_source_or_model_is_refused(tiny, monkeypatch):
    with pytest.raises(ValueError, match="recording is of 'a photo of a dog"):
        rerun(p2p_of(tiny), record(tiny, DOG, SAMPLING))
    recording = record(tiny, CAT, SAMPLING)
    fewer = dataclasses.replace(recording.about, sites=recording.about.sites[:-1])
    with pytest.raises(ValueError, match="a model with other attention layers"):
        rerun(p2p_of(tiny), dataclasses.replace(recording, about=fewer))
    monkeypatch.setattr(tiny, "schedule", Schedule(STABLE_DIFFUSION))
    with pytest.raises(
        ValueError, match=r"visits t = 1000, .* by this model's schedule it would be 802, 602, .*, 2, 1"
    ):
        rerun(p2p_of(tiny), recording)


def test_another_sampler_than_was_recorded_is_refused(tiny, monkeypatch):
    """On Stable Diffusion's schedule: it calls the network elsewhere, or ends elsewhere."""
    monkeypatch.setattr(tiny, "schedule", Schedule(STABLE_DIFFUSION))
    recording = record(tiny, CAT, dataclasses.replace(SAMPLING, sampler="euler"))
    for other in ("ddim", "plms", "dpm++"):
        about = dataclasses.replace(recording.about, sampling=dataclasses.replace(SAMPLING, sampler=other))
        with pytest.raises(ValueError, match=r"visits t = 802, .*, 2, 0, and .* record it again"):
            rerun(p2p_of(tiny), dataclasses.replace(recording, about=about))


@pytest.mark.parametrize("name", ["z_t/4", "eps/0", "z_0/3", "cross/2/4/K", "self/2/0/Q"])
def test_a_file_that_lacks_a_tensor_is_refused(tiny, tmp_path, name):
    path = tmp_path / "cat.safetensors"
    record(tiny, CAT, SAMPLING).save(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=rf"is no recording: 1 of its tensors are missing, {name} among them"):
        Recording.open(path)


def test_watching_needs_every_step(tiny):
    p2p = dataclasses.replace(p2p_of(tiny), edits=(Swap("cat", "dog", Alpha(0.6)), Swap("cat", "bicycle", Alpha(0.6))))
    recording = record(tiny, CAT, SAMPLING, tau=0.5, self_injection=p2p.self_injection)
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
