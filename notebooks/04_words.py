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
# # 4. Words to vectors
#
# The UNet is never shown a word. It is shown a list of vectors, always as many, one for each *token* of the prompt. This
# lesson follows a prompt on its way there: how it is cut, which vector knows of which word, and how numbers can come to
# know at all what "red" looks like.
#
# You need: what an embedding and a transformer are, the softmax, and cross-entropy. *How* a transformer looks is the
# subject of lesson 5; here it only matters *who may look at whom*.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import dataclasses
import textwrap
from collections import Counter
from itertools import pairwise, product

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw

import ldm
import p2p
from notebooks import check, lesson

torch.manual_seed(0)
model = p2p.load("stickers", device="cpu")
tokenizer = model.tokenizer
clip, clip_tokenizer = p2p.load_clip("stickers-clip", device="cpu")

# %% [markdown]
# ## 4.1 Pieces
#
# **Into what is a prompt cut?** The prompt model, [C9], on the slide of that name, in words:
#
# $$\tau_\theta(y) = \mathrm{Transformer}(\mathrm{BOS}, y_1, \dots, \mathrm{EOS}, \mathrm{PAD}, \dots)
# \in \mathbb{R}^{77 \times d_\tau}$$
#
# BOS and EOS mark the beginning and the end of the sequence, as the tokens `<|startoftext|>` and `<|endoftext|>`; PAD is
# padding (4.3).
#
# What is $y_1$? Letters would make long lists, and a table of all words would never be complete. *Byte-pair encoding* learns
# something between from a text: begin with letters, and merge the most frequent pair of neighbours into a new piece, again
# and again. The last letter of a word is another piece than the same letter inside one: it is written with `</w>`.
#
# **By hand.** A text has "cat" three times, "at" twice and "cart" once. The pairs: `a t</w>` 5 times, `c a` 4, `a r` and
# `r t</w>` once each. So the first merge makes `at</w>`. Now "cat" is `c at</w>`, a pair that occurs 3 times: the second
# merge makes `cat</w>`. A word that was never there, "rat", is then two pieces: `r` and `at</w>`.
#
# **Exercise 4.1.** The most frequent pair. `words` says how often each word occurs: `{("c", "a", "t</w>"): 3, ...}`.
#
# <details><summary>Hint</summary>
#
# `pairwise(pieces)` gives the neighbours. Let a `Counter` add `words[pieces]` for each of them; the pair with the most is
# `max(counter, key=counter.get)`.
#
# </details>


# %% tags=["exercise"]
def my_best_pair(words):
    ### BEGIN SOLUTION
    counter = Counter()
    for pieces, times in words.items():
        for pair in pairwise(pieces):
            counter[pair] += times
    return max(counter, key=counter.get)
    ### END SOLUTION


check.best_pair(my_best_pair)

# %% [markdown]
# **Exercise 4.2.** Apply a merge to one word, from left to right. `("b", "a", "n", "a", "n", "a</w>")` and the pair
# `("a", "n")` give `("b", "an", "an", "a</w>")`.


# %% tags=["exercise"]
def my_merge(pieces, pair):
    ### BEGIN SOLUTION
    merged, i = [], 0
    while i < len(pieces):
        if pieces[i : i + 2] == pair:
            merged.append("".join(pair))
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return tuple(merged)
    ### END SOLUTION


check.merge(my_merge)

# %% [markdown]
# Those two are the whole of it. Here they learn from a few captions:


# %%
def letters(word):
    return (*word[:-1], word[-1] + "</w>")


TEXT = """a photo of a cat on the grass, a photo of a red car on the street, a painting of a castle on the beach,
a photo of a small boat in the sea, a painting of a cat on the beach, a photo of a cake on a table"""
words = Counter(map(letters, TEXT.replace(",", "").split()))
merges = []
for _ in range(24):
    merges.append(my_best_pair(words))
    words = Counter({tuple(my_merge(pieces, merges[-1])): times for pieces, times in words.items()})
