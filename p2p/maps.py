"""Word maps: where in the picture each token was looked at, averaged over steps, layers and heads."""

import torch
from jaxtyping import Float
from torch import Tensor

from ldm.attention import Site
from ldm.tokenizer import Tokens
from p2p.words import names, words


class WordMaps:
    """Collects cross-attention while a picture is sampled; pass it as `watch`.

    Only layers with the wanted number of positions a side are kept, as one running sum, so that memory does not grow
    with the steps.
    """

    def __init__(self, side: int = 16):
        self.side = side
        self._sum: Float[Tensor, "b m h w"] | None = None
        self._count = 0

    def __call__(self, site: Site, A: Float[Tensor, "b h n m"]) -> None:
        if site.height != self.side:
            return
        maps = A.mean(dim=1).float().mT.unflatten(-1, (site.height, site.width))
        self._sum = maps if self._sum is None else self._sum + maps
        self._count += 1

    def mean(self) -> Float[Tensor, "b m h w"]:
        """The average map of every token, for every row of the batch; over tokens it sums to 1 at each position.

        Raises:
            ValueError: nothing was seen at this resolution.
        """
        if self._sum is None:
            raise ValueError(f"no cross-attention layer has {self.side} positions a side")
        return self._sum / self._count

    def of_words(self, row: int, tokens: Tokens) -> dict[str, Float[Tensor, "h w"]]:
        """The map of each word of one row's prompt, summed over the word's tokens; words in their order, by
        their `names`."""
        maps = self.mean()[row].cpu()
        found = zip(names(tokens), words(tokens))
        return {name: maps[list(word.columns)].sum(dim=0) for name, word in found}


def upsample(word_map: Float[Tensor, "h w"], size: int) -> Float[Tensor, "H W"]:
    """A word map at the picture's size, smoothly."""
    return torch.nn.functional.interpolate(word_map[None, None], (size, size), mode="bicubic")[0, 0].clamp(min=0)
