"""P: Prompt-to-Prompt."""

from p2p.equations.formula import Formula
from p2p.equations.slides import ALGORITHM, BASELINES, BLENDING, EDITS, FIGURE_5, FIGURE_6, MAPPER, TWO_RUNS, WHY_FIRST

PROMPT_TO_PROMPT = (
    Formula(
        "P1",
        "Fixed-seed baseline",
        "prose",
        BASELINES,
        r"z_T^* = z_T, \text{ prompt } y^\ast",
        "p2p.experiments.baselines.fixed_seed",
        note=r"Prompt-to-Prompt with $\tau$ above every step.",
    ),
    Formula(
        "P2",
        "Mask-based baseline",
        "prose",
        BASELINES,
        r"z^\ast_{t-1} \leftarrow \mathrm{mask} \odot z_{t-1} + (1 - \mathrm{mask}) \odot z^\ast_{t-1}",
        "p2p.masks.composite",
        note="Blended Diffusion: elsewhere the source is kept. The slide's mask marks what stays; the masks here, "
        "as those of inpainting tools, mark what may change.",
    ),
    Formula(
        "P3",
        "Algorithm 1 of Prompt-to-Prompt",
        "printed",
        ALGORITHM,
        r"z_T \sim \mathcal{N}(0, I); \quad z^\ast_T \leftarrow z'_T; \quad \text{for } t = T..1: \quad "
        r"(z_{t-1}, A_t) \leftarrow DM(z_t, y, t, s); \quad "
        r"A^\ast_t \leftarrow DM(z^\ast_t, y^\ast, t, s); \quad "
        r"\hat A_t \leftarrow \mathrm{Edit}(A_t, A^\ast_t, t); \quad "
        r"z^\ast_{t-1} \leftarrow DM(z^\ast_t, y^\ast, t, t, s)\lbrace A \leftarrow \hat A_t\rbrace",
        "p2p.algorithm.PromptToPrompt.denoise",
        r"z^\ast_T \leftarrow z_T; \quad "
        r"z^\ast_{t-1} \leftarrow DM(z^\ast_t, y^\ast, t, s)\lbrace A \leftarrow \hat A_t\rbrace; \quad "
        r"(x_{src}, x_{dst}) \leftarrow (\mathrm{decoder}(z_0), \mathrm{decoder}(z^\ast_0))",
        r"Three slips: $z'_T$ is nowhere defined; line 9 has $t$ twice; the output is $x_{src}$ and $x_{dst}$, but "
        r"latents are returned. The two calls for $y^\ast$ are a single one if the edit happens inside attention.",
    ),
    Formula(
        "P4",
        "Edit",
        "printed",
        ALGORITHM,
        r"\mathrm{Edit}(A, A^\ast, t) = A^\ast \text{ if } t < \tau \text{, else } A",
        "p2p.alpha.Alpha",
        note=r"$t$ counts down, so injection comes first. $\tau = 0$: always; $\tau = T + 1$: never.",
    ),
    Formula(
        "P5",
        "The values are the target's",
        "prose",
        TWO_RUNS,
        r"Y^\ast = \hat A V^\ast",
        "p2p.inject.explicit",
    ),
    Formula(
        "P6",
        "The mapper",
        "printed",
        MAPPER,
        r"\hat A = A M, \quad M \in \mathbb{R}^{m \times m^\ast}",
        "p2p.mappers.mapper",
    ),
    Formula(
        "P7",
        "Orange becomes big tabby",
        "printed",
        MAPPER,
        r"M = \begin{pmatrix} .5 & .5 & 0 & 0 \cr 0 & 0 & 1 & 0 \cr 0 & 0 & 0 & 1 \end{pmatrix}",
        "p2p.mappers.mapper",
        note=r"Rows sum to 1, so rows of $\hat A$ stay distributions. The way back adds the columns, or averages them "
        "(`mean`).",
    ),
    Formula(
        "P8",
        "One word, several tokens",
        "prose",
        MAPPER,
        r"\sum_j M_{ij} = 1",
        "p2p.mappers.mapper",
        note="Words after a swapped one map to themselves; padding never receives a word's attention.",
    ),
    Formula(
        "P9",
        "Alpha-blending",
        "printed",
        BLENDING,
        r"\alpha_t \odot \hat A_t + (1 - \alpha_t) \odot A^\ast_t",
        "p2p.alpha.Alpha",
        note=r"With one switch time for all words, this is $\tau$ (P4).",
    ),
    Formula(
        "P10",
        "Insert a phrase, weigh a word",
        "prose",
        EDITS,
        r"\hat A_{\cdot j} = A_{\cdot a(j)} \text{ if aligned, else } A^\ast_{\cdot j}; \quad c \hat A_{\cdot j}",
        "p2p.edits.Refine",
        note=r"$a(j)$ is the source's token that the target's token $j$ stands for. As in the paper, rows are not "
        r"renormalised: attention to a deleted word is lost, and that to padding where the target has words. Moving "
        r"it, to BOS and to the next padding, so that rows keep their sums (`Moved`), was measured to be no better. "
        r"The mapper of a swap (P8) does move it.",
    ),
    Formula(
        "P11",
        "Preserve one object",
        "prose",
        FIGURE_5,
        r"\alpha_t = [\text{word}]",
        "p2p.edits.Preserve",
    ),
    Formula(
        "P12",
        "Inject for 0% to 100% of the steps",
        "prose",
        FIGURE_6,
        r"\tau = T + 1, \dots, 0",
        "p2p.experiments.sweeps.sweep",
        note="As Fig. 6 has it, an image fits the new prompt less and less, least at 100%: see docs/formulas.md.",
    ),
    Formula(
        "P13",
        "Why the source's attention first?",
        "prose",
        WHY_FIRST,
        r"\text{why do we use the original attention weights for a while before swapping?}",
        "p2p.experiments.sweeps.sweep",
        note="The slide's open question. In the included model, over ten swaps, injection in either half of the steps "
        "preserves more of the source's layout than none; the two halves differ by less than the error.",
    ),
)