print("merges:", ", ".join(" + ".join(pair) for pair in merges[:8]), "...")
for word in ("photo", "cat", "castle", "coat", "phone"):
    pieces = letters(word)
    for pair in merges:
        pieces = my_merge(pieces, pair)
    print(f"{word:8}", " ".join(pieces))

# %% [markdown]
# The tokenizer of the included model has learned in the same way from its training captions, and Stable Diffusion's from
# a large part of the web. Both begin with the 256 bytes, so that *any* text can be cut, and the same 256 at the end of a word.
# They end with two special tokens:

# %%
for name, config in (("included", model.config.text), ("SD 1.5", ldm.PRESETS["sd15"].text)):
    print(
        f"{name:9} {config.vocabulary:6,} entries = 512 + {config.vocabulary - 514:6,} merges + {config.bos}, {config.eos}"
    )
for word in ("cat", "butterfly", "elephant", "squirrel"):
    tokens = tokenizer.encode(word)
    print(f"{word:10}", tokens.pieces[1 : tokens.count - 1])

# %% [markdown]
# "squirrel" is in none of the captions. It falls into letters, each of which has a vector, but nobody ever told the model
# what they mean together. ("butterfly" and "elephant" were kept from being merged, so that the lessons have words of several
# tokens.)
#
# **Take away.** Frequent words are one token, rare ones several, and no text is impossible.

# %% [markdown]
# ## 4.2 A word's tokens
#
# **Which of the vectors belong to "butterfly"?** Each token keeps its *span*, the characters of the prompt that it covers,
# from the first up to but without the last:

# %%
PROMPT = "a photo of a butterfly on the grass"
tokens = tokenizer.encode(PROMPT)
print(" n    id  span      token")
for n in range(tokens.count + 2):
    print(f"{n:2} {tokens.ids[n]:5}  {tokens.spans[n]!s:9} {tokens.pieces[n]}")
print("...")

# %% [markdown]
# BOS, EOS and padding cover no character: their span is $(0, 0)$.
#
# **Exercise 4.3.** The numbers of the tokens that share a character with the word at `start` (included) to `end`
# (excluded). A list.


# %% tags=["exercise"]
def my_columns(spans, start, end):
    ### BEGIN SOLUTION
    return [i for i, (a, b) in enumerate(spans) if a < end and start < b]
    ### END SOLUTION


check.columns(my_columns)

# %%
start = PROMPT.index("butterfly")
print("mine:   ", my_columns(tokens.spans, start, start + len("butterfly")))
print("package:", p2p.columns(tokens, "butterfly"))
known = model.vocabulary.kinds["nouns"] + model.vocabulary.kinds["colours"]
sizes = Counter(len(p2p.columns(tokenizer.encode(word), word)) for word in known)
print("nouns and colours of the model, by their number of tokens:", dict(sorted(sizes.items())))

# %% [markdown]
# They are called *columns* because the attention map of lesson 5 has one for each token. An edit of "butterfly" has to
# find both, and no other.
#
# **Take away.** A word is a set of token numbers, found by characters and not by counting words.

# %% [markdown]
# ## 4.3 Always as many
#
# **Why 77?** The vectors of the positions are a learned table, and it has that many rows: 77 in CLIP, 32 in the included
# model. Shorter prompts are filled up with *padding*, which here and in Stable Diffusion 1 is EOS again. Longer ones are
# refused.

# %%
print("EOS, padding:", tokenizer.eos, tokenizer.pad)
tau_y = model.encode_prompts([PROMPT])
print("tau(y):", tuple(tau_y.shape), "of", tokens.count, "tokens and", len(tokens.ids) - tokens.count, "of padding")
try:
    tokenizer.encode(PROMPT + " next to a cat" * 7)
except ValueError as error:
    print(error)

# %% [markdown]
# Padding is not masked: the UNet looks at these vectors as it looks at all others. They are one token and not one vector,
# since each stands at another position and has others before it:

# %%
padding = tau_y[0, tokens.count :]
distances = torch.cdist(padding, padding)
lesson.claim("length of the first vector of padding", padding[0].norm(), 9.7, within=1)
lesson.claim("distance of the first from the last", distances[0, -1], 12, within=2)
lesson.claim("distance of the last from the one before", distances[-1, -2], 0.1, within=0.05)

