"""The thirteen checks: each function is right, or a sentence tells the student why it is not."""

import pytest

from notebooks import check
from notebooks.check.exercise import Wrong
from notebooks.homework import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_function(name, student):
    answer = student.get(f"my_{name}")
    if answer is None:
        pytest.fail(f"my_{name} is missing", pytrace=False)
    try:
        getattr(check, name).examine(answer)
    except Wrong as wrong:
        pytest.fail(str(wrong), pytrace=False)
