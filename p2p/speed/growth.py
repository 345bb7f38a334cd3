"""How the time of an edit grows with the image, with the number of targets and with the steps.

Time is fitted by c x^p: p is the slope of log time over log x by least squares, over all points, and over the last two,
where what grows fastest counts most.
"""

import math
import sys
from collections.abc import Callable, Sequence
from statistics import linear_regression, median

from tqdm import tqdm

from ldm.pipeline import LatentDiffusion
from p2p.algorithm import PromptToPrompt
from p2p.speed.clock import seconds_of
from p2p.speed.contestants import GUIDANCE, T, edit_of
from p2p.speed.models import Setting, inputs, ours

TARGETS = (1, 2, 4, 8, 16)
STEPS = (5, 10, 20, 40)
REPEATS = 3
LONG = 5.0  # seconds of a call that is not repeated


def exponent(x: Sequence[float | int], seconds: Sequence[float]) -> float:
    """p of c x^p, by least squares of the logarithms."""
    return linear_regression([math.log(value) for value in x], [math.log(value) for value in seconds]).slope


def timed(points: Sequence[int], call: Callable[[int], object], name: str, device: str) -> dict:
    """The seconds of each point, in rounds, so that a drift of the machine is shared; the first call of each point is
    not counted, unless it takes long."""
    seconds: dict[int, list[float]] = {point: [] for point in points}
    for _ in tqdm(range(REPEATS + 1), name, unit="round", file=sys.stderr, leave=False):
        for point in points:
            if len(seconds[point]) == 1 and seconds[point][0] > LONG:
                continue
            seconds[point].append(seconds_of(lambda: call(point), device))
    counted = [found[1:] or found for found in seconds.values()]
    return {"x": list(points), "seconds": counted}


def fitted(found: dict) -> dict[str, float]:
    """The exponent over all points, and over the last two."""
    seconds = [median(each) for each in found["seconds"]]
    return {"all": exponent(found["x"], seconds), "last two": exponent(found["x"][-2:], seconds[-2:])}


def step(model: LatentDiffusion, edit: PromptToPrompt, setting: Setting, rows: int, side: int) -> Callable[[], object]:
    z_t, context, empty = inputs(setting, rows, side)
    return lambda: model.predict(z_t, T, context, GUIDANCE, edit.attn_fn(T), empty)


def over_sizes(setting: Setting) -> dict:
    """A step of an edit with one target, by the pixels of a side of the image."""
    model, factor = ours(setting), setting.config.autoencoder.factor
    edit = edit_of(model, "inside")
    calls = {side * factor: step(model, edit, setting, 2, side) for side in setting.sizes}
    return timed(list(calls), lambda pixels: calls[pixels](), "image size", setting.device)


def over_targets(setting: Setting) -> dict:
    """A step of an edit, by the number of targets."""
    model = ours(setting)
    calls = {k: step(model, edit_of(model, "inside", k), setting, 1 + k, setting.side) for k in TARGETS}
    return timed(TARGETS, lambda k: calls[k](), "targets", setting.device)


def over_steps(setting: Setting) -> dict:
    """A whole edit without its decoding, by the number of steps."""
    model = ours(setting)
    edit = edit_of(model, "inside")
    return timed(STEPS, lambda steps: list(edit.denoise(0, steps=steps)), "steps", setting.device)
