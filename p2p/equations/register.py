r"""The register: every formula of the lecture under its id, as its slide prints it, with a correction and a note.

CMU 10-423/623 Generative AI, Lecture 13 (Oct. 9, 2024). D is diffusion in latent space, B the first stage, C attention,
P Prompt-to-Prompt. This is the only place that has the formulas in LaTeX; everything else refers to them by id. The
docstring of a function that implements D7 begins with `[D7]`, and a test that proves D7 has the mark `equation("D7")`.
"""

from typing import NamedTuple


class Formula(NamedTuple):
    """One row.

    `home` is the full name of the function that states the formula in code. If `corrected` is given, the slide has a
    slip, which `note` explains; otherwise `note` is a remark on the formula.
    """

    id: str
    title: str
    printed: str
    home: str
    corrected: str = ""
    note: str = ""


DIFFUSION = (
    Formula(
        "D1",
        "The forward process",
        r"q(z_{1:T}) = q(z_0) \prod_{t=1}^T q(z_t \mid z_{t-1})",
        "ldm.equations.variational_bound.log_q",
        r"q(z_{0:T}) = q(z_0) \prod_{t=1}^T q(z_t \mid z_{t-1})",
        r"The right side depends on $z_0$: it is the joint density of $z_0, \dots, z_T$.",
    ),
    Formula(
        "D2",
        "One step of it",
        r"q(z_t \mid z_{t-1}) = \mathcal{N}(\sqrt{\alpha_t} z_{t-1}, (1 - \alpha_t) I)",
        "ldm.schedule.Schedule.forward_step",
        note=r"One slide calls this variance $\sigma_t^2$, which is D8's name; the two are different numbers.",
    ),
    Formula(
        "D3",
        "The reverse process",
        r"p_\theta(z_{1:T}) = p(z_T) \prod_{t=1}^T p_\theta(z_{t-1} \mid z_t, \tau(y)), "
        r"\quad p(z_T) = \mathcal{N}(0, I)",
        "ldm.equations.variational_bound.log_p",
        r"p_\theta(z_{0:T}) = p(z_T) \prod_{t=1}^T p_\theta(z_{t-1} \mid z_t, \tau(y))",
        r"As D1: the last factor is a density of $z_0$ too.",
    ),
    Formula(
        "D4",
        "The end of the forward process",
        r"q(z_T) \sim \mathcal{N}(0, I)",
        "ldm.equations.variational_bound.prior_term",
        r"q(z_T \mid z_0) = \mathcal{N}(\sqrt{\bar\alpha_T} z_0, (1 - \bar\alpha_T) I) \approx \mathcal{N}(0, I)",
        r"Only approximately: Stable Diffusion's $\bar\alpha_{1000}$ is $0.00466$; $0.068$ of the signal is left.",
    ),
    Formula(
        "D5",
        "Property 1: all steps at once",
        r"q(x_t \mid x_0) = \mathcal{N}(\sqrt{\bar\alpha_t} x_0, (1 - \bar\alpha_t) I), "
        r"\quad \bar\alpha_t = \prod_{s=1}^t \alpha_s",
        "ldm.schedule.Schedule.alpha_bar",
    ),
    Formula(
        "D6",
        "A noisy latent as a sum",
        r"x_t = \sqrt{\bar\alpha_t} x_0 + (1 - \bar\alpha_t) \epsilon",
        "ldm.schedule.Schedule.add_noise",
        r"x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon",
        r"The variance is $1 - \bar\alpha_t$ (D5), so the noise is scaled by its root. D15 is correct.",
    ),
    Formula(
        "D7",
        "Property 2: the posterior's mean",
        r"\tilde\mu = \frac{\sqrt{\bar\alpha_t} (1 - \alpha_t)}{1 - \bar\alpha_t} x_0 "
        r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_t)}{1 - \bar\alpha_t} x_t",
        "ldm.schedule.Schedule.posterior",
        r"\tilde\mu = \frac{\sqrt{\bar\alpha_{t-1}} (1 - \alpha_t)}{1 - \bar\alpha_t} x_0 "
        r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t",
        r"By Bayes' rule the prior of $x_{t-1}$ is D5 at $t - 1$; both numerators print its $\bar\alpha_{t-1}$ as "
        r"$\bar\alpha_t$.",
    ),
    Formula(
        "D8",
        "The posterior's variance",
        r"\sigma_t^2 = \frac{(1 - \bar\alpha_{t-1})(1 - \alpha_t)}{1 - \bar\alpha_t}",
        "ldm.schedule.Schedule.sigma",
        note=r"$\sigma_1 = 0$: the last step draws nothing.",
    ),
    Formula(
        "D9",
        "Property 3: the clean latent",
        r"x_0 = (x_t + (1 - \bar\alpha_t) \epsilon) / \sqrt{\bar\alpha_t}",
        "ldm.schedule.Schedule.z_0_from_eps",
        r"x_0 = (x_t - \sqrt{1 - \bar\alpha_t} \epsilon) / \sqrt{\bar\alpha_t}",
        r"It is D6 solved for $x_0$: the noise is subtracted, at D6's scale. (The slide's second version prints "
        r"$x_0$ on both sides.)",
    ),
    Formula(
        "D10",
        "The posterior's mean from the noise",
        r"\tilde\mu = \frac{1}{\sqrt{\alpha_t}} "
        r"\left( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}} \epsilon \right)",
        "ldm.schedule.Schedule.mean_from_eps",
        note="Corrected D9 substituted into corrected D7; with either as printed it does not follow.",
    ),
    Formula(
        "D11",
        "The reverse step",
        r"\Sigma_\theta = \sigma_t^2 I, \quad \mu_\theta \approx \tilde\mu",
        "ldm.equations.variational_bound.step_term",
        note=r"Two Gaussians of equal variance: their KL is $\lVert \tilde\mu - \mu_\theta \rVert^2 / 2 \sigma_t^2$, "
        r"minimal where the means agree.",
    ),
    Formula(
        "D12",
        "The parameterisations",
        r"\mu_\theta = \alpha^{(0)} x_\theta^{(0)} + \alpha^{(t)} x_t, "
        r"\quad x_\theta^{(0)} = (x_0 + (1 - \bar\alpha_t) \epsilon_\theta) / \sqrt{\bar\alpha_t}",
        "ldm.schedule.Schedule.predict",
        r"x_\theta^{(0)} = (x_t - \sqrt{1 - \bar\alpha_t} \epsilon_\theta) / \sqrt{\bar\alpha_t}",
        r"Option C inherits D9's slip, and prints $x_0$ for the known $x_t$. A is the mean, B $x_0$, C the "
        r"noise; $v = \sqrt{\bar\alpha_t} \epsilon - \sqrt{1 - \bar\alpha_t} x_0$ is a fourth. $\alpha^{(0)}$ and "
        r"$\alpha^{(t)}$ are the factors of $x_0$ and $x_t$ in D7.",
    ),
    Formula(
        "D13",
        "The mean, given the prompt",
        r"\mu_\theta(z_t, t, \tau(y)) = f(\mathrm{UNet}(z_t, t, \tau(y)))",
        "ldm.schedule.Schedule.predict",
        note=r"$f$ is D12's option C, which one slide omits: the network predicts $\epsilon$, $f$ makes it a mean. "
        r"The included model predicts $v$ at $t - 1$: `LatentDiffusion.predict` gives $\epsilon$ for any model.",
    ),
    Formula(
        "D14",
        "The loss",
        r"L_\mathrm{LDM} = \mathbb{E} \lVert \epsilon - \epsilon_\theta(z_t, t, \tau_\theta(y)) \rVert^2",
        "ldm.train.ldm_loss",
    ),
    Formula(
        "D15",
        "Algorithm 1: training",
        r"t \sim \mathrm{Uniform}(1..T), \quad \epsilon \sim \mathcal{N}(0, I), \quad "
        r"z_t = \sqrt{\bar\alpha_t} z_0 + \sqrt{1 - \bar\alpha_t} \epsilon, \quad "
        r"\theta \leftarrow \theta - \eta \nabla_\theta L_\mathrm{LDM}",
        "ldm.train.ldm_loss",
        note="Text encoder and UNet are trained together.",
    ),
    Formula(
        "D16",
        "DDPM sampling",
        r"z_{t-1} = \tilde\mu(z_t, \hat z_0) + \sigma_t n, \quad n \sim \mathcal{N}(0, I)",
        "ldm.samplers.ddpm_step",
    ),
    Formula(
        "D17",
        "DDIM sampling",
        r"z_{t'} = \sqrt{\bar\alpha_{t'}} \hat z_0 + \sqrt{1 - \bar\alpha_{t'} - \sigma^2} \hat\epsilon + \sigma n",
        "ldm.samplers.ddim_step",
        note=r"$\sigma = \eta \sigma_t$ (D8 for the stride). $\eta = 1$ is D16. Trailing spacing gives exactly the "
        r"requested number of steps, from 1 to $T$.",
    ),
    Formula(
        "D18",
        "Classifier-free guidance",
        r"\epsilon = \epsilon_u + w (\epsilon_c - \epsilon_u)",
        "ldm.schedule.guided",
        note=r"$w = 1$ is no guidance, $w = 0$ ignores the prompt.",
    ),
)

