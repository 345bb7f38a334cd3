"""The option that names a student's file, and the file as a module."""

import runpy
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--student", type=Path, help="the student's file, homework.py filled in")


def pytest_configure(config):
    path = config.getoption("student")
    if path is None or not path.is_file():
        raise pytest.UsageError(f"give the student's file: --student homework.py, not {path}")


@pytest.fixture(scope="session")
def student(request) -> dict:
    """The names that the student's file defines. Running it is running the student's code."""
    path = request.config.getoption("student")
    try:
        return runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        pytest.fail(f"{path} does not run: {type(error).__name__}: {error}", pytrace=False)
