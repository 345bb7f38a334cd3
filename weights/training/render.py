"""Rendering of the stickers world: a place, one or two stickers, weather, a style, in that order."""

from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from weights.training.art import Art
from weights.training.world import COLOURS, SIZES, Scene, Thing

SIZE = 128  # pixels a side
SIDE = {1: 66, 2: 52}  # pixels a side of an ordinary sticker, by the number of stickers


def render(scene: Scene, art: Art) -> NDArray[np.uint8]:
    """Render a scene to an image (128, 128, 3), 0..255."""
    picture = empty_place(scene)
    for thing, (x, y, side, mirrored) in zip(scene.things, boxes(scene)):
        paste(picture, sticker(art, thing), x, y, side, mirrored)
    return finish(picture, scene)


def finish(picture: NDArray[np.float32], scene: Scene) -> NDArray[np.uint8]:
    """Add the scene's weather to the image in place, apply the scene's style, and convert to bytes."""
    _weather(picture, scene)
    fine = any(thing.size == "small" for thing in scene.things)
    return _style((picture.clip(0, 1) * 255).round().astype(np.uint8), scene.style, fine)


def boxes(scene: Scene) -> list[tuple[float, float, float, bool]]:
    """Centre x, centre y, side (in pixels) and mirroring of each thing; mirroring depends on the seed only."""
    rng = _rng(scene, "layout")
    u = rng.random(8)
    sides = [SIDE[len(scene.things)] * SIZES[t.size] * (0.92 + 0.16 * u[i]) for i, t in enumerate(scene.things)]
    if scene.relation == "next to":
        left, right = 0.27 + 0.04 * (u[2] - 0.5), 0.73 + 0.04 * (u[3] - 0.5)
        ground = 0.66 + 0.2 * (u[4] - 0.5)  # both stand on it, whatever their size
        order = [left, right] if u[5] < 0.5 else [right, left]
        centres = [(x * SIZE, ground * SIZE + 26 - side / 2) for x, side in zip(order, sides)]
    elif scene.relation == "above":
        x = 0.5 + 0.34 * (u[2] - 0.5)
        centres = [(x * SIZE, 0.27 * SIZE), ((x + 0.06 * (u[3] - 0.5)) * SIZE, 0.74 * SIZE)]
    else:
        x, y = 0.5 + 0.5 * (u[2] - 0.5), 0.58 + 0.24 * (u[3] - 0.5)
        centres = [(x * SIZE, y * SIZE)]
    inside = lambda c, side: float(np.clip(c, min(side / 2, SIZE / 2), max(SIZE - side / 2, SIZE / 2)))
    mirrored = (bool(u[6] < 0.5), bool(u[7] < 0.5))
    return [(inside(x, s), inside(y, s), s, m) for (x, y), s, m in zip(centres, sides, mirrored)]


def _rng(scene: Scene, name: str) -> np.random.Generator:
    """A separate random stream for each use, so that more draws in one do not change another."""
    return np.random.default_rng([scene.seed, crc32(name.encode())])


def _smooth(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Smooth noise in [-1, 1], (128, 128), with this many cells a side."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _rgb(code: str) -> NDArray[np.float32]:
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32) / 255


def _gradient(top: str, bottom: str) -> NDArray[np.float32]:
    u = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    return np.broadcast_to(_rgb(top) * (1 - u) + _rgb(bottom) * u, (SIZE, SIZE, 3)).copy()


