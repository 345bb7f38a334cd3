"""Local blend: confines the change to the region that chosen words attend to, or to a mask.

A word's attention, averaged over the steps so far, gives a mask; outside it the latent is replaced by the source's
after every step, bit for bit.
"""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ldm.config import STRICT
from ldm.helpers.checks import check_fields
from ldm.shapes import Latent
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.alpha import Time, switch_time
from p2p.maps import WordMaps
from p2p.masks import Size, check_mask, composite
from p2p.words import columns, listed

log = logging.getLogger(__name__)

# A word's map is usable if its peak exceeds this multiple of a uniform share of the attention, 1/m per token. In the
# included model objects reach 6 to 16, colours and sizes 2.1 to 3.6, and grass, beach or street at most 1.95.
FAINT = 2


@dataclass(frozen=True)
class Region:
    """The region where one target may differ from the source: that of these words, in either prompt, without that of
    the words to subtract.

    A word's region is where its map, the sum of its tokens' maps, exceeds a fraction of its own maximum: so words with
    little attention count as much as words with a lot, and each prompt is measured separately.
    """

    __pydantic_config__ = STRICT

    words: tuple[str, ...]
    subtract: tuple[str, ...] = ()
    threshold: float = 0.3  # the fraction, in [0, 1]
    subtract_threshold: float = 0.3
    widen: int = 1  # positions by which the words' maps are dilated, at the maps' resolution

    def __post_init__(self):
        check_fields(self)
        if not self.words:
            raise ValueError("a region needs at least one word")
        for threshold in (self.threshold, self.subtract_threshold):
            if not 0 <= threshold <= 1:
                raise ValueError(f"the threshold of a region must lie in [0, 1], got {threshold}")
        if self.widen < 0:
            raise ValueError(f"a region is widened by 0 positions or more, got {self.widen}")


class Mention(NamedTuple):
    """A word of one prompt."""

    row: int  # of the batch: 0 is the source
    columns: tuple[int, ...]
    word: str


class LocalBlend:
    """Pass it to one run of `denoise` as `blend`, and its `maps` as `watch` (not needed if there are only masks).

    Args:
        source: the source's tokens.
        targets: the targets' tokens.
        regions: one per target: a region, or a mask of the latent's size, true where the target may differ; None for
            no restriction.
        T: the schedule's number of timesteps.
        start: blending begins once t < start, given as tau is: earlier maps are too diffuse to segment.
        side: positions on the shorter side of the layers whose maps are used; see `p2p.inject.layout_side`.

    Raises:
        ValueError: a region's word is in neither prompt or occurs several times in one, or the number of regions is not
            that of the targets.
    """

    def __init__(
        self,
        source: Tokens,
        targets: list[Tokens],
        regions: list[Region | Bool[Tensor, "h w"] | None],
        T: int,
        start: Time = 0.8,
        side: int = 16,
    ):
        if len(regions) != len(targets):
            raise ValueError(f"there are {len(targets)} targets and {len(regions)} regions")
        self.maps, self.start, self.regions = WordMaps(side), switch_time(start, T), regions
        self._last = T  # the timestep that the run has reached
        self._checked = False  # true once the words' maps have been checked for faint ones
        self._mentions = [
            [_mentions(source, target, k, chosen) for chosen in (region.words, region.subtract)]
            if isinstance(region, Region)
            else None
            for k, (target, region) in enumerate(zip(targets, regions), start=1)
        ]

    def masks(self, size: Size) -> Bool[Tensor, "k h w"]:
        """The mask of each target from the attention so far, true where it may differ; on the CPU.

        Args:
            size: the latent's.

        Raises:
            ValueError: a mask has another size, or no attention was watched at the wanted resolution.
        """
        found = []
        for region, mentions in zip(self.regions, self._mentions):
            if region is None:
                found.append(torch.ones(size, dtype=torch.bool))
            elif isinstance(region, Region):
                maps, (keep, drop) = self.maps.mean().cpu(), mentions
                keep = looked(maps, keep, region.threshold, region.widen, size)
                found.append(keep & ~looked(maps, drop, region.subtract_threshold, 0, size))
            else:
                check_mask(region, size)
                found.append(region.cpu())
        return torch.stack(found)

    def __call__(self, state: State) -> Latent:
        """Replace the state's latents outside the masks by the source's. Raises as `masks`, and in a second run."""
        if state.t > self._last:  # equal if a sampler takes a step twice
            raise ValueError("this local blend has served a run and holds its maps: make another for the next")
        self._last = state.t
        masks = self.masks(tuple(state.z_t.shape[-2:]))  # also before the start, so that errors are raised at once
        if state.t >= self.start:
            return state.z_t
        if not self._checked:
            self._checked = True
            self._warn_of_faint_words()
        source, targets = state.z_t[:1], state.z_t[1:]
        return torch.cat([source, composite(masks[:, None], targets, source)])

    def _warn_of_faint_words(self) -> None:
        """Log a warning for each word whose maps have too little attention for a region."""
        mentions = [mention for chosen in self._mentions if chosen for words in chosen for mention in words]
        if not mentions:
            return
        maps = self.maps.mean().cpu()
        faint: dict[str, Float[Tensor, "h w"]] = {}
        for row, chosen, word in mentions:
            word_map = maps[row, list(chosen)].sum(dim=0)
            if word_map.max() <= FAINT * len(chosen) / maps.shape[1]:
                faint.setdefault(word, word_map)
        for word, word_map in faint.items():
            log.warning(
                "the region of %r is hardly more than noise: the word has %.1f%% of the attention, %.1f%% at its peak. "
                "Blend by words of objects, or give a mask",
                word,
                100 * word_map.mean(),
                100 * word_map.max(),
            )


def looked(
    maps: Float[Tensor, "b m h w"], mentions: list[Mention], threshold: float, widen: int, size: Size
) -> Bool[Tensor, "h2 w2"]:
    """The union of the words' regions: where a word's map, dilated and resized, exceeds the threshold times its
    maximum."""
    mask = torch.zeros(size, dtype=torch.bool)
    for row, chosen, _ in mentions:
        word = maps[row, list(chosen)].sum(dim=0)[None, None]
        word = F.max_pool2d(word, 2 * widen + 1, stride=1, padding=widen)
        word = F.interpolate(word, size, mode="bilinear")[0, 0]
        mask |= word > threshold * word.max()
    return mask


def _mentions(source: Tokens, target: Tokens, row: int, chosen: tuple[str, ...]) -> list[Mention]:
    """Find the chosen words in both prompts; `row` is the target's.

    Raises:
        ValueError: a word is in neither, or occurs several times in one.
    """
    found = []
    for word in chosen:
        here = [Mention(k, at, word) for k, y in ((0, source), (row, target)) if (at := _columns(y, word))]
        if not here:
            raise ValueError(f"neither prompt has {word!r} to blend by. {listed(source, target)}")
        found += here
    return found


def _columns(tokens: Tokens, word: str) -> tuple[int, ...]:
    """The columns of a word, none if the prompt does not have it. Raises ValueError if it occurs several times."""
    try:
        columns(tokens, word if "#" in word else f"{word}#1")
    except ValueError:
        return ()
    return columns(tokens, word)
