"""Every slip of the slides, by slide: those of the register's rows, and others in words, names and numbers."""

from typing import NamedTuple

from p2p.equations.register import FORMULAS
from p2p.equations.slides import (
    AUTOENCODER,
    BLENDING,
    COST,
    LAYER,
    MAPPER,
    MATRICES,
    MEAN,
    PROMPT_MODEL,
    SLIDES,
    TWO_RUNS,
    Slide,
)


class Erratum(NamedTuple):
    """One slip, or the slips of one formula.

    Args:
        slide: where it is.
        row: the row that it concerns, or empty.
        printed: Markdown.
        corrected: Markdown.
        why: the reason.
        forms: its key in `SLIPS`, where both forms are functions; empty if it changes no number.
    """

    slide: Slide
    row: str
    printed: str
    corrected: str
    why: str
    forms: str = ""


NUMBERS = ("D1", "D3", "D4", "D6", "D7", "D9", "D12", "D15", "C4", "C5")  # rows whose slip changes a number or a shape

OF_ROWS = tuple(
    Erratum(f.slide, f.id, f"${f.latex}$", f"${f.corrected}$", f.note, f.id if f.id in NUMBERS else "")
    for f in FORMULAS.values()
    if f.corrected
)
OTHERS = (
    Erratum(
        COST,
        "",
        "50,000 samples in 5 days: 15 seconds each",
        "8.64 seconds each",
        "5 days are 432,000 seconds.",
        "cost",
    ),
    Erratum(
        AUTOENCODER,
        "B2",
        '"regularises the noise"',
        "regularises the latent",
        r"The KL term draws $q(z \mid x)$, the latent's distribution, towards $\mathcal{N}(0, I)$. Noise comes later.",
    ),
    Erratum(
        PROMPT_MODEL,
        "C9",
        'the prompt model is "learned alongside" the diffusion model',
        "or it was trained before, and stays as it is",
        "Latent diffusion trains its own text encoder with the UNet (D15), and so was the included model; Stable "
        "Diffusion, whose prompt model is CLIP's, keeps that frozen.",
    ),
    Erratum(
        MEAN,
        "D13",
        r"$\mu_\theta(z_t, t, \tau(y)) = \mathrm{UNet}(z_t, t, \tau(y))$, on one slide",
        r"$\mu_\theta(z_t, t, \tau(y)) = f(\mathrm{UNet}(z_t, t, \tau(y)))$",
        "The network predicts noise (or v), and not the mean.",
        "D13",
    ),
    Erratum(
        MATRICES,
        "C3",
        "$Y = A V$ and $Q = Y W_q$",
        "$Y' = A V$ and $Q = Y W_q$",
        "$Y$ stands for the output and for the input, as $y'_t$ and $y_t$ do not in C2.",
    ),
    Erratum(
        LAYER,
        "C6",
        "$T$ blocks",
        "another letter",
        "$T$ is the number of time steps everywhere else.",
    ),
    Erratum(
        TWO_RUNS,
        "P3",
        r"run the source and keep $A_{T-1}, \dots, A_1$",
        r"$A_T, \dots, A_1$",
        "Algorithm 1 has a map for every $t = T..1$.",
        "steps",
    ),
    Erratum(
        TWO_RUNS,
        "P4",
        r'"until $\tau$": $A_{T-1}, \dots, A_t$',
        r"$A_T, \dots, A_\tau$",
        r"$A$ is used while $t \ge \tau$, from the first step, $T$, on.",
        "until tau",
    ),
    Erratum(
        MAPPER,
        "P7",
        'instead of copying, "average over big and orange"',
        r'split the column of "orange" between "big" and "tabby"',
        r"The printed $M$ has halves: each of the two new words has half of one map. Nothing is averaged, and "
        '"big" has no map in the source.',
        "average",
    ),
    Erratum(
        BLENDING,
        "P9",
        r"$\alpha_t$, a matrix that blends",
        "another letter",
        r"$\alpha_t$ is the noise schedule's factor (D2). Here the schedule's is `alpha`, the matrix's class `Alpha`.",
    ),
)
ERRATA = tuple(sorted((*OF_ROWS, *OTHERS), key=lambda erratum: SLIDES.index(erratum.slide)))
