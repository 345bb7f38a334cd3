"""The lessons as they are stored, and executed anew: `make test-notebooks`."""

import ast
import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(ROOT.glob("[0-9]*.py"))
MEGABYTES = 10  # of stored outputs, together
HANGS = 900  # seconds: a cell that takes longer has stopped, however busy the machine is

lesson = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def stored(source: Path) -> dict:
    return json.loads(source.with_suffix(".ipynb").read_text("utf-8"))


def code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@lesson
def test_every_cell_is_stored_executed_in_order_without_errors(source):
    cells = code(stored(source))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    said = "".join(line for output in outputs if output.get("name") == "stderr" for line in output["text"])
    assert "Warning" not in said and "%|" not in said  # nor progress bars


@lesson
def test_every_stored_figure_has_a_description(source):
    for cell in code(stored(source)):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"]["image/png"]["alt"]) > 20, "".join(cell["source"])


@lesson
def test_every_exercise_is_solved_and_checked(source):
    exercises = [cell for cell in code(stored(source)) if "exercise" in cell["metadata"].get("tags", [])]
    assert exercises
    for cell in exercises:
        text = "".join(cell["source"])
        assert "### BEGIN SOLUTION" in text and "### END SOLUTION" in text and "check." in text
        printed = "".join(line for output in cell["outputs"] for line in output["text"])
        assert printed.startswith("Right: "), printed


@lesson
def test_a_lesson_needs_two_lines_of_imports_from_here(source):
    imports = [node for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    ours = [node.module for node in imports if re.match(r"(ldm|p2p|weights|notebooks)\b", node.module)]
    assert ours == ["notebooks"]


@lesson
@pytest.mark.parametrize("installed", [True, False])
def test_the_first_cell_installs_only_what_is_missing(source, installed, monkeypatch):
    """As in Colab, which has a notebook and nothing of its project."""
    cell = code(stored(source))[0]
    assert cell["metadata"]["tags"] == ["install"] and cell["outputs"] == []
    ran = []
    shell = SimpleNamespace(run_line_magic=lambda *call: ran.append(call))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    if not installed:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec("".join(cell["source"]), {})
    address = tomllib.loads((ROOT.parent / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    assert ran == ([] if installed else [("pip", f"install --quiet git+{address}")])


def test_stored_outputs_are_small():
    assert sum(source.with_suffix(".ipynb").stat().st_size for source in SOURCES) < MEGABYTES * 1e6


@pytest.mark.notebooks
@lesson
def test_a_stored_notebook_is_its_source(source):
    import jupytext

    cells = jupytext.read(source).cells
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in stored(source)["cells"]]
    assert found == [(cell.cell_type, cell.source) for cell in cells], "run `make notebooks`"


@pytest.mark.notebooks
def test_students_get_every_exercise_without_its_solution(tmp_path):
    import jupytext

    from notebooks import strip

    strip.main(tmp_path)
    for source in SOURCES:
        cells = jupytext.read(tmp_path / f"{source.stem}.ipynb").cells
        exercises = [cell.source for cell in cells if "exercise" in cell.metadata.get("tags", [])]
        assert len(exercises) == source.read_text("utf-8").count('tags=["exercise"]') > 0
        for text in exercises:
            assert "SOLUTION" not in text and re.search(r"def my_\w+\(.*\):\n    \.\.\.  # your code here\n", text), (
                text
            )


@pytest.mark.notebooks
@lesson
def test_a_lesson_runs_in_a_fresh_kernel_in_another_folder(source, tmp_path):
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(source)
    NotebookClient(notebook, timeout=HANGS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not list(tmp_path.iterdir())
