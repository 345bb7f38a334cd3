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
# # 1. Why editing by prompt is hard
#
# A sentence goes in, an image comes out. You like the image, except for one thing: the car should be blue. So you change
# one word, and get another image. This lesson looks at why, tries what comes to mind first, and measures what each
# attempt breaks. At its end is the method of this course, Prompt-to-Prompt, which does better; how it works takes six more lessons.
#
# You need: PyTorch's tensors. Nothing about diffusion; whatever is used here is explained later, and the text says where.
#
# **How the lessons work.** They follow CMU 10-423/623, Lecture 13. Ids such as [P1] name the slides' formulas;
# [EQUATIONS.md](../EQUATIONS.md) lists them all. In an exercise you write a function, and `check` says in one sentence what is
# wrong with it. `lesson.claim` prints a number that the text relies on, and fails if it is another. Functions of `ldm` (the
# model) and `p2p` (the editing) are the package's own, a few lines each: read them.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

import ldm
import p2p
from notebooks import check, lesson

torch.manual_seed(0)
model = p2p.load("stickers", device="cpu")
RED, BLUE = "a photo of a red car on the street", "a photo of a blue car on the street"

# %% [markdown]
# ## 1.1 An image of a sentence
#
# **What does a text-to-image model do?** It takes a *prompt* and a *seed*, a whole number:

# %%
photos = model.generate([RED] * 3, seeds=[2, 3, 4])
lesson.side_by_side(
    {f"seed {seed}": image for seed, image in zip((2, 3, 4), photos)},
    "Three photos of a red car on a street: the car stands elsewhere in each, and the horizon has another height",
)
again = model.generate([RED], seeds=[4])[0]
difference = np.abs(again.astype(int) - photos[2]).max()
lesson.claim("seed 4 once more: largest difference, in grey levels of 255", difference, 0, within=1)

# %% [markdown]
# The prompt leaves open where the car stands, and how high the horizon is. The seed decides it, and the same seed decides the
# same way again. For a seed stands for an array of random numbers, $z_T \sim \mathcal{N}(0, I)$, and from this noise the image is
# made in 30 steps (unless you ask for another number), each of which takes a little noise away. $T$ is the level of noise at which a
# run starts; at 0 none is left. Here is one run on its way:

# %%
states = list(model.denoise(model.encode_prompts([RED]), [4]))
shown = (0, 14, 29)
lesson.side_by_side(
    {f"step {k + 1}": model.decode(states[k].z_t)[0] for k in shown},
    "Coloured noise at step 1, a red car among spots at step 15, the red car on its street at step 30",
)

# %% [markdown]
# Why noise can be taken away step by step is lesson 2. The numbers that are denoised are not the pixels, but those of a smaller
# array, the *latent*, which a decoder turns into an image:

# %%
print(f"image {photos[2].shape}, {photos[2].size:,} numbers;  latent {model.latent_shape}, {states[0].z_t.numel():,}")
for part in ("autoencoder", "text_encoder", "unet"):
    count = sum(parameter.numel() for parameter in getattr(model, part).parameters())
    print(f"{part:13} {count / 1e6:5.1f} million parameters")

# %% [markdown]
# | part | what it does | symbol | lesson |
# |---|---|---|---|
# | autoencoder | image to latent and back | $z_0 = \mathrm{encoder}(x)$ | 3 |
# | text encoder | prompt to numbers | $\tau(y)$ | 4 |
# | UNet | guesses the noise in a noisy latent, looking at the prompt | $\epsilon_\theta(z_t, t, \tau(y))$ | 5, 6 |
#
# **Exercise 1.1.** Draw the noise of several seeds: a tensor with a row of shape `shape` for each. The noise of a seed must not
# depend on the other seeds of the batch; else nobody could make your image again.
#
# <details><summary>Hint</summary>
#
# `torch.Generator().manual_seed(seed)` is a stream of random numbers, `torch.randn(shape, generator=...)` takes some from
# it, and `torch.stack` makes one tensor of a list.
#
# </details>


# %% tags=["exercise"]
def my_seeded_noise(seeds, shape):
    ### BEGIN SOLUTION
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    ### END SOLUTION


check.seeded_noise(my_seeded_noise)

# %% [markdown]
# The package's own, which remembers its streams, since some samplers draw again at every step:

# %%
lesson.source(ldm.Noise)

# %% [markdown]
# **Take away.** An image is a function of the prompt and of the noise.

# %% [markdown]
# ## 1.2 Change one word
#
# **Can we keep the noise, and change the word?**
#
# [P1], *Two baselines for editing*, where the slide says it in words: start from the same noise, with the edited prompt.
#
# $$z_T^* = z_T, \quad \text{prompt } y^*$$
#
# Stars mark what belongs to the edit, here and on the slides.

