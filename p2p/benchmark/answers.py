"""How well an image answers the edit of a scene, on either track.

On the *real image* track the scene's rendering is edited, and the right answer is its rendering too. On the *generated*
track the model's own image of the caption is edited, which no rendering equals. There the answer is known in parts:

- noun, colour, insertion: the true sticker, where it fits best; outside it the image of the source;
- place: the image of the source inside the outlines of its things; outside, the nearest of many empty places;
- fog: the image of the source, mixed with fog as the world does it; style: the image of the source in that style.
"""

from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from p2p.benchmark import measures
from p2p.benchmark.measures import ByClip, Picture
from p2p.benchmark.scenes import BenchmarkScene, stickers
from weights.training.render import SIDE, SIZE, empty_place, finish
from weights.training.sticker_fit import Fit, fit, placed
from weights.training.world import PLACES, SIZES, STYLES, Scene, Thing

Track = Literal["real image", "generated"]
NEAR, APART = 12.0, 20.0  # pixels from a thing: where what replaces it may stand, and where a second one begins
HORIZONS = 16  # empty places of each kind
FOG = 0.82 * 255  # its grey level
FOGS = (0.3, 0.72)  # its share in the world's images


class Answer(NamedTuple):
    """The measures of an image; NaN where one has no meaning."""

    kept: float  # dB, where nothing should change
    edited: float  # dB, where something should
    whole: float  # dB, of both together
    structure: float
    right: float  # 1 if the target is the nearest of all values
    right_by_clip: float
    shift: float  # pixels


Parts = tuple[float, float, float, float, bool, float]  # kept, edited, the latter's share, structure, right, shift


def answer(scene: BenchmarkScene, track: Track, source: Picture, image: Picture, by_clip: ByClip) -> Answer:
    """Measure an edit of `source`, which is the scene's rendering or an image that the model made of its caption."""
    clip = by_clip.nearest(image, scene.captions) == 1
    found = _against_rendering(scene, image) if track == "real image" else _against_parts(scene, source, image)
    kept, edited, share, structure, right, shift = found
    return Answer(kept, edited, _together(kept, edited, share), structure, float(right), float(clip), shift)


def _together(kept: float, edited: float, share: float) -> float:
    """The PSNR of both regions, of which the edited one has this share of the pixels."""
    error = lambda dB, part: 0.0 if np.isnan(dB) else part * 10 ** (-dB / 10)
    return -10 * float(np.log10(error(kept, 1 - share) + error(edited, share)))


def _against_rendering(scene: BenchmarkScene, image: Picture) -> Parts:
    source, target = scene.image, scene.target
    moved = float("nan")
    if scene.kind not in ("fog", "style"):
        moved = measures.shift(image, target, scene.edited_outlines[scene.thing or 0])
    return (
        measures.kept(image, source, target),
        measures.edited(image, source, target),
        float(scene.mask.mean()),
        measures.ssim(image, target),
        measures.nearest(image, scene.candidates) == 1,
        moved,
    )


def _against_parts(scene: BenchmarkScene, source: Picture, image: Picture) -> Parts:
    match scene.kind:
        case "noun" | "colour":
            return _changed_thing(scene, source, image)
        case "insertion":
            return _inserted_thing(scene, source, image)
        case "place":
            return _changed_place(scene, source, image)
    candidates = _weathered(source, image) if scene.kind == "fog" else _styled(scene, source)
    target = candidates[1]
    edited = measures.psnr_where(image, target, np.ones((SIZE, SIZE), bool))
    right = measures.nearest(image, candidates) == 1
    return float("nan"), edited, 1.0, measures.ssim(image, target), right, float("nan")


def _changed_thing(scene: BenchmarkScene, source: Picture, image: Picture) -> Parts:
    thing, number = scene.things[scene.thing], len(scene.things)
    stood = fit(source, stickers(), thing, number)
    side = 1.1 * SIDE[number] * SIZES[thing.size] / 2
    x, y = (float(np.clip(c, min(side, SIZE / 2), max(SIZE - side, SIZE / 2))) for c in (stood.x, stood.y))
    fits = [fit(image, stickers(), value, number, _within(x, y, NEAR)) for value in _values(scene, thing)]
    now = fits[1]
    outline = _outline(scene.edited_things[scene.thing], now)
    outside = ~_widened(outline | _outline(thing, stood))
    structure = measures.ssim(image, source) if scene.kind == "colour" else float("nan")
    shift = float(np.hypot(now.x - stood.x, now.y - stood.y))
    right = int(np.argmax([found.dB for found in fits])) == 1
    return measures.psnr_where(image, source, outside), now.dB, _share(outline, outside), structure, right, shift


