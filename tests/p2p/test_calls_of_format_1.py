"""Saved calls from when a whole number was a time step and a fraction held above it: they mean what they meant."""

import json

import pytest

from p2p.alpha import Step, switch_time, window
from p2p.call import Call

T = 1000


def read(edit: dict, **more) -> Call:
    targets = [{"prompt": "a dog", "edits": [edit]}]
    return Call.from_json(json.dumps({"source": "a cat", "targets": targets, "model": "stickers"} | more))


def swap(tau, **words) -> dict:
    return {"swap": {"source": "cat", "target": "dog", "alpha": {"tau": tau, "words": words}, "merge": "sum"}}


# by hand, the smallest t that injected: above 0.2 T for a fraction, t itself for a whole number
@pytest.mark.parametrize(
    ("tau", "first"),
    [(0.2, 201), (0.29, 291), (0.0, 1), (1.0, 1001), (200, 200), (0, 0), (1, 1), (1001, 1001)],
)
def test_a_time_is_what_it_was(tau, first):
    (target,) = read(swap(tau, dog=tau), self_injection={"until": tau, "layers": {"side": 16}}).targets
    alpha = target.edit.alpha
    assert switch_time(alpha.tau, T) == switch_time(alpha.words["dog"], T) == first
    (reweight,) = read({"reweight": {"word": "dog", "factor": 2.0, "window": tau}}).targets
    assert switch_time(reweight.edit.window, T) == first
    call = read(swap(0.2), self_injection={"until": tau}, blend={"start": tau})
    assert switch_time(call.self_injection.until, T) == switch_time(call.blend.start, T) == first


@pytest.mark.parametrize(
    ("start", "end", "held"),
    [(0.8, 0.6, (601, 800)), (1.0, 0.5, (501, 1000)), (800, 600, (600, 800)), (1.0, 0.0, (1, 1000))],
)
def test_a_window_is_what_it_was(start, end, held):
    """A fraction's start was included, and still is."""
    (target,) = read(swap({"start": start, "end": end, "ramp": 0.0, "level": 1.0})).targets
    holds = [*filter(window(target.edit.alpha.tau).compile(T), range(1, T + 1))]
    assert (holds[0], holds[-1]) == held and len(holds) == held[1] - held[0] + 1


def test_what_is_no_time_stays_as_it_is():
    call = read(
        {"reweight": {"word": "tau", "factor": 1.0, "window": 0.5}},
        sampling={"seed": 3, "steps": 20, "guidance": 1.0},
        self_injection={"until": 0.5, "layers": {"side": 16}},
    )
    assert (
        call.targets[0].edit.factor == 1.0 and call.sampling.guidance == 1.0 and call.self_injection.layers.side == 16
    )


def test_a_call_of_today_is_read_as_it_is_written():
    call = read(swap(200, dog=0.3))
    again = Call.from_json(call.to_json())
    assert again == call and again.targets[0].edit.alpha.tau == Step(200) and json.loads(call.to_json())["format"] == 2
