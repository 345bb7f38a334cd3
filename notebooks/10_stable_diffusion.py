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
# # 10. Stable Diffusion: the same code on public weights
#
# All images so far came from a model small enough for a laptop. Stable Diffusion is that model with other numbers in its
# configuration. This lesson puts the two side by side, walks through the shapes at full size without computing anything,
# works out what attention maps would cost there, and then runs an edit.
#
# **On which weights?** On those of Stable Diffusion 1.5 if they are on this machine and it has a GPU. Otherwise on *random
# numbers*, in a network with fewer channels and the same shapes of maps, and the output says so. Random weights make no
# images: they show that everything fits together, and not what Stable Diffusion can do. The paper's images cannot be
# shown here.
#
# You need: lessons 2, 3 and 5 for the parts, 7 and 8 for the edit. Nothing is downloaded.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import dataclasses
import os
import re
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import ldm
import p2p
from notebooks import check, lesson

os.environ["HF_HUB_OFFLINE"] = "1"  # weights are used only if they are there already
torch.manual_seed(0)
small = p2p.load("stickers", device="cpu")
sd = ldm.PRESETS["sd15"]

# %% [markdown]
# ## 10.1 Two configurations
#
# **What is different?** Here is every field of the configuration that differs, the included model's and Stable
# Diffusion 1.5's. (`layers` are residual blocks per level; `heads` are per level, or follow from a head's size.)

# %%
for part in ("schedule", "autoencoder", "unet", "text"):
    ours, theirs = (dataclasses.asdict(getattr(config, part)) for config in (small.config, sd))
    for field in ours:
        if ours[field] != theirs[field]:
            print(f"{part + '.' + field:28} {ours[field]!s:22} {theirs[field]}")

# %% [markdown]
# What is not listed is the same: $T$, the betas, and the classes UNet, autoencoder and text encoder themselves. To see how
# large the result is, build it on PyTorch's *meta* device, where tensors have a shape and no numbers. It takes no memory
# and no time:

# %%
with torch.device("meta"):
    unet, autoencoder, text_encoder = ldm.UNet(sd.unet), ldm.Autoencoder(sd.autoencoder), ldm.TextEncoder(sd.text)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


rows = {
    "text encoder": (small.text_encoder, text_encoder),
    "UNet": (small.unet, unet),
    "autoencoder": (small.autoencoder, autoencoder),
}
print(f"{'':14}{'included':>12}{'SD 1.5':>16}")
for name, pair in rows.items():
    print(f"{name:14}{parameters(pair[0]):12,}{parameters(pair[1]):16,}")
total = sum(parameters(pair[1]) for pair in rows.values())
lesson.claim("millions of parameters in all of SD 1.5", total / 1e6, 1066, within=1)
lesson.claim("gigabytes of SD 1.5 in float32", total * 4 / 1e9, 4.26, within=0.01)
lesson.claim("in float16", total * 2 / 1e9, 2.13, within=0.01)

# %% [markdown]
# Where do so many come from? Count one cross-attention layer [C4]: with $c$ channels and tokens of width $e$, $W_Q$ is
# $c \times c$, $W_K$ and $W_V$ are $c \times e$, none of them with a bias, and $W_O$ [C7] is $c \times c$ with one.
#
# **By hand.** $c = 2$, $e = 3$: $4 + 6 + 6 + 4 + 2 = 22$.
#
# **Exercise 10.1.** In general. The number of heads does not matter: why?


# %% tags=["exercise"]
def my_attention_parameters(channels, context):
    ### BEGIN SOLUTION
    return 2 * channels**2 + 2 * channels * context + channels
    ### END SOLUTION


check.attention_parameters(my_attention_parameters)

# %%
first = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
print("first cross-attention, counted:", f"{parameters(first):,}", " by formula:", my_attention_parameters(320, 768))
attends = sum(parameters(m) for name, m in unet.named_modules() if name.endswith(("attn1", "attn2")))
lesson.claim("share of attention in the UNet's parameters", attends / parameters(unet), 0.11, within=0.01)

