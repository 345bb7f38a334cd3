"""`p2p equations D7`: a formula as its slide prints it, as corrected, why, its source and numbers."""

import textwrap

from ldm.equations import examples, examples_attention
from p2p.equations import examples as edits
from p2p.equations import index
from p2p.equations.errata import ERRATA
from p2p.equations.formula import ORIGINS
from p2p.equations.register import FORMULAS, formula
from p2p.equations.slips import SLIPS

EXAMPLES = examples.EXAMPLES | examples_attention.EXAMPLES | edits.EXAMPLES


def listing() -> str:
    """A line for each formula: a star marks a slip of the slides, a plus a formula that is on none."""
    slips = {erratum.row for erratum in ERRATA}
    mark = lambda f: "*" if f.id in slips else "+" if f.origin == "added" else " "
    return "\n".join(f"{f.id:4}{mark(f)} {f.title}" for f in FORMULAS.values())


def explanation(id: str) -> str:
    """Describe a formula in full, as `p2p equations ID` prints it.

    Raises:
        ValueError: there is no such formula.
    """
    row = formula(id)
    where = f" ({row.slide.subject})" if row.slide else ""
    parts = [f"{row.id}  {row.title}{where}", f"{ORIGINS[row.origin]}:  {row.latex}"]
    if row.corrected:
        parts.append(f"corrected:  {row.corrected}")
    else:  # slips in words or names
        parts += [f"a slip:  {e.printed}\ncorrected:  {e.corrected}\n{e.why}" for e in ERRATA if e.row == id]
    if row.note:
        parts.append(textwrap.fill(row.note, 120, break_on_hyphens=False))
    (home, *others) = index.functions_of(row, index.definitions())
    parts.append(f"{home.name}, in {home.path}:\n\n{home.source}")
    if others:
        parts.append("also: " + ", ".join(d.name for d in others))
    if row.id in SLIPS:
        parts.append(f"both forms: p2p.equations.slips.SLIPS[{row.id!r}]")
    parts.append("in numbers:\n" + "\n".join(f"  {label}: {_shown(value)}" for label, value in EXAMPLES[id]().items()))
    return "\n\n".join(parts)


def _shown(value) -> str:
    return f"{value:.6g}" if isinstance(value, float | int) else str(value).replace("\n", "\n    ")
