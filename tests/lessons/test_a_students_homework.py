"""The homework: thirteen checks that a right file passes, and that tell a wrong one apart function by function."""

import subprocess
import sys
from pathlib import Path

import pytest

from notebooks.homework import CHECKS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.notebooks


@pytest.fixture(scope="module")
def solved() -> str:
    """A right answer: the lessons' own solutions."""
    from notebooks.strip import homework

    return homework()


@pytest.fixture
def graded(tmp_path):
    """Grade a student's file as an instructor does."""

    def grade(source: str) -> subprocess.CompletedProcess:
        path = tmp_path / "homework.py"
        path.write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "notebooks/homework", "--student", path]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    return grade


def test_a_right_file_passes_all_thirteen_checks(solved, graded):
    result = graded(solved)
    assert "13 passed" in result.stdout and result.returncode == 0, result.stdout
    assert len(CHECKS) == len(set(CHECKS)) == 13


def test_a_wrong_function_fails_alone_with_its_sentence(solved, graded):
    wrong = solved.replace("if len(source) == len(target):", "if False:").replace("return A @ M\n", "return A\n")
    result = graded(wrong)
    assert "2 failed, 11 passed" in result.stdout and result.returncode == 1, result.stdout
    for name, sentence in (
        ("mapper", "two tokens that become two others map one to one"),
        ("inject", "multiply A by M"),
    ):
        assert f"test_function[{name}]" in result.stdout and sentence in result.stdout


def test_the_file_that_students_get_has_no_answer(solved, graded):
    from notebooks.strip import stripped

    result = graded(stripped(solved))
    assert "13 failed" in result.stdout and "returns nothing" in result.stdout, result.stdout


def test_a_missing_function_and_a_missing_file_are_named(solved, graded):
    assert "my_blend is missing" in graded(solved.replace("my_blend", "my_mix")).stdout
    done = graded("def my_mapper(:")
    assert "does not run: SyntaxError" in done.stdout and "13 errors" in done.stdout
    command = [sys.executable, "-m", "pytest", "notebooks/homework", "--student", "nowhere.py"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "give the student's file: --student homework.py, not nowhere.py" in refused.stderr
