"""`python -m ldm.explain D7`: a formula as its slide prints it, as corrected, why, its source and numbers."""

if __name__ == "__main__":
    from ldm.program import run

    raise SystemExit(run("ldm.explain"))

import argparse
import textwrap

from ldm import examples, index
from ldm.register import formula
from p2p import examples as edits

EXAMPLES = examples.EXAMPLES | edits.EXAMPLES  # of the model, and of what Prompt-to-Prompt does to it


def explanation(id: str) -> str:
    """Everything there is to say about an id.

    Raises:
        ValueError: there is no such formula.
    """
    row = formula(id)
    parts = [f"{row.id}  {row.title}", f"as printed:  {row.printed}"]
    if row.corrected:
        parts.append(f"corrected:   {row.corrected}")
    if row.note:
        parts.append(textwrap.fill(row.note, 120, break_on_hyphens=False))
    (home, *others) = index.functions_of(row, index.definitions())
    parts.append(f"{home.name}, in {home.path}:\n\n{home.source}")
    if others:
        parts.append("also: " + ", ".join(d.name for d in others))
    parts.append("in numbers:\n" + "\n".join(f"  {label}: {_shown(value)}" for label, value in EXAMPLES[id]().items()))
    return "\n\n".join(parts)


def _shown(value) -> str:
    return f"{value:.6g}" if isinstance(value, float | int) else str(value).replace("\n", "\n    ")


def main() -> None:
    parser = argparse.ArgumentParser("python -m ldm.explain", description=__doc__)
    parser.add_argument("id", help="such as D7; `p2p equations` lists them")
    print(explanation(parser.parse_args().id))
