"""The lecture's own examples, drawn: `python -m p2p.experiments.lecture_examples` writes out/lecture.png.

"orange cat sitting" becomes "big tabby cat sitting", by the slides' attention of five positions; alpha_t over three
steps; and "estoy llegando tarde" is translated to "I am running late".
"""

if __name__ == "__main__":
    from ldm.helpers.program import run

    raise SystemExit(run("p2p.experiments.lecture_examples"))

from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from ldm.equations.translation import SOURCE, TARGET, trained_translation
from ldm.helpers.files import check_writable, save_atomically
from p2p.equations.examples import ORANGE, PRINTED, TABBY, alpha_matrices, matrix
from p2p.figures.edit_matrices import heat_map
from p2p.figures.fonts import CAPTION
from p2p.figures.sheets import INK, MARGIN, Sheet, as_image

OUTPUT = Path("out/lecture.png")
POSITIONS = [f"position {i}" for i in range(1, 6)]
CELL, LEFT, TITLE, BELOW = 0.36, 0.85, 0.5, 0.75  # inches: of a number, and the room around a matrix

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


def figure() -> Figure:
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
    return sheet.done()


def main() -> None:
    OUTPUT.parent.mkdir(exist_ok=True)
    check_writable(OUTPUT)
    save_atomically(lambda part: as_image(figure(), dpi=100).save(part, format="PNG"), OUTPUT)
    print(f"look at {OUTPUT}")