# %% [markdown]
# **Take away.** $\tau(y)$ has a fixed shape, and most of a short prompt is padding.

# %% [markdown]
# ## 4.4 Who has read what
#
# **Does the vector of "cat" know that it stands on grass?** In the text encoder tokens look at each other. It is *causal*:
# a token looks at itself and at the tokens before it, and not at those behind.

# %%
lesson.source(ldm.TextEncoder)

# %% [markdown]
# **By hand.** Of the three tokens "red", "cat", EOS: "red" sees itself, "cat" sees both words, EOS sees all three. As a
# matrix with a row for each token that looks: $(1, 0, 0)$, $(1, 1, 0)$, $(1, 1, 1)$.
#
# **Exercise 4.4.** That matrix for $m$ tokens.


# %% tags=["exercise"]
def my_visible(m):
    ### BEGIN SOLUTION
    return torch.ones(m, m).tril()
    ### END SOLUTION


check.visible(my_visible)

# %% [markdown]
# The experiment: replace one word by another of as many tokens, and see which of the 32 vectors change, and by what part of
# their length.

# %%
SENTENCE = "a photo of a cat on the grass in fog"
OTHERS = {"photo": "painting", "cat": "dog", "on": "in", "grass": "beach", "fog": "snow"}
base = model.encode_prompts([SENTENCE])[0]
changes = {}
for word, other in OTHERS.items():
    changed = model.encode_prompts([SENTENCE.replace(word, other)])[0]
    changes[f"{word} > {other}"] = (changed - base).norm(dim=1) / base.norm(dim=1)
read = tokenizer.encode(SENTENCE)
figure, axis = plt.subplots(figsize=(9, 2.3))
image = axis.imshow(torch.stack([*changes.values()]), vmin=0, vmax=1.2, cmap="Blues", aspect="auto")
axis.set_xticks(range(len(read.pieces)), read.pieces, rotation=90, fontsize=8)
axis.set_yticks(range(len(changes)), changes, fontsize=8)
axis.grid(False)
axis.set_title("Change of each token's vector, as a share of its length", fontsize=10)
figure.colorbar(image, pad=0.01)
lesson.show(figure, "Each row is blank up to the replaced word and coloured from it on, through EOS and all padding")

# %%
fog, cat = changes["fog > snow"], changes["cat > dog"]
at_cat, at_fog, at_eos = (p2p.columns(read, "cat")[0], p2p.columns(read, "fog")[0], read.count - 1)
lesson.claim("change before the word, cat", cat[:at_cat].max(), 0, within=1e-5)
lesson.claim("change before the word, fog", fog[:at_fog].max(), 0, within=1e-5)
lesson.claim("least change behind it, cat", cat[at_cat:].min(), 0.12, within=0.08)
lesson.claim("change of EOS, by fog", fog[at_eos], 0.9, within=0.3)
lesson.claim("change of the last padding, by fog", fog[-1], 0.95, within=0.3)
lesson.claim("change of the last padding, by cat", cat[-1], 0.13, within=0.08)

# %% [markdown]
# So the vector of "cat" is the same whatever comes later, and knows nothing of the grass. "grass" has read of the cat.
# EOS has read the whole prompt, and so has every token of padding behind it. What they make of it was learned: the later
# padding of this model is full of place and weather, and has hardly a trace of the cat.
#
# Two consequences for editing, which you will meet again. If a prompt says "a red car", the vector of "car" has read "red":
# to ignore the token "red" does not take the colour away (lesson 8). And attention that goes to EOS and padding goes to a
# summary of the prompt (lesson 5).
#
# **Take away.** A token's vector is the word *in its context so far*; EOS's is the whole sentence.

