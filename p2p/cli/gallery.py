"""Every kind of edit, and one source edited in ten ways: `python -m p2p.cli.gallery` writes docs/gallery.png and
docs/targets.png.

Each example is a call as the command line would save it, shown as the source, the same seed with the new prompt, and
the edit. Seeds were chosen by eye.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.cli.gallery"))

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from tqdm import tqdm

from ldm.helpers.files import check_writable, save_atomically
from ldm.pipeline import LatentDiffusion
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha, Time
from p2p.call import Call, Sampling, Target
from p2p.edits import Edit, Preserve, Refine, Reweight, Swap
from p2p.experiments.baselines import fixed_seed
from p2p.figures import sheets
from p2p.figures.fonts import CAPTION, LABEL, height_of, wrap
from p2p.figures.sheets import GAP, MARGIN, Sheet
from p2p.local_blend import Region
from weights.load import load

FOLDER = Path("docs")
FIGURES = ("gallery.png", "targets.png")
STEPS = 30


class Example(NamedTuple):
    """One edit, and its title."""

    title: str
    source: str
    target: str
    seed: int
    edit: Edit | None = None  # None: as the prompts are read
    self_until: Time | None = None
    region: Region | None = None

    def call(self, model: LatentDiffusion) -> Call:
        edit = self.edit or Edit.between(*map(model.tokenizer.encode, (self.source, self.target)))
        return Call(
            self.source,
            (Target.of(self.target, edit, self.region),),
            SelfInjection(self.self_until),
            sampling=Sampling(self.seed, STEPS),
        )


EXAMPLES = (
    Example(
        "One noun for another",
        "a photo of a panda on the grass",
        "a photo of a dog on the grass",
        seed=3,
    ),
    Example(
        "A word of one token for a word of three",
        "a photo of a balloon at night",
        "a photo of an umbrella at night",
        seed=5,
    ),
    Example(
        "One colour for another",
        "a photo of a red car on the street",
        "a photo of a blue car on the street",
        seed=4,
    ),
    Example(
        "Another place",
        "a photo of a penguin in the snow",
        "a photo of a penguin in the desert",
        seed=3,
    ),
    Example(
        "Another style",
        "a photo of a castle on the grass",
        "a pencil drawing of a castle on the grass",
        seed=1,
        edit=Swap("photo", "pencil drawing", Alpha(0.4)),
    ),
    Example(
        "The attention of one word kept, and of no other: butterfly",
        "a photo of a butterfly on the grass",
        "a photo of a butterfly in the desert",
        seed=5,
        edit=Preserve("butterfly"),
        self_until="never",
    ),
    Example(
        "A phrase added",
        "a photo of a cake on a table",
        "a photo of a cake with sprinkles on a table",
        seed=5,
    ),
    Example(
        "A phrase removed",
        "a photo of a house on the grass with snowflakes",
        "a photo of a house on the grass",
        seed=3,
    ),
    Example(
        "The attention to a word tripled: fog",
        "a photo of a tree on the grass in fog",
        "a photo of a tree on the grass in fog",
        seed=5,
        edit=Refine() + Reweight("fog", 3.0),
    ),
    Example(
        "The attention to a word turned round: fog, times -1",
        "a photo of a tree on the grass in fog",
        "a photo of a tree on the grass in fog",
        seed=5,
        edit=Refine() + Reweight("fog", -1.0),
    ),
    Example(
        "A change only where the house is",
        "a photo of a house on the grass",
        "a photo of a pink house on the grass",
        seed=2,
        region=Region(("house",)),
    ),
    Example(
        "Two edits at once: another colour, and the fog doubled",
        "a photo of a red car on the street in fog",
        "a photo of a blue car on the street in fog",
        seed=4,
        edit=Swap("red", "blue") + Reweight("fog", 2.0),
    ),
)
HOUSE, HOUSE_SEED = "a photo of a house on the grass", 5
HOUSES = (  # targets of the one source, and their captions
    ("a photo of a castle on the grass", "castle"),
    ("a photo of a mushroom on the grass", "mushroom"),
    ("a photo of a blue house on the grass", "blue house"),
    ("a photo of a pink house on the grass", "pink house"),
    ("a pencil drawing of a house on the grass", "pencil drawing"),
    ("a photo of a house in the snow", "in the snow"),
    ("a photo of a house at night", "at night"),
    ("a photo of a house in the desert", "in the desert"),
    ("a photo of a house on the grass in fog", "in fog"),
    ("a photo of a house on the grass with snowflakes", "with snowflakes"),
)


def houses(model: LatentDiffusion) -> Call:
    """The source and its ten targets in one call, each edit inferred from the two prompts."""
    encode = model.tokenizer.encode
    targets = (Target.of(target, Edit.between(encode(HOUSE), encode(target))) for target, _ in HOUSES)
    return Call(HOUSE, tuple(targets), sampling=Sampling(HOUSE_SEED, STEPS))


def draw_houses(images: UInt8[np.ndarray, "b H W 3"]) -> Figure:
    """Draw the source, large, beside its targets in two rows."""
    side, across = 1.2, 5
    line = height_of("word", CAPTION)
    large = 2 * side + line + GAP  # as high as two rows with a caption between them
    sheet = Sheet(2 * MARGIN + large + across * (side + GAP))
    top = MARGIN + line
    sheet.image(MARGIN, top, large, (HOUSE, images[0]))
    for k, ((_, name), image) in enumerate(zip(HOUSES, images[1:])):
        left = MARGIN + large + GAP + k % across * (side + GAP)
        sheet.image(left, top + k // across * (side + GAP + line), side, (name, image))
    return sheet.done()


def _prompts(example: Example) -> str:
    return f"{example.source}\n→ {'the same prompt' if example.target == example.source else example.target}"


def draw_examples(shown: Sequence[tuple[Example, UInt8[np.ndarray, "3 H W 3"]]]) -> Figure:
    """Draw two examples per row, each as three images under its title and its prompts."""
    side, gap = 1.32, 0.04
    block = 3 * side + 2 * gap
    sheet = Sheet(2 * MARGIN + 2 * block + 2 * GAP)
    for pair in (shown[i : i + 2] for i in range(0, len(shown), 2)):
        prompts = [wrap(_prompts(example), block, LABEL) for example, _ in pair]
        top = sheet.bottom
        start = top + height_of("title", CAPTION) + max(height_of(text, LABEL) for text in prompts) + 0.2
        for k, ((example, images), text) in enumerate(zip(pair, prompts)):
            left = MARGIN + k * (block + 2 * GAP)
            sheet.text(left, top, example.title, CAPTION)
            sheet.text(left, top + height_of("title", CAPTION), text, LABEL)
            for j, panel in enumerate(zip(("source", "same seed", "edit"), images)):
                sheet.image(left + j * (side + gap), start, side, panel, LABEL)
        sheet.bottom += GAP
    return sheet.done()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in FIGURES:
        check_writable(FOLDER / name)
    model = load("stickers", device="cpu")
    shown = []
    for example in tqdm(EXAMPLES, unit="edit", file=sys.stderr):
        call = example.call(model)
        *_, plain = fixed_seed(model, [call.source, example.target], example.seed, steps=STEPS)
        *_, edited = call.start(model)
        shown.append((example, np.concatenate([model.decode(plain.z_t), model.decode(edited.z_t[1:])])))
    *_, last = tqdm(houses(model).start(model), "ten targets", total=STEPS, unit="step", file=sys.stderr)
    for name, figure in zip(FIGURES, (draw_examples(shown), draw_houses(model.decode(last.z_t)))):
        image = sheets.as_image(figure, dpi=110)
        save_atomically(lambda part, image=image: image.save(part, format="PNG"), FOLDER / name)
        print(f"look at {FOLDER / name}")
