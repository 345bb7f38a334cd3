"""The thirteen checks: each function is right, or a sentence tells the student why it is not."""

import pytest

from notebooks import check
from notebooks.check.exercise import Wrong
from notebooks.homework import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_function(name, student):
    sentence = f"my_{name} is missing"
    if answer := student.get(f"my_{name}"):
        try:
            return getattr(check, name).examine(answer)
        except Wrong as wrong:
            sentence = str(wrong)
    pytest.fail(sentence, pytrace=False)
