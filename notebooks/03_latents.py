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
# # 3. A latent space
#
# Diffusion on pixels works, and is expensive. *Latent* diffusion first trains an autoencoder, which learns to write an
# image in far fewer numbers, and then diffuses those. This lesson measures what that saves and what it loses, with the
# two kinds of autoencoders that the lecture names.
#
# You need: lesson 2, convolutions, and what entropy is.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw

import ldm
import p2p
from notebooks import check, lesson

torch.manual_seed(0)
model = p2p.load("stickers", device="cpu")
autoencoder = model.autoencoder
vq = p2p.load_autoencoder("stickers-vq", device="cpu")

# %% [markdown]
# ## 3.1 What it costs
#
# **Why not diffuse pixels?**
#
# The motivation slides give figures for diffusion on pixels: training takes 150 to 1,000 days of a V100, and 50,000
# samples take 5 days of an A100. **The slip:** the slide makes that 15 seconds a sample. Check it:

# %%
seconds = 5 * 24 * 3600 / 50_000
lesson.claim("seconds for one sample, if 50,000 take 5 days", seconds, 8.64, within=0.01)

# %% [markdown]
# That is for images of 256 pixels a side. Where does the time go? A convolution's work grows with the number of
# positions. Self-attention compares every position with every other, so its work grows with their square.
#
# Stable Diffusion's autoencoder shrinks an image by a **factor** of 8 a side. So 512 x 512 pixels become 64 x 64
# positions: 64 times fewer, and 4,096 times fewer pairs.

# %%
for side in (512, 64):
    n = side * side
    print(f"{side:4} x {side:<4} {n:8,} positions {n * n:17,} pairs {n * n * 4 / 1e9:10,.2f} GB at 4 bytes each")

# %% [markdown]
# Attention keeps a number for each pair (lesson 5): at full resolution one such map would need 275 GB. That is why models
# of pixels have attention at low resolutions only. Counted on the small UNet here, for inputs of growing size:

# %%
work = {
    side: ldm.flops(model.unet.config, autoencoder.config.latent_channels, side, tokens=32)
    for side in (16, 32, 64, 128)
}
for side, one in work.items():
    print(
        f"{side:3} x {side:<3} {(side / 16) ** 2:3.0f} times the positions, {one / work[16]:6.1f} times the operations"
    )
lesson.claim("operations on 128 x 128, as a multiple of those on 16 x 16", work[128] / work[16], 287, within=1)

# %% [markdown]
# The small model's latents are 16 x 16, its images 128 x 128. On pixels it would be run on 128 x 128 positions: 64 times
# as many, and 287 times the work.
#
# **Exercise 3.1.** How many values of an image fall to one value of its latent? `factor` is the number of pixels to a
# position, along one side; `channels` are the latent's.


# %% tags=["exercise"]
def my_compression(factor, channels):
    ### BEGIN SOLUTION
    return 3 * factor**2 / channels
    ### END SOLUTION


check.compression(my_compression)

# %%
for name, config in ldm.AUTOENCODERS.items():
    print(
        f"{name:14} factor {config.factor:2}, {config.latent_channels:2} channels: {config.compression:5.0f} times fewer"
    )

# %% [markdown]
# **Take away.** The work is in positions, and a latent has 64 times fewer of them.

# %% [markdown]
# ## 3.2 There and back
#
# **What survives?**
#
# [B1]: $z = \mathrm{encoder}(x)$, $x' = \mathrm{decoder}(z)$. A good latent is small and *faithful*: $x' \approx x$. How
# near is measured in decibels, the peak signal-to-noise ratio:
#
# $$\mathrm{PSNR} = 10 \log_{10} \frac{255^2}{\text{mean of } (x - x')^2}$$
#
# **By hand.** Every value off by 16 levels of 255: $20 \log_{10}(255 / 16) = 24$ dB. Off by 8: 30 dB. Half the error is
# 6 dB more. At 30 dB most people see a difference only side by side.
#
# **Exercise 3.2.** Write it, for values in 0 to 255.


# %% tags=["exercise"]
def my_psnr(x, y):
    ### BEGIN SOLUTION
    return 10 * torch.log10(255**2 / (x - y).square().mean())
    ### END SOLUTION


check.psnr(my_psnr)

# %% [markdown]
# Three images: one that the model made, one of stripes that get finer from left to right, and one with small print.


