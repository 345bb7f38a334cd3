"""B, the first stage; C, attention."""

from p2p.equations.formula import Formula
from p2p.equations.slides import (
    AUTOENCODER,
    CROSS_ATTENTION,
    IN_UNET,
    LAYER,
    MATRICES,
    PROMPT_MODEL,
    SELF_ATTENTION,
    TRANSLATION,
)

FIRST_STAGE = (
    Formula(
        "B1",
        "Encoder and decoder",
        "prose",
        AUTOENCODER,
        r"z = \mathrm{encoder}(x), \quad x' = \mathrm{decoder}(z)",
        "ldm.autoencoder.Autoencoder",
        note="The latent is smaller than the image, and the decoder reconstructs the image.",
    ),
    Formula(
        "B2",
        "KL-regularised (VAE-like)",
        "prose",
        AUTOENCODER,
        r"q(z \mid x) = \mathcal{N}(\mu, \mathrm{diag}(\sigma^2)), \quad \mathrm{KL}(q \Vert \mathcal{N}(0, I))",
        "ldm.autoencoder.Gaussian",
    ),
    Formula(
        "B3",
        "Vector-quantised (VQGAN-like)",
        "prose",
        AUTOENCODER,
        r"z_q = e_k, \quad k = \arg\min_j \lVert z - e_j \rVert",
        "ldm.quantize.Codebook.indices",
    ),
)

ATTENTION = (
    Formula(
        "C1",
        "Self-attention, element by element",
        "printed",
        SELF_ATTENTION,
        r"s_{4,j} = k_j^T q_4 / \sqrt{d_k}, \quad a_4 = \mathrm{softmax}(s_4), \quad x'_4 = \sum_j a_{4,j} v_j",
        "ldm.attention.element_wise",
        note=r"$q_j = W_q^T x_j$, and $k_j$, $v_j$ likewise, all from $x$.",
    ),
    Formula(
        "C2",
        "Cross-attention, element by element",
        "printed",
        CROSS_ATTENTION,
        r"s_{t,j} = k_j^T q_t / \sqrt{d}, \quad y'_t = \sum_j a_{t,j} v_j",
        "ldm.attention.element_wise",
        note=r"$q_t$ from $y_t$, $t = 1..n$; $k_j$ and $v_j$ from $x_j$, $j = 1..m$.",
    ),
    Formula(
        "C3",
        "Attention as matrices",
        "printed",
        MATRICES,
        r"Y = A V, \quad A = \mathrm{softmax}(S), \quad S = Q K^T / \sqrt{d} \in \mathbb{R}^{n \times m}",
        "ldm.attention.attention_map",
        note=r"$Q = Y W_q$, $K = X W_k$, $V = X W_v$; $Y$ is both the input and the output. A row of $A$ is a "
        r"distribution over the $m$ tokens.",
    ),
    Formula(
        "C4",
        "Cross-attention inside the UNet",
        "printed",
        IN_UNET,
        r"Q = W_Q \varphi_i(z_t), \quad K = W_K \tau(y), \quad V = W_V \tau(y), \quad "
        r"W_V \in \mathbb{R}^{d \times d_\epsilon}, \quad W_Q, W_K \in \mathbb{R}^{d \times d_\tau}",
        "ldm.attention.Attention",
        r"Q = \varphi W_Q^T, \quad K = \tau W_K^T, \quad V = \tau W_V^T, \quad "
        r"W_Q \in \mathbb{R}^{d \times d_\epsilon}, \quad W_K, W_V \in \mathbb{R}^{d \times d_\tau}",
        r"$Q$ is computed from the latent, $V$ from the prompt; the slide, after the paper, exchanges their shapes. "
        r"$\varphi \in \mathbb{R}^{N \times d_\epsilon}$ has a row for each position and $\tau$ one for each token, so "
        r"the matrices multiply from the right: $W_Q \varphi$ does not exist even with the right shape.",
    ),
    Formula(
        "C5",
        "The sizes of the attention map",
        "prose",
        IN_UNET,
        r"A \in \mathbb{R}^{n \times m}, \quad m \text{ is the number of tokens, } "
        r"n \text{ is the number of dimensions in the latent space}",
        "ldm.attention.Site",
        r"n = h w / 4^l",
        r"$n$ counts the latent's positions, not its dimensions, which are $c$ times as many: $h w$ at the UNet's top "
        r"level, and a quarter of that at each level $l$ below.",
    ),
    Formula(
        "C6",
        "The transformer layer inside the UNet",
        "printed",
        LAYER,
        r"\text{LayerNorm, Conv1x1, Reshape, } T \times \lbrace \text{SelfAttention, MLP, CrossAttention}\rbrace"
        r"\text{, Reshape, Conv1x1}",
        "ldm.attention.SpatialTransformer",
        note="$T$ is the number of blocks here, not of time steps. The released code, which public weights need, has a "
        "GroupNorm first, and self-attention, cross-attention and feed-forward in this order, each with its own "
        "LayerNorm and residual.",
    ),
    Formula(
        "C7",
        "Many heads",
        "prose",
        IN_UNET,
        r"Y = W_O [A_1 V_1, \dots, A_H V_H]",
        "ldm.attention.Attention",
        note="The slides only mention that blocks are multi-head; each head is C3 on its own slice of the features.",
    ),
    Formula(
        "C8",
        "The translation example",
        "printed",
        TRANSLATION,
        r"A \in \mathbb{R}^{n \times m}: \quad n \text{ target words look at } m \text{ source words}",
        "ldm.attention.Attention",
    ),
    Formula(
        "C9",
        "The prompt model",
        "prose",
        PROMPT_MODEL,
        r"\tau_\theta(y) = \mathrm{Transformer}(\mathrm{BOS}, y_1, \dots, \mathrm{EOS}, \mathrm{PAD}, \dots) "
        r"\in \mathbb{R}^{77 \times d_\tau}",
        "ldm.text_encoder.TextEncoder",
        note="CLIP's text encoder: causal, of fixed length, pre-trained contrastively with images. The loss of that, "
        "`contrastive_loss`, is on no slide; a CLIP trained by it is drawn in docs/lecture.png.",
    ),
)
