"""The memory of this process, or on a GPU of its tensors."""

import re
from collections.abc import Callable
from pathlib import Path

import torch


class Memory:
    """In bytes; None where it can't be read.

    Args:
        device: "cuda" for the tensors on the GPU; anything else for the process.
    """

    def __init__(self, device: str):
        self.device = device

    def _read(self, ours: str, theirs: Callable[[], int]) -> int | None:
        if self.device == "cuda":
            return theirs()
        status = Path("/proc/self/status")  # on Linux alone
        return int(re.search(rf"{ours}:\s+(\d+) kB", status.read_text())[1]) * 1024 if status.exists() else None

    def resident(self) -> int | None:
        return self._read("VmRSS", torch.cuda.memory_allocated)

    def peak(self) -> int | None:
        return self._read("VmHWM", torch.cuda.max_memory_allocated)
