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
# # 8. All edits are one formula, and where they fail
#
# Swap, insert, remove, weigh, keep one word: the paper describes them one by one. Here they turn out to be two matrices
# each, which can be multiplied out by hand, added to each other, and folded into the values so that no attention map is
# ever built. Then comes what edits cannot do, with reasons.
#
# You need: lesson 7.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

import ldm
import p2p
from notebooks import check, lesson

model = p2p.load("stickers", device="cpu")
T = model.schedule.T

# %% [markdown]
# ## 8.1 Two matrices
#
# **What do all edits have in common?** They make the attention that is used out of two maps, the source's $A$ and the
# target's own $A^*$, column by column, and every column of the result is a weighted sum of columns of both:
#
# $$A_\text{used} = A\,P_t + A^* Q_t$$
#
# $P_t$ is $m \times m^*$, and $Q_t$ is a diagonal matrix, which we write as a vector. Before any edit $P = 0$, $Q = 1$.
#
# | edit | $P_t$ | $Q_t$ |
# |---|---|---|
# | none | 0 | 1 |
# | swap (lesson 7) | $M\,\mathrm{diag}(\alpha_t)$ | $1 - \alpha_t$ |
# | refine [P10] | the columns of words that both have | 1 for new words |
# | preserve [P11] | one column | 1 for all others |
# | re-weight by $c$ [P10] | column $j$ times $c$ | entry $j$ times $c$ |
#
# **Exercise 8.1.** The formula itself. `Q` is a vector.


# %% tags=["exercise"]
def my_used(A, A_star, P, Q):
    ### BEGIN SOLUTION
    return A @ P + A_star * Q
    ### END SOLUTION


check.used(my_used)

# %% [markdown]
# The package compiles an edit, for two prompts and a schedule, into a function of $t$ that gives these two:

# %%
HOUSE = "a photo of a house on the grass"
PINK = "a photo of a pink house on the grass"
pair = [model.tokenizer.encode(prompt) for prompt in (HOUSE, PINK)]
matrices = p2p.Refine().compile(*pair, T)
words = [tokens.pieces[: tokens.count] for tokens in pair]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for axis, t in zip(axes, (900, 100)):
    P, Q, _ = matrices(t)
    m, m_star = (tokens.count for tokens in pair)
    axis.imshow(torch.cat([P[:m, :m_star], Q[None, :m_star]]), vmin=0, vmax=1, cmap="Blues")
    axis.set_xticks(range(m_star), words[1], rotation=60, fontsize=8)
    axis.set_yticks(range(m + 1), [*words[0], "own (Q)"], fontsize=8)
    axis.axhline(m - 0.5, color="#D55E00")
    axis.set_title(f"P and, below the line, Q at t = {t}", fontsize=9)
    axis.grid(False)
lesson.show(figure, "At t = 900 a shifted diagonal, and Q is 1 for pink alone; at t = 100 P is empty and Q all ones")

# %% [markdown]
# [Step through this edit's pair](http://localhost:8623/#source=a+photo+of+a+house+on+the+grass&target=a+photo+of+a+pink+house+on+the+grass&seed=2&steps=30&guidance=4&tau=0.2&until=0.6):
# the slider under the images moves $t$, and both matrices are further down, with the formula in the numbers of that
# step. In Jupyter, run `make live` first ([how](../docs/live.md)).
#
# **Take away.** An edit is a pair $(P_t, Q_t)$. To see what an edit does, look at the pair.

# %% [markdown]
# ## 8.2 Words added and removed
#
# **How does a new word get attention that the source does not have?** It keeps its own. [P10], as the slide describes it:
# words that both prompts have take the source's column, $\hat A_{\cdot j} = A_{\cdot a(j)}$, and new words keep
# $A^*_{\cdot j}$.
#
# **Exercise 8.2.** `a` is a list with, for each token of the target, the number of its token in the source, or None.


# %% tags=["exercise"]
def my_refine(A, A_star, a):
    ### BEGIN SOLUTION
    return torch.stack([A_star[:, j] if i is None else A[:, i] for j, i in enumerate(a)], dim=1)
    ### END SOLUTION


check.refine(my_refine)

# %%
pink = p2p.edit(HOUSE, PINK, seed=2, model=model)
snow = p2p.edit("a photo of a house on the grass with snowflakes", HOUSE, seed=3, model=model)
lesson.side_by_side({"a house": pink.images[0], "a pink house": pink.images[1]}, "A house, and the same house in pink")
lesson.side_by_side(
    {"with snowflakes": snow.images[0], "without": snow.images[1]}, "A house in falling snow, and without snow"
)

# %% [markdown]
# **Take away.** Inserting and removing are one edit, *refine*. Style and content do not differ for it.

# %% [markdown]
# ## 8.3 More or less of a word
#
# **Can a word count double?** The paper multiplies its column: $c\,\hat A_{\cdot j}$ [P10]. Rows then no longer sum to 1,
# and are left so.
#
# **Exercise 8.3.** Weigh column $j$ of $A$ by $c$.


