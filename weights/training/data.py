"""Rendered scenes on disk, with their captions, in the order of their seeds."""

import hashlib
from functools import lru_cache
from itertools import count
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from ldm.helpers.files import save_atomically
from weights.training.art import cache_dir, load_art
from weights.training.render import SIZE, boxes, render
from weights.training.world import Scene, is_held_out, sample_scene

HELD_OUT_SEEDS = 1_000_000_000  # scenes from this seed on are not used for training


def training_scenes(number: int) -> list[Scene]:
    """The first scenes without held-out colour-noun pairs."""
    scenes = (scene for seed in count() if not is_held_out(scene := sample_scene(seed)))
    return [next(scenes) for _ in range(number)]


def held_out_scenes(number: int) -> list[Scene]:
    """Scenes not used for training, including held-out pairs."""
    return [sample_scene(HELD_OUT_SEEDS + i) for i in range(number)]


def centres(scenes: list[Scene]) -> list[list[tuple[float, float]]]:
    """The centre (x, y) of each scene's things, in pixels."""
    return [[(x, y) for x, y, _, _ in boxes(scene)] for scene in scenes]


def render_all(scenes: list[Scene], name: str) -> UInt8[np.ndarray, "n H W 3"]:
    """Render the scenes, or take them from the cache, as a memory-mapped array.

    The cache key depends on the scenes and on the current rendering of the first of them, so that a change to the world
    or to the renderer invalidates old images.
    """
    art = load_art()
    digest = hashlib.sha256(repr(scenes).encode())
    for scene in scenes[:50]:
        digest.update(render(scene, art).tobytes())
    path = cache_dir() / f"{name}-{digest.hexdigest()[:12]}.npy"
    if not path.exists():
        save_atomically(lambda part: _render_to(scenes, part), path)
    return np.load(path, mmap_mode="r")


def _render_to(scenes: list[Scene], path: Path) -> None:
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (len(scenes), SIZE, SIZE, 3))
    with Pool() as pool:
        pictures = pool.imap(_render, scenes, chunksize=64)
        for i, picture in enumerate(tqdm(pictures, total=len(scenes), unit="scene", desc="rendering")):
            out[i] = picture
    out.flush()


@lru_cache(maxsize=1)
def _worker_art():
    return load_art()


def _render(scene: Scene) -> np.ndarray:
    return render(scene, _worker_art())
