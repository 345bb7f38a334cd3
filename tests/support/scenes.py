"""Scenes of one thing or two, and art that is not the stickers."""

import numpy as np
from PIL import Image

from weights.training import world
from weights.training.art import Art
from weights.training.world import Scene, Thing


def one(noun: str, colour=None, size=None, pattern=None, **scene) -> Scene:
    return Scene((Thing(noun, colour, size, pattern),), **scene)


def two(first: Thing, relation: str, second: Thing, **scene) -> Scene:
    return Scene((first, second), relation=relation, **scene)


class SyntheticArt(Art):
    """Discs and rectangles, brighter to the right, in place of the stickers.

    cat and dog are round with soft edges, hat and ball full squares without transparency, bicycle and car wide.
    """

    def __init__(self):
        pass

    def sticker(self, noun: str) -> Image.Image:
        height, width = (60, 120) if noun in ("bicycle", "car") else (100, 100)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        shade = 0.6 + 0.2 * x + 0.1 * np.sin(5 * x + list(world.NOUNS).index(noun)) * np.cos(4 * y)
        alpha = np.ones_like(x) if noun in ("hat", "ball") else np.clip(12 * (1 - np.hypot(x, y)), 0, 1)
        rgba = np.stack([shade, 0.8 * shade, 0.6 * shade, alpha], axis=-1)
        return Image.fromarray((255 * rgba).round().astype(np.uint8))
