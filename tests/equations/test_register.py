"""The register is whole: every row has its function, its test and its numbers, and EQUATIONS.md says so."""

import math
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import pytest
import torch
from mutants import mutants_of

from p2p.equations import explain, index
from p2p.equations.errata import ERRATA, OF_ROWS, OTHERS
from p2p.equations.explain import EXAMPLES, listing
from p2p.equations.register import FORMULAS
from p2p.equations.slides import SLIDES
from p2p.equations.slips import SLIPS

DEFINITIONS = index.definitions()
MARKS = list(index.tests())


def test_the_register_has_every_formula_of_the_lecture_in_order():
    numbers = {"D": 19, "B": 3, "C": 9, "P": 13}
    assert list(FORMULAS) == [f"{letter}{i}" for letter, n in numbers.items() for i in range(1, n + 1)]


def test_equations_md_is_up_to_date():
    written = (index.ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
    assert written == index.markdown(), "EQUATIONS.md is stale: run `make equations`"


@pytest.mark.parametrize("id", FORMULAS)
def test_a_rows_home_exists_and_carries_its_id(id):
    home = [d for d in DEFINITIONS if d.name == FORMULAS[id].home]
    assert home, f"{id} names {FORMULAS[id].home}, which is not there"
    assert id in index.ids_in(home[0].docstring), f"the docstring of {FORMULAS[id].home} lacks [{id}]"


@pytest.mark.parametrize("id", FORMULAS)
def test_a_row_says_where_it_is_from(id):
    """Printed or said on a slide of the list, or added here: then on none, and no slip of the slides."""
    row = FORMULAS[id]
    assert row.origin in ("printed", "prose", "added")
    if row.origin == "added":
        assert row.slide is None and not row.corrected
    else:
        assert row.slide in SLIDES


def test_what_is_on_no_slide_is_not_called_printed():
    """What the lecture does not print as a formula, by an instructor's list."""
    unprinted = ["D16", "D17", "D18", "B2", "B3", "C7", "C9", "P1", "P2", "P5", "P8", "P10", "P11", "P12", "P13"]
    assert [id for id in unprinted if FORMULAS[id].origin == "printed"] == []
    assert all(FORMULAS[id].origin == "added" for id in ("D16", "D17", "D18"))


@pytest.mark.parametrize("id", FORMULAS)
def test_a_row_has_a_test(id):
    assert any(marked == id for marked, _ in MARKS), f"no test is marked pytest.mark.equation({id!r})"


@pytest.mark.parametrize("id", FORMULAS)
def test_a_row_is_in_a_lesson(id):
    assert index.lessons_of(id), f"no lesson names [{id}]"


def test_ids_in_marks_and_docstrings_are_known():
    assert {id for id, _ in MARKS} <= set(FORMULAS)
    for definition in DEFINITIONS:
        assert set(index.ids_in(definition.docstring)) <= set(FORMULAS), definition.name


def test_a_test_is_where_its_mark_says():
    """A test named after a row is marked with it, in tests/equations."""
    marks = defaultdict(set)
    for id, test in MARKS:
        marks[test.path, test.name].add(id)
    for path in sorted((index.ROOT / "tests" / "equations").glob("test_*.py")):
        for name in re.findall(r"^def (test_([dbc]\d+)_\w+)", path.read_text(encoding="utf-8"), flags=re.M):
            assert name[1].upper() in marks[path.relative_to(index.ROOT), name[0]], name[0]


def test_no_formula_is_stated_in_two_places():
    """Stated: a docstring begins with the id and goes on with `left side = right side`. Parts of a row have left sides
    of their own; the same left side under the same id, or the same text anywhere else, is a second home."""
    stated = [(d, index.stated(d.docstring)) for d in DEFINITIONS]
    places = Counter((id, left) for d, left in stated if left for id in index.claims(d.docstring))
    assert [place for place, count in places.items() if count > 1] == []

    files = [path for package in index.PACKAGES for path in (index.ROOT / package).rglob("*.py")]
    everything = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in files)
    for definition, left in stated:
        if left:
            words = definition.docstring.split(f"{left} = ", 1)[1].split()
            text = f"{left} = {' '.join(words[:5])}"  # no two formulas here begin with the same five
            assert everything.count(text) == 1, f"{text!r} of {definition.name} is stated again"


def test_a_claim_without_a_formula_is_told_from_one_with():
    assert index.claims("[D7, D8] Mean") == ["D7", "D8"]
    assert index.claims("[P6-P8] The matrix") == ["P6", "P7", "P8"]
    assert index.claims("As [D7] says") == []
    assert index.stated("[D6] z_t = a z_0: t steps [D5]") == "z_t"
    assert index.stated("[D6] solved for eps.") is None


