"""The memory of this process, or on a GPU of its tensors."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

FORGET = Path("/proc/self/clear_refs")  # on Linux alone; of the numbers that it takes, 5 is for the peak


class Memory:
    """In bytes; None where it can't be read.

    Args:
        device: "cuda" or "cuda:1" for the tensors on that GPU; anything else for the process.
    """

    def __init__(self, device: str):
        self.device = device

    def _read(self, ours: str, theirs: Callable[[str], int]) -> int | None:
        if self.device.startswith("cuda"):
            return theirs(self.device)
        status = Path("/proc/self/status")  # on Linux alone, and not all of it everywhere
        found = re.search(rf"{ours}:\s+(\d+) kB", status.read_text()) if status.exists() else None
        return int(found[1]) * 1024 if found else None

    def resident(self) -> int | None:
        return self._read("VmRSS", torch.cuda.memory_allocated)

    def forget_peak(self) -> None:
        """Let `peak` be that of what follows. Linux may forbid it in a container: then the peak is that of all."""
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self.device)
        elif FORGET.exists():
            with suppress(PermissionError):
                FORGET.write_text("5")

    def peak(self) -> int | None:
        return self._read("VmHWM", torch.cuda.max_memory_allocated)
