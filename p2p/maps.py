"""Word maps: where in the picture each word was looked at, averaged over steps, layers and heads, or step by step."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import Site
from ldm.pipeline import State
from ldm.tokenizer import Tokens
from p2p.words import columns, names, words


class WordMaps:
    """Collects cross-attention while a picture is sampled; pass it as `watch`.

    Only layers with the wanted number of positions on the shorter side are kept, as one running sum, so that memory
    does not grow with the steps. The shorter side, since a wider picture has the same layers, only wider.
    """

    def __init__(self, side: int = 16):
        self.side = side
        self._seen: set[tuple[int, int]] = set()  # (height, width) of every layer
        self._sum: Float[Tensor, "b m h w"] | None = None
        self._count = 0

    def __call__(self, site: Site, A: Float[Tensor, "b h n m"]) -> None:
        self._seen.add((site.height, site.width))
        if min(site.height, site.width) != self.side:
            return
        maps = A.mean(dim=1).float().mT.unflatten(-1, (site.height, site.width))
        self._sum = maps if self._sum is None else self._sum + maps
        self._count += 1

    def mean(self) -> Float[Tensor, "b m h w"]:
        """The average map of every token, for every row of the batch; over tokens it sums to 1 at each position.

        Raises:
            ValueError: nothing was seen at this resolution.
        """
        if not self._seen:
            raise ValueError("no attention was watched: pass the maps to the run as `watch`")
        if self._sum is None:
            there = ", ".join(f"{height}x{width}" for height, width in sorted(self._seen, reverse=True))
            raise ValueError(f"no cross-attention layer has {self.side} positions a side, these have {there}")
        return self._sum / self._count

    def of_words(self, row: int, tokens: Tokens) -> dict[str, Float[Tensor, "h w"]]:
        """The map of each word of one row's prompt, summed over the word's tokens; words in their order, by
        their `names`."""
        maps = self.mean()[row].cpu()
        found = zip(names(tokens), words(tokens))
        return {name: maps[list(word.columns)].sum(dim=0) for name, word in found}


class Group(NamedTuple):
    """The attention layers of one part of the UNet at one resolution."""

    place: str  # down, mid or up
    side: int  # positions a side


class MapHistory:
    """The maps of one prompt's words at every step, for each group of layers.

    Pass it as `watch`, and take the states through `along`, which tells it the step:

        history = MapHistory(tokens, ["cat", "grass"])
        *_, last = history.along(p2p.denoise(seed, watch=history), T)

    Heads are averaged, the layers of a group added up, and only the words' columns are kept, on the CPU: 2 MB a word
    for 50 steps of Stable Diffusion.

    Args:
        tokens: the prompt of the row that is recorded.
        chosen: its words or phrases, named as `columns` takes them; by default every word.
        row: of the batch.

    Raises:
        ValueError: a chosen word is not in the prompt, or no word is left.
    """

    def __init__(self, tokens: Tokens, chosen: Sequence[str] | None = None, row: int = 0):
        chosen = names(tokens) if chosen is None else chosen
        if not chosen:
            raise ValueError(f"the prompt {tokens.prompt!r} has no words to show the attention of")
        self.tokens, self.row = tokens, row
        self.words = {word: list(columns(tokens, word)) for word in chosen}
        self._now: dict[Group, tuple[Float[Tensor, "k h w"], int]] = {}  # sum over layers, and their number
        self._steps: dict[int, dict[Group, tuple[Float[Tensor, "k h w"], int]]] = {}

    def __call__(self, site: Site, A: Float[Tensor, "b h n m"]) -> None:
        A = A[self.row].float().mean(dim=0)  # (n, m)
        maps = torch.stack([A[:, own].sum(dim=1) for own in self.words.values()]).cpu()
        maps = maps.unflatten(-1, (site.height, site.width))
        total, count = self._now.get(Group(site.place, site.height), (0, 0))
        self._now[Group(site.place, site.height)] = (total + maps, count + 1)

    def along(self, states: Iterator[State], T: int) -> Iterator[State]:
        """The same states; each one's maps are filed under the step that made it, the first of which is T."""
        t = T
        for state in states:
            self._steps[t], self._now, t = self._now, {}, state.t
            yield state

    @property
    def times(self) -> list[int]:
        """The recorded steps, falling from T."""
        return list(self._steps)

    @property
    def groups(self) -> list[Group]:
        """The groups of layers, in the order they run."""
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
        sums, counts = zip(*(self._steps[t][group] for t in times for group in groups))
        return dict(zip(self.words, sum(sums) / sum(counts)))

    def at_side(self, side: int) -> list[Group]:
        """The groups of one resolution."""
        return [group for group in self.groups if group.side == side]


def upsample(word_map: Float[Tensor, "h w"], size: int) -> Float[Tensor, "H W"]:
    """A word map at the picture's size, smoothly."""
    return torch.nn.functional.interpolate(word_map[None, None], (size, size), mode="bicubic")[0, 0].clamp(min=0)
