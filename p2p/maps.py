"""Attention maps of words: averaged over steps, layers and heads, or step by step."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import Place, Site
from ldm.helpers.checks import check_prompts
from ldm.states import State
from ldm.tokenizer import Tokens
from p2p.words import columns, names, words

Scale = Literal["word", "shared"]  # the colour scale of word maps: one per word, or one for all
SPECIAL, OTHERS = "BOS EOS PAD", "other tokens"  # with spaces, which no word's name has


def parts(tokens: Tokens) -> dict[str, list[int]]:
    """Partition the columns of the attention matrix: those of each word, by its name; then those of tokens outside all
    words, such as punctuation, if any; then those of BOS, EOS and padding."""
    special = {i for i, span in enumerate(tokens.spans) if span == (0, 0)}
    found = {name: list(word.columns) for name, word in zip(names(tokens), words(tokens))}
    left = [i for i in range(len(tokens.ids)) if i not in special.union(*found.values())]
    return found | ({OTHERS: left} if left else {}) | {SPECIAL: sorted(special)}


class MapMean:
    """A mean of attention maps of one shape, accumulated as their sum and number."""

    def __init__(self):
        self.sum: Tensor | float = 0.0
        self.count = 0

    def add(self, maps: Float[Tensor, "..."], count: int = 1) -> None:
        """Add one map, or the sum of `count` maps."""
        self.sum, self.count = self.sum + maps, self.count + count

    def mean(self) -> Float[Tensor, "..."]:
        """The mean; at least one map must have been added."""
        return self.sum / self.count


class WordMaps:
    """Accumulates cross-attention during sampling; pass it as `watch`.

    Keeps only layers with `side` positions on the shorter side, as one running sum, so that memory does not grow with
    the steps. The shorter side counts, because a wider image has the same layers, only wider.
    """

    def __init__(self, side: int = 16):
        self.side = side
        self._seen: set[tuple[int, int]] = set()  # (height, width) of every layer
        self._maps = MapMean()  # (b, m, h, w)

    def __call__(self, site: Site, A: Float[Tensor, "b h n m"]) -> None:
        self._seen.add((site.height, site.width))
        if min(site.height, site.width) != self.side:
            return
        self._maps.add(A.float().mean(dim=1).mT.unflatten(-1, (site.height, site.width)))

    def mean(self) -> Float[Tensor, "b m h w"]:
        """The average map of every token, for every row of the batch; over tokens it sums to 1 at each position.

        Raises:
            ValueError: no attention was recorded at this resolution.
        """
        if not self._seen:
            raise ValueError("no attention was watched: pass the maps to the run as `watch`")
        if not self._maps.count:
            there = ", ".join(f"{height}x{width}" for height, width in sorted(self._seen, reverse=True))
            raise ValueError(f"no cross-attention layer has {self.side} positions a side, these have {there}")
        return self._maps.mean()

    def of_words(self, row: int, tokens: Tokens) -> dict[str, Float[Tensor, "h w"]]:
        """The map of each of the `parts` of one row's prompt, summed over its tokens; together they sum to 1 at each
        position."""
        maps = self.mean()[row].cpu()
        return {name: maps[columns].sum(dim=0) for name, columns in parts(tokens).items()}


class Group(NamedTuple):
    """The attention layers of one part of the UNet at one resolution."""

    place: Place
    side: int  # positions on the shorter side


class MapHistory:
    """The maps of one prompt's words at every step, for each group of layers.

    Pass it as `watch`, and the states through `along`, which assigns the maps to their steps:

        history = MapHistory(tokens, ["cat", "grass"])
        visited = sampler.visit(model.schedule, steps, None)
        *_, last = history.along(p2p.denoise(seed, watch=history, steps=steps, sampler=sampler), visited)

    Averages over heads, sums over the layers of a group, and keeps the words' columns only, on the CPU: 2 MB per word
    for 50 steps of Stable Diffusion.

    Args:
        tokens: the prompt of the recorded row.
        chosen: its words or phrases, named as for `columns`; by default all `parts` of the prompt.
        row: index in the batch.

    Raises:
        ValueError: a chosen word is not in the prompt, or there are no words.
    """

    def __init__(self, tokens: Tokens, chosen: Sequence[str] | None = None, row: int = 0):
        if chosen is not None:
            check_prompts("chosen", chosen)
        if not (names(tokens) if chosen is None else chosen):
            raise ValueError(f"the prompt {tokens.prompt!r} has no words to show the attention of")
        self.tokens, self.row = tokens, row
        self.words = parts(tokens) if chosen is None else {word: list(columns(tokens, word)) for word in chosen}
        self._now: dict[Group, MapMean] = defaultdict(MapMean)  # (k, h, w), of the call in progress
        self._steps: dict[int, dict[Group, MapMean]] = {}

    def __call__(self, site: Site, A: Float[Tensor, "b h n m"]) -> None:
        A = A[self.row].float().mean(dim=0)  # (n, m)
        maps = torch.stack([A[:, own].sum(dim=1) for own in self.words.values()]).cpu()
        self._now[Group(site.place, min(site.height, site.width))].add(maps.unflatten(-1, (site.height, site.width)))

    def along(self, states: Iterator[State], visited: Sequence[int]) -> Iterator[State]:
        """Pass the states on, and store each one's maps under the timestep of the network call that led to it. Two
        calls at one timestep, as PLMS makes them, are averaged.

        Args:
            states: of the run.
            visited: the run's timesteps, as its sampler's `visit` returns them: those of the calls, then the last one.

        Raises:
            ValueError: the states do not come at these times.
        """
        calls = pairwise(visited)
        for state in states:
            t, t_next = next(calls, (None, None))
            if state.t != t_next:
                raise ValueError(
                    f"the run reaches t = {state.t} where the times have {t_next}: give `along` those of this run"
                )
            for group, maps in self._now.items():
                self._steps.setdefault(t, defaultdict(MapMean))[group].add(maps.sum, maps.count)
            self._now.clear()
            yield state

    @property
    def times(self) -> list[int]:
        """The recorded timesteps, decreasing."""
        return list(self._steps)

    @property
    def groups(self) -> list[Group]:
        """The groups of layers, in execution order."""
        return list(next(iter(self._steps.values()), {}))

    def mean(self, groups: Collection[Group], times: Collection[int] | None = None) -> dict[str, Float[Tensor, "h w"]]:
        """The map of each word, averaged over the layers of these groups and over these steps (all by default).

        Raises:
            ValueError: a group or a step was not recorded, or the groups differ in resolution.
        """
        times = self.times if times is None else times
        if not times or not set(times) <= set(self.times):
            raise ValueError(f"no maps of all the steps {list(times)}; those recorded are {self.times}")
        if not groups or not set(groups) <= set(self.groups):
            raise ValueError(f"no maps of all the groups {list(groups)}; those recorded are {self.groups}")
        if len({group.side for group in groups}) > 1:
            raise ValueError(f"the groups {list(groups)} differ in resolution; average those of one")
        total = MapMean()
        for maps in (self._steps[t][group] for t in times for group in groups):
            total.add(maps.sum, maps.count)
        return dict(zip(self.words, total.mean()))

    def at_side(self, side: int) -> list[Group]:
        """The groups with this resolution."""
        return [group for group in self.groups if group.side == side]


def upsample(word_map: Float[Tensor, "h w"], size: int) -> Float[Tensor, "H W"]:
    """Resize a word map to the image's size, by bicubic interpolation."""
    return torch.nn.functional.interpolate(word_map[None, None], (size, size), mode="bicubic")[0, 0].clamp(min=0)
