"""Checks shapes and types of arguments and results, in the modules that annotate shapes.

In those alone: a check takes longer than most functions without arrays, such as those of words.
"""

import re
from pathlib import Path

from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[2]
ANNOTATES = re.compile(r"from (jaxtyping|ldm\.shapes) import")


def annotated() -> list[str]:
    """The names of those modules."""
    sources = (path for package in ("ldm", "p2p", "weights") for path in (ROOT / package).rglob("*.py"))
    found = (path for path in sources if ANNOTATES.search(path.read_text("utf-8")))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found]


install_import_hook(annotated(), "beartype.beartype")
