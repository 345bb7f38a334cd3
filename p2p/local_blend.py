"""Local blend: a target differs from the source only where chosen words look.

The words' attention, summed over the steps so far, gives a mask; outside it the source's latent is put back after every
step, bit for bit.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.pipeline import State
from ldm.tokenizer import Tokens
from p2p.alpha import switch_time
from p2p.maps import WordMaps
from p2p.words import columns, words


@dataclass(frozen=True)
class Region:
    """Where one target may differ from the source: where these words look, in either prompt, less where others do."""

    words: tuple[str, ...]
    subtract: tuple[str, ...] = ()
    threshold: float = 0.3  # of the highest value of the words' map

    def __post_init__(self):
        if not self.words:
            raise ValueError("a region needs at least one word")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold of a region must lie in [0, 1], got {self.threshold}")


class LocalBlend:
    """Hand it to `denoise` as `blend`, and its `maps` as `watch`.

    Args:
        source: the source's tokens.
        targets: the targets' tokens.
        regions: one per target; None lets that target differ everywhere.
        T: the schedule's number of time steps.
        start: blending begins once t < start, a time as tau is: before, the maps are too vague to cut by.
        side: positions a side of the layers whose maps are used.

    Raises:
        ValueError: a region's word is in neither prompt, or the numbers do not fit.
    """

    def __init__(
        self,
        source: Tokens,
        targets: list[Tokens],
        regions: list[Region | None],
        T: int,
        start: float | int = 0.8,
        side: int = 16,
    ):
        if len(regions) != len(targets):
            raise ValueError(f"there are {len(targets)} targets and {len(regions)} regions")
        self.maps, self.start = WordMaps(side), switch_time(start, T)
        self.regions = regions
        # per target and region: the columns of the source and of the target
        self.columns = [
            region and tuple((_columns(source, target, w), region.threshold) for w in (region.words, region.subtract))
            for target, region in zip(targets, regions)
        ]

    def masks(self, size: tuple[int, int]) -> Bool[Tensor, "k h w"]:
        """Where each target may differ, at the latent's size, from what was seen so far."""
        maps = self.maps.mean()
        everywhere = torch.ones(size, dtype=torch.bool, device=maps.device)
        found = []
        for k, region in enumerate(self.columns, start=1):
            if region is None:
                found.append(everywhere)
                continue
            keep, drop = (
                _over(maps[0], of_source, threshold, size) | _over(maps[k], of_target, threshold, size)
                for (of_source, of_target), threshold in region
            )
            found.append(keep & ~drop)
        return torch.stack(found)

    def __call__(self, state: State) -> Float[Tensor, "b c h w"]:
        if state.t >= self.start:
            return state.z_t
        mask = self.masks(tuple(state.z_t.shape[-2:]))[:, None]
        return torch.cat([state.z_t[:1], torch.where(mask, state.z_t[1:], state.z_t[:1])])


def _columns(source: Tokens, target: Tokens, chosen: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """The columns of the chosen words in either prompt.

    Raises:
        ValueError: a word is in neither.
    """
    found: tuple[list[int], list[int]] = ([], [])
    for word in chosen:
        here = []
        for tokens, into in zip((source, target), found):
            try:
                into += columns(tokens, word)
                here.append(tokens)
            except ValueError:
                continue  # it may be in the other prompt
        if not here:
            have = dict.fromkeys(w.text for tokens in (source, target) for w in words(tokens))
            raise ValueError(f"neither prompt has {word!r} (once) to blend by. Their words are: {', '.join(have)}")
    return found


def _over(maps: Float[Tensor, "m h w"], chosen: list[int], threshold: float, size: tuple[int, int]) -> Tensor:
    """Where the chosen columns' map, widened by a position and scaled to 1 at its highest, is over the threshold."""
    if not chosen:
        return torch.zeros(size, dtype=torch.bool, device=maps.device)
    total = F.max_pool2d(maps[chosen].sum(dim=0)[None, None], 3, stride=1, padding=1)
    total = F.interpolate(total, size, mode="bilinear")[0, 0]
    return total > threshold * total.max()
