"""The lessons without solutions and outputs, for students: `python -m notebooks.strip FOLDER`.

Solutions stand between the marks that nbgrader uses too. Beside the lessons, homework.py has the exercises of the
homework, to be filled in.
"""

import re
import sys
from itertools import pairwise
from pathlib import Path

import jupytext
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks.homework import CHECKS

SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)
ASKED = re.compile(r"\*\*Exercise .*", re.DOTALL)
HEAD = """\
# Homework: mappers and injection

The lessons of these numbers have the formulas. Run this file to hear, for each function, whether it is right."""
LESSONS = sorted(Path(__file__).parent.glob("[0-9]*.py"))


def stripped(source: str) -> str:
    """A cell with a placeholder in the place of its solution."""
    return SOLUTION.sub(r"\1...  # your code here", source)


def homework() -> str:
    """The homework as a Python file, solved: of each exercise the question as a comment, the function and its check."""
    found = {}
    for lesson in LESSONS:
        cells = jupytext.read(lesson).cells
        for question, cell in pairwise(cells):
            if name := re.match(r"def my_(\w+)", cell.source):
                found[name[1]] = [new_markdown_cell(ASKED.search(question.source)[0]), new_code_cell(cell.source)]
    head = [new_markdown_cell(HEAD), new_code_cell("import torch\n\nfrom notebooks import check")]
    exercises = [cell for name in CHECKS for cell in found[name]]
    return jupytext.writes(new_notebook(cells=head + exercises), "py:percent")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in LESSONS:
        notebook = jupytext.read(path)
        for cell in notebook.cells:
            cell.source = stripped(cell.source)
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")
        print(folder / f"{path.stem}.ipynb")
    (folder / "homework.py").write_text(stripped(homework()), encoding="utf-8")
    print(folder / "homework.py")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
