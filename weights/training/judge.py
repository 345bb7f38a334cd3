"""Read an image of the stickers world back into words, by the hypothesis that leaves least of it unexplained; and judge
an edit by the readings of its two images.

The world is rendered, so a hypothesis about an image is an image too. First comes the nearest empty place, with its fog
and style; on it the sticker that removes most of the squared error, at its best position, size and mirroring; then a
second sticker beside it. Nothing is learned. Pencil drawings are not read: lines match only where they coincide with
those of the hypothesis.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int, UInt8
from PIL import Image, ImageFilter
from torch import Tensor

from weights.training.art import Art
from weights.training.render import SIDE, SIZE, empty_place, finish, paste, sticker
from weights.training.world import COLOURS, NOUNS, PLACES, SIZES, Scene, Thing

HALF = SIZE // 2  # pictures are read at half their size; positions and sides are told at the whole
SIDES = tuple(30 * 1.1**i for i in range(14))  # of stickers: 30 to 104
FOGS = (0.0, 0.33, 0.67, 1.0)  # strengths; 0 stands for no fog
HORIZONS = 4  # empty places of each place, fog and style, to tell these apart; then CLOSER of the chosen to match
CLOSER, EDGES = 40, 8
SHARE = 0.4  # of the squared error inside its outline that a second thing takes away at least
FLAKES = 3.0  # brightness in small dots outside the things, in levels of 255, above which it snows
NEAR = 12  # pixels by which what stays may move: a tenth of the picture, a fifth of an ordinary thing
TRACE = 0.05  # squared error per pixel that is left where a thing was taken away
ALIKE = 1.33  # factor within which the side of what stays may change: less than from an ordinary thing to a big one


@dataclass(frozen=True)
class Found:
    """A sticker in an image: centre and longer side in pixels, and the share of the squared error inside its outline
    that it removes."""

    thing: Thing  # of no size
    x: int
    y: int
    side: float
    share: float

    def size_word(self, number: int) -> str | None:
        """The size word nearest to its side, in an image of so many things."""
        return min(SIZES, key=lambda word: abs(np.log(self.side / (SIDE[number] * SIZES[word]))))


@dataclass(frozen=True)
class Reading:
    """The contents of an image, the clearest thing first."""

    style: str
    place: str
    fog: float  # its strength, 0 is none
    flakes: float  # brightness in small dots outside the things, in levels of 255, beyond the place's own
    found: tuple[Found, ...]
    rest: Float[Tensor, "h w"]  # the squared error that neither the place nor these explain, at half the size

    @property
    def weather(self) -> str | None:
        return "fog" if self.fog else "snow" if self.flakes > FLAKES else None

    def find(self, thing: Thing) -> Found | None:
        """The found thing of this kind, of any size."""
        return next((found for found in self.found if found.thing == replace(thing, size=None)), None)

    def rest_at(self, found: Found) -> float:
        """The unexplained squared error in the middle of a thing's place, per pixel."""
        x, y, r = found.x // 2, found.y // 2, round(found.side / 6)
        return self.rest[y - r : y + r, x - r : x + r].mean().item()