# %% [markdown]
# ## 4.5 Where the knowledge comes from
#
# **Who taught the vectors what is red?** There are two answers.
#
# - **Alongside.** The loss of the diffusion model has a gradient for the text encoder as well: both are trained together, as
#   in the latent diffusion paper and in the included model.
# - **Before.** The text encoder is trained with something else, and then kept as it is. Stable Diffusion takes CLIP's.
#
# **The slip.** The slide says that the prompt model is "learned alongside" the diffusion model. That is the first answer;
# for Stable Diffusion, which the lecture edits, it is the second.
#
# How was CLIP trained? The figure of the slides, *contrastive pre-training*, has no formula [C9]. An image encoder and a
# text encoder each give one vector; the text's is that of EOS, which has read everything. Of $n$ pairs, take the cosine of
# every image with every text:
#
# $$S_{ij} = s \cdot \cos(\text{image}_i, \text{text}_j)$$
#
# where the scale $s$ is learned too. Matching pairs are on the diagonal, and shall be the largest of their row *and* of
# their column.

# %%
lesson.source(ldm.CLIP.embed_text)

# %%
lesson.source(ldm.similarity)

# %% [markdown]
# **Exercise 4.5.** $S$, of images (n, e) and texts (m, e).


# %% tags=["exercise"]
def my_similarity(images, texts, scale):
    ### BEGIN SOLUTION
    unit = lambda x: x / x.norm(dim=1, keepdim=True)
    return scale * unit(images) @ unit(texts).T
    ### END SOLUTION


check.similarity(my_similarity)

# %% [markdown]
# Each row of $S$ is a classification: which of the $n$ texts goes with image $i$? The right answer is $i$, and the loss is
# the cross-entropy. Each column is one too: which image goes with text $j$? The mean of both is the loss:
#
# $$L = -\frac{1}{2n} \sum_i \big( \log \mathrm{softmax}(S_{i\cdot})_i + \log \mathrm{softmax}(S_{\cdot i})_i \big)$$
#
# **By hand.** Two pairs, matching perfectly, the others at right angles: cosines $\begin{pmatrix} 1 & 0 \\ 0 & 1
# \end{pmatrix}$. With $s = \ln 3$, each row of exponentials is $(3, 1)$ or $(1, 3)$, the right one has probability
# $\frac34$, and $L = \ln \frac43 = 0.288$. If all three of three pairs look alike, each has probability $\frac13$:
# $L = \ln 3 = 1.099$, whatever the scale.

# %%
apart, alike = torch.eye(2), torch.ones(3, 2)
lesson.claim("two pairs apart, scale ln 3", ldm.contrastive_loss(apart, apart, np.log(3)), 0.288, within=0.001)
lesson.claim("three pairs alike, scale 5", ldm.contrastive_loss(alike, alike, 5.0), 1.099, within=0.001)
lesson.claim("two pairs apart, scale 1", ldm.contrastive_loss(apart, apart, 1.0), 0.313, within=0.001)
lesson.claim("two pairs apart, scale 10", ldm.contrastive_loss(apart, apart, 10.0), 0, within=1e-4)

# %% [markdown]
# The scale is needed because a cosine is at most 1: with $s = 1$ the two perfect pairs would still cost
# $\ln(1 + e^{-1}) = 0.313$.
#
# **Exercise 4.6.** The loss, from $S$ (n, n).
#
# <details><summary>Hint</summary>
#
# `S.log_softmax(dim=1)` has the logarithm of each row's softmax; the right ones are its `.diagonal()`. Which `dim` is it for
# the columns?
#
# </details>


# %% tags=["exercise"]
def my_contrastive_loss(S):
    ### BEGIN SOLUTION
    right_text = S.log_softmax(dim=1).diagonal()
    right_image = S.log_softmax(dim=0).diagonal()
    return -(right_text + right_image).mean() / 2
    ### END SOLUTION


check.contrastive_loss(my_contrastive_loss)

# %%
lesson.source(ldm.contrastive_loss)

# %% [markdown]
# **Take away.** Nobody says what "red" is. The loss only asks that a caption be found among others by its image, and for
# that "red" has to be told from "blue".

# %% [markdown]
# ## 4.6 Trained before your eyes
#
# **Does that work?** Here is a world small enough for ten seconds: a circle, a square or a triangle in one of seven colours,
# somewhere, of some size. Three of the 21 pairs are never shown: no blue square, no red triangle and no green circle.