FIRST_STAGE = (
    Formula(
        "B1",
        "Encoder and decoder",
        r"z = \mathrm{encoder}(x), \quad x' = \mathrm{decoder}(z)",
        "ldm.autoencoder.Autoencoder",
        note="The latent is smaller than the image, and the decoder reconstructs the image.",
    ),
    Formula(
        "B2",
        "KL-regularised (VAE-like)",
        r"q(z \mid x) = \mathcal{N}(\mu, \mathrm{diag}(\sigma^2)), \quad \mathrm{KL}(q \Vert \mathcal{N}(0, I))",
        "ldm.autoencoder.Gaussian",
    ),
    Formula(
        "B3",
        "Vector-quantised (VQGAN-like)",
        r"z_q = e_k, \quad k = \arg\min_j \lVert z - e_j \rVert",
        "ldm.quantize.Codebook.indices",
    ),
)

ATTENTION = (
    Formula(
        "C1",
        "Self-attention, element by element",
        r"s_{4,j} = k_j^T q_4 / \sqrt{d_k}, \quad a_4 = \mathrm{softmax}(s_4), \quad x'_4 = \sum_j a_{4,j} v_j",
        "ldm.attention.element_wise",
        note=r"$q_j = W_q^T x_j$, and $k_j$, $v_j$ likewise, all from $x$.",
    ),
    Formula(
        "C2",
        "Cross-attention, element by element",
        r"s_{t,j} = k_j^T q_t / \sqrt{d}, \quad y'_t = \sum_j a_{t,j} v_j",
        "ldm.attention.element_wise",
        note=r"$q_t$ from $y_t$, $t = 1..n$; $k_j$ and $v_j$ from $x_j$, $j = 1..m$.",
    ),
    Formula(
        "C3",
        "Attention as matrices",
        r"Y = A V, \quad A = \mathrm{softmax}(S), \quad S = Q K^T / \sqrt{d} \in \mathbb{R}^{n \times m}",
        "ldm.attention.attention_map",
        note=r"$Q = Y W_q$, $K = X W_k$, $V = X W_v$. A row of $A$ is a distribution over the $m$ tokens.",
    ),
    Formula(
        "C4",
        "Cross-attention inside the UNet",
        r"Q = W_Q \varphi_i(z_t), \quad K = W_K \tau(y), \quad V = W_V \tau(y), \quad "
        r"W_V \in \mathbb{R}^{d \times d_\epsilon}, \quad W_Q, W_K \in \mathbb{R}^{d \times d_\tau}",
        "ldm.attention.Attention",
        r"W_Q \in \mathbb{R}^{d \times d_\epsilon}, \quad W_K, W_V \in \mathbb{R}^{d \times d_\tau}",
        r"$Q$ is computed from the latent, $V$ from the prompt; the slide, after the paper, exchanges their shapes. "
        r"Its $Y$ stands for both the input and the output.",
    ),
    Formula(
        "C5",
        "The sizes of the attention map",
        r"A \in \mathbb{R}^{n \times m}, \quad n = \text{number of dimensions in the latent space}",
        "ldm.attention.Site",
        r"n = h w",
        r"$n$ counts the latent's positions, $h w$, not its dimensions, which are $c$ times as many.",
    ),
    Formula(
        "C6",
        "The transformer layer inside the UNet",
        r"\text{LayerNorm, Conv1x1, Reshape, } T \times \lbrace \text{SelfAttention, MLP, CrossAttention}\rbrace"
        r"\text{, Reshape, Conv1x1}",
        "ldm.attention.SpatialTransformer",
        note="The released code, which public weights need, has a GroupNorm first, and self-attention, cross-attention "
        "and feed-forward in this order, each with its own LayerNorm and residual.",
    ),
    Formula(
        "C7",
        "Many heads",
        r"Y = W_O [A_1 V_1, \dots, A_H V_H]",
        "ldm.attention.Attention",
        note="The slides only mention that blocks are multi-head; each head is C3 on its own slice of the features.",
    ),
    Formula(
        "C8",
        "The translation example",
        r"A \in \mathbb{R}^{n \times m}: \quad n \text{ target words look at } m \text{ source words}",
        "ldm.attention.Attention",
    ),
    Formula(
        "C9",
        "The prompt model",
        r"\tau_\theta(y) = \mathrm{Transformer}(\mathrm{BOS}, y_1, \dots, \mathrm{EOS}, \mathrm{PAD}, \dots) "
        r"\in \mathbb{R}^{77 \times d_\tau}",
        "ldm.text_encoder.TextEncoder",
        note="CLIP's text encoder: causal, of fixed length, pre-trained contrastively with images.",
    ),
)