@pytest.mark.parametrize("id", FORMULAS)
def test_a_row_has_numbers(id):
    for label, value in EXAMPLES[id]().items():
        assert label
        assert torch.as_tensor(value, dtype=torch.float64).isfinite().all()


@pytest.mark.parametrize("id", FORMULAS)
def test_explain_shows_the_row_and_its_source(id):
    text = " ".join(explain.explanation(id).split())  # long notes are wrapped
    formula = FORMULAS[id]
    assert formula.latex in text and formula.home in text
    assert ("as printed:" in text) == (formula.origin == "printed")
    assert formula.corrected in text and formula.note in text
    name = formula.home.rsplit(".", 1)[1]
    assert f"def {name}" in text or f"class {name}" in text


def test_the_errata_show_both_numbers():
    """Where a slip changes a number, the example has it as printed and as corrected, and they differ."""
    for id in ("D6", "D7", "D9", "D12", "D13", "C5"):
        example = EXAMPLES[id]()
        printed, corrected = (next(v for k, v in example.items() if k.startswith(w)) for w in ("printed", "corrected"))
        corrected = corrected[0] if isinstance(corrected, list) else corrected
        assert not math.isclose(printed, corrected, rel_tol=1e-3, abs_tol=1e-6), id


def test_every_slip_is_in_the_errata_and_every_form_is_used():
    assert [e.row for e in OF_ROWS] == [id for id in FORMULAS if FORMULAS[id].corrected]
    assert len(ERRATA) == len(OF_ROWS) + len(OTHERS)
    assert sorted(e.forms for e in ERRATA if e.forms) == sorted(SLIPS)
    assert {e.row for e in ERRATA if e.row} <= set(FORMULAS)
    assert all(e.printed and e.corrected and e.why for e in ERRATA)


def test_no_slide_is_left_out_of_the_index():
    """A slide has a row, an erratum or something that shows it; what it links to is there."""
    text = index.markdown().split("## Slide by slide")[1].split("\n## ")[0]
    assert [line.split(" | ")[0][2:] for line in text.splitlines() if line.startswith("| ")][1:] == [
        slide.subject for slide in SLIDES
    ]
    for slide in SLIDES:
        rows = [f for f in FORMULAS.values() if f.slide == slide]
        assert rows or slide.shown or any(e.forms for e in ERRATA if e.slide == slide), slide.subject
        for path in re.findall(r"\]\(([^)#]+)", slide.shown):
            assert (index.ROOT / path).exists(), path


def test_the_list_has_a_line_for_each_formula_and_marks_the_slips():
    lines = listing().splitlines()
    assert [line.split()[0].rstrip("*") for line in lines] == list(FORMULAS)
    slips = {erratum.row for erratum in ERRATA}
    assert [line[:4].strip() for line in lines if line[4] == "*"] == [id for id in FORMULAS if id in slips]
    assert {id for id in FORMULAS if FORMULAS[id].corrected} < slips and {"B2", "P7"} < slips
    assert "average over big and orange" in explain.explanation("P7")
    assert [line[:4].strip() for line in lines if line[4] == "+"] == ["D16", "D17", "D18"]


def test_an_unknown_id_is_told_the_known_ones():
    with pytest.raises(ValueError, match=r"there is no formula 'D99'; the ids are D1, D2, .*P13"):
        explain.explanation("D99")


def test_the_command_prints_and_refuses():
    run = lambda *args: subprocess.run(
        [sys.executable, "-m", "p2p", "equations", *args], capture_output=True, text=True
    )
    shown = run("D7")
    assert shown.returncode == 0 and "Bayes" in shown.stdout and not shown.stderr
    refused = run("D99")
    assert refused.returncode == 1 and "there is no formula 'D99'" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("id", FORMULAS)
def test_every_mutant_of_a_row_is_killed(id):
    """As `make mutants` last found it, with the tests that there are now, on functions that are still the same in what
    was changed."""
    tried = [m for m in index.mutants() if m["id"] == id]
    assert len(tried) >= 3
    assert {m["proof"] for m in tried} == {index.proof(id, MARKS)}, f"run tests/mutants.py {id}"
    assert [m for m in tried if m["result"] != "killed"] == []
    assert [m for m in tried if m["change"] not in changes_to(m["function"])] == []


@cache
def changes_to(function: str) -> set[str]:
    return {mutant.change for mutant in mutants_of(function)}
