# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Attention, element by element
#
# A UNet that paints a cat where the prompt says "cat" has to look at the prompt from every position of the image. How it
# looks is a matrix of numbers that sum to 1, and that matrix is all that Prompt-to-Prompt changes. This lesson builds it
# from single numbers up, finds two slips of the slides, and then looks at the matrices of a real model.
#
# You need: matrix products, the softmax, and lesson 4 for what a token is.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import matplotlib.pyplot as plt
import torch

import ldm
import p2p
from notebooks import check, lesson

torch.manual_seed(0)

# %% [markdown]
# ## 5.1 One query
#
# **How does a word look at other words?**
#
# [C1], self-attention for the fourth of several inputs: every input $x_j$ has a *query* $q_j = W_q^T x_j$, a *key* $k_j$
# and a *value* $v_j$. Scores, weights, result:
#
# $$s_{4,j} = \frac{k_j^T q_4}{\sqrt{d_k}}, \qquad a_4 = \mathrm{softmax}(s_4), \qquad x'_4 = \sum_j a_{4,j} v_j$$
#
# $d_k$ is the length of a key; from 5.2 on it is $d$. [C2], cross-attention, is the same with two sequences: queries from
# $y_t$, keys and values from $x_j$.

# %%
lesson.source(ldm.element_wise)

# %% [markdown]
# **By hand.** $q = (1, 2)$; keys $(3, 1)$, $(0, 2)$, $(1, 1)$. Products $5, 4, 3$; divided by $\sqrt 2$: $3.54, 2.83, 2.12$.
# Their exponentials are $34.3, 16.9, 8.3$, in all $59.6$: the weights are $0.58, 0.28, 0.14$.

# %%
q, keys = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 2.0], [1.0, 1.0]])
weights = ldm.element_wise(q, keys, torch.eye(3))  # with unit vectors as values the result is the weights
print(weights.numpy().round(2))
lesson.claim("weight of the first key", weights[0, 0], 0.576, within=0.001)

# %% [markdown]
# **Why divide by $\sqrt{d}$?** If the entries of $q$ and $k$ have variance 1, a sum of $d$ products has variance $d$. Without
# the division, wide heads would have large scores, and the softmax of large scores is a hard choice with no gradient.

# %%
for d in (4, 64, 1024):
    q_, k_ = torch.randn(2, 10_000, d)
    s = (q_ * k_).sum(1)
    print(f"d = {d:4}: standard deviation of a product {s.std():5.1f}, divided by sqrt(d) {(s / d**0.5).std():.2f}")

# %% [markdown]
# ## 5.2 All queries at once
#
# [C3]: $Y = A V$, $A = \mathrm{softmax}(S)$, $S = Q K^T / \sqrt{d} \in \mathbb{R}^{n \times m}$. A query is a row of $Q$, a
# key a row of $K$. (The slide calls both the input and the output $Y$; they are different matrices.)
#
# **Exercise 5.1.** The scores $S$.


# %% tags=["exercise"]
def my_scores(Q, K):
    ### BEGIN SOLUTION
    return Q @ K.T / Q.shape[1] ** 0.5
    ### END SOLUTION


check.scores(my_scores)

# %% [markdown]
# **Exercise 5.2.** The map $A$. Along which axis does it sum to 1?


# %% tags=["exercise"]
def my_attention_map(Q, K):
    ### BEGIN SOLUTION
    return my_scores(Q, K).softmax(dim=1)
    ### END SOLUTION


check.attention_map(my_attention_map)

# %% [markdown]
# **Exercise 5.3.** The result $Y$.


# %% tags=["exercise"]
def my_attend(Q, K, V):
    ### BEGIN SOLUTION
    return my_attention_map(Q, K) @ V
    ### END SOLUTION


check.attend(my_attend)

# %% [markdown]
# **The lecture's picture, [C8]: translation.** To write "late" one looks at "tarde". Here is a layer of cross-attention that
# was trained, just now, on a dozen sentence pairs to predict each English word from what it sees of the Spanish ones. The
# pair below is not among them. $n = 4$ target words look at $m = 3$ source words:

# %%
SOURCE, TARGET = "estoy llegando tarde", "I am running late"
A = ldm.trained_translation().A(SOURCE, TARGET)
figure, axis = plt.subplots(figsize=(3.6, 3.4))
axis.imshow(A, vmin=0, vmax=1, cmap="Blues")
axis.set_xticks(range(3), SOURCE.split())
axis.set_yticks(range(4), TARGET.split())
for i in range(4):
    for j in range(3):
        axis.text(j, i, f"{A[i, j]:.2f}", ha="center", va="center", color="white" if A[i, j] > 0.6 else "black")
