"""The lecture's own examples, drawn: `python -m p2p.experiments.lecture_examples` writes out/lecture.png.

"orange cat sitting" becomes "big tabby cat sitting", by the slides' attention of five positions; alpha_t over three
steps; "estoy llegando tarde" is translated to "I am running late"; and the included CLIP compares images of the
included model with their captions, and names what they show.
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.lecture_examples"))

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from ldm.contrastive import similarity, zero_shot
from ldm.equations.translation import SOURCE, TARGET, trained_translation
from ldm.helpers.files import check_writable, save_atomically
from p2p.equations.examples import ORANGE, PRINTED, TABBY, alpha_matrices, matrix
from p2p.figures.edit_matrices import heat_map
from p2p.figures.fonts import CAPTION
from p2p.figures.sheets import GAP, INK, MARGIN, Sheet, as_image
from weights.load import load, load_clip

OUTPUT = Path("out/lecture.png")
POSITIONS = [f"position {i}" for i in range(1, 6)]
CELL, LEFT, TITLE, BELOW = 0.36, 0.85, 0.5, 0.75  # inches: of a number, and the room around a matrix
CAPTIONS = {  # by the noun
    "cat": "a photo of a cat on the grass",
    "car": "a photo of a car on the street",
    "castle": "a painting of a castle in the desert",
    "pizza": "a photo of a pizza on a table",
    "ball": "a photo of a ball on the beach",
    "penguin": "a photo of a penguin in the snow",
    "lion": "a photo of a lion in the desert",
    "owl": "a photo of an owl at night",
}

Panel = tuple[str, Float[Tensor, "n m"], list[str], list[str]]  # caption, matrix, its rows' and its columns' labels


def panels() -> list[list[Panel]]:
    """The matrices, by rows of the figure."""
    orange, tabby = ORANGE.split(), TABBY.split()
    pair = ("orange", "big tabby")
    copied, split = matrix(ORANGE, TABBY, pair, "copy"), matrix(ORANGE, TABBY, pair)
    A = trained_translation().A(SOURCE, TARGET).double().round(decimals=2)
    return [
        [
            ("A, as printed", PRINTED, POSITIONS, orange),
            ("M: nothing changes", torch.eye(3, dtype=torch.float64), orange, orange),
            ("A M", PRINTED @ torch.eye(3, dtype=torch.float64), POSITIONS, orange),
        ],
        [
            ("M: copied,\nthe first row sums to 2", copied, orange, tabby),
            ("A M", PRINTED @ copied, POSITIONS, tabby),
            ("M: split [P7],\nrows sum to 1", split, orange, tabby),
            ("A M", PRINTED @ split, POSITIONS, tabby),
        ],
        [
            *((f"alpha_{name} [P9]", alpha, POSITIONS, tabby) for name, alpha in alpha_matrices().items()),
            ("A of a translation [C8]", A, TARGET.split(), SOURCE.split()),
        ],
    ]


class Compared(NamedTuple):
    """Images beside texts, as CLIP compares them [C9]."""

    images: UInt8[np.ndarray, "n H W 3"]
    cosines: Float[Tensor, "n n"]  # with the captions of all
    nouns: Float[Tensor, "n k"]  # probabilities of those of the captions, then of any other noun


def compared(**sampling) -> Compared:
    """Generate an image of each caption, and compare them by the included CLIP; its zero-shot classifier chooses among
    all nouns of the stickers."""
    model, (clip, tokenizer) = load("stickers", device="cpu"), load_clip("stickers-clip", device="cpu")
    n, captions, all_nouns = len(CAPTIONS), list(CAPTIONS.values()), model.vocabulary.kinds["nouns"]
    nouns = [*CAPTIONS, *(noun for noun in all_nouns if noun not in CAPTIONS)]
    labels = [f"a photo of {'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in nouns]
    images = model.generate(captions, list(range(n)), **sampling)
    of_images, of_captions, of_labels = (
        clip.embed_images(images),
        *(clip.embed_text(tokenizer.batch(texts)) for texts in (captions, labels)),
    )
    p = zero_shot(of_images, of_labels, clip.logit_scale.exp())
    others = p[:, n:].sum(dim=1, keepdim=True)
    return Compared(images, similarity(of_images, of_captions, 1.0), torch.cat([p[:, :n], others], dim=1))


def figure(clip: Compared) -> Figure:
    """Draw every matrix with its numbers."""
    rows = panels()
    width = max(sum(LEFT + CELL * M.shape[1] for _, M, _, _ in row) for row in rows)
    sheet = Sheet(width + 2 * MARGIN, f"{ORANGE}  →  {TABBY}")
    for row in rows:
        left, top = MARGIN, sheet.bottom + TITLE
        for caption, M, ours, theirs in row:
            height, width = (CELL * side for side in M.shape)
            axis = sheet.axes(left + LEFT, top, width, height)
            heat_map(axis, M, ours, theirs, float(M.max()))
            axis.set_title(caption, fontsize=CAPTION, color=INK, pad=6)
            left += LEFT + width
        sheet.bottom += BELOW
    draw_clip(sheet, clip)
    return sheet.done()


def draw_clip(sheet: Sheet, clip: Compared) -> None:
    """Draw the two matrices side by side at the bottom, each with the images at the left of its rows."""
    left, top = MARGIN + LEFT, sheet.bottom + TITLE
    for caption, M, texts in (
        ("CLIP [C9]: cosines of images and captions", clip.cosines, [*CAPTIONS.values()]),
        (
            'zero-shot classifier [C9]: probabilities of\n"a photo of a cat", ...',
            clip.nouns,
            [*CAPTIONS, "another noun"],
        ),
    ):
        axis = sheet.axes(left, top, CELL * M.shape[1], CELL * M.shape[0])
        heat_map(axis, M.double().round(decimals=2), [""] * len(M), texts, 1.0)
        axis.set_title(caption, fontsize=CAPTION, color=INK, pad=6)
        for i, image in enumerate(clip.images):
            sheet.image(left - CELL - GAP / 2, top + i * CELL, CELL, ("", image))
        left += CELL * M.shape[1] + LEFT + CELL
    sheet.bottom += 1.9  # captions, rotated


def main() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    save_atomically(lambda part: as_image(figure(compared()), dpi=100).save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")