# %%
COLOURS = {"red": (214, 39, 40), "orange": (255, 150, 30), "yellow": (245, 220, 50), "green": (44, 160, 44)}
COLOURS |= {"blue": (40, 90, 200), "purple": (140, 70, 190), "pink": (245, 140, 190)}
SHAPES = ("circle", "square", "triangle")
PAIRS = list(product(COLOURS, SHAPES))
NEVER = [("blue", "square"), ("red", "triangle"), ("green", "circle")]
SHOWN = [pair for pair in PAIRS if pair not in NEVER]
rng = np.random.default_rng(0)


def drawn(colour, shape):
    """An image of 32 x 32 pixels."""
    image = Image.new("RGB", (32, 32), (int(rng.integers(190, 256)),) * 3)
    r = rng.integers(8, 13)
    x, y = rng.integers(r, 32 - r, 2)
    box, draw = (x - r, y - r, x + r, y + r), ImageDraw.Draw(image)
    if shape == "circle":
        draw.ellipse(box, COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, COLOURS[colour])
    else:
        draw.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], COLOURS[colour])
    return np.array(image)


def ids_of(pairs):
    return tokenizer.batch([f"a {colour} {shape}" for colour, shape in pairs])


small = ldm.CLIPConfig(
    text=dataclasses.replace(ldm.CLIP_PRESETS["stickers-clip"].text, width=32, layers=1, heads=2, hidden=64),
    vision=ldm.VisionConfig(image_size=32, patch=4, width=32, layers=2, heads=2, hidden=64),
    embedding=32,
)
tiny = ldm.new_clip(small)
example = np.stack([drawn(*pair) for pair in PAIRS])


@torch.no_grad()
def cosines():
    return ldm.similarity(tiny.embed_images(example), tiny.embed_text(ids_of(PAIRS)), 1.0)


before = cosines()
threads = torch.get_num_threads()
torch.set_num_threads(1)  # matrices this small are slower on two cores
optimiser = torch.optim.AdamW(tiny.parameters(), lr=2e-3)
losses = []
for _ in range(600):
    images = np.stack([drawn(*pair) for pair in SHOWN])  # new ones at each step
    S = my_similarity(tiny.embed_images(images), tiny.embed_text(ids_of(SHOWN)), tiny.logit_scale.exp())
    loss = my_contrastive_loss(S)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
torch.set_num_threads(threads)
after = cosines()

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.1))
axes[0].plot(losses, lw=1)
axes[0].axhline(np.log(len(SHOWN)), color="black", ls="--", lw=1, label="by chance, ln 18")
axes[0].set(xlabel="step", title="loss", ylim=(0, 3.6))
axes[0].legend(fontsize=8)
for axis, title, S in ((axes[1], "cosines before", before), (axes[2], "and after 600 steps", after)):
    axis.imshow(S, vmin=-1, vmax=1, cmap="RdBu")
    axis.set_title(title)
    axis.set_xticks(range(1, 21, 3), COLOURS, rotation=60, fontsize=8)
    axis.set_yticks(range(1, 21, 3), COLOURS, fontsize=8)
    axis.set(ylabel="images", xlabel="texts")
    axis.grid(False)
figure.tight_layout()
lesson.show(
    figure, "The loss falls from ln 18 to about 0.2; the cosines show no order before, blocks of one colour after"
)

# %%
tests = {"shown": SHOWN, "never shown": NEVER}
found = {}
for name, group in tests.items():
    images = np.stack([drawn(*pair) for pair in group for _ in range(20)])
    with torch.no_grad():
        best = ldm.similarity(tiny.embed_images(images), tiny.embed_text(ids_of(PAIRS)), 1.0).argmax(dim=1)
    right = [(PAIRS[i], pair) for i, pair in zip(best, [pair for pair in group for _ in range(20)])]
    found[name] = [np.mean([a[k] == b[k] for a, b in right]) for k in (0, 1)]
    print(f"{name:12} colour right {found[name][0]:.0%}, shape right {found[name][1]:.0%}, of {len(right)} new images")
