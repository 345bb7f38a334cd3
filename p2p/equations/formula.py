"""A row of the register: a formula of the lecture, and where it is from."""

from typing import Literal, NamedTuple

from p2p.equations.slides import Slide

Origin = Literal["printed", "prose", "added"]
ORIGINS = {"printed": "as printed", "prose": "in words on the slide", "added": "on no slide"}


class Formula(NamedTuple):
    """One row.

    Args:
        id: its letter and number.
        title: of the row.
        origin: `printed` on the slide, said there in words (`prose`), or `added` here.
        slide: where it is printed or said; None if it is added.
        latex: the formula as printed; if it is not, the formula that the words mean, or that is added.
        home: the full name of the function that states the formula in code.
        corrected: the right formula, if the slide has a slip.
        note: explains the slip, or is a remark.
    """

    id: str
    title: str
    origin: Origin
    slide: Slide | None
    latex: str
    home: str
    corrected: str = ""
    note: str = ""