# %%
def stripes() -> np.ndarray:
    """Vertical stripes of 16, 8, 4 and 2 pixels a period."""
    x = np.arange(128)
    period = np.array([16, 8, 4, 2])[x // 32]
    row = np.where(x % period < period // 2, 230, 40).astype(np.uint8)
    return np.repeat(np.tile(row, (128, 1))[..., None], 3, axis=-1)


def print_of(size: int) -> np.ndarray:
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    for line in range(128 // (size + 3)):
        draw.text((4, 2 + line * (size + 3)), "small print is lost", fill="black", font_size=size)
    return np.array(image)


def through(which, image: np.ndarray) -> np.ndarray:
    """An image in bytes, encoded and decoded."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        found = which.decode(which.encode(x))
    return ((found[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


images = {"generated": np.array(p2p.generate("a photo of a castle on the beach", seed=3)), "stripes": stripes()}
images["small print"] = print_of(9)
figure, axes = plt.subplots(len(images), 3, figsize=(6, 6.4))
for row, (name, image) in zip(axes, images.items()):
    versions = {name: image, "KL": through(autoencoder, image), "codebook": through(vq, image)}
    for axis, (title, version) in zip(row, versions.items()):
        db = ldm.psnr(image, version)
        axis.imshow(version)
        axis.set_title(title if version is image else f"{title}: {db:.1f} dB", fontsize=9)
        axis.axis("off")
figure.tight_layout()
lesson.show(
    figure,
    "The castle comes back nearly unchanged from KL, with fewer details from the codebook; "
    "the finest stripes turn grey, the codebook's wider ones green; print becomes grey smears",
)

# %% [markdown]
# The generated image comes back well, from KL better than from the codebook. Stripes of 4 and 2 pixels a period turn grey,
# the codebook turns those of 8 green, and print becomes grey smears. What is lost is *detail that the autoencoder has not
# seen*: this one was trained on stickers. What is kept is what matters for composing a scene: shapes, colours, places.
#
# **Take away.** The autoencoder is the ceiling. No diffusion on its latents makes a sharper image than it can decode.

# %% [markdown]
# ## 3.3 A latent that diffusion can fill: KL
#
# **What stops the encoder from hiding an image in the tenth digit of a number?**
#
# Nothing, with a plain autoencoder. Its latents may lie anywhere, with gaps between them, and nothing says what the decoder
# makes of a latent from a gap. The **KL-regularised** autoencoder [B2] makes the encoder give a *distribution*,
#
# $$q(z \mid x) = \mathcal{N}(\mu, \mathrm{diag}(\sigma^2)), \qquad
# \mathrm{KL}(q \,\Vert\, \mathcal{N}(0, 1)) = \tfrac12 (\mu^2 + \sigma^2 - 1 - \ln \sigma^2),$$
#
# decodes a sample of it, and pays for the KL divergence, which grows as $q$ becomes narrower than $\mathcal{N}(0, 1)$ and as
# its mean leaves 0. The weight of that price is tiny, so it forces no shape; it removes the hiding places.

# %%
lesson.source(ldm.Gaussian)

# %% [markdown]
# **By hand.** $\mu = 1$, $\sigma^2 = 1$: $\frac12 (1 + 1 - 1 - 0) = \frac12$ nat. $\mu = 0$, $\sigma^2 = 1$: nothing is
# known, and nothing is paid.
#
# **Exercise 3.3.** The divergence, of every value, from the mean and $\ln \sigma^2$. (Networks give the logarithm, since it
# may be any number.)


# %% tags=["exercise"]
def my_kl(mean, log_var):
    ### BEGIN SOLUTION
    return (mean**2 + log_var.exp() - 1 - log_var) / 2
    ### END SOLUTION


check.kl(my_kl)

# %% [markdown]
# **Exercise 3.4.** A sample of $q$, from noise $\epsilon$: written so that a gradient reaches the mean and the variance.


# %% tags=["exercise"]
def my_sample(mean, log_var, eps):
    ### BEGIN SOLUTION
    return mean + (log_var / 2).exp() * eps
    ### END SOLUTION


check.sample(my_sample)

# %% [markdown]
# How much does a latent know of an image? On average at most the KL divergence, in nats; divided by $\ln 2$, in bits.

# %%
x = torch.from_numpy(images["generated"]).permute(2, 0, 1)[None] / 127.5 - 1
with torch.no_grad():
    q = autoencoder.posterior(x)
    z = autoencoder.encode(x)
bits = q.kl().sum().item() / np.log(2)
print(f"{bits:,.0f} bits in {z.numel():,} values, of an image of {image.size * 8:,} bits")
print(f"standard deviation of q: {(0.5 * q.log_var).exp().mean():.3f}; of the means: {q.mean.std():.2f}")

# %% [markdown]
# The decoder was trained on samples of $q$. So a sample, which lies beside the mean, decodes to nearly the same image:

# %%
with torch.no_grad():
    sampled = autoencoder.decode(autoencoder.encode(x, torch.randn_like(z)))
    change = (sampled - autoencoder.decode(z)) * 127.5
lesson.claim("PSNR of a sample's image, against the mean's, in dB", my_psnr(change, 0), 55, within=4)

# %%
figure, axes = plt.subplots(1, 9, figsize=(10, 1.4))
axes[0].imshow(images["generated"])
axes[0].set_title("image", fontsize=8)
for i, axis in enumerate(axes[1:]):
    axis.imshow(z[0, i], cmap="gray")
    axis.set_title(f"channel {i}", fontsize=8)
for axis in axes:
    axis.axis("off")
lesson.show(figure, "Eight channels of a latent, 16 x 16: in most of them the outline of the castle can be recognised")

# %% [markdown]
# A latent is still a picture: its positions lie where the image's do. So a UNet fits it, and so do masks (lesson 8).
#
# The last thing before diffusion is a **scale**: the schedule of lesson 2 wants a variance of 1, so latents are
# multiplied by a measured number (0.18215 in Stable Diffusion 1).

# %%
print(f"scale {autoencoder.config.scale}; standard deviation of this z_0: {z.std():.2f}")

# %% [markdown]
# **Take away.** A KL latent need not be exact: its neighbours decode to nearly the same image.

# %% [markdown]
# ## 3.4 A latent of whole numbers: VQ
#
# **Could a latent be a text, of which each letter is one of 1,024?**
#
# [B3]: $z_q = e_k$ with $k = \arg\min_j \lVert z - e_j \rVert$. Each of the encoder's vectors is replaced by the nearest of
# $K$ learned entries, a *codebook*. An image becomes one whole number for each position.
#
# **By hand.** Entries $e_0 = (3, 3)$ and $e_1 = (1, 0)$, vector $z = (0.9, 0.4)$: the distances are $3.34$ and $0.41$, so
# $k = 1$. (The product $z \cdot e_j$ would have chosen $e_0$: $3.9$ against $0.9$.)
#
# **Exercise 3.5.** The number of the nearest entry, for each row of `z`.
#
# <details><summary>Hint</summary>
#
# `torch.cdist(z, codebook)` has the distance of row $i$ from entry $j$ at $[i, j]$.
#
# </details>


# %% tags=["exercise"]
def my_nearest(z, codebook):
    ### BEGIN SOLUTION
    return torch.cdist(z, codebook).argmin(dim=1)
    ### END SOLUTION


check.nearest(my_nearest)

# %% [markdown]
# An arg-min has no gradient. The trick is called *straight-through*: go forward with $z_q$, and backward as if nothing had
# been replaced.

# %%
lesson.source(ldm.straight_through)

# %%
z_e = torch.tensor([0.9, 0.4], requires_grad=True)
z_q = torch.tensor([1.0, 0.0])
(3 * ldm.straight_through(z_e, z_q)).sum().backward()
print("forward", ldm.straight_through(z_e, z_q).tolist(), " gradient at z", z_e.grad.tolist())

# %% [markdown]
# Two more losses keep both sides together: one pulls the entries to the vectors that chose them (`codebook_loss`), one
# keeps the encoder near its entries (`commitment_loss`).

# %%
with torch.no_grad():
    index = vq.quantize.indices(vq.latent(x))
K = vq.config.codebook
print(f"{index.numel()} numbers of 0..{K - 1}: {index.numel() * np.log2(K):,.0f} bits; KL's latent took {bits:,.0f}")
print(f"in this image {len(index.unique())} different entries occur")
print(f"exp(entropy): as varied as {ldm.perplexity(index):.0f} entries of equal frequency")
loss = ldm.psnr(images["generated"], through(autoencoder, images["generated"])) - ldm.psnr(
    images["generated"], through(vq, images["generated"])
)
lesson.claim("PSNR of this image with KL, less that with the codebook, in dB", loss, 9, within=2)
figure, axis = plt.subplots(figsize=(3, 3))
axis.imshow(index[0], cmap="viridis")
axis.set_title("an image as 256 whole numbers", fontsize=9)
axis.axis("off")
lesson.show(figure, "A grid of 16 x 16 coloured squares, one colour per codebook entry; the sky is of few colours")

# %% [markdown]
# **Take away.** This codebook's latent is much smaller, and 9 dB less faithful. Latent diffusion works with both; Stable
# Diffusion took KL.

# %% [markdown]
# ## What you have found
#
# - The motivation's 50,000 samples in 5 days are 8.6 seconds each, not 15.
# - A factor of 8 a side makes 64 times fewer positions and 4,096 times fewer pairs of them.
# - The autoencoder bounds the quality of every image, and tells you by how much: encode, decode, compare.
# - Neighbours of a KL latent decode to nearly the same image; VQ latents are whole numbers.
#
# Next: how a sentence becomes numbers that a UNet can look at.
