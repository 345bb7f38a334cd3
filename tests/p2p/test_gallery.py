"""The gallery's examples are calls that can be made."""

import pytest

from p2p.call import Call
from p2p.cli.gallery import EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_an_example_fits_its_prompts_and_travels(tiny, example):
    call = example.call(tiny)
    call.start(tiny)  # refuses what does not fit, before any step
    assert Call.from_json(call.to_json()) == call