PROMPT_TO_PROMPT = (
    Formula(
        "P1",
        "Fixed-seed baseline",
        r"z_T^* = z_T, \text{ prompt } y^\ast",
        "p2p.experiments.baselines.fixed_seed",
        note=r"Prompt-to-Prompt with $\tau$ above every step.",
    ),
    Formula(
        "P2",
        "Mask-based baseline",
        r"z_{t-1} = \mathrm{mask} \odot z^\ast_{t-1} + (1 - \mathrm{mask}) \odot z_{t-1}",
        "p2p.masks.composite",
        note="Blended Diffusion: outside the mask the source is kept.",
    ),
    Formula(
        "P3",
        "Algorithm 1 of Prompt-to-Prompt",
        r"z'_T \leftarrow z_T; \quad (z_{t-1}, A_t) \leftarrow DM(z_t, y); \quad "
        r"A^\ast_t \leftarrow DM(z^\ast_t, y^\ast); \quad "
        r"\hat A_t \leftarrow \mathrm{Edit}(A_t, A^\ast_t, t); \quad "
        r"z^\ast_{t-1} \leftarrow DM(z^\ast_t, y^\ast)\lbrace A \leftarrow \hat A_t\rbrace",
        "p2p.algorithm.PromptToPrompt.denoise",
        r"z^\ast_T \leftarrow z_T",
        r"The loop's latent is $z^\ast$, not $z'$. Its two calls for $y^\ast$ are a single one if the edit happens "
        r"inside attention.",
    ),
    Formula(
        "P4",
        "Edit",
        r"\mathrm{Edit}(A, A^\ast, t) = A^\ast \text{ if } t < \tau \text{, else } A",
        "p2p.alpha.Alpha",
        note=r"$t$ counts down, so injection comes first. $\tau = 0$: always; $\tau = T + 1$: never.",
    ),
    Formula(
        "P5",
        "The values are the target's",
        r"Y^\ast = \hat A V^\ast",
        "p2p.inject.explicit",
    ),
    Formula(
        "P6",
        "The mapper",
        r"\hat A = A M, \quad M \in \mathbb{R}^{m \times m^\ast}",
        "p2p.mappers.mapper",
    ),
    Formula(
        "P7",
        "Orange becomes big tabby",
        r"M = \begin{pmatrix} .5 & .5 & 0 & 0 \cr 0 & 0 & 1 & 0 \cr 0 & 0 & 0 & 1 \end{pmatrix}",
        "p2p.mappers.mapper",
        note=r"Rows sum to 1, so rows of $\hat A$ stay distributions. The way back adds the columns, or averages them "
        "(`mean`).",
    ),
    Formula(
        "P8",
        "One word, several tokens",
        r"\sum_j M_{ij} = 1",
        "p2p.mappers.mapper",
        note="Words after a swapped one map to themselves; padding never receives a word's attention.",
    ),
    Formula(
        "P9",
        "Alpha-blending",
        r"\alpha_t \odot \hat A_t + (1 - \alpha_t) \odot A^\ast_t",
        "p2p.alpha.Alpha",
        note=r"With one switch time for all words, this is $\tau$ (P4).",
    ),
    Formula(
        "P10",
        "Insert a phrase, weigh a word",
        r"\hat A_{\cdot j} = A_{\cdot a(j)} \text{ if aligned, else } A^\ast_{\cdot j}; \quad c \hat A_{\cdot j}",
        "p2p.edits.Refine",
        note="Rows are not renormalised, as in the paper.",
    ),
    Formula(
        "P11",
        "Preserve one object",
        r"\alpha_t = [\text{word}]",
        "p2p.edits.Preserve",
    ),
    Formula(
        "P12",
        "Inject for 0% to 100% of the steps",
        r"\tau = T + 1, \dots, 0",
        "p2p.experiments.sweeps.sweep",
    ),
    Formula(
        "P13",
        "Why the source's attention first?",
        r"\text{why the source's attention first, and the own later?}",
        "p2p.experiments.sweeps.sweep",
        note="The slide's open question. In the included model, injection in the first half of the steps preserves "
        "more of the source's layout than injection in the second half.",
    ),
)

FORMULAS = {formula.id: formula for formula in (*DIFFUSION, *FIRST_STAGE, *ATTENTION, *PROMPT_TO_PROMPT)}


def formula(id: str) -> Formula:
    """Look up a formula by its id.

    Raises:
        ValueError: there is no such formula.
    """
    if id not in FORMULAS:
        raise ValueError(f"there is no formula {id!r}; the ids are {', '.join(FORMULAS)}")
    return FORMULAS[id]


def listing() -> str:
    """A line for each formula; a star marks a slip of the slides."""
    return "\n".join(f"{f.id:4}{'*' if f.corrected else ' '} {f.title}" for f in FORMULAS.values())
