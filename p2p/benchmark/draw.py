"""Draw the scenes of the benchmark of edits into the package: `python -m p2p.benchmark.draw`.

Each scene has one attribute to edit. It is rendered with every value of that attribute; all else is the same to the
pixel. The source and the target are stored exactly, the other values with losses, as they only have to be told apart.
Beside them are the stickers, as fine as the scenes show them, for measures that place one on an image.

Snowflakes and sprinkles are left out: where a flake falls can't be guessed, and sprinkles are too fine for the
autoencoder. No seed is one of the training's.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.benchmark.draw"))

import argparse
import difflib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from tqdm import tqdm

from p2p.benchmark.scenes import (
    EXACT,
    FOLDER,
    KINDS,
    LIST,
    OTHERS,
    OUTLINES,
    STICKERS,
    BenchmarkScene,
    Kind,
)
from weights.training.art import Art, load_art, save_small
from weights.training.render import SIZE, boxes, empty_place, finish, paste, sticker
from weights.training.world import COLOURS, NOUNS, PLACES, STYLES, Scene, caption, is_held_out, sample_scene

SEEDS = 2_000_000_000  # training begins at 0, its held-out scenes at 1,000,000,000
PER_KIND = 20  # the first half is `dev`, the second `test`
QUALITY = 90  # of the candidates that are not exact, in [0, 100]
FINEST = 104  # pixels a side of the largest sticker in a scene
APART = 400  # squared difference, in levels of 255, of the target from every candidate: 22 dB, the autoencoder's error
SMALL_WORDS = {"a", "an", "the", "of", "in", "on", "at", "next", "to", "above"}  # change with what they stand beside


@dataclass(frozen=True)
class Candidate:
    """A scene of which the first things only may be shown, so that a thing is inserted beside one that stays."""

    value: str
    scene: Scene
    shown: int

    @property
    def caption(self) -> str:
        if self.shown == len(self.scene.things):
            return caption(self.scene)
        return caption(self.scene.replace(things=self.scene.things[: self.shown], relation=None))

    def render(self, art: Art) -> UInt8[np.ndarray, "H W 3"]:
        picture = empty_place(self.scene)
        for thing, (x, y, side, mirrored) in self._placed():
            paste(picture, sticker(art, thing), x, y, side, mirrored)
        return finish(picture, self.scene)

    def outlines(self, art: Art) -> list[Float[np.ndarray, "H W"]]:
        """How far each pixel is covered by each thing, as seen: the second stands in front of the first."""
        covers = []
        for thing, (x, y, side, mirrored) in self._placed():
            image, cover = sticker(art, thing), np.zeros((SIZE, SIZE, 3), np.float32)
            white = Image.new("RGBA", image.size, "white")
            white.putalpha(image.getchannel("A"))
            paste(cover, white, x, y, side, mirrored)
            covers = [before * (1 - cover[..., 0]) for before in covers] + [cover[..., 0]]
        return covers

    def _placed(self):
        return list(zip(self.scene.things, boxes(self.scene)))[: self.shown]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    art = load_art()
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as name:
        folder, scenes = Path(name) / FOLDER.name, []
        folder.mkdir()
        with tqdm(total=PER_KIND * len(KINDS), desc="drawing", unit="scene", file=sys.stderr) as progress:
            for kind in KINDS:
                for number, drawn in enumerate(islice(suitable(kind, art), PER_KIND)):
                    scenes.append(write(folder, len(scenes), kind, number, art, *drawn))
                    progress.update()
        lines = ",\n".join(json.dumps(asdict(scene)) for scene in scenes)
        (folder / LIST).write_text(f"[\n{lines}\n]\n")
        save_small(art, folder / STICKERS, FINEST)
        if FOLDER.exists():
            shutil.rmtree(FOLDER)
        folder.replace(FOLDER)
    print(f"{len(scenes)} scenes, {sum(f.stat().st_size for f in FOLDER.iterdir()) / 1e6:.1f} MB: {FOLDER}")


def suitable(kind: Kind, art: Art) -> Iterator[tuple[list[Candidate], int | None]]:
    """The candidates of each scene that can be judged, the source's and the target's first, and the number of the thing
    edited."""
    for seed in count(SEEDS + 1_000_000 * KINDS.index(kind)):
        scene = sample_scene(seed)
        # the fog's strength is in no caption: the middle one is the best guess
        scene = scene.replace(style="photo", weather=None, strength=0.5, says_place=True)
        nouns, things = {thing.noun for thing in scene.things}, scene.things
        if len(nouns) < len(things) or any(thing.pattern for thing in things):
            continue
        if kind == "style" and any(thing.colour or thing.size == "small" for thing in things):
            continue  # a pencil drawing has no colour; a small painting is of few patches
        if kind == "insertion" and len(things) < 2:
            continue
        rng = np.random.default_rng([seed, 1])
        candidates, source, thing = of_kind(kind, scene, rng)
        others = [i for i in range(len(candidates)) if i != source and candidates[i].shown == len(things)]
        target = int(rng.choice(others))
        if any(is_held_out(candidates[i].scene) for i in (source, target)):
            continue
        first = [candidates[source], candidates[target]]
        candidates = first + [c for i, c in enumerate(candidates) if i not in (source, target)]
        pictures = [candidate.render(art).astype(float) for candidate in candidates]
        differences = (np.square(p - pictures[1]) for i, p in enumerate(pictures) if i != 1)
        if all(d.any() and d[d.any(axis=-1)].mean() >= APART for d in differences):
            yield candidates, thing


def of_kind(kind: Kind, scene: Scene, rng: np.random.Generator) -> tuple[list[Candidate], int, int | None]:
    """All values of the attribute, the number of the source's, and that of the edited thing, if there is one."""
    things = scene.things
    whole = lambda value, **changes: Candidate(value, scene.replace(**changes), len(things))
    if kind == "place":
        return [whole(place, place=place) for place in PLACES], PLACES.index(scene.place), None
    if kind == "fog":
        return [whole("clear"), whole("fog", weather="fog")], 0, None
    if kind == "style":
        return [whole(style, style=style) for style in STYLES], STYLES.index("photo"), None
    i = 1 if kind == "insertion" else int(rng.integers(len(things)))
    change = lambda **changes: (*things[:i], replace(things[i], **changes), *things[i + 1 :])
    if kind == "colour":
        colours = (None, *COLOURS)
        made = [whole(str(colour or "natural"), things=change(colour=colour)) for colour in colours]
        return made, colours.index(things[i].colour), i
    nouns = [noun for noun in NOUNS if noun not in {t.noun for j, t in enumerate(things) if j != i}]
    made = [whole(noun, things=change(noun=noun)) for noun in nouns]
    if kind == "insertion":
        return [Candidate("nothing", scene, 1), *made], 0, i
    return made, nouns.index(things[i].noun), i


