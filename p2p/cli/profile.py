"""What a command took, for `--profile`: the time in each network, before and after them, and the peak of memory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from ldm.autoencoder import Decoder, Encoder
from ldm.class_embedder import ClassEmbedder
from ldm.helpers.machine import processor
from ldm.helpers.memory import Memory
from ldm.text_encoder import TextEncoder
from ldm.unet import UNet
from ldm.zoo.bert import BertEncoder
from p2p.speed.clock import finish

NETWORKS = {
    TextEncoder: "text encoder",
    BertEncoder: "text encoder",
    ClassEmbedder: "class embedding",
    Encoder: "encoder",
    UNet: "UNet",
    Decoder: "decoder",
}


@dataclass
class Profile:
    """Seconds on a clock that waits for the GPU, if there is one."""

    started: float
    calls: dict[str, list[float]] = field(default_factory=dict)  # the seconds of each call, by network
    first: float | None = None  # the start of the first call
    last: float = 0.0  # the end of the last
    ended: float = 0.0
    device: str = "cpu"

    def __str__(self) -> str:
        began = self.ended if self.first is None else self.first
        rows = [("loading, and all before the networks", 0, began - self.started)]
        rows += [(name, len(seconds), sum(seconds)) for name, seconds in self.calls.items()]
        if self.first is not None:
            inside = sum(map(sum, self.calls.values()))
            rows.append(("the sampler, and all between the networks", 0, self.last - self.first - inside))
            rows.append(("drawing and writing", 0, self.ended - self.last))
        rows.append(("in all", 0, self.ended - self.started))
        lines = [f"profile, on {self.device}: {processor()}"]
        for name, calls, seconds in rows:
            each = f"{calls:4} x {1000 * seconds / calls:7.1f} ms" if calls else ""
            lines.append(f"{name:42} {seconds:7.2f} s {each}".rstrip())
        if peak := Memory(self.device).peak():
            lines.append(f"{'peak of memory':42} {peak / 2**20:7.0f} MiB")
        return "\n".join(lines)


@contextmanager
def profiled() -> Iterator[Profile]:
    """Time every network that is called inside."""
    profile, starts = Profile(perf_counter()), []

    def clock() -> float:
        finish(profile.device)
        return perf_counter()

    def before(module: nn.Module, args: tuple) -> None:
        if type(module) in NETWORKS:
            profile.device = str(next(module.parameters()).device)
            starts.append(clock())
            profile.first = starts[-1] if profile.first is None else profile.first

    def after(module: nn.Module, args: tuple, result: object) -> None:
        if type(module) in NETWORKS:
            profile.last = clock()
            profile.calls.setdefault(NETWORKS[type(module)], []).append(profile.last - starts.pop())

    with ExitStack() as hooks:
        for handle in (register_module_forward_pre_hook(before), register_module_forward_hook(after)):
            hooks.callback(handle.remove)
        try:
            yield profile
        finally:
            profile.ended = clock()
