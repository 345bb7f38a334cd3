"""The switch times that an edit has by default: they depend on what the prompts replace.

Another object has another shape, which the source's attention would suppress, so it is injected for fewer steps. All
other edits keep the shape. `make benchmark` measures the choice: on half of its scenes it was made, on the other half
it is reported.
"""

from typing import NamedTuple

from ldm.tokenizer import Tokens
from p2p.reading import read


class SwitchTimes(NamedTuple):
    """tau of cross-attention [P4], and that of self-attention; fractions of T."""

    tau: float
    until: float


FOR_OBJECTS, FOR_OTHERS = SwitchTimes(0.5, 0.8), SwitchTimes(0.2, 0.6)


def switch_times(source: Tokens, target: Tokens) -> SwitchTimes:
    """The switch times of an edit that replaces an object by another, or of any other edit."""
    return times_of(read(source, target).replaces_object)


def times_of(replaces_object: bool) -> SwitchTimes:
    """The same, once the prompts have been read."""
    return FOR_OBJECTS if replaces_object else FOR_OTHERS
