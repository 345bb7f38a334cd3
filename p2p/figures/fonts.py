"""Fonts for prompts in any script: matplotlib's own, and installed fonts for the letters that it lacks."""

from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text

OWN = "DejaVu Sans"  # comes with matplotlib
NO_LETTERS = "LastResort"  # fonts of this name draw every letter as a box


@cache
def own_font() -> str:
    """The file of the font that comes with matplotlib."""
    return findfont(OWN)


def prepare(figure: Figure) -> None:
    """Draw every text of a figure literally: in fonts that have its letters, if any is installed, and with dollar signs
    not read as the bounds of a formula."""
    for axis in figure.axes:  # tick labels are created on access
        axis.get_xticklabels(), axis.get_yticklabels()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            others = dict.fromkeys(font_with(letter) for letter in text.get_text() if not letter.isspace())
            text.set_fontfamily([OWN, *filter(None, others)])


@cache
def font_with(letter: str) -> str | None:
    """The name of another font that has the letter; None if matplotlib's own has it, or if none does."""
    if has(own_font(), letter):
        return None
    fonts = sorted(fontManager.ttflist, key=_strangeness)
    return next((font.name for font in fonts if NO_LETTERS not in font.name and has(font.fname, letter)), None)


def has(file: str, letter: str) -> bool:
    """True if the font has the letter and can be drawn with."""
    try:
        font = get_font(file)
        font.set_size(12, 72)  # fails for bitmap fonts
        return font.get_char_index(ord(letter)) != 0
    except (OSError, RuntimeError):
        return False


def _strangeness(font: FontEntry) -> tuple:
    """Sort key: upright sans-serif fonts of regular weight first."""
    return (font.style != "normal", font.weight not in (400, "regular", "normal"), "Sans" not in font.name, font.name)