axis.grid(False)
lesson.show(figure, "A 4 x 3 matrix: I and am look at estoy, running at llegando, late at tarde")
assert A.argmax(dim=1).tolist() == [0, 0, 1, 2]

# %% [markdown]
# Nobody told it which word translates which. It had to look at the right word to predict it.
#
# **Take away.** Row $i$ of $A$ is a distribution: where position $i$ looks. $V$ is what it sees there.

# %% [markdown]
# ## 5.3 Many heads
#
# One map can look at one thing. [C7]: the columns of $q$, $k$ and $v$ are split among $H$ *heads*, each head attends by
# itself, and the results are put side by side (and mixed by one more matrix, $W_O$).
#
# **Exercise 5.4.** For matrices $q$ (n, c), $k$ and $v$ (m, c). Use `my_attend`.


# %% tags=["exercise"]
def my_multi_head(q, k, v, heads):
    ### BEGIN SOLUTION
    parts = zip(q.chunk(heads, dim=1), k.chunk(heads, dim=1), v.chunk(heads, dim=1))
    return torch.cat([my_attend(*part) for part in parts], dim=1)
    ### END SOLUTION


check.multi_head(my_multi_head)

# %% [markdown]
# ## 5.4 Inside the UNet
#
# **Who looks at whom?** Positions of the latent at tokens of the prompt. [C4], as printed, after the paper:
#
# $$Q = W_Q\,\varphi_i(z_t), \quad K = W_K\,\tau(y), \quad V = W_V\,\tau(y), \qquad
# W_V \in \mathbb{R}^{d \times d_\epsilon}, \quad W_Q, W_K \in \mathbb{R}^{d \times d_\tau}$$
#
# $\varphi_i(z_t) \in \mathbb{R}^{N \times d_\epsilon}$ are the UNet's own features at its $i$-th attention layer:
# $N$ positions (5.2's $n$), each a row of $d_\epsilon$ numbers. $\tau(y)$ has a row of $d_\tau$ numbers for each token.
#
# **Find the slip.** What are the shapes of the three products? Try them:

# %%
N, m, d, d_eps, d_tau = 6, 4, 5, 8, 3
phi, tau = torch.randn(N, d_eps), torch.randn(m, d_tau)
W_Q, W_K, W_V = torch.randn(d, d_tau), torch.randn(d, d_tau), torch.randn(d, d_eps)  # as printed
try:
    ldm.SLIPS["C4"].printed(phi, tau, W_Q, W_K, W_V)
except RuntimeError as error:
    print("as printed:", error)
Q, K, V = ldm.SLIPS["C4"].corrected(phi, tau, torch.randn(d, d_eps), W_K, torch.randn(d, d_tau))
print("corrected: ", tuple(Q.shape), tuple(K.shape), tuple(V.shape))

# %% [markdown]
# $Q$ comes from the latent and $V$ from the prompt, so the shapes of $W_Q$ and $W_V$ have to change places; and since rows are
# positions, the matrices multiply from the right: $Q = \varphi W_Q^T$.
#
# [C5]: "$n$ is the number of dimensions in the latent space". **The second slip.** $n$ counts *positions*, $h w$, not the
# numbers in a latent, of which there are $c$ times as many. A position attends as a whole. And each level of the UNet
# halves both sides of the one before (6.1).
#
# **Exercise 5.5.** How many positions has level $l$ of a UNet, whose level 0 has height times width?


# %% tags=["exercise"]
def my_positions(height, width, level):
    ### BEGIN SOLUTION
    return height * width // 4**level
    ### END SOLUTION


check.positions(my_positions)

# %% [markdown]
# ## 5.5 The transformer layer
#
# [C6]. The slide's table lists: LayerNorm, a 1x1 convolution, Reshape, then $T$ times self-attention, MLP and
# cross-attention, Reshape, and another convolution, with an inner width of $d\,n_h$: $n_h$ heads (5.3's $H$) of $d$
# columns each. (This $T$ is a depth, not the number of diffusion steps.) As printed, and runnable:

