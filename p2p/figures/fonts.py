"""Text in figures: fonts for prompts in any script, and the room that lines of text take.

The font is matplotlib's own; installed fonts have the letters that it lacks.
"""

import unicodedata
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, findfont, fontManager, get_font
from matplotlib.text import Text
from PIL import ImageFont

OWN = "DejaVu Sans"  # comes with matplotlib
NO_LETTERS = "LastResort"  # fonts of this name draw every letter as a box
TITLE, CAPTION, LABEL = 12.0, 10.0, 8.0  # sizes in points


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


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(own_font(), 72)  # one point per pixel


def length(text: str, size: float) -> float:
    """The width in inches of a line of text of this size in points; wide characters count as squares."""
    wide = [unicodedata.east_asian_width(c) in "WF" for c in text]
    narrow = "".join(c for c, is_wide in zip(text, wide) if not is_wide)
    return (_font().getlength(narrow) / 72 + sum(wide)) * size / 72


def height_of(text: str, size: float) -> float:
    """The height of lines of text, in inches."""
    return 1.25 * (text.count("\n") + 1) * size / 72


def fitted(text: str, width: float, size: float = LABEL) -> float:
    """The largest font size, at most `size`, at which a line is no wider than `width` inches."""
    return size * min(1, width / length(text, size))


def wrap(text: str, width: float, size: float = CAPTION) -> str:
    """Break text into lines of at most `width` inches, between words if possible; existing line breaks are kept."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            if line and length(f"{line} {word}", size) > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while length(line, size) > width and len(line) > 1:  # a single word that is too long
                cut = next(n for n in range(len(line) - 1, 0, -1) if n == 1 or length(line[:n], size) <= width)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return "\n".join(lines)