# %% [markdown]
# **Take away.** One set of classes, two configurations. What Prompt-to-Prompt edits is a ninth of the UNet.

# %% [markdown]
# ## 10.2 Shapes, line by line
#
# **Where in the network are the maps?** Run the UNet on the meta device, and print the shape after each transformer and
# each change of resolution. The input is a latent of $4 \times 64 \times 64$ numbers, for an image of $512 \times 512$
# pixels: the autoencoder's factor is 8 a side [B1].


# %%
def shape_of(name):
    return lambda module, inputs, output: print(f"{name:34} {tuple(output.shape[1:])}")


hooks = [
    module.register_forward_hook(shape_of(name))
    for name, module in unet.named_modules()
    if re.fullmatch(r"conv_(in|out)|.*_blocks?\.(\d+\.)?(attentions|downsamplers|upsamplers)\.\d+", name)
]
z, timestep, tau_y = (
    torch.empty(1, 4, 64, 64, device="meta"),
    torch.zeros(1, dtype=torch.long, device="meta"),
    torch.empty(1, 77, 768, device="meta"),
)
unet(z, timestep, tau_y)
for hook in hooks:
    hook.remove()

# %% [markdown]
# (channels, height, width). Down to $8 \times 8$ and up again, 16 transformers in all. Each has a self-attention and a
# cross-attention, and an attention function sees the queries and keys of all of them, as in lesson 7. Collected by resolution:


# %%
def looked_at(unet, z, timestep, tau_y):
    """The site, queries' shape and keys' shape of every attention layer of one call of the UNet."""
    seen = []

    def attn_fn(site, Q, K, V):
        seen.append((site, Q.shape, K.shape))
        return ldm.attend(Q, K, V)

    unet(z, timestep, tau_y, attn_fn)
    return seen


sites = looked_at(unet, z, timestep, tau_y)
print("positions   layers  heads   d   self A          cross A")
for side in (64, 32, 16, 8):
    here = [(site, Q, K) for site, Q, K in sites if site.height == side and site.kind == "cross"]
    _, Q, K = here[0]
    n, m = Q[2], K[2]
    print(f"{side:2} x {side:2} {len(here):9} {Q[1]:7} {Q[3]:5}   {n:4} x {n:<4}     {n:4} x {m}")

# %% [markdown]
# $m = 77$ is the text encoder's length, and $n = h w / 4^l$ [C5]: the rows of $A$ are positions at the level's own
# resolution. So "the map of a word" is not one image but 16, of four sizes, each for 8 heads and every step. To *look* at
# a word, or to cut out its region (lesson 8), take the mean over the heads and over the layers of one resolution: here, as
# in the code that the paper's authors released, $16 \times 16$.

# %%
lesson.source(p2p.layout_side)

# %% [markdown]
# **Take away.** 32 attention layers, of four resolutions; the $16 \times 16$ ones are the ones to look at.

# %% [markdown]
# ## 10.3 What maps would cost
#
# **Can one keep the maps of the source, and inject them later?** The lecture tells Prompt-to-Prompt as two runs: run the
# source and keep $A_T, \dots, A_1$, then run the target with them [P3]. Count first what that takes.
#
# **By hand.** One layer of cross-attention at $64 \times 64$: $8$ heads $\times\ 4096$ positions $\times\ 77$ tokens
# $\times\ 4$ bytes $= 10.1$ MB. Self-attention there has $4096$ in the place of $77$: $537$ MB.
#
# **Exercise 10.2.** Bytes of the maps of one layer in float32, of all heads, for `rows` rows of the batch.


# %% tags=["exercise"]
def my_map_bytes(height, width, tokens, heads, rows):
    ### BEGIN SOLUTION
    return rows * heads * (height * width) * tokens * 4
    ### END SOLUTION


check.map_bytes(my_map_bytes)