# %% tags=["exercise"]
def my_reweight(A, j, c):
    ### BEGIN SOLUTION
    A = A.clone()
    A[:, j] *= c
    return A
    ### END SOLUTION


check.reweight(my_reweight)

# %%
FOG = "a photo of a tree on the grass in fog"
weights = (-1, 0, 1, 3)
fog = p2p.edit(FOG, *[FOG] * len(weights), seed=5, edits=[p2p.Reweight("fog", float(c)) for c in weights], model=model)
lesson.side_by_side(
    {f"fog x {c}": image for c, image in zip(weights, fog.images[1:])},
    "A tree in clear air at weight -1, in ordinary fog at 1, and in thick fog at 3",
)

# %% [markdown]
# A weight of 0 stops anyone from looking at the word itself. But its neighbours have read it: in the text encoder every
# token sees the tokens before it (lesson 4), so EOS and the padding know of the fog too. A negative weight pushes away.
#
# [Drag the weight of each word yourself](http://localhost:8623/#source=a+photo+of+a+tree+on+the+grass+in+fog&target=a+photo+of+a+tree+on+the+grass+in+fog&seed=5&steps=30&guidance=4&tau=0.2&until=0.6&weight=fog%3D3).
# In Jupyter, run `make live` first ([how](../docs/live.md)).
#
# **Take away.** Weights turn a word up, and down; 0 does not mean "remove".

# %% [markdown]
# ## 8.4 Edits add
#
# **What is a swap and a weight at once?** An edit takes a pair $(P, Q)$ and gives another. So edits can be put one after
# the other: `a + b` is first `a`, then `b`.

# %%
RED, BLUE = "a photo of a red car on the street in fog", "a photo of a blue car on the street in fog"
both = p2p.Swap("red", "blue") + p2p.Reweight("fog", 2.0)
cars = p2p.edit(RED, BLUE, BLUE, seed=4, edits=[p2p.Swap("red", "blue"), both], model=model)
lesson.side_by_side(
    {"source": cars.images[0], "swap": cars.images[1], "swap + fog x 2": cars.images[2]},
    "A red car in fog, a blue car in the same fog, a blue car in thicker fog",
)

# %% [markdown]
# Brackets do not matter, the order sometimes does. Which order? A weight scales the column *as it stands*: whatever a
# later swap claims, it claims anew.

# %%
tokens = [model.tokenizer.encode(prompt) for prompt in (RED, BLUE)]
a, b, c = p2p.Swap("red", "blue"), p2p.Reweight("fog", 2.0), p2p.Reweight("blue", 3.0)
at = lambda edit: edit.compile(*tokens, T)(900)
same = lambda x, y: all(torch.equal(p, q) for p, q in zip(x[:2], y[:2]))
print("(a + b) + c equals a + (b + c):", same(at((a + b) + c), at(a + (b + c))))
print("a + c equals c + a:            ", same(at(a + c), at(c + a)))
assert same(at((a + b) + c), at(a + (b + c))) and not same(at(a + c), at(c + a))

# %% [markdown]
# **Take away.** Edits form a monoid: there is one that does nothing, and a sum that is associative.

# %% [markdown]
# ## 8.5 One word kept, one region changed
#
# **[P11] Keep an object, let all else go:** inject the column of that word alone.

# %%
DESERT = "a photo of a butterfly in the desert"
kept = p2p.edit(
    "a photo of a butterfly on the grass", DESERT, seed=5, preserve="butterfly", self_until="never", model=model
)
lesson.side_by_side(
    {"source": kept.images[0], "kept": kept.images[1]}, "A butterfly on grass, and its like in the desert"
)

# %% [markdown]
# **The other way: change an object, keep all else.** An attention map says where a word is. So the edit can be confined to
# that region [P2]:
#
# $$z_{t-1} = \mathrm{mask} \odot z^*_{t-1} + (1 - \mathrm{mask}) \odot z_{t-1}$$
#
# (On the slide the mask marks what *stays*; here, as in most programs, what may change.) In a baseline a person draws the
# mask. *Local blending* takes it from the maps.
#
# **Exercise 8.4.** The region of a word: where its map exceeds `threshold` times the map's maximum. Ones and zeros.


# %% tags=["exercise"]
def my_region(word_map, threshold):
    ### BEGIN SOLUTION
    return (word_map > threshold * word_map.max()).float()
    ### END SOLUTION


check.region(my_region)

# %% [markdown]
# **Exercise 8.5.** The blend, with `z` of the source and `z_star` of the target.


# %% tags=["exercise"]
def my_local_blend(z, z_star, region):
    ### BEGIN SOLUTION
    return region * z_star + (1 - region) * z
    ### END SOLUTION


check.local_blend(my_local_blend)

# %%
free = p2p.edit(HOUSE, PINK, seed=2, model=model)
blended = p2p.edit(HOUSE, PINK, seed=2, blend="house", model=model)
change = [np.abs(r.images[1].astype(float) - r.images[0]).mean(axis=2) for r in (free, blended)]
lesson.side_by_side(
    {"source": free.images[0], "edit": free.images[1], "edit, blended": blended.images[1]},
    "A house, a pink house, and a pink house whose surroundings are the source's",
)
figure, axes = plt.subplots(1, 3, figsize=(8, 2.5))
axes[0].imshow(blended.maps[1]["house"])
axes[0].set_title("map of 'house'", fontsize=9)
for axis, image, title in zip(axes[1:], change, ("what the edit changed", "what it changed, blended")):
    axis.imshow(image, vmax=100)
    axis.set_title(title, fontsize=9)
