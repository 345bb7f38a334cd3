"""A process of `p2p.speed.run`: one contestant, or one measurement of another kind.

Its only argument is a `Setting` in JSON. A contestant writes a line of JSON once it has loaded, and answers each line
of standard input, a `Request` in JSON, with one line: the seconds of a call, and the memory it took. A measurement
writes its result and ends.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.speed.worker"))

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import TypeAdapter

from ldm.helpers.memory import Memory
from p2p.speed import forms, growth, programs, roofline
from p2p.speed.clock import seconds_of
from p2p.speed.contestants import COMPILED, GRAPH, STEP, TEN, Run
from p2p.speed.models import Setting

CONTESTANTS = STEP | GRAPH | COMPILED | TEN
MEASUREMENTS: dict[str, Callable[[Setting], dict]] = {
    "roofline": roofline.measure,
    "forms of products": forms.measure,
    "image size": growth.over_sizes,
    "targets": growth.over_targets,
    "steps": growth.over_steps,
    "programs": programs.measure,
}


@dataclass(frozen=True)
class Request:
    """How many calls to make, one after the other, and a file for the result of the last, if it is wanted."""

    calls: int = 1
    keep: str | None = None


def answer(run: Run, request: Request, device: str) -> float:
    """Make the calls of a request; return the seconds of one."""
    made = deque(maxlen=1)
    seconds = seconds_of(lambda: made.extend(run() for _ in range(request.calls)), device)
    if request.keep:
        np.save(request.keep, made[0].cpu().numpy())
    return seconds / request.calls


def serve(run: Run, device: str) -> None:
    """Answer requests until there are no more."""
    memory, tell = Memory(device), lambda **found: print(json.dumps(found), flush=True)
    loaded, request = memory.resident(), TypeAdapter(Request)
    memory.forget_peak()  # of loading
    tell(loaded=loaded)
    for line in sys.stdin:
        seconds, peak = answer(run, request.validate_json(line), device), memory.peak()
        tell(seconds=seconds, above=None if peak is None else max(0, peak - loaded))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", help="a Setting, in JSON")
    setting = TypeAdapter(Setting).validate_json(parser.parse_args().setting)
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, on a GPU too
    if setting.name in CONTESTANTS:
        serve(CONTESTANTS[setting.name].make(setting), setting.device)
    else:
        print(json.dumps(MEASUREMENTS[setting.name](setting)))
