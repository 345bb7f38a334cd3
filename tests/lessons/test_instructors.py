"""The instructor's page: its tables are those of the lessons and of the register, and no slide or slip is left out."""

import re

import pytest

from p2p.equations import instructors
from p2p.equations.errata import ERRATA
from p2p.equations.slides import SLIDES

PAGE = instructors.PAGE.read_text(encoding="utf-8")


def test_the_tables_are_up_to_date():
    assert instructors.written(PAGE) == PAGE, "docs/instructors.md is stale: run `make equations`"
    assert instructors.slides() in PAGE and instructors.times() in PAGE


@pytest.mark.parametrize("slide", SLIDES, ids=lambda slide: slide.subject)
def test_every_slide_is_shown_in_a_section(slide):
    assert any(instructors.shows(section, slide) for section in instructors.sections())


def test_a_section_is_told_by_its_rows_and_words():
    by_row = instructors.Section("07_x", "7.9 A: title", "as [P6-P8] says")
    assert [s.subject for s in SLIDES if instructors.shows(by_row, s)] == ["Prompts of different lengths: the mapper"]
    assert by_row.link == "[7.9 A: title](../notebooks/07_x.ipynb#79-a-title)"
    by_words = instructors.Section("06_x", "6.1", 'p2p.restore("colour", image)')
    assert [s.subject for s in SLIDES if instructors.shows(by_words, s)] == ["Tasks of image generation"]


def test_every_slip_has_a_sentence_for_the_class_in_order():
    table = PAGE.split("## What to say about each slip")[1]
    assert re.findall(r"^\| (.+?) \| .{30,} \|$", table, re.MULTILINE) == [e.row or e.forms for e in ERRATA]
