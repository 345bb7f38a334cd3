"""Which function implements a formula of the register, and which test proves it: read off the code's own marks.

A docstring that begins with `[D7]` claims D7 for its function; a test marked `pytest.mark.equation("D7")` proves it.
`python -m ldm.index` writes the index to EQUATIONS.md.
"""

if __name__ == "__main__":
    from ldm.program import run

    raise SystemExit(run("ldm.index"))

import ast
import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ldm.files import save_atomically
from ldm.register import FORMULAS, Formula

ROOT = Path(__file__).parents[1]
PACKAGES = ("ldm", "p2p", "weights")
MUTANTS = ROOT / "tests" / "equations" / "mutants.csv"  # written by tests/mutants.py
IDS = re.compile(r"\[([DBCP]\d+(?:(?:, |-)[DBCP]\d+)*)\]")
KINDS = ("sign", "index", "root", "order", "other")  # of mutants

HEAD = """\
# Every formula of the lecture

Made by `make equations` from [`ldm/register.py`](ldm/register.py), the ids in docstrings and the marks of tests; a test
fails when it is stale, when a row lacks its function or its test, or when a formula is stated in two places. Where the
slide has a slip the row has the corrected form, which its test shows to hold, and where the slip changes a number that
the printed one fails, and by how much. `python -m ldm.explain D7` shows a row with its source and numbers.

| id | as printed | corrected, and why | functions | tests | notebook |
|---|---|---|---|---|---|
"""

MUTANTS_HEAD = """
## What breaks when a formula is broken

`make mutants` breaks each row's functions one change at a time and runs the row's tests: a mutant is killed when one of
them fails. Killed of tried, by what was changed: a sign or an operation; an index or a bound (t for t - 1); a root or a
power; the order of operands, axes or arguments; anything else. All changes are in
[`mutants.csv`](tests/equations/mutants.csv).

| id | sign | index | root | order | other | survived |
|---|---|---|---|---|---|---|
"""


class Definition(NamedTuple):
    """A function or a class of the packages."""

    name: str  # qualified, as ldm.schedule.Schedule.posterior
    path: Path  # from the repository's root
    docstring: str
    source: str


class Test(NamedTuple):
    """A test function with a mark."""

    name: str
    path: Path
    source: str


def ids_in(text: str) -> list[str]:
    """The ids in brackets, ranges written out: "[P6-P8]" is P6, P7, P8."""
    found = []
    for group in IDS.findall(text):
        for part in group.split(", "):
            first, _, last = part.partition("-")
            numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
            found += [f"{first[0]}{number}" for number in numbers]
    return found


def claims(docstring: str) -> list[str]:
    """The ids that a docstring begins with."""
    opening = IDS.match(docstring)
    return ids_in(opening.group()) if opening else []


def stated(docstring: str) -> str | None:
    """The left side of the formula that a docstring begins with after its ids, if it begins with one."""
    formula = re.match(IDS.pattern + r" ([^=:.]+?) = ", docstring)
    return formula.group(2) if formula else None


@cache
def definitions() -> tuple[Definition, ...]:
    """Every function, class and method of the packages that has a docstring."""
    return tuple(_definitions())


def _definitions() -> Iterator[Definition]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            relative = path.relative_to(ROOT)
            module = ".".join(relative.with_suffix("").parts)
            yield from _inside(ast.parse(source), module, relative, source)


def _inside(node: ast.AST, name: str, path: Path, source: str) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{name}.{child.name}"
            if docstring := ast.get_docstring(child):
                yield Definition(inner, path, docstring, ast.get_source_segment(source, child, padded=True))
            if isinstance(child, ast.ClassDef):
                yield from _inside(child, inner, path, source)


def tests() -> Iterator[tuple[str, Test]]:
    """(id, test) for every mark."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.equation":
                    for argument in mark.args:
                        source = ast.get_source_segment(text, node)
                        yield ast.literal_eval(argument), Test(node.name, path.relative_to(ROOT), source)


def proof(id: str, marked: Iterable[tuple[str, Test]]) -> str:
    """A digest of the row's tests, which changes with what any of them asserts."""
    sources = sorted(test.source for row, test in marked if row == id)
    return hashlib.sha256("\n".join(sources).encode()).hexdigest()[:12]


def functions_of(formula: Formula, found: tuple[Definition, ...]) -> list[Definition]:
    """The formula's home, then every other function that claims it."""
    home = [d for d in found if d.name == formula.home]
    return home + [d for d in found if formula.id in claims(d.docstring) and d not in home]


def mutants() -> list[dict[str, str]]:
    """What `make mutants` found: id, function, kind, change, result, the tests' `proof`; empty if it was never run."""
    return list(csv.DictReader(MUTANTS.read_text(encoding="utf-8").splitlines())) if MUTANTS.exists() else []


def _row(formula: Formula, functions: list[Definition], proofs: list[Test]) -> str:
    why = "<br>".join(part for part in (formula.corrected and f"${formula.corrected}$", formula.note) if part)
    cells = (
        formula.id,
        f"{formula.title}: ${formula.printed}$",
        why or "-",
        "<br>".join(f"[`{d.name.split('.', 2)[2]}`]({d.path})" for d in functions) or "-",
        "<br>".join(f"[`{test.name}`]({test.path})" for test in proofs) or "-",
        "-",
    )
    return "| " + " | ".join(cells) + " |\n"


def _mutants_row(id: str, tried: list[dict[str, str]]) -> str:
    total, killed = Counter(m["kind"] for m in tried), Counter(m["kind"] for m in tried if m["result"] == "killed")
    survived = [f"{m['function'].split('.', 2)[2]}: `{m['change']}`" for m in tried if m["result"] != "killed"]
    cells = (id, *(f"{killed[k]}/{total[k]}" if total[k] else "-" for k in KINDS), "<br>".join(survived) or "none")
    return "| " + " | ".join(cells) + " |\n"


def markdown() -> str:
    """EQUATIONS.md as it should be."""
    found, marks, tried = definitions(), list(tests()), mutants()
    text = HEAD
    for formula in FORMULAS.values():
        proofs = [test for id, test in marks if id == formula.id]
        text += _row(formula, functions_of(formula, found), proofs)
    if tried:
        text += MUTANTS_HEAD
        for id in FORMULAS:
            if of_row := [m for m in tried if m["id"] == id]:
                text += _mutants_row(id, of_row)
    return text


def main() -> None:
    save_atomically(lambda part: part.write_text(markdown(), encoding="utf-8"), ROOT / "EQUATIONS.md")