# %%
cost = {
    kind: {
        side: sum(
            my_map_bytes(site.height, site.width, K[2], Q[1], rows=1)
            for site, Q, K in sites
            if site.kind == kind and site.height == side
        )
        for side in (64, 32, 16, 8)
    }
    for kind in ("cross", "self")
}
step = {kind: sum(by_side.values()) for kind, by_side in cost.items()}
for kind in step:
    lesson.claim(
        f"{kind}-attention, gigabytes of maps for one prompt and 50 steps",
        50 * step[kind] / 1e9,
        {"cross": 3.32, "self": 143}[kind],
        within=0.5,
    )

queries_and_keys = sum(Q[1:].numel() + K[1:].numel() for _, Q, K in sites) * 4
lesson.claim("gigabytes of all queries and keys instead", 50 * queries_and_keys / 1e9, 7.1, within=0.1)

figure, axis = plt.subplots(figsize=(6, 2.8))
for i, (kind, by_side) in enumerate(cost.items()):
    at = [x + 0.36 * (i - 0.5) for x in range(4)]
    axis.bar(at, [size / 1e6 for size in by_side.values()], width=0.34, label=f"{kind}-attention")
axis.axhline(total * 4 / 1e6, color="black", ls="--", lw=1)
axis.text(3.45, total * 5 / 1e6, "all of the model's parameters", ha="right", fontsize=8)
axis.set(yscale="log", ylabel="MB, float32", title="Maps of one step, for one prompt")
axis.set_xticks(range(4), [f"{side} x {side}" for side in cost["cross"]])
axis.legend(loc="center right", bbox_to_anchor=(1, 0.68), fontsize=8)
axis.set_ylim(0.05, 2e4)
lesson.show(
    figure, "Self-attention maps at 64 x 64 take 2.7 GB a step, nearly the model's 4.3; cross maps at most 50 MB"
)

# %% [markdown]
# The maps of cross-attention could be kept, 3.3 GB of them. Those of self-attention could not: 143 GB, nearly all at
# $64 \times 64$. Three ways out, and the package takes all of them:
#
# - **One run, not two.** Source and target are rows of one batch, so the source's map is there when the target needs it,
#   and can be dropped after the layer.
# - **Keep $Q$ and $K$, not $A$,** where two runs are wanted: $n d$ and $m d$ numbers in the place of $n m$, 7 GB in all.
# - **Fold** (lesson 8): $(A P + A^* Q)\,V^* = A\,(P V^*) + A^* (Q V^*)$. The right side is two calls of plain attention,
#   which a fused kernel computes in tiles, without ever writing down $A$.
#
# Folding works for self-attention too, with $P = I$: there the target uses the source's queries and keys with its own
# values. `self_side=32` leaves out the layers above $32 \times 32$.
#
# **Take away.** At full size, maps are for looking, at $16 \times 16$. What is used is folded.

# %% [markdown]
# ## 10.4 Schedule, prediction, guidance
#
# **Which steps does it take?** The betas are the ones of lesson 2 [D4]. Which of the thousand times are *visited* is up to
# the sampler [D17], and Stable Diffusion's files choose other ones than ours:

# %%
for name, config in (("included", small.config.schedule), ("SD 1.5", sd.schedule)):
    visited = ldm.times(ldm.Schedule(config), 50)
    print(f"{name:9} {config.spacing:9} {str(visited[:3])[1:-1]}, ..., {str(visited[-3:])[1:-1]}")

# %% [markdown]
# *Trailing* spacing begins at $T$ and ends at 0. *Leading* spacing divides $T$ by the number of steps, and begins below
# $T$: the first latent is called $z_T$, but treated as $z_{982}$. It ends at $t = 1$ and not at 0, so the last latent
# keeps a little noise. (Diffusers counts from 0, so its files say 981, ..., 1.)
#
# **Exercise 10.3.** The visited times of leading spacing, without the end: every $\lfloor T / \text{steps} \rfloor$-th,
# the smallest being `offset + 1`, from the largest down. A list.