def empty_place(scene: Scene) -> NDArray[np.float32]:
    """Render the scene without its things and weather, (128, 128, 3) in [0, 1]."""
    rng = _rng(scene, "place")
    horizon = SIZE * rng.uniform(0.42, 0.62)
    noise, phase = _smooth(rng, 9), rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)

    def ground(picture, code: str, edge, depth: float = 0.07):
        """Fill everything below the edge, with soft texture, darker towards the viewer."""
        mask = np.clip(y - edge + 0.5, 0, 1)[..., None]
        shade = 1 + depth * noise[..., None] - 0.12 * ((y - edge) / SIZE)[..., None]
        return picture * (1 - mask) + _rgb(code) * shade * mask

    match scene.place:
        case "on the grass":
            return ground(_gradient("6db3f2", "d7ecfb"), "6cc24a", horizon, 0.12)
        case "on the beach":
            sea = ground(_gradient("5aaeee", "cfe9fb"), "1f8fb3", horizon, 0.03)
            return ground(sea, "ecd9a8", horizon + 18 + 3 * np.sin(x / 22 + phase))
        case "in the snow":
            return ground(_gradient("9db4cc", "dfe7ef"), "f7f9fc", horizon + 5 * np.sin(x / 26 + phase), 0.03)
        case "in the desert":
            return ground(_gradient("f7b45c", "fbe3ab"), "dba04f", horizon + 6 * np.sin(x / 24 + phase))
        case "at night":
            sky = _gradient("0c0b2e", "2b2560")
            for sx, sy, r in zip(rng.uniform(4, 124, 14), rng.uniform(3, horizon - 6, 14), rng.uniform(0.9, 1.5, 14)):
                _dot(sky, sx, sy, r, 0.9)
            return ground(sky, "1d2f2e", horizon, 0.15)
        case "in the sea":
            water = _gradient("2f93d8", "0a3a78")
            return water * (1 + 0.06 * np.sin((x + 0.5 * y) / 14 + phase) + 0.05 * noise)[..., None]
        case "on a table":
            planks = 1 + 0.06 * np.sin(x / 4.2 + phase)[..., None]
            wood = ground(_gradient("f0e4cf", "e6d3b3"), "9a6238", horizon, 0.05)
            return np.where((y > horizon)[..., None], wood * planks, wood)
        case "on the street":
            road = ground(_gradient("86bff0", "dbeaf6"), "6b6d72", horizon, 0.05)
            line = horizon + 0.55 * (SIZE - horizon)
            dash = (np.abs(y - line) < 2.5) & ((x + 10 * phase) % 36 < 20)
            return np.where(dash[..., None], np.float32(0.95), road)
    raise AssertionError(scene.place)  # Scene allows no other


def _dot(picture: NDArray[np.float32], x: float, y: float, radius: float, strength: float = 1.0) -> None:
    """Blend a soft white dot into the image, in place."""
    x0, y0, r = int(x), int(y), int(radius) + 2
    rows, columns = slice(max(y0 - r, 0), y0 + r + 1), slice(max(x0 - r, 0), x0 + r + 1)
    v, u = np.mgrid[rows.start : min(rows.stop, SIZE), columns.start : min(columns.stop, SIZE)]
    cover = strength * np.clip(radius + 0.5 - np.hypot(u - x, v - y), 0, 1)[..., None]
    picture[rows, columns] += cover * (1 - picture[rows, columns])


def _weather(picture: NDArray[np.float32], scene: Scene) -> None:
    if scene.weather == "fog":
        cover = 0.3 + 0.42 * scene.strength
        picture *= 1 - cover
        picture += cover * np.float32(0.82)
    elif scene.weather == "snow":
        # one stream, read as far as the strength requires: more snow adds flakes without moving any
        rng, count = _rng(scene, "snow"), int(20 + 80 * scene.strength)
        for x, y, r in zip(*rng.uniform(0, 1, (count, 3)).T):
            _dot(picture, x * SIZE, y * SIZE, 1.3 + 1.1 * r)


@lru_cache(maxsize=1024)
def sticker(art: Art, thing: Thing) -> Image.Image:
    """The thing's sticker with its pattern and colour, cropped to its visible part; RGBA."""
    image = art.sticker(thing.noun)
    rgba = np.asarray(image, dtype=np.float32) / 255
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if thing.colour:
        rgb = _recolour(rgb, alpha[..., 0], COLOURS[thing.colour])
    if thing.pattern == "striped":
        y, x = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]].astype(np.float32)
        stripe = np.clip(2.5 * np.sin((x + y) * (2 * np.pi * 5 / sum(rgb.shape[:2]))), 0, 1)[..., None]
        rgb = rgb * (1 - 0.75 * stripe) + 0.75 * stripe * np.float32(0.98)
    image = Image.fromarray((np.concatenate([rgb, alpha], -1) * 255).round().astype(np.uint8))
    if thing.pattern == "with sprinkles":
        image = _sprinkle(image)
    return image