# %%
SEED = 4
source, same_seed = model.generate([RED, BLUE], seeds=[SEED, SEED])
lesson.side_by_side(
    {"source: a red car": source, "same seed: a blue car": same_seed},
    "A red car at the left; a blue car of another shape further right and higher, and other road markings",
)

# %% [markdown]
# The car has become blue. It has also moved, it has another shape, and the road markings are others. How much has changed
# where nothing should? Measure it: the root of the mean squared difference over the pixels of some region, in grey levels of 255.
#
# **By hand.** Two pixels of one channel, 10 and 20, become 13 and 24: $\sqrt{(3^2 + 4^2)/2} = 3.54$.
#
# **Exercise 1.2.** `x` and `y` are images in bytes, (H, W, channels), and `where` has True for the pixels that count, (H, W).
#
# <details><summary>Hint</summary>
#
# `x[where]` has the values of the pixels that count. What is 10 - 13 in a tensor of bytes?
#
# </details>


# %% tags=["exercise"]
def my_change(x, y, where):
    ### BEGIN SOLUTION
    return (x.float() - y.float())[where].square().mean().sqrt()
    ### END SOLUTION


check.change(my_change)

# %% [markdown]
# Which pixels should stay? All but the car, and it is red. So look for red, and leave a margin around it:


# %%
def around_the_car(image):
    """True at the red car of an image in bytes and up to 8 pixels around it, (H, W)."""
    red = torch.from_numpy(image[..., 0].astype(float) - image[..., 2] > 60)
    return torch.nn.functional.max_pool2d(red[None].float(), 17, stride=1, padding=8)[0] > 0


def change_outside(source, image):
    """`my_change` of an edited image, outside the source's car."""
    return my_change(torch.from_numpy(source), torch.from_numpy(image), ~around_the_car(source)).item()


outside = change_outside(source, same_seed)
lesson.claim("same seed: change outside the car, in grey levels", outside, 27, within=3)

# %% [markdown]
# When do the two images part? Both runs start at the same latent, so follow the distance between the two:

# %%
pair = list(model.denoise(model.encode_prompts([RED, BLUE]), [SEED, SEED]))
apart = [(state.z_t[0] - state.z_t[1]).square().mean().sqrt().item() for state in pair]
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(range(len(apart) + 1), [0, *apart], "o-", ms=3)
axis.set(xlabel="step", ylabel="distance of the latents", title="One word parts two runs from the first step on")
lesson.show(figure, "A curve that starts at 0 and rises evenly to about 1 at step 30")
lesson.claim("distance after the first step", apart[0], 0.03, within=0.01)
lesson.claim("and after the last", apart[-1], 1.03, within=0.1)

# %% [markdown]
# From the first step on, and everywhere. In each step every position of the latent looks at every word of the prompt, and the
# next step starts from where the last one ended. A distance of 1 is large: the values of a latent themselves vary by about 1.
#
# **Take away.** The same seed is the same start, and not the same image.

# %% [markdown]
# ## 1.3 Draw a mask
#
# **Can we forbid the change outside the car?** We can: draw a *mask* where the image may change, and after every step put the
# source's latent back everywhere else. [P2], *Two baselines for editing*:
#
# $$z^*_{t-1} \leftarrow \mathrm{mask} \odot z_{t-1} + (1 - \mathrm{mask}) \odot z^*_{t-1}$$
#
# ($\odot$ multiplies element by element.) On the slide the mask is 1 where the source *stays*. In this course, as in most programs, it is 1
# where the image *may change*, so $z$ and $z^*$ change places. It is smaller than the image: one number for each position of
# the latent, which is 8 x 8 pixels.
#
# **By hand.** $z = (1, 2, 3)$, $z^* = (7, 8, 9)$, with a mask that lets the middle change, $(0, 1, 0)$: $(1, 8, 3)$.
#
# **Exercise 1.3.** Put `z_star` where `mask` is 1, and `z` where it is 0. Both are (..., height, width), the mask is (height, width).


# %% tags=["exercise"]
def my_paste(z, z_star, mask):
    ### BEGIN SOLUTION
    return mask * z_star + (1 - mask) * z
    ### END SOLUTION


check.paste(my_paste)

# %% [markdown]
# With this function the whole method is one argument of the sampler: what to do with the latents after each step. Row 0 of
# the batch is the source, row 1 the edit. Two masks, drawn by hand, one of them carelessly:


# %%
def box(left, top, right, bottom):
    """A mask that is 1 inside a box, in positions of the latent."""
    mask = torch.zeros(model.latent_shape[1:])
    mask[top:bottom, left:right] = 1
    return mask