# %% tags=["exercise"]
def my_leading(T, steps, offset):
    ### BEGIN SOLUTION
    return [T // steps * i + offset + 1 for i in reversed(range(steps))]
    ### END SOLUTION


check.leading(my_leading)

# %% [markdown]
# **What does the network predict?** [D12] Stable Diffusion 1 predicts the noise $\epsilon$, ours (and 2.1) the velocity
# $v$. Since $z_0 = (z_t - \sqrt{1 - \bar\alpha_t}\,\epsilon) / \sqrt{\bar\alpha_t}$ [D9], an error in $\epsilon$ reaches
# $z_0$ multiplied by $\sqrt{1 - \bar\alpha_t} / \sqrt{\bar\alpha_t}$; an error in $v$ by $\sqrt{1 - \bar\alpha_t}$ alone.

# %%
abar = ldm.Schedule(sd.schedule).alpha_bar[1:]
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.semilogy(range(1, 1001), (1 - abar).sqrt() / abar.sqrt(), label=r"of $\epsilon$")
axis.semilogy(range(1, 1001), (1 - abar).sqrt(), "--", label="of $v$")
axis.axvline(982, color="black", lw=0.8, ls=":")
axis.set(
    xlabel="t (dotted: the first of 50 steps)", ylabel="factor", title="How an error in the prediction reaches $z_0$"
)
axis.legend(loc="upper left")
lesson.show(figure, "The factor of eps rises from 0.03 at t = 1 to 13 near t = 982; the factor of v stays below 1")
lesson.claim("factor of an error in eps at the first step", ((1 - abar) / abar)[981].sqrt(), 13, within=0.3)

# %% [markdown]
# Early guesses of $z_0$ are therefore poor with $\epsilon$, and sampling does not mind, since $z_{t'}$ is mostly noise there.
# The code needs one line for each, which you saw in lesson 2 (`ldm.Schedule.predict`).
#
# **How strongly guided?** [D18]: $\hat\epsilon = \epsilon_\varnothing + w\,(\epsilon_y - \epsilon_\varnothing)$. Public
# models are used at $w = 7.5$, the included one at 4. Some papers write $1 + w$ for this $w$. Guidance also doubles the
# rows: an edit of one prompt into one other is a batch of *four*.
#
# **Take away.** Two lines of configuration change what a step means. Read them before you compare two models.

# %% [markdown]
# ## 10.5 The scale of latents
#
# **What is 0.18215?** Diffusion wants latents of variance 1 [D4], and no autoencoder makes them. So its latents are
# multiplied by a constant, measured once on training images, and divided by it before they are decoded [B1].
#
# **Exercise 10.4.** That constant, from unscaled latents (b, c, h, w) of many images.


# %% tags=["exercise"]
def my_scale(z):
    ### BEGIN SOLUTION
    return 1 / z.std()
    ### END SOLUTION


check.scale(my_scale)

# %%
PROMPTS = ["a photo of a castle on the beach", "a painting of a red car on the street", "a photo of a cat on the grass"]
images = small.generate(PROMPTS, seeds=[1, 2, 3], steps=10)
scale = small.autoencoder.config.scale
unscaled = small.encode_images(images) / scale
lesson.claim("scale of the included model, from three images", my_scale(unscaled), 0.72, within=0.12)
print(f"in its configuration, from 500 images: {scale};  Stable Diffusion 1's: {sd.autoencoder.scale}")
lesson.claim("standard deviation of latents that 0.18215 implies", 1 / sd.autoencoder.scale, 5.49, within=0.01)

# %% [markdown]
# What if it is forgotten? Latents are then 5.5 times too small or too large. Tried on the included model:

# %%
z = small.encode_images(images[1:2])
lesson.side_by_side(
    {
        "right": small.decode(z)[0],
        "5.5 times too small": small.decode(z / 5.49)[0],
        "too large": small.decode(z * 5.49)[0],
    },
    "A red car; the same, pale and grey; the same in glaring colours, its details gone",
)

# %% [markdown]
# Such images are easily taken for those of a bad model.
#
# **Take away.** A number in a file belongs to the weights in it.

# %% [markdown]
# ## 10.6 Names in the file
#
# **How does a parameter find its place?** By its name. Two layouts are in use: *diffusers*, whose names the classes here
# have too, and *CompVis*, the original code, which numbers the blocks of the way down through, whatever they are. The
# package translates by rules. Some names of the first two levels:

# %%
names = p2p.compvis_sources(sd.unet)
print(f"{len(names)} tensors in the UNet")
for ours, source in names.items():
    if re.match(
        r"(conv_in|down_blocks\.[01]\.\w+\.\d\.(conv1|norm|conv)|mid_block\.attentions\.0\.norm)\.weight", ours
    ):
        print(f"{ours:42} {source.name}")

# %% [markdown]
# `input_blocks.0` is the first convolution. Then come, for each level, two blocks, in which part 0 is the residual block and
# part 1 its attention, and one block that halves the resolution (at all but the last level).
#
# **Exercise 10.5.** From `input_blocks.N.k` to our name, for $N \ge 1$: such as `"down_blocks.1.resnets.0"`,
# `"down_blocks.1.attentions.0"` or `"down_blocks.1.downsamplers.0"`.
#
# <details><summary>Hint</summary>
#
# There are three blocks to a level. So `divmod(N - 1, 3)` gives the level and the number within it: 0, 1 or 2. Which of
# the three halves the resolution?
#
# </details>


# %% tags=["exercise"]
def my_diffusers_name(N, k):
    ### BEGIN SOLUTION
    level, block = divmod(N - 1, 3)
    if block == 2:
        return f"down_blocks.{level}.downsamplers.0"
    return f"down_blocks.{level}.{('resnets', 'attentions')[k]}.{block}"
    ### END SOLUTION


check.diffusers_name(my_diffusers_name)

# %% [markdown]
# **Take away.** Names are translated by rules that can be read, and a file that does not fit is refused before a number
# of it is used.

# %% [markdown]
# ## 10.7 An edit
#
# **Does all of it run?** The call is the one of lesson 7, with another name. On a machine with a GPU and a network:
#
# ```python
# result = p2p.edit("a photo of a cat sitting on a bench", "a photo of a dog sitting on a bench", seed=8888,
#                   model="sd15", dtype="float16", steps=50, guidance=7.5, tau=0.2, self_until=0.6, self_side=32)
# ```
#
# The first call downloads the model. What that costs, and on which terms:

# %%
public = p2p.CHECKPOINTS["sd15"]
print(f"sd15: {public.about}")
print(f"from {public.hub}, {public.size / 1e9:.1f} GB, each file checked against its sha256")
print(f"licence {public.licence}: {p2p.LICENCES[public.licence]}")

# %% [markdown]
# Now here. If the files are in the cache of this machine and it has a GPU, `model` is Stable Diffusion. If not, it is the
# same configuration with a tenth of the channels, the included model's vocabulary, and random parameters:


# %%
def public_model():
    """Stable Diffusion 1.5 on this machine's GPU, or None."""
    if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        return None
    try:
        return p2p.load("sd15", dtype="float16")
    except ValueError:  # its files are not here
        return None


def random_model():
    """Stable Diffusion's classes, with fewer channels and without any training."""
    text = dataclasses.replace(sd.text, vocabulary=small.config.text.vocabulary, width=96, layers=2, hidden=384)
    config = dataclasses.replace(
        sd,
        name="random",
        text=text,
        unet=dataclasses.replace(sd.unet, channels=(32, 64, 128, 128), context_width=96),
        autoencoder=dataclasses.replace(sd.autoencoder, channels=(32, 32, 64, 64)),
    )
    text_encoder = ldm.TextEncoder(text)
    for table in (text_encoder.embeddings.token_embedding, text_encoder.embeddings.position_embedding):
        torch.nn.init.normal_(table.weight)
    with tempfile.TemporaryDirectory() as folder:  # the included tokenizer, with room for 77 tokens
        file = Path(folder) / "tokenizer.json"
        small.tokenizer.save(file)
        tokenizer = ldm.CLIPTokenizer.from_file(file, text)
    return ldm.LatentDiffusion(
        config, tokenizer, text_encoder, ldm.UNet(config.unet), ldm.Autoencoder(config.autoencoder)
    )


model = public_model() or random_model()
real = model.config.name != "random"
print("Stable Diffusion 1.5" if real else "RANDOM WEIGHTS: what follows is noise, of the right shapes")
print(f"{parameters(model.unet):,} parameters in the UNet, on {model.device} in {model.dtype}")

# %%
CAT, DOG = "a photo of a cat sitting on a bench", "a photo of a dog sitting on a bench"
settings = {"seed": 8888, "guidance": 7.5, "tau": 0.2, "self_until": 0.6, "self_side": 32}
result = p2p.edit(CAT, DOG, model=model, steps=50 if real else 2, **settings)
lesson.side_by_side(
    {"source": result.images[0], "target": result.images[1]},
    "Source and target: Stable Diffusion's if its weights are there; with random weights twice the same coloured noise",
)
print("Stable Diffusion's images" if real else "noise, because the weights are random numbers")
print(f"images {result.images.shape}, latents {tuple(result.states[0].z_t.shape)}, states {len(result.states)}")

# %% [markdown]
# Without trained weights, what can be known? Everything that is algebra, since it holds for *any* weights. The shapes of
# 10.2 are those of this model too:

# %%
one = torch.randn(1, 4, 64, 64).to(model.device, model.dtype)
tokens = model.encode_prompts([CAT])
at_500 = torch.tensor([499], device=model.device)
with torch.no_grad():
    seen = looked_at(model.unet, one, at_500, tokens)
assert [(site, Q[1:3], K[1:3]) for site, Q, K in seen] == [(site, Q[1:3], K[1:3]) for site, Q, K in sites]
print(f"{len(seen)} attention layers, with the sites, heads, positions and tokens of Stable Diffusion")

# %% [markdown]
# And a map that is built and multiplied with $V$ gives what plain attention gives, which never builds it:

# %%
kept = []


def building(site, Q, K, V):
    if site.kind == "self":
        return ldm.attend(Q, K, V)  # a map of 537 MB is not built
    kept.append(ldm.attention_map(Q, K))
    return kept[-1] @ V


with torch.no_grad():
    plain, built = (model.unet(one, at_500, tokens, attn_fn) for attn_fn in (None, building))
difference = (plain - built).abs().max() / plain.std()
lesson.claim("difference of built maps from plain attention", difference, 0, within=0.05 if real else 1e-4)
lesson.claim("MB of the maps kept in float32, per prompt", sum(A.numel() for A in kept) * 4 / 1e6, 66.4, within=0.1)
row_sums = torch.cat([A.float().sum(-1).flatten() for A in kept])
lesson.claim("a row's sum, the furthest from 1", (row_sums - 1).abs().max(), 0, within=0.01 if real else 1e-5)

# %% [markdown]
# The 66.4 MB are the sum of 10.3, measured: $50 \times 66.4$ MB $= 3.3$ GB. With random weights the map of "cat" is nearly
# flat: each of 77 tokens gets about $1 / 77 = 0.013$. Compare it with the maps of lesson 5.

# %%
side = p2p.layout_side(model)
at_16 = [A for A, (site, _, _) in zip(kept, [s for s in seen if s[0].kind == "cross"]) if site.height == side]
column = p2p.columns(model.tokenizer.encode(CAT), "cat")
word = torch.cat(at_16, dim=1).float().mean(dim=1)[0, :, list(column)].sum(-1).reshape(side, side).cpu()
figure, axis = plt.subplots(figsize=(3, 2.5))
image = axis.imshow(word, vmin=0)
figure.colorbar(image)
axis.set_title(f"'cat' in {sum(A.shape[1] for A in at_16)} maps, t = 500", fontsize=9)
axis.axis("off")
lesson.show(
    figure, "The mean map of cat, 16 x 16; with random weights a speckle without a shape, every share near 0.013"
)
if not real:
    lesson.claim("mean share of 'cat' under random weights", word.mean(), 1 / 77, within=0.01)

# %% [markdown]
# **Take away.** Shapes and identities can be checked without weights. Whether an image is good cannot.

# %% [markdown]
# ## 10.8 On a GPU
#
# **What changes?** In the code nothing: `p2p.load` takes a GPU if there is one (`device="cuda"`, `"mps"` or `"cpu"` to
# choose). Three things are taken care of.
#
# **Noise is drawn on the CPU**, for every device. So a seed means the same $z_T$ everywhere. (Not the same *bytes* of an
# image: sums are added up in another order.)

# %%
lesson.source(ldm.Noise)

# %% [markdown]
# **Half precision halves the memory**, 2.1 GB in the place of 4.3, and has its own limits. The largest float16 is 65504,
# and a product $q^T k$ can exceed it. So maps are computed in float32, whatever the model is in:

# %%
Q, K = torch.full((1, 1, 1, 64), 48.0), torch.full((1, 1, 2, 64), 48.0)
print("a product in float16:", (Q.half() @ K.half().mT).flatten().tolist())
print("the map, of float16: ", ldm.attention_map(Q.half(), K.half()).flatten().tolist())

# %% [markdown]
# **Latents stay in float32** between the steps. Late steps change them by less than half precision can resolve:

# %%
z_t, change = torch.tensor(1.0), 0.003
print("in bfloat16, 1 + 0.003 is", (z_t.bfloat16() + change).item(), "; in float32", (z_t + change).item())
print("the model computes in", model.dtype, "; its latents are in", model.latent_dtype)

# %% [markdown]
# **How long does it take?** No time on a GPU is given here, for none was measured for this lesson. But the work can be
# counted: a call of the UNet at full size, in operations (a multiplication and an addition are two), times the rows of the
# batch and the steps. And how fast this machine is, at a product of matrices, can be measured.

# %%
operations = ldm.flops(sd.unet, channels=4, side=64, tokens=77)
ours = ldm.flops(small.config.unet, channels=8, side=16, tokens=32)
edit = operations * 4 * 50  # two prompts, each with and without guidance's empty one; 50 steps
lesson.claim("10^9 operations of one call, SD 1.5", operations / 1e9, 803, within=10)
print(f"{operations / ours:.0f} times those of the included model; one edit: {edit / 1e12:.0f} x 10^12 operations")

a = torch.randn(2048, 2048, device=model.device, dtype=model.dtype)
seconds = []
for _ in range(5):
    begin = time.perf_counter()
    (a @ a).sum().item()  # waits for the device
    seconds.append(time.perf_counter() - begin)
rate = 2 * 2048**3 / min(seconds)
print(f"this machine's {model.device}: {rate / 1e9:.0f} x 10^9 operations a second")
print(f"so an edit takes it at least {edit / rate / 60:.1f} minutes, if all of it ran at that rate")

# %% [markdown]
# Run this cell where you have a GPU, and you know its bound. The true time is longer: not all of the work is products of
# matrices, and small ones do not keep a GPU busy.
#
# Where the weights are there but no GPU is, `model = p2p.load("sd15")` in the cell of 10.7 uses them on the CPU, with 4.3 GB
# of memory for the parameters alone and the time above.
#
# ## What you have found
#
# - Stable Diffusion is the included model with other numbers: 1,066 million parameters in the same classes.
# - It has 32 attention layers of four resolutions. Their maps for one prompt and 50 steps are 3.3 GB in cross-attention and
#   143 GB in self-attention: keep what you look at, fold what you use.
# - Spacing, prediction, scale and names belong to the weights; guidance and the number of steps are yours.
# - Without weights, shapes and identities can be tested, and images cannot.
#
# This was the last lesson. `docs/public-weights.md` says which public models load, from which files.