lesson.claim("colour, of pairs shown", found["shown"][0], 1, within=0.05)
lesson.claim("shape, of pairs shown", found["shown"][1], 0.9, within=0.15)
lesson.claim("colour, of pairs never shown", found["never shown"][0], 1, within=0.2)
lesson.claim(
    "shape lost by never having been shown together", found["shown"][1] - found["never shown"][1], 0.3, within=0.25
)

# %% [markdown]
# The blocks of three are colours: shapes of one colour are near each other, and told apart inside the block less clearly.
# Colours are right also in pairs that were never shown, shapes less often. So part of what was learned is *composed* of the
# words, and part belongs to the pairs that were there.
#
# **Take away.** Some hundred steps of one loss, on images and their captions, make a colour of a word.

# %% [markdown]
# ## 4.7 A classifier for free
#
# **Can it name what it sees?** *Zero-shot classification*: write one text for each label, and see which is nearest to the
# image. That is a row of $S$, and its softmax is a probability for each label.
#
# **Exercise 4.7.** The probabilities, (n, m), of images (n, e) and texts of labels (m, e). Use `my_similarity`.


# %% tags=["exercise"]
def my_zero_shot(images, labels, scale):
    ### BEGIN SOLUTION
    return my_similarity(images, labels, scale).softmax(dim=1)
    ### END SOLUTION


check.zero_shot(my_zero_shot)

# %% [markdown]
# With the package comes a small CLIP that was trained like this on the stickers' scenes and their captions, both encoders from random
# numbers. It was never shown an image that the diffusion model made. Here are six, and their captions:

# %%
CAPTIONS = [
    "a photo of a cat on the grass",
    "a photo of a red car on the street",
    "a photo of a blue ball on the beach",
    "a photo of a penguin in the snow",
    "a painting of a castle in the desert",
    "a photo of an owl at night",
]
images = model.generate(CAPTIONS, list(range(len(CAPTIONS))), steps=15)
of_images, of_texts = clip.embed_images(images), clip.embed_text(clip_tokenizer.batch(CAPTIONS))
S = ldm.similarity(of_images, of_texts, 1.0)
figure, axes = plt.subplots(6, 2, figsize=(8, 4.6), width_ratios=(0.6, 7))
for axis, image in zip(axes[:, 0], images):
    axis.imshow(image)
    axis.axis("off")
for axis in axes[:, 1]:
    axis.remove()
axis = figure.add_subplot(axes[0, 1].get_gridspec()[:, 1])
axis.imshow(S, vmin=-1, vmax=1, cmap="RdBu", aspect="auto")
axis.set_yticks([])
axis.set_xticks(range(6), [textwrap.fill(caption, 15) for caption in CAPTIONS], fontsize=8)
axis.grid(False)
for i, j in product(range(6), range(6)):
    axis.text(j, i, f"{S[i, j]:.2f}", ha="center", va="center", fontsize=9, color="white" if S[i, j] > 0.6 else "black")
figure.subplots_adjust(hspace=0.05, wspace=0.03)
lesson.show(figure, "Six images and six captions: on the diagonal cosines of about 0.8, elsewhere far lower ones")
lesson.claim("captions found by their image", (S.argmax(dim=1) == torch.arange(6)).sum(), 6, within=0.1)
lesson.claim("mean cosine of a pair", S.diagonal().mean(), 0.85, within=0.15)

# %% [markdown]
# Whole captions are found. And single words? The texts are now captions in which one word varies, first over the seven
# colours, then over all nouns:


# %%
def probabilities(image, texts):
    labels = clip.embed_text(clip_tokenizer.batch(texts))
    return ldm.zero_shot(clip.embed_images(image[None]), labels, clip.logit_scale.exp())[0]