def inside(mask):
    """The image of the blue car, sampled in the mask alone."""
    keep = lambda state: my_paste(state.z_t[:1], state.z_t, mask)
    *_, last = model.denoise(model.encode_prompts([RED, BLUE]), [SEED, SEED], blend=keep)
    return model.decode(last.z_t)[1]


masks = {"mask": box(2, 5, 12, 12), "small mask": box(3, 6, 10, 11)}
masked, small = [inside(mask) for mask in masks.values()]
figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.5))
for axis, (title, mask) in zip(axes[::2], masks.items()):
    axis.imshow(source)
    axis.imshow(np.zeros((128, 128)), cmap="gray", alpha=0.6 * np.kron(1 - mask, np.ones((8, 8))))
    axis.set_title(title, fontsize=9)
for axis, (title, image) in zip(axes[1::2], {"edit inside it": masked, "edit in the small one": small}.items()):
    axis.imshow(image)
    axis.set_title(title, fontsize=9)
for axis in axes:
    axis.axis("off")
lesson.show(figure, "With the larger mask a blue car of another shape; the small one leaves a red piece of the old car")

# %% [markdown]
# Outside the mask the image nearly stays, as the numbers below say. But somebody had to draw the mask, and three things are still wrong:
#
# - the car is another one: inside the mask nothing of the source is left to keep its shape;
# - a mask that is too small leaves pieces of the old object, and one that is too large lets the background go;
# - and which mask would "in fog" need, or "a painting of ..."?


# %%
def change_outside_mask(mask, image):
    """`my_change` of an edited image, outside the mask."""
    where = torch.from_numpy(np.kron(1 - mask, np.ones((8, 8)))) > 0
    return my_change(torch.from_numpy(source), torch.from_numpy(image), where).item()


kept, free = [change_outside_mask(masks["mask"], image) for image in (masked, same_seed)]
lesson.claim("change outside the mask, in grey levels", kept, 5.4, within=2)
lesson.claim("with the same seed alone", free, 24, within=4)
lesson.claim("mask: change outside the car", change_outside(source, masked), 15, within=3)

# %% [markdown]
# (Outside the mask it is not 0, since the decoder looks a little beyond each position; outside the car it is more, since the mask is
# larger than the car.)
#
# **Take away.** A mask says *where*. It does not say *what* should stay of the thing inside.

# %% [markdown]
# ## 1.4 What we want
#
# Here is Prompt-to-Prompt. No mask, the same two prompts, the same seed. (Each run prints what it keeps of the source, and for how many of
# the 30 steps: *cross-attention*, where positions look at words, and *self-attention*, where they look at each other. Lesson 5 has both.)

# %%
edit = p2p.edit(RED, BLUE, seed=SEED, model=model)
lesson.side_by_side(
    {"source": source, "same seed": same_seed, "mask": masked, "Prompt-to-Prompt": edit.images[1]},
    "A red car; blue cars by three methods: elsewhere, of another shape in the same place, and the same car in blue",
)
lesson.claim("Prompt-to-Prompt: change outside the car", change_outside(source, edit.images[1]), 9, within=2)

# %% [markdown]
# The same car, in the same place, in blue. (Not all is the same: look at the right edge.) One image proves little, so repeat it with other seeds:

# %%
seeds = (1, 2, 3, 5)
sources, free = (model.generate([prompt] * len(seeds), list(seeds)) for prompt in (RED, BLUE))
edited = [p2p.edit(RED, BLUE, seed=seed, model=model).images[1] for seed in seeds]
mean_change = {
    name: np.mean([change_outside(*pair) for pair in zip(sources, images)])
    for name, images in {"same seed": free, "Prompt-to-Prompt": edited}.items()
}
for name, value in mean_change.items():
    print(f"{name:16} outside the car: {value:4.1f} grey levels, on average over {len(seeds)} seeds")
lesson.claim("ratio of the two", mean_change["same seed"] / mean_change["Prompt-to-Prompt"], 5, within=2)
figure, axes = plt.subplots(3, len(seeds), figsize=(4.8, 3.8))
for row, (name, images) in zip(axes, {"source": sources, "same seed": free, "Prompt-to-Prompt": edited}.items()):
    for axis, image in zip(row, images):
        axis.imshow(image)
        axis.axis("off")
    row[0].set_title(name, fontsize=9, loc="left")
figure.tight_layout()
lesson.show(figure, "Four red cars; below each a blue car elsewhere; below that a blue car in the red one's place")

# %% [markdown]
# How can it know where the car is? The network knows. While it removes noise, each position looks at each word, and how
# much it looks is a number that can be read, one *map* for each word:

# %%
maps = edit.maps[0]
figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.5))
axes[0].imshow(source)
axes[0].set_title("source", fontsize=9)
for axis, word in zip(axes[1:], ("red", "car", "street")):
    axis.imshow(maps[word])
    axis.set_title(f"'{word}': at most {maps[word].max():.2f}", fontsize=9)
for axis in axes:
    axis.axis("off")
lesson.show(figure, "Three maps: red and car are bright where the car is; street is brighter on the road, but faint")
lesson.claim("largest value for 'car'", maps["car"].max(), 0.34, within=0.1)
lesson.claim("and for 'street'", maps["street"].max(), 0.02, within=0.02)

# %% [markdown]
# (Each panel has its own colour scale. Hardly any position looks at 'street': see 5.6.)
#
# These maps are the whole idea: Prompt-to-Prompt keeps the *maps* of the source while the words change. Lesson 5 explains what
# they are, lesson 7 how they are kept, lesson 8 what else can be done with them, and where it fails.
#
# **Take away.** The aim is an edit that changes what the new word says, and keeps everything else, with no mask.

# %% [markdown]
# ## 1.5 What the lecture promises
#
# The opening slide, *Tasks of image generation*, lists seven. The small model of this course does all of them; here are five:

# %%
CASTLE, PAINTED = "a photo of a castle on the beach", "a painting of a castle on the beach"
style = p2p.edit(CASTLE, PAINTED, seed=3, model=model)
hole = np.zeros((128, 128))
hole[40:100, 12:96] = 1
inpainted = p2p.restore("inpaint", source, "a photo of a panda on the street", mask=hole, seed=1, model=model)
tiny = source.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
enlarged = p2p.restore("super", tiny, RED, model=model)
lesson.side_by_side(
    {
        "text to image": style.images[0],
        "style transfer": style.images[1],
        "from a class: cat": np.array(p2p.generate("cat", model="stickers-classes", seed=1)),
        "to be inpainted": np.array(inpainted.degraded),
        "inpainted": np.array(inpainted.restored),
    },
    "A photo of a castle, the castle as a painting, a cat, a street with a grey hole, a panda in its place",
)
lesson.side_by_side(
    {"32 x 32 pixels": tiny, "enlarged to 128 x 128": np.array(enlarged.restored)},
    "A coarse red car of 32 pixels a side, and the same car with sharp edges",
)

# %% [markdown]
# | task | given | here | lesson |
# |---|---|---|---|
# | text to image | a prompt | `p2p.generate` | 6 |
# | class-conditional generation | a class, such as "cat" | the same, with a table in the place of the text encoder | 6 |
# | style transfer | an image and a style | an edit of the prompt, `p2p.edit` | 8 |
# | inpainting | an image with a hole | `p2p.restore("inpaint", ...)` | 6 |
# | uncropping | a part of an image | `p2p.restore("uncrop", ...)` | 6 |
# | colourisation | a grey image | `p2p.restore("colour", ...)` | 6 |
# | super-resolution | a small image | `p2p.restore("super", ...)` | 6 |
#
# And the lecture's slides, in order, with what you will do:
#
# | lesson | slides | what you will write or find |
# |---|---|---|
# | 1 | tasks of image generation; two baselines for editing | what you have just written |
# | 2 | diffusion in latent space; properties 1, 2 and 3; ideas 1 and 2; three ways to parameterise | noise in and out, the slips of the formulas, samples from the best denoiser there is |
# | 3 | what diffusion on pixels costs; the autoencoder | how much a latent saves, and what it loses |
# | 4 | the prompt model; contrastive pre-training of CLIP | tokens, words of several tokens, and a classifier without training |
# | 5 | self- and cross-attention; translation; the transformer layer inside the UNet | the maps above, from single numbers up |
# | 6 | the mean given the prompt; the loss; *Algorithm 1: Training* | a model, trained before your eyes; guidance; restoration |
# | 7 | Prompt-to-Prompt: Algorithm 1, the mapper, alpha-blending, Fig. 6 | Algorithm 1 piece by piece; the edit of 1.4 injects self-attention too |
# | 8 | kinds of edits; object preservation, Fig. 5 | all edits as one formula, and a gallery of failures |
# | 9 | - | editing images that no model made (not written yet) |
# | 10 | - | the same code on Stable Diffusion's weights |
#
# ## What you have found
#
# - The same seed with another word gives another image; the two runs part from the first step on.
# - A mask keeps the rest of the image, and loses the thing inside. It also has to be drawn.
# - Prompt-to-Prompt keeps both, without a mask. It uses something that the network computes anyway: where each position looks.
#
# Next: what noise has to do with images.