def _inserted_thing(scene: BenchmarkScene, source: Picture, image: Picture) -> Parts:
    first = scene.things[0]
    stood, stands = (fit(picture, stickers(), first, number) for picture, number in ((source, 1), (image, 2)))
    elsewhere = ~_within(stands.x, stands.y, APART)
    values = [replace(scene.edited_things[1], noun=noun) for noun in scene.values[1:]]
    fits = [fit(image, stickers(), value, 2, elsewhere) for value in values]
    outline = _outline(values[0], fits[0])
    outside = ~_widened(outline)
    shift = float(np.hypot(stands.x - stood.x, stands.y - stood.y))
    right = int(np.argmax([found.dB for found in fits])) == 0
    return measures.psnr_where(image, source, outside), fits[0].dB, _share(outline, outside), float("nan"), right, shift


def _changed_place(scene: BenchmarkScene, source: Picture, image: Picture) -> Parts:
    number = len(scene.things)
    stood = [fit(source, stickers(), thing, number) for thing in scene.things]
    outlines = np.any([_outline(thing, found) for thing, found in zip(scene.things, stood)], axis=0)
    inside, outside = ~_widened(~outlines), ~_widened(outlines)
    places = {place: measures.nearest_psnr(image, _empty_places(place), outside) for place in scene.values}
    now = fit(image, stickers(), scene.things[0], number)
    shift = float(np.hypot(now.x - stood[0].x, now.y - stood[0].y))
    edited, right = places[scene.values[1]], max(places, key=places.get) == scene.values[1]
    share = _share(outside, inside)
    return measures.psnr_where(image, source, inside), edited, share, float("nan"), right, shift


def _values(scene: BenchmarkScene, thing: Thing) -> list[Thing]:
    """The thing with every value of the edited attribute."""
    if scene.kind == "noun":
        return [replace(thing, noun=noun) for noun in scene.values]
    return [replace(thing, colour=None if colour == "natural" else colour) for colour in scene.values]


def _weathered(source: Picture, image: Picture) -> UInt8[np.ndarray, "2 H W 3"]:
    """The source, and with as much fog as explains the image best: the caption does not say how much."""
    towards, x = FOG - source.astype(float), image.astype(float) - source
    cover = np.clip((x * towards).sum() / np.square(towards).sum(), *FOGS)
    return np.stack([source, (source + cover * towards).round().astype(np.uint8)])


def _styled(scene: BenchmarkScene, source: Picture) -> UInt8[np.ndarray, "n H W 3"]:
    assert set(scene.values) == set(STYLES)
    look = source.astype(np.float32) / 255
    return np.stack([finish(look.copy(), Scene(scene.things[:1], style=style)) for style in scene.values])


@cache
def _empty_places(place: str) -> UInt8[np.ndarray, "n H W 3"]:
    assert place in PLACES
    scenes = [Scene((Thing("cat"),), place, seed=seed) for seed in range(HORIZONS)]
    return np.stack([finish(empty_place(scene), scene) for scene in scenes])


def _within(x: float, y: float, reach: float) -> Bool[torch.Tensor, "H W"]:
    """The positions at most so far from (x, y), across and down."""
    at = torch.arange(SIZE)
    return torch.maximum((at - x).abs()[None], (at - y).abs()[:, None]) <= reach


def _outline(thing: Thing, found: Fit) -> Bool[np.ndarray, "H W"]:
    return placed(stickers(), thing, found.x, found.y, found.side, found.mirrored)[1]


def _widened(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """By two pixels, beyond the soft edge of a sticker."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(5))) > 0


def _share(edited: Bool[np.ndarray, "H W"], kept: Bool[np.ndarray, "H W"]) -> float:
    return float(edited.sum() / (edited.sum() + kept.sum()))
