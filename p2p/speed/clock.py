"""The time of a call, on a processor or on a GPU, which computes on after a call has returned."""

import time
from collections.abc import Callable

import torch


def finish(device: str) -> None:
    """Wait for what the device still computes, such as "cuda:1"."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def seconds_of(call: Callable[[], object], device: str) -> float:
    finish(device)
    start = time.perf_counter()
    call()
    finish(device)
    return time.perf_counter() - start