def read(picture: UInt8[np.ndarray, "128 128 3"], art: Art, prompts: tuple[Scene, ...]) -> Reading:
    """Read an image with one thing or two.

    Nouns, places and weather are chosen among all of the world. Styles and patterns are chosen among those that the
    prompts name, and colours are considered only if a prompt names one: so a tree in its natural green is not a green
    tree, and fog does not turn a photo into a painting.

    Args:
        picture: a photo, or a painting without weather.
        art: the true stickers.
        prompts: the scenes that it may show.
    """
    image, things = halved(picture), [thing for scene in prompts for thing in scene.things]
    scenes, pictures = _empty_places(tuple(sorted({scene.style for scene in prompts})))
    scene = scenes[_nearest(image, pictures)[0]].replace(seed=0)
    pictures = _like(scene)
    near = pictures[_nearest(image, pictures)[:EDGES]]
    # an edge between sky, sea and ground is where one of the nearest has it: else a thing would be found along it
    canvas = near.gather(0, (near - image).abs().sum(dim=1).argmin(dim=0).expand(1, 3, -1, -1))[0]
    if scene.weather:
        cover = 0.3 + 0.42 * scene.strength
        image, canvas = ((x - cover * 0.82) / (1 - cover) for x in (image, canvas))
    looks = sorted({(None, None), *((thing.colour, thing.pattern) for thing in things)}, key=str)
    colours = (None, *COLOURS) if any(colour for colour, _ in looks) else (None,)
    found, outlines = [], torch.zeros(HALF, HALF)
    for _ in range(2):
        nouns = [Thing(noun, colour, None, pattern) for noun, (colour, pattern) in product(NOUNS, looks)]
        noun = _best(image, canvas, nouns, art)[0].thing.noun
        dresses = [Thing(noun, colour, None, p) for colour, p in product(colours, {pattern for _, pattern in looks})]
        best, layer = _best(image, canvas, dresses, art)
        if not found or best.share >= SHARE:
            found.append(best)
            outlines = torch.maximum(outlines, layer[3])
            image = image * (1 - layer[3]) + canvas * layer[3]  # where a thing stands there is no second one
    outside = F.max_pool2d(outlines[None], 5, 1, 2)[0].repeat_interleave(2, 0).repeat_interleave(2, 1).numpy() < 0.1
    flakes = (_dots(picture) - _dots(finish(empty_place(scene), scene)))[outside].mean() if outside.any() else 0.0
    rest = (image - canvas).square().sum(dim=0)
    return Reading(scene.style, scene.place, scene.strength, float(flakes), tuple(found), rest)


def halved(picture: np.ndarray) -> Float[Tensor, "c h w"]:
    """An image in bytes, at half its size and in [0, 1]."""
    x = torch.from_numpy(picture.astype(np.float32) / 255)
    return F.avg_pool2d(x.permute(2, 0, 1)[None], 2)[0]


def _nearest(image: Float[Tensor, "3 h w"], pictures: Float[Tensor, "n 3 h w"]) -> list[int]:
    """Indices of the candidates, nearest to the image first; differences are clamped, since a thing in front differs
    from every empty place."""
    return (pictures - image).abs().sum(dim=1).clamp(max=0.3).mean(dim=(1, 2)).argsort().tolist()


@lru_cache(maxsize=4)
def _empty_places(styles: tuple[str, ...]) -> tuple[list[Scene], Float[Tensor, "n 3 h w"]]:
    """Empty places in these styles, of photos in every fog."""
    scenes = [
        Scene((Thing("cat"),), place, weather="fog" if fog else None, strength=fog, style=style, seed=seed)
        for place, fog, style, seed in product(PLACES, FOGS, styles, range(HORIZONS))
        if not (fog and style == "painting")
    ]
    return scenes, _drawn(scenes)


@lru_cache(maxsize=128)
def _like(scene: Scene) -> Float[Tensor, "n 3 h w"]:
    """The scene's empty place with many horizons."""
    return _drawn([scene.replace(seed=seed) for seed in range(CLOSER)])


def _drawn(scenes: list[Scene]) -> Float[Tensor, "n 3 h w"]:
    return torch.stack([halved(finish(empty_place(scene), scene)) for scene in scenes])