colours, nouns = model.vocabulary.kinds["colours"], model.vocabulary.kinds["nouns"]
of_colours = probabilities(images[1], [f"a photo of a {colour} car on the street" for colour in colours])
of_nouns = probabilities(images[0], [f"a photo of a {noun} on the grass" for noun in nouns])
figure, axes = plt.subplots(1, 2, figsize=(9, 2.4))
for axis, names, p, title in (
    (axes[0], colours, of_colours, "a photo of a ... car on the street"),
    (axes[1], nouns, of_nouns, "a photo of a ... on the grass"),
):
    order = p.argsort(descending=True)[:7]
    axis.barh(range(7), p[order], color="#0072B2")
    axis.set_yticks(range(7), [names[i] for i in order], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), title=title, xlabel=f"probability, of {len(names)} labels")
figure.tight_layout()
lesson.show(figure, "Of the red car's image: red is by far the most probable colour. Of the cat's: cat leads the nouns")
assert colours[of_colours.argmax()] == "red" and nouns[of_nouns.argmax()] == "cat"

# %%
lesson.source(ldm.zero_shot)

# %% [markdown]
# **Does the wording of a label matter?** It should not, and it does. Fourteen nouns, an image of each on the grass, and all
# nouns as labels, worded in three ways:

# %%
article = lambda noun: "an" if noun[0] in "aeiou" else "a"
WORDINGS = {
    "a photo of a ... on the grass": lambda noun: f"a photo of {article(noun)} {noun} on the grass",
    "a photo of a ...": lambda noun: f"a photo of {article(noun)} {noun}",
    "...": lambda noun: noun,
}
whole, *_ = WORDINGS.values()
made = clip.embed_images(model.generate([whole(noun) for noun in nouns[:14]], list(range(14)), steps=10))
right = {}
for wording, text in WORDINGS.items():
    labels = clip.embed_text(clip_tokenizer.batch([text(noun) for noun in nouns]))
    best = ldm.zero_shot(made, labels, clip.logit_scale.exp()).argmax(dim=1)
    right[wording] = (best == torch.arange(14)).sum().item()
    print(f"{wording:31} {right[wording]:2} of 14 right, among {len(nouns)} nouns")
whole_right, _, bare_right = right.values()
lesson.claim("right with whole captions", whole_right, 14, within=2)
lesson.claim("right with bare words", bare_right, 9, within=2)

# %% [markdown]
# The text encoder was trained on whole captions, and a bare word is none. So labels are best written as the captions were.
#
# What they leave out matters too. The training's captions name every colour but a thing's own: "a photo of a car" is a car in
# the colours of its sticker, and not red. Here is the image of the red car, with three labels for each noun:

# %%
RED = {
    "a photo of a ...": lambda noun: f"a photo of {article(noun)} {noun}",
    "a photo of a red ...": lambda noun: f"a photo of a red {noun}",
    "a photo of a red ... on the street": lambda noun: f"a photo of a red {noun} on the street",
}
of_car = {wording: probabilities(images[1], [text(noun) for noun in nouns]) for wording, text in RED.items()}
for wording, p in of_car.items():
    print(f"{wording:36}", ", ".join(f"{nouns[i]} {p[i]:.2f}" for i in p.topk(4).indices))
unsaid, *_, said = of_car.values()
lesson.claim("car, the colour unsaid", unsaid[nouns.index("car")], 0, within=0.1)
lesson.claim("the most probable noun, the colour unsaid", unsaid.max(), 0.9, within=0.2)
lesson.claim("the most probable noun, all said", said.max(), 0.2, within=0.15)

# %% [markdown]
# With the colour left out the classifier is sure, and wrong. With it, it hesitates between several red things, the car
# among them: its colours are better than its nouns. A probability of 1 says only that no *other label* fits better.
#
# **Take away.** A text encoder that was trained with images gives a classifier for any label that can be written down, in
# the words of its training.

# %% [markdown]
# ## What you have found
#
# | | slip | corrected |
# |---|---|---|
# | C9 | the prompt model is "learned alongside" | in latent diffusion; Stable Diffusion's was trained before, and is frozen |
#
# - A prompt becomes 77 (here 32) vectors: BOS, pieces of words, EOS, padding.
# - A vector knows of what stands before it. EOS and padding know the whole prompt.
# - CLIP's loss asks that images and captions find each other, and that makes words mean what can be seen.
#
# Next: how the UNet looks at these vectors.