# %%
x, context = torch.randn(1, 16, 4, 4), torch.randn(1, 7, 5)
ldm.print_lines(ldm.table_lines(ldm.TableLayer(c=16, d=4, n_h=2, context_width=5, T=2), x, context))

# %% [markdown]
# The released code, which public weights need, differs: a GroupNorm first, three LayerNorms, the order self-attention,
# cross-attention, feed-forward, and residual connections around each.

# %%
released = ldm.SpatialTransformer(16, 5, heads=2, linear=False, groups=4, place="mid", layer=0)
ldm.print_lines(ldm.released_lines(released, x, context))

# %%
lesson.source(type(released.transformer_blocks[0]).forward)

# %% [markdown]
# **Take away.** Look at the shapes: an image becomes a sequence of positions, attends, and becomes an image again.

# %% [markdown]
# ## 5.6 Maps of a real model
#
# **Does it look where one would?** Column $j$ of $A$ says how much each position looks at token $j$. Reshaped, it is an image.
#
# **Exercise 5.6.** `A` has the maps of all heads, (heads, n, m). Return the mean map of token `j`, (height, width).


# %% tags=["exercise"]
def my_word_map(A, j, height, width):
    ### BEGIN SOLUTION
    return A[:, :, j].mean(dim=0).reshape(height, width)
    ### END SOLUTION


check.word_map(my_word_map)

# %%
PROMPT = "a photo of a cat next to a ball on the grass"
result = p2p.edit(PROMPT, PROMPT, seed=7, device="cpu")
maps = result.maps[0]
shown = ("cat", "ball", "grass")
figure, axes = plt.subplots(1, len(shown) + 1, figsize=(9, 2.5))
axes[0].imshow(result.images[0])
axes[0].set_title("image", fontsize=9)
for axis, word in zip(axes[1:], shown):
    axis.imshow(maps[word])
    axis.set_title(f"{word}: at most {maps[word].max():.2f}", fontsize=9)
for axis in axes:
    axis.axis("off")
lesson.show(
    figure, "Maps of three words: cat is bright at the cat, ball at the ball; grass is at most 0.02, all over the image"
)
lesson.claim("largest share of grass at any position", maps["grass"].max(), 0.02, within=0.01)

# %% [markdown]
# `maps[word]` is the mean over heads, over all layers with 16 x 16 positions and over the steps. Each panel has its own colour
# scale.
#
# For things it does, though the model was never told where anything is: it was trained to remove noise, given the caption.
# "grass" gets about 2% at most; "street" in lesson 1 was just as faint. The padding knows of the place as well (4.4).
#
# Step by step, with $t$ before the step:

# %%
steps = (0, 3, 9, 29)
figure, axes = plt.subplots(1, len(steps), figsize=(8, 2.3))
for axis, k in zip(axes, steps):
    axis.imshow(maps.A[k, maps.words.index("cat")])
    axis.set_title(f"cat, t = {maps.times[k]}", fontsize=9)
    axis.axis("off")
lesson.show(figure, "The map of cat: the cat stands out at t = 1000 already; at t = 33 the background is darker")

# %%
background = maps["cat"] < maps["cat"].max() / 2
first, last = (maps.A[k, maps.words.index("cat")][background].mean() for k in (0, -1))
lesson.claim("mean share of cat in the background, at the first step", first, 0.03, within=0.01)
lesson.claim("the same at the last step", last, 0.01, within=0.005)
total = maps.A.sum(axis=1)
lesson.claim("sum over all words, less 1, at any step and position", abs(total - 1).max(), 0, within=1e-3)
lesson.claim("share of BOS, EOS and padding", maps["BOS EOS PAD"].mean(), 0.36, within=0.05)

# %% [markdown]
# Even at $t = 1000$ the map of "cat" already outlines the cat; later steps mostly clear the background. At every position
# the shares add up to 1. Here about 36% of the attention goes to BOS, EOS and padding; EOS and padding carry a summary of
# the prompt (4.4).
#
# ## What you have found
#
# | | slip | corrected |
# |---|---|---|
# | C3 | $Y$ is input and output | two matrices |
# | C4 | the shapes of $W_Q$ and $W_V$, exchanged | $Q = \varphi W_Q^T$, $W_Q \in \mathbb{R}^{d \times d_\epsilon}$ |
# | C5 | $n$ is the number of dimensions | of positions, $h w / 4^l$ |
# | C6 | MLP before cross-attention, one norm | the released order, three norms, residuals |
#
# Next: the network around these layers, and its training.
