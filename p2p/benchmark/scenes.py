"""The scenes of the benchmark: rendered, so that the right answer of every edit is known to the pixel.

120 scenes of 128 x 128 pixels, 20 of each kind of edit, ten to tune on (`dev`) and ten to report (`test`). They are
files of the package, which p2p/benchmark/draw.py draws.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from pydantic import TypeAdapter

from ldm.config import STRICT
from weights.training.art import SmallArt
from weights.training.world import Thing

Kind = Literal["noun", "colour", "place", "fog", "insertion", "style"]
Split = Literal["dev", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FOLDER = Path(__file__).parent / "scenes"
LIST, STICKERS, EXACT, OTHERS = "scenes.json", "stickers.npz", "{:03d}-exact.webp", "{:03d}-others.webp"
OUTLINES = "{:03d}-outlines.png"
SIDE = 128  # pixels


@dataclass(frozen=True)
class BenchmarkScene:
    """An image, its caption, an edited caption, and the image that the edited caption describes.

    Args:
        values: all of the edited attribute, the source's first, then the target's.
        captions: of the scene with each of the values.
        words: of the caption, that the edit takes away, without articles and prepositions.
        edited_words: of the edited caption, that it adds.
        things, edited_things: before and after; `outlines` and `edited_outlines` are in the same order.
        thing: the number of the edited or inserted thing in `edited_things`; None if the edit is of the whole scene.
    """

    __pydantic_config__ = STRICT

    index: int
    kind: Kind
    split: Split
    values: tuple[str, ...]
    captions: tuple[str, ...]
    words: tuple[str, ...]
    edited_words: tuple[str, ...]
    things: tuple[Thing, ...]
    edited_things: tuple[Thing, ...]
    thing: int | None

    @property
    def caption(self) -> str:
        return self.captions[0]

    @property
    def edited_caption(self) -> str:
        return self.captions[1]

    @cached_property
    def candidates(self) -> UInt8[np.ndarray, "n 128 128 3"]:
        """The scene with each value of the edited attribute, exact for the source and the target; read when first asked
        for."""
        exact = _panels(EXACT.format(self.index), "RGB")
        more = [_panels(OTHERS.format(self.index), "RGB")] if len(self.values) > 2 else []
        return np.concatenate([exact, *more])

    @property
    def image(self) -> UInt8[np.ndarray, "128 128 3"]:
        """The image to edit."""
        return self.candidates[0]

    @property
    def target(self) -> UInt8[np.ndarray, "128 128 3"]:
        """The right answer."""
        return self.candidates[1]

    @property
    def mask(self) -> Bool[np.ndarray, "128 128"]:
        """Where the image and the right answer differ."""
        return (self.image != self.target).any(axis=-1)

    @property
    def outlines(self) -> Float[np.ndarray, "k 128 128"]:
        """How far each pixel of the image is covered by each thing, from 0 to 1."""
        return self._outlines[: len(self.things)]

    @property
    def edited_outlines(self) -> Float[np.ndarray, "k 128 128"]:
        """The same of the right answer."""
        return self._outlines[len(self.things) :]

    @cached_property
    def _outlines(self) -> Float[np.ndarray, "k 128 128"]:
        return _panels(OUTLINES.format(self.index), "L") / 255


@cache
def stickers() -> SmallArt:
    """The stickers, as fine as the scenes show them."""
    return SmallArt(FOLDER / STICKERS)


def _panels(name: str, mode: str) -> UInt8[np.ndarray, "n 128 128 ..."]:
    """The images that a file has side by side."""
    with Image.open(FOLDER / name) as image:
        strip = np.array(image.convert(mode))
    return np.stack(np.split(strip, strip.shape[1] // SIDE, axis=1))


def load_scenes(split: Split | None = None, kinds: Collection[Kind] | None = None) -> list[BenchmarkScene]:
    """The scenes of a split and of some kinds, all by default, in their order; images are read when used."""
    scenes = TypeAdapter(list[BenchmarkScene]).validate_json((FOLDER / LIST).read_bytes())
    return [s for s in scenes if split in (None, s.split) and (kinds is None or s.kind in kinds)]