@lru_cache(maxsize=150)  # 4 MB each; the nouns in four looks
def _templates(
    art: Art, thing: Thing
) -> tuple[Float[Tensor, "n 4 h w"], Complex[Tensor, "n 4 h w2"], Int[Tensor, "n 2"]]:
    """A thing's sticker in every size and mirroring, in the corner of a picture: its colours times alpha, and alpha;
    their Fourier transforms; and how many positions down and across are inside the picture."""
    made, inside = [], []
    for side, mirrored in product(SIDES, (False, True)):
        canvas, alpha = (np.full((SIZE, SIZE, 3), value, dtype=np.float32) for value in (0.75, 0.0))
        image = sticker(art, thing)
        outline = Image.new("RGBA", image.size, "white")
        outline.putalpha(image.getchannel("A"))
        width, height = (2 * round(s * side / max(image.size) / 2) for s in image.size)  # even: halves are whole
        for picture, layer in ((canvas, image), (alpha, outline)):
            paste(picture, layer, width / 2, height / 2, side, mirrored)
        look = finish(canvas, Scene((thing,)))
        a = halved(alpha * 255)[:1]
        made.append(torch.cat([halved(look) * a, a]))
        inside.append((HALF - height // 2 + 1, HALF - width // 2 + 1))
    layers = torch.stack(made)
    return layers, torch.fft.rfft2(layers), torch.tensor(inside)


def _best(
    image: Float[Tensor, "3 h w"], canvas: Float[Tensor, "3 h w"], things: list[Thing], art: Art
) -> tuple[Found, Float[Tensor, "4 h w"]]:
    """The thing, among these, that removes most squared error from the canvas; and its sticker in place.

    A sticker s of outline a removes the sum of a ((image - canvas)^2 - (image - s)^2): at all positions at once, a
    correlation of a with (image - canvas)^2 - image^2, and of a s with 2 image.
    """
    error = (image - canvas).square()
    seen = torch.fft.rfft2(torch.cat([2 * image, (error - image.square()).sum(dim=0, keepdim=True)]))
    best, at = -torch.inf, None
    for thing in things:
        layers, transforms, inside = _templates(art, thing)
        gains = torch.fft.irfft2((transforms.conj() * seen).sum(dim=1), s=(HALF, HALF))
        gains -= (layers[:, :3].square() / layers[:, 3:].clamp(min=1e-3)).sum(dim=(1, 2, 3))[:, None, None]
        for k, (down, across) in enumerate(inside.tolist()):
            gain = gains[k, :down, :across].max()
            if gain > best:
                best, at = gain, (thing, k, *divmod(int(gains[k, :down, :across].argmax()), across))
    thing, k, y, x = at
    layer = _templates(art, thing)[0][k]
    bottom, right = torch.nonzero(layer[3] > 0.1).amax(dim=0).tolist()
    placed = layer.roll((y, x), dims=(1, 2))
    share = best / (error * placed[3]).sum()
    return Found(thing, 2 * x + right + 1, 2 * y + bottom + 1, SIDES[k // 2], float(share)), placed


def _dots(picture: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """The white top-hat: brightness of details less than seven pixels wide, in levels of 255."""
    light = Image.fromarray(picture.min(axis=-1))
    opened = light.filter(ImageFilter.MinFilter(7)).filter(ImageFilter.MaxFilter(7))
    return np.asarray(light, dtype=np.float32) - np.asarray(opened, dtype=np.float32)


def right(before: Reading, after: Reading, source: Scene, target: Scene) -> bool:
    """True if the image shows the target's scene and unchanged things kept their place and size."""
    if (after.style, after.place, after.weather) != (target.style, target.place, target.weather):
        return False
    now = [after.find(thing) for thing in target.things]
    if None in now or len(after.found) != len(now):
        return False
    moves = None not in (source.relation, target.relation) and source.relation != target.relation
    for thing, was, found in zip(target.things, source.things, now):  # a second thing that is new comes last
        stood, far = before.find(was), NEAR
        if stood is None:
            return False
        if thing.size != was.size:
            if found.size_word(len(now)) != thing.size:
                return False
            far += abs(found.side - stood.side) / 2  # what grows at the picture's edge must come in
        elif not 1 / ALIKE < found.side / stood.side < ALIKE:
            return False
        if not moves and max(abs(found.x - stood.x), abs(found.y - stood.y)) > far:
            return False
    for gone in map(before.find, source.things[len(now) :]):
        if gone is None or after.rest_at(gone) > TRACE:
            return False
    return target.relation is None or target.relation == _relation(*now)


def _relation(first: Found, second: Found) -> str:
    """The world's relation that two things stand in, or `below`."""
    across, down = abs(first.x - second.x), second.y - first.y
    return "next to" if across > abs(down) else "above" if down > 0 else "below"
