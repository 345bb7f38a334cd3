"""Every kind of edit in one picture: `python -m p2p.gallery` writes docs/gallery.png.

Each row is a call as the command line would save it: the source, the same seed with the prompt changed, the edit.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ldm.files import save_atomically
from p2p import show
from p2p.algorithm import SelfInjection
from p2p.alpha import Alpha
from p2p.baselines import fixed_seed
from p2p.call import Call, Sampling, Target
from p2p.edits import Edit, Preserve, Refine, Reweight, Swap
from p2p.local_blend import Region
from weights.load import load

OUTPUT = Path("docs/gallery.png")
STEPS = 30


class Example(NamedTuple):
    """One edit, and what to look for."""

    title: str
    source: str
    target: str
    edit: Edit
    seed: int
    self_until: float = 0.6
    region: Region | None = None

    def call(self) -> Call:
        return Call(
            self.source,
            (Target.of(self.target, self.edit, self.region),),
            SelfInjection(self.self_until),
            sampling=Sampling(self.seed, STEPS),
        )


EXAMPLES = (
    Example(
        "noun swap",
        "a photo of a cat on the grass",
        "a photo of a dog on the grass",
        Swap("cat", "dog"),
        seed=4,
    ),
    Example(
        "swap of 1 token for 3",
        "a photo of a balloon at night",
        "a photo of an umbrella at night",
        Swap("balloon", "umbrella"),
        seed=3,
    ),
    Example(
        "colour swap",
        "a photo of a red car on the street",
        "a photo of a blue car on the street",
        Swap("red", "blue"),
        seed=5,
    ),
    Example(
        "style",
        "a photo of a castle on the grass",
        "a pencil drawing of a castle on the grass",
        Swap("photo", "pencil drawing", Alpha(0.4)),
        seed=1,
    ),
    Example(
        "phrase inserted",
        "a photo of a cake on a table",
        "a photo of a cake with sprinkles on a table",
        Refine(),
        seed=3,
    ),
    Example(
        "phrase deleted",
        "a photo of a house on the grass with snowflakes",
        "a photo of a house on the grass",
        Refine(),
        seed=3,
    ),
    Example(
        "fog turned up",
        "a photo of a tree on the grass in fog",
        "a photo of a tree on the grass in fog",
        Refine() + Reweight("fog", 3.0),
        seed=5,
    ),
    Example(
        "fog turned down",
        "a photo of a tree on the grass in fog",
        "a photo of a tree on the grass in fog",
        Refine() + Reweight("fog", -1.0),
        seed=5,
    ),
    Example(
        "one word preserved",
        "a photo of a butterfly on the grass",
        "a photo of a butterfly in the desert",
        Preserve("butterfly"),
        seed=5,
        self_until=1.0,
    ),
    Example(
        "local blend",
        "a photo of a car on the street",
        "a photo of a green car on the street",
        Refine(),
        seed=1,
        region=Region(("car",)),
    ),
    Example(
        "two edits composed",
        "a photo of a cat on the beach in fog",
        "a photo of a lion on the beach in fog",
        Swap("cat", "lion") + Reweight("fog", 2.0),
        seed=4,
    ),
)


def main() -> None:
    model = load("stickers")
    rows = []
    for example in tqdm(EXAMPLES, unit="edit", file=sys.stderr):
        call = example.call()
        *_, plain = fixed_seed(model, [call.source, example.target], example.seed, steps=STEPS)
        *_, edited = call.start(model)
        source, baseline = model.decode(plain.z_t)
        where = f", only where {' or '.join(example.region.words)} is looked at" if example.region else ""
        rows.append(
            [
                (f"{example.title}: {example.source}", source),
                (f"same seed: {example.target}", baseline),
                (f"{example.edit}{where}", model.decode(edited.z_t[1:])[0]),
            ]
        )
    halfway = -(-len(rows) // 2)
    figure = show.grid([a + b for a, b in zip(rows[:halfway], [*rows[halfway:], []])])
    OUTPUT.parent.mkdir(exist_ok=True)
    save_atomically(lambda part: show.as_image(figure, dpi=75).save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")


if __name__ == "__main__":
    main()
