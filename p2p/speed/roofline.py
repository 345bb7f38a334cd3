"""How fast each group of layers of our step computes, beside this machine's rates of a large product and a large
convolution.

Layers are timed where they stand, by hooks; what they need is counted from their shapes, a multiplication with its
addition as two operations. What is in no group (norms, activations, additions, copies) has time only.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.attention import GEGLU, AttentionFn, Site, attend
from ldm.unet import UNet
from p2p.speed.clock import finish, seconds_of
from p2p.speed.contestants import T, doubled
from p2p.speed.models import Setting, inputs, ours
from weights.load import SHIPPED

REPEATS = 2
LEAST = 2.0  # seconds that the repeated calls take together
LARGE = {"cpu": 3072, "cuda": 8192}  # rows and columns of the large product
CHANNELS, POSITIONS = 320, 64  # of the large convolution: Stable Diffusion's first level


def needed(layer: nn.Module, x: Tensor, y: Tensor) -> int:
    """Operations of a convolution, a linear layer or a GEGLU (its product alone), from its input and output."""
    if isinstance(layer, nn.Conv2d):
        return 2 * y.numel() * layer.weight[0].numel()
    weight = layer.proj.weight if isinstance(layer, GEGLU) else layer.weight
    return 2 * x.numel() * len(weight)


def needed_by_attention(Q: Tensor, K: Tensor, V: Tensor) -> int:
    """Operations of Q K^T and A V."""
    return 2 * Q.numel() * K.shape[-2] + 2 * Q[..., 0].numel() * V.shape[-2] * V.shape[-1]


class Groups:
    """Seconds and operations of each group of layers, over the calls made inside `watching`."""

    def __init__(self, device: str):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self.operations: dict[str, int] = defaultdict(int)
        self.started = 0.0

    def begin(self, *_) -> None:
        finish(self.device)
        self.started = time.perf_counter()

    def end(self, group: str, operations: int) -> None:
        finish(self.device)
        self.seconds[group] += time.perf_counter() - self.started
        self.operations[group] += operations

    def attention(self, site: Site, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """Plain attention, as an `AttentionFn`."""
        self.begin()
        Y = attend(Q, K, V)
        self.end("attention", needed_by_attention(Q, K, V))
        return Y

    @contextmanager
    def watching(self, unet: UNet) -> Iterator[AttentionFn]:
        """Count the layers of a UNet that is called with this attention function."""
        inside = {layer for gate in unet.modules() if isinstance(gate, GEGLU) for layer in gate.modules()}
        hooks = []
        for layer in unet.modules():
            gate = isinstance(layer, GEGLU)
            if gate or (isinstance(layer, nn.Conv2d | nn.Linear) and layer not in inside):
                group = "convolutions" if isinstance(layer, nn.Conv2d) else "linear layers"
                after = lambda layer, x, y, group=group: self.end(group, needed(layer, x[0], y))
                hooks += [layer.register_forward_pre_hook(self.begin), layer.register_forward_hook(after)]
        try:
            yield self.attention
        finally:
            for hook in hooks:
                hook.remove()


def rate(run: Callable[[], object], operations: int, device: str) -> float:
    """Operations a second: the median of some calls after one that is not counted."""
    return operations / median([seconds_of(run, device) for _ in range(REPEATS + 1)][1:])


@torch.no_grad()
def measure(setting: Setting) -> dict:
    """Seconds and operations of each group in a plain step of four rows, the machine's two rates, and for the
    included model the part of the time that a step of a single position takes."""
    unet, (x, context) = ours(setting).unet, doubled(inputs(setting))
    timestep = torch.tensor([T - 1], device=setting.device)
    call = lambda attn_fn=None, x=x: seconds_of(lambda: unet(x, timestep, context, attn_fn), setting.device)
    call()  # not counted
    repeats = max(REPEATS, round(LEAST / call()))
    groups = Groups(setting.device)
    with groups.watching(unet) as attn_fn:
        whole = [call(attn_fn) for _ in range(repeats)]
    draw = lambda *shape: torch.randn(shape).to(setting.device, setting.precision)
    n = LARGE[setting.device]
    a, b = draw(n, n), draw(n, n)
    features = draw(len(x), CHANNELS, POSITIONS, POSITIONS).to(memory_format=torch.channels_last)
    kernel = draw(CHANNELS, CHANNELS, 3, 3).to(memory_format=torch.channels_last)
    more = {}
    if setting.model in SHIPPED:  # a large model's would be the time of reading its weights
        at = lambda x: median([call(x=x) for _ in range(repeats + 1)][1:])
        more["of one position"] = at(x[..., :1, :1]) / at(x)
    return more | {
        "seconds": {name: seconds / repeats for name, seconds in groups.seconds.items()},
        "operations": {name: count // repeats for name, count in groups.operations.items()},
        "whole": sum(whole) / repeats,
        "product": rate(lambda: a @ b, 2 * n**3, setting.device),
        "convolution": rate(
            lambda: F.conv2d(features, kernel, padding=1), 18 * features.numel() * CHANNELS, setting.device
        ),
    }
