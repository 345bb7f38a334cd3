"""The sticker fit: where a thing's true sticker agrees best with an image, and how well it does there.

`python -m weights.training.sticker_fit` (`make judge`) prints, for each noun, the fit of its rendered scenes, of these
through the autoencoder, and of the images that the included model makes of their captions; then how many held-out
captions the small CLIP finds. (The scenes are drawn with art that npm fetches once.)
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("weights.training.sticker_fit"))

import argparse
import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, UInt8
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from weights.load import load, load_clip
from weights.training.art import Art, load_art
from weights.training.data import HELD_OUT_SEEDS, held_out_scenes, render_all
from weights.training.render import SIDE, SIZE, finish, paste, render, sticker
from weights.training.world import NOUNS, SIZES, Scene, Thing, caption

SEEDS, FIRST, CAPTIONS = 4, HELD_OUT_SEEDS + 3_000_000, 500
FACTORS = tuple(np.linspace(0.92, 1.08, 7))  # of an ordinary side: the world's range
Picture = UInt8[np.ndarray, "128 128 3"]


class Fit(NamedTuple):
    """Where a sticker fits best: its centre and longer side in pixels, and the PSNR inside its outline, in dB."""

    x: float
    y: float
    side: float
    mirrored: bool
    dB: float


class Templates(NamedTuple):
    """A sticker in every size and mirroring, in the corner of an image."""

    places: list[tuple[int, int, float, bool]]  # width, height, side, mirrored
    transforms: Complex[Tensor, "n 4 h w2"]  # of its colours times its outline, and of its outline
    squares: Float[Tensor, " n"]  # sum of its squared colours inside the outline
    areas: Float[Tensor, " n"]


def placed(art: Art, thing: Thing, x: float, y: float, side: float, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """A sticker alone: its colours, (128, 128, 3) in [0, 1], and where it covers more than half, (128, 128)."""
    image = sticker(art, thing)
    outline = Image.new("RGBA", image.size, "white")
    outline.putalpha(image.getchannel("A"))
    look, alpha = (np.full((SIZE, SIZE, 3), value, dtype=np.float32) for value in (0.75, 0.0))
    for picture, layer in ((look, image), (alpha, outline)):
        paste(picture, layer, x, y, side, mirrored)
    return finish(look, Scene((thing,))).astype(np.float32) / 255, alpha[..., 0] > 0.5


@lru_cache(maxsize=64)
def _templates(art: Art, thing: Thing, ordinary: float) -> Templates:  # 4 MB each
    places, looks, outlines = [], [], []
    for side, mirrored in product((ordinary * factor for factor in FACTORS), (False, True)):
        image = sticker(art, thing)
        width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
        look, outline = placed(art, thing, width / 2, height / 2, side, mirrored)
        places.append((width, height, side, mirrored))
        looks.append(torch.from_numpy(look).permute(2, 0, 1) * torch.from_numpy(outline))
        outlines.append(torch.from_numpy(outline).float()[None])
    layers = torch.cat([torch.stack(looks), torch.stack(outlines)], dim=1)
    squares = layers[:, :3].square().sum(dim=(1, 2, 3))
    return Templates(places, torch.fft.rfft2(layers), squares, layers[:, 3].sum(dim=(1, 2)))


def fit(
    image: Picture,
    art: Art,
    thing: Thing,
    number: int = 1,
    centres: Bool[Tensor, "128 128"] | None = None,
) -> Fit:
    """Find the position, size and mirroring at which a sticker s with outline a has the smallest mean squared error.

    The sum of a (image - s)^2 is, at all positions at once, a correlation of a with image^2 minus one of a s with
    2 image, plus the sum of a s^2. Only positions at which the sticker lies inside the image are tried.

    Args:
        image: what may show the thing.
        art: the stickers.
        thing: its size word determines the sizes that are tried, those of the world.
        number: of things in the scene.
        centres: where its centre may lie; everywhere by default.

    Raises:
        ValueError: there is no such position.
    """
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    seen = torch.fft.rfft2(torch.cat([-2 * x, x.square().sum(dim=0, keepdim=True)]))
    made = _templates(art, thing, SIDE[number] * SIZES[thing.size])
    errors = torch.fft.irfft2((made.transforms.conj() * seen).sum(dim=1), s=(SIZE, SIZE))
    errors = (errors + made.squares[:, None, None]) / (3 * made.areas[:, None, None])
    best = (float("inf"), None)
    for (width, height, side, mirrored), error in zip(made.places, errors):
        inside = error[: max(SIZE - height, 0) + 1, : max(SIZE - width, 0) + 1]
        if centres is not None:
            top, left = height // 2, width // 2
            allowed = centres[top : top + inside.shape[0], left : left + inside.shape[1]]
            inside = inside.masked_fill(~allowed, float("inf"))
        least = inside.min().item()
        if least < best[0]:
            top, left = divmod(int(inside.argmin()), inside.shape[1])
            best = (least, (left + width / 2, top + height / 2, side, mirrored))
    if best[1] is None:
        raise ValueError(f"there is no position for a {thing.noun} of this size")
    return Fit(*best[1], 10 * float(np.log10(1 / max(best[0], 1e-6))))  # at most 60 dB


def mean_fits(images: Sequence[Picture], scenes: Sequence[Scene], art: Art) -> dict[str, float]:
    """The mean fit of each noun, in dB."""
    fits = {}
    for image, scene in zip(images, scenes):
        fits.setdefault(scene.things[0].noun, []).append(fit(image, art, scene.things[0]).dB)
    return {noun: float(np.mean(found)) for noun, found in fits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    model, art = load("stickers", device="cpu"), load_art()
    scenes = [
        Scene((Thing(noun),), seed=FIRST + i, says_place=False) for noun in NOUNS for i in range(SEEDS)
    ]  # on the grass, which the captions do not mention
    rendered = np.stack([render(scene, art) for scene in scenes])
    decoded, generated = [], []
    for i in tqdm(range(0, len(scenes), SEEDS), "images", unit="noun", file=sys.stderr):
        part = slice(i, i + SEEDS)
        decoded += list(model.decode(model.encode_images(rendered[part])))
        generated += list(model.generate([caption(scene) for scene in scenes[part]], list(range(SEEDS))))
    columns = [
        mean_fits(images, tqdm(scenes, "fitting", unit="image", file=sys.stderr), art)
        for images in (rendered, decoded, generated)
    ]
    print(f"{'sticker fit, dB':16}{'render':>10}{'decoded':>10}{'generated':>10}")
    for noun in sorted(NOUNS, key=columns[2].get):
        print(f"{noun:16}" + "".join(f"{column[noun]:10.1f}" for column in columns))
    print(f"{'mean':16}" + "".join(f"{np.mean(list(column.values())):10.1f}" for column in columns))
    clip, tokenizer = load_clip("stickers-clip", device="cpu")
    held_out = held_out_scenes(CAPTIONS)
    captions = list(dict.fromkeys(map(caption, held_out)))
    images = render_all(held_out, "held-out")
    texts, found = tokenizer.batch(captions), 0
    for i in tqdm(range(0, CAPTIONS, 50), "captions", unit="50 images", file=sys.stderr):
        chosen = clip.score(np.asarray(images[i : i + 50]), texts).argmax(dim=1).tolist()
        found += sum(captions[k] == caption(scene) for k, scene in zip(chosen, held_out[i : i + 50]))
    print(f"the small CLIP finds {found} of {CAPTIONS} held-out captions among {len(captions)}")
