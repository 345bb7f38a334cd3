"""Fonts for prompts in any script: matplotlib's own, and others of the machine for the letters that it lacks."""

from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text

OWN = "DejaVu Sans"  # comes with matplotlib
NO_LETTERS = "LastResort"  # a font of this name has a box for every letter


@cache
def own_font() -> str:
    """The file of the font that comes with matplotlib."""
    return findfont(OWN)


def prepare(figure: Figure) -> None:
    """Let every text of a figure be drawn as it is written: in fonts that have its letters, as far as the machine has
    any, and with dollars as dollars, not as the bounds of a formula."""
    for axis in figure.axes:  # labels of ticks are made when they are asked for
        axis.get_xticklabels(), axis.get_yticklabels()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        if not text.get_text().isascii():
            others = dict.fromkeys(font_with(letter) for letter in text.get_text() if not letter.isspace())
            text.set_fontfamily([OWN, *filter(None, others)])


@cache
def font_with(letter: str) -> str | None:
    """The name of a font beside our own that has a letter; None if ours has it, or if none does."""
    if has(own_font(), letter):
        return None
    fonts = sorted(fontManager.ttflist, key=_strangeness)
    return next((font.name for font in fonts if NO_LETTERS not in font.name and has(font.fname, letter)), None)


def has(file: str, letter: str) -> bool:
    """Whether a font that can be drawn with has a letter."""
    try:
        font = get_font(file)
        font.set_size(12, 72)  # which fonts made of pixels refuse
        return font.get_char_index(ord(letter)) != 0
    except (OSError, RuntimeError):
        return False


def _strangeness(font: FontEntry) -> tuple:
    """Upright and sans-serif fonts of usual weight come first."""
    return (font.style != "normal", font.weight not in (400, "regular", "normal"), "Sans" not in font.name, font.name)
