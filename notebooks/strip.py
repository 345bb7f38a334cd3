"""The lessons without solutions and outputs, for students: `python -m notebooks.strip FOLDER`.

Solutions stand between the marks that nbgrader uses too.
"""

import re
import sys
from pathlib import Path

import jupytext

SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.MULTILINE | re.DOTALL)


def stripped(source: str) -> str:
    """A cell with a placeholder in the place of its solution."""
    return SOLUTION.sub(r"\1...  # your code here", source)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(__file__).parent.glob("[0-9]*.py")):
        notebook = jupytext.read(path)
        for cell in notebook.cells:
            cell.source = stripped(cell.source)
        jupytext.write(notebook, folder / f"{path.stem}.ipynb")
        print(folder / f"{path.stem}.ipynb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
