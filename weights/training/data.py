"""Rendered scenes on disk: pictures, and the captions that go with them, in the order of their seeds."""

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
from weights.training.render import SIZE, render
from weights.training.world import Scene, is_held_out, sample_scene

HELD_OUT_SEEDS = 1_000_000_000  # scenes from here on are never trained on


def training_scenes(number: int) -> list[Scene]:
    """The first scenes that have no held-out colour-noun pair."""
    scenes = (scene for seed in count() if not is_held_out(scene := sample_scene(seed)))
    return [next(scenes) for _ in range(number)]


def held_out_scenes(number: int) -> list[Scene]:
    """Scenes that training never sees, held-out pairs among them."""
    return [sample_scene(HELD_OUT_SEEDS + i) for i in range(number)]


def render_all(scenes: list[Scene], name: str) -> UInt8[np.ndarray, "n H W 3"]:
    """The pictures of the scenes, from the cache if they were rendered before; mapped, not read.

    The cache is named after the scenes and after what the first of them look like now, so that a change to the world or
    to the renderer is not answered with old pictures.
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
