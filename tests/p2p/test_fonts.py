"""Prompts in any script are drawn as they are written, and no letter makes a warning, which is an error here."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from p2p.figures import sheets
from p2p.figures.fonts import font_with, own_font

LETTER = "\U00013000"  # an Egyptian hieroglyph, which few machines have a font for


@pytest.fixture
def machine_with_the_letter(tmp_path, monkeypatch):
    """A font whose one letter fills its whole square."""
    pen = TTGlyphPen(None)
    for k, corner in enumerate([(0, 0), (0, 1000), (1000, 1000), (1000, 0)]):
        (pen.lineTo if k else pen.moveTo)(corner)
    pen.closePath()
    square = pen.glyph()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "letter"])
    font.setupCharacterMap({ord(LETTER): "letter"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "letter": square})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "letter": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares Sans", "styleName": "Regular"})
    font.setupOS2(sTypoAscender=1000, usWinAscent=1000)
    font.setupPost()
    font.save(tmp_path / "squares.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(fontManager.ttflist))
    fontManager.addfont(tmp_path / "squares.ttf")
    font_with.cache_clear()
    yield "Squares Sans"
    font_with.cache_clear()


def dark(text: str) -> int:
    """Pixels of a line of text of 36 points, at 72 to the inch, that are darker than half."""
    sheet = sheets.Sheet(4.0)
    sheet.text(0.2, 0.2, text, 36.0)
    return int((np.asarray(sheets.as_image(sheet.done(), dpi=72).convert("L")) < 128).sum())


def test_a_letter_our_font_lacks_is_drawn_in_another(machine_with_the_letter):
    assert font_with(LETTER) == machine_with_the_letter and font_with("a") is None
    assert dark(f"a{LETTER}") - dark("a") == pytest.approx(36**2, abs=4 * 36)  # but for half a pixel on every side


def test_a_letter_that_no_font_has_is_a_box(monkeypatch):
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.fname == own_font()])
    font_with.cache_clear()
    assert font_with(LETTER) is None
    assert dark(LETTER) > 0
    font_with.cache_clear()


@pytest.mark.parametrize("text", ["$5 and $6", r"$\frac$", "a_{b $ c^"])
def test_dollars_are_drawn_as_dollars(text):
    assert dark(text) > dark(text.replace("$", "")) > 0
