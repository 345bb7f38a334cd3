r"""The register: every formula of the lecture under its id, with where it is from, a correction and a note.

CMU 10-423/623 Generative AI, Lecture 13 (Oct. 9, 2024). D is diffusion in latent space, B the first stage, C attention,
P Prompt-to-Prompt. The rows, in diffusion.py, attention.py and editing.py, are the only place that has the formulas in
LaTeX; everything else refers to them by id. The docstring of a function that implements D7 begins with `[D7]`, and a
test that proves D7 has the mark `equation("D7")`.
"""

from p2p.equations.attention import ATTENTION, FIRST_STAGE
from p2p.equations.diffusion import DIFFUSION
from p2p.equations.editing import PROMPT_TO_PROMPT
from p2p.equations.formula import Formula

FORMULAS = {formula.id: formula for formula in (*DIFFUSION, *FIRST_STAGE, *ATTENTION, *PROMPT_TO_PROMPT)}


def formula(id: str) -> Formula:
    """Look up a formula by its id.

    Raises:
        ValueError: there is no such formula.
    """
    if id not in FORMULAS:
        raise ValueError(f"there is no formula {id!r}; the ids are {', '.join(FORMULAS)}")
    return FORMULAS[id]