def _recolour(rgb: NDArray[np.float32], alpha: NDArray[np.float32], hue: float) -> NDArray[np.float32]:
    """Set the hue, raise the saturation and lift the darkest values; shading is preserved.

    Eyes, mouths and outlines stay dark, or a recoloured face could not be read: values below 0.3 keep their colour,
    unless they are most of what there is to colour, as in a top hat.
    """
    high, low = rgb.max(-1), rgb.min(-1)
    dark = np.clip((0.36 - high) / 0.12, 0, 1)[..., None]
    if (dark[..., 0] * alpha).sum() > 0.15 * alpha.sum():
        dark = np.zeros_like(dark)
    saturation = np.clip(0.62 + 0.38 * (high - low) / np.maximum(high, 1e-6), 0, 1)
    value = 0.25 + 0.75 * high
    sector = (hue * 6 + np.array([5, 3, 1], dtype=np.float32)) % 6
    factor = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return dark * rgb + (1 - dark) * value[..., None] * (1 - saturation[..., None] * factor)


def _sprinkle(image: Image.Image) -> Image.Image:
    """Draw bright strokes inside the sticker's outline, always the same ones, large enough for the autoencoder."""
    rng, alpha = np.random.default_rng(5), image.getchannel("A")
    layer = image.copy()
    draw = ImageDraw.Draw(layer)
    colours = ("#ff3b6b", "#ffd400", "#27c4f5", "#ffffff", "#5ddb4a")
    for i in range(26):
        x, y, a = rng.uniform(0, image.width), rng.uniform(0, image.height), rng.uniform(0, np.pi)
        dx, dy = 13 * np.cos(a), 13 * np.sin(a)
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=colours[i % len(colours)], width=18)
    layer.putalpha(alpha)
    return layer


def paste(picture: NDArray[np.float32], image: Image.Image, x: float, y: float, side: float, mirrored: bool):
    """Blend a sticker's image, scaled so that its longer side is `side`, centred on (x, y), in place."""
    scale = side / max(image.size)
    width, height = (max(1, round(s * scale)) for s in image.size)
    small = image.resize((width, height), Image.Resampling.BOX if scale < 0.5 else Image.Resampling.BILINEAR)
    rgba = np.asarray(small, dtype=np.float32) / 255
    if mirrored:
        rgba = rgba[:, ::-1]
    left, top = round(x - width / 2), round(y - height / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + width, SIZE), min(top + height, SIZE)
    rgba = rgba[y0 - top : y1 - top, x0 - left : x1 - left]
    picture[y0:y1, x0:x1] += rgba[..., 3:] * (rgba[..., :3] - picture[y0:y1, x0:x1])


def _style(picture: NDArray[np.uint8], style: str, fine: bool) -> NDArray[np.uint8]:
    """Apply a style; `fine` paints with a smaller brush, because patches as large as a thing would hide it."""
    if style == "pencil drawing":  # grey divided by its blur: lines and soft shading remain
        grey = Image.fromarray(picture).convert("L")
        blur = np.asarray(grey.filter(ImageFilter.GaussianBlur(6)), dtype=np.float32)
        lines = np.clip(np.asarray(grey, dtype=np.float32) / np.maximum(blur, 1), 0, 1) ** 2
        return np.repeat((255 * lines).astype(np.uint8)[..., None], 3, axis=-1)
    if style == "painting":  # flat patches of few colours
        flat = np.asarray(Image.fromarray(picture).filter(ImageFilter.ModeFilter(3 if fine else 7)), dtype=np.float32)
        light = flat.max(-1, keepdims=True)
        steps = np.maximum(np.round(light / 32) * 32, 16)  # quantised brightness, unchanged hue
        return (flat * (steps / np.maximum(light, 1))).clip(0, 255).astype(np.uint8)
    return picture