for axis in axes:
    axis.axis("off")
lesson.show(figure, "The map of house lights up at the house; blending leaves the rest of the image black, unchanged")

# %% [markdown]
# **Take away.** Maps both keep an object (inject its column) and confine a change (cut out its region).

# %% [markdown]
# ## 8.6 The same edit without maps
#
# **Must $A$ be built at all?** At 64 x 64 positions and 77 tokens one head's map is small, but in *self*-attention it has
# 4,096 x 4,096 numbers, and fused kernels, which never write it down, are several times faster. Now look at the formula:
#
# $$Y^* = (A P + A^* Q)\,V^* = A\,(P V^*) + A^* (Q V^*)$$
#
# Matrix products are associative. So multiply the *values* first, which are small, and call plain attention twice. $A$ is
# then never needed as a tensor. The package edits like this unless somebody wants to see the maps.

# %%
n, m, d = 4096, 77, 40
Q_, K_, Q_star, K_star, V_star = (torch.randn(1, 8, size, d) for size in (n, m, n, m, m))
P, q = torch.eye(m), torch.rand(m)


def explicit():
    A, A_star = ldm.attention_map(Q_, K_), ldm.attention_map(Q_star, K_star)
    return p2p.used(A, A_star, P, q) @ V_star


def folded():
    return ldm.attend(Q_, K_, P @ V_star) + ldm.attend(Q_star, K_star, q[:, None] * V_star)


def best(f, times=5):
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        f()
        took.append(time.perf_counter() - begin)
    return min(took)


lesson.claim("largest difference of the two", (explicit() - folded()).abs().max(), 0, within=1e-4)
print(f"folded takes {best(folded) / best(explicit):.2f} of the time of explicit maps")
print(
    f"one map of 8 heads: {n * m * 8 * 4 / 1e6:.0f} MB in cross-attention, {n * n * 8 * 4 / 1e6:.0f} MB in self-attention"
)

# %% [markdown]
# **Take away.** What you want to *look at*, build. What you only *use*, fold.

# %% [markdown]
# ## 8.7 A gallery of failures
#
# **Where does it go wrong?** Each of these is the default edit, followed by what helps, if anything does.

# %%
FAILURES = [
    (
        "sizes: injected maps hold the old size",
        "a photo of a big cat on the grass",
        "a photo of a small cat on the grass",
    ),
    (
        "relations: injected maps hold the old places",
        "a photo of a cat next to a ball on the grass",
        "a photo of a cat above a ball on the grass",
    ),
]
for title, prompt, prompt_star in FAILURES:
    default = p2p.edit(prompt, prompt_star, seed=1, model=model)
    helped = p2p.edit(prompt, prompt_star, seed=1, tau=0.8, self_until=0.8, model=model)
    print(title)
    lesson.side_by_side(
        {"source": default.images[0], "default": default.images[1], "tau 0.8, self 0.8": helped.images[1]},
        f"{prompt}; the default edit, which keeps much of it; with tau 0.8 it is {prompt_star}",
    )

# %% [markdown]
# *Why:* the first steps fix places and sizes (lesson 7), and the default injects in all of them. What helps is to let go
# early; the price is that the rest may move too.

# %%
RED_CAR = "a photo of a red car on the street"
weighed = p2p.edit(RED_CAR, RED_CAR, RED_CAR, seed=1, edits=[p2p.Reweight("red", c) for c in (0.0, -4.0)], model=model)
print("a weight of 0 does not remove a colour")
lesson.side_by_side(
    {"source": weighed.images[0], "red x 0": weighed.images[1], "red x -4": weighed.images[2]},
    "A red car, still red at weight 0, and at weight -4 of another colour",
)

# %% [markdown]
# *Why:* "car" stands behind "red" in the prompt and has read it. Its values carry the colour, whoever looks at "red".
# Swap "red" for another word instead.

# %%
second = p2p.edit("a photo of a cat on the grass", "a photo of a cat next to a ball on the grass", seed=1, model=model)
print("a second object has no free place of its own")
lesson.side_by_side(
    {"source": second.images[0], "and a ball": second.images[1]},
    "A cat; beside it a ball, half transparent where it meets the cat",
)

# %% [markdown]
# *Why:* the source's maps give every position to the words it has. A new word gets what they leave over, and nothing moves
# aside for it.
#
# How often each kind of edit is right, with the defaults and with other settings, is measured in `docs/which-edit.md`.
#
# ## What you have found
#
# - Every edit is $A P_t + A^* Q_t$; edits add, by composing pairs.
# - The slide's mask (P2) marks what stays.
# - Folding makes the same edit from two plain attention calls.
# - An edit can keep only what the maps hold, and change only what they leave open.
#
# Next (lesson 9): images that no model made.