def write(
    folder: Path,
    index: int,
    kind: Kind,
    number: int,
    art: Art,
    candidates: list[Candidate],
    thing: int | None,
) -> BenchmarkScene:
    """Write a scene's images: its candidates side by side; the outlines of the source's things, then the target's."""
    before, after, *others = candidates
    outlines = [*before.outlines(art), *after.outlines(art)]
    strip = lambda images: Image.fromarray(np.concatenate(images, axis=1))
    pictures = strip([before.render(art), after.render(art)])
    pictures.save(folder / EXACT.format(index), lossless=True, quality=100, method=6)
    if others:
        pictures = strip([candidate.render(art) for candidate in others])
        pictures.save(folder / OTHERS.format(index), quality=QUALITY, method=6)
    covers = strip([(255 * cover).round().astype(np.uint8) for cover in outlines])
    covers.save(folder / OUTLINES.format(index), optimize=True)
    words, edited_words = changed(before.caption, after.caption)
    return BenchmarkScene(
        index=index,
        kind=kind,
        split="dev" if number < PER_KIND // 2 else "test",
        values=tuple(candidate.value for candidate in candidates),
        captions=tuple(candidate.caption for candidate in candidates),
        words=words,
        edited_words=edited_words,
        things=before.scene.things[: before.shown],
        edited_things=after.scene.things,
        thing=thing,
    )


def changed(before: str, after: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that only the first caption has in their place, and those that only the second has; no small words."""
    a, b = before.split(), after.split()
    gone, new = [], []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            gone, new = gone + a[i:j], new + b[k:m]
    return tuple(w for w in gone if w not in SMALL_WORDS), tuple(w for w in new if w not in SMALL_WORDS)
