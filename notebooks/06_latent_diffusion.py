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
# # 6. Latent diffusion
#
# All parts are there: noise (lesson 2), latents (lesson 3), tokens (lesson 4) and attention (lesson 5). Here they become one model. You
# will look through its network, train a small one before your eyes with the lecture's Algorithm 1, find out what guidance
# does and what it costs, and end with one formula that inpaints, uncrops, colours and enlarges images without any training.
#
# You need: lessons 2 to 5. Noise, image and velocity as one prediction (2.6, 2.7) and DDIM (2.8) are used all the time.

# %% tags=["install"]
from importlib.util import find_spec

from IPython import get_ipython

if not find_spec("ldm"):  # in Colab, for example
    get_ipython().run_line_magic("pip", "install --quiet git+https://example.org/prompt-to-prompt-from-scratch.git")

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch

import ldm
import p2p
from notebooks import check, lesson

torch.manual_seed(0)
model = p2p.load("stickers", device="cpu")
schedule, T = ldm.Schedule(), 1000

# %% [markdown]
# ## 6.1 The network
#
# **How does the prompt get into the mean?** The slide asks it in these words: *"How do we define the mean to condition on the
# prompt representation?"* [D13]:
#
# $$\mu_\theta(z_t, t, \tau(y)) = f(\mathrm{UNet}(z_t, t, \tau(y)))$$
#
# The prompt is one more input of the network, which looks at it by cross-attention (5.4), and $f$ is [D10] or its like (2.7): it
# turns what the network predicts into a mean. **The slip:** one slide leaves $f$ out, as if the network predicted the mean itself.
# For a network that predicts the noise, with $z_0 = 1$ and $\epsilon = -1$ known exactly:

# %%
t = torch.arange(2, T + 1)
z_0, eps = torch.ones(len(t), 1, 1, 1), -torch.ones(len(t), 1, 1, 1)
z_t = schedule.add_noise(z_0, eps, t)
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(t, ldm.SLIPS["D13"].corrected(schedule, z_t, eps, t).flatten(), label="corrected: $f(\\epsilon)$")
axis.plot(t, ldm.SLIPS["D13"].printed(schedule, z_t, eps, t).flatten(), "--", label="printed: $\\epsilon$")
axis.set(xlabel="t", ylabel=r"$\mu_\theta$", title="The mean of $z_{t-1}$, if $z_0 = 1$ and $\\epsilon = -1$")
axis.legend(loc="upper right")
lesson.show(figure, "The corrected mean falls from 1 at t = 1 to -0.93 at t = 1000; the printed one is -1 everywhere")

# %% [markdown]
# **What is inside?** A *UNet*: levels that halve the resolution, a middle, levels that double it again. Ask the parts themselves
# what comes out of them:

# %%
parts = {"conv_in": model.unet.conv_in}
parts |= {f"down {level}": part for level, part in enumerate(model.unet.down_blocks)}
parts |= {"mid": model.unet.mid_block}
parts |= {f"up {2 - i}": part for i, part in enumerate(model.unet.up_blocks)} | {"conv_out": model.unet.conv_out}
watched = {name: part.resnets[-1] if name.startswith("up") else part for name, part in parts.items()}  # not yet doubled
shapes = {}


def note(name):
    def hook(module, inputs, output):  # a down level returns the features after each of its parts
        shapes[name] = tuple((output[0] if isinstance(output, list) else output).shape[1:])

    return hook


hooks = [part.register_forward_hook(note(name)) for name, part in watched.items()]
with torch.no_grad():
    model.unet(torch.randn(1, *model.latent_shape), torch.tensor([500]), model.encode_prompts(["a photo of a cat"]))
for hook in hooks:
    hook.remove()
for name, (c, h, w) in shapes.items():
    count = sum(parameter.numel() for parameter in parts[name].parameters())
    print(f"{name:9} {c:4} channels, {h:3} x {w:<3} positions {count:11,} parameters")

# %%
figure, axis = plt.subplots(figsize=(7.6, 2.8))
drawn = list(shapes.items())[1:-1]
for i, (name, (c, h, _)) in enumerate(drawn):
    axis.bar(i, h, width=c / 240, color="#56B4E9" if name != "mid" else "#E69F00")
    axis.text(i, h + 0.4, f"{c} x {h} x {h}", ha="center", fontsize=8)
    if name.startswith("down"):
        axis.annotate("", (5.55 - i, h - 0.6), (i + 0.45, h - 0.6), arrowprops={"arrowstyle": "->", "color": "#999999"})
axis.set_xticks(range(len(drawn)), [name for name, _ in drawn])
axis.set(ylabel="positions a side", ylim=(0, 19), title="Height: resolution. Width: channels. Arrows: skips")
axis.grid(False)
lesson.show(
    figure, "A U of bars: tall and thin at both ends, short and wide in the middle; arrows join levels of one height"
)

# %% [markdown]
# A convolution sees a few neighbours; at 4 x 4 positions these are the whole image, and attention over all pairs is cheap (3.1). On the
# way up each level is also given what the level of the same size had on the way down (a *skip*), so that detail need not pass
# through the middle. This is all of it:

# %%
lesson.source(ldm.UNet.forward)

# %% [markdown]
# **How does it know the time?** The noise in $z_t$ has to be removed by different amounts at different $t$. A number such as 731 is a
# poor input; so $t$ is shown as the hands of many clocks, of which each turns slower than the one before:
#
# $$\left( \cos \omega_0 t, \dots, \cos \omega_{h-1} t,\ \sin \omega_0 t, \dots, \sin \omega_{h-1} t \right), \qquad
# \omega_k = 10000^{-k / h}$$
#
# with $h$ half of the width. (The network's clock starts at 0, so it is given $t - 1$.)
#
# **By hand.** Width 4, so $h = 2$, $\omega = (1, 0.01)$. At 3: $(\cos 3, \cos 0.03, \sin 3, \sin 0.03) = (-0.990, 1.000, 0.141, 0.030)$.

# %%
print(ldm.timestep_embedding(torch.tensor([3]), 4)[0].numpy().round(3))
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.imshow(ldm.timestep_embedding(torch.arange(150), 32).T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
axis.set(xlabel="t - 1", ylabel="entry", title="32 entries: 16 cosines, then 16 sines")
axis.grid(False)
lesson.show(figure, "Stripes: fast in the first rows, slower downwards, almost constant in the last cosines and sines")

# %% [markdown]
# **Exercise 6.1.** Write it, for one whole number `t` and an even `width`.


# %% tags=["exercise"]
def my_timestep_embedding(t, width):
    ### BEGIN SOLUTION
    half = width // 2
    angles = t * 10_000 ** (-torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()])
    ### END SOLUTION


check.timestep_embedding(my_timestep_embedding)

# %% [markdown]
# **Take away.** Latent, time and prompt go in, a prediction of the latent's shape comes out. The prompt enters by attention alone.

# %% [markdown]
# ## 6.2 One step back, with a prompt
#
# **What does the model say about $z_{t-1}$?** [D19], on the same slide:
#
# $$p_\theta(z_{t-1} \mid z_t, \tau(y)) = \mathcal{N}(\mu_\theta(z_t, t, \tau(y)), \Sigma_\theta)$$
#
# with $\Sigma_\theta = \sigma_t^2 I$, the variance [D8] that lesson 2 derived for a *known* $z_0$. But the network does not know $z_0$, it
# guesses. Is something missing? What is missing is the doubt about $z_0$: its variance given $z_t$, times the square of its
# factor in [D7], which the slides call $\alpha_t^{(0)}$. For data with $z_0 \sim \mathcal{N}(0, 1)$ everything is known: $z_t$ has variance 1 at every
# $t$, the doubt is $1 - \bar\alpha_t$, and the exact variance of a step back is $1 - \alpha_t$:

# %%
t = torch.arange(1, T + 1)
known = torch.stack([schedule.sigma(int(i), int(i) - 1) for i in t]) ** 2
doubt = torch.stack([schedule.alpha_of_z_0(int(i), int(i) - 1) for i in t]) ** 2 * (1 - schedule.alpha_bar[1:])
exact = 1 - schedule.alpha[1:]
lesson.claim("sigma_t^2 and the doubt, less 1 - alpha_t, at most", (known + doubt - exact).abs().max(), 0, within=1e-12)
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.semilogx(t, known / exact)
axis.set(
    xlabel="t", ylabel=r"$\sigma_t^2$ / exact variance", title=r"$\sigma_t^2$ is nearly all, except in the last steps"
)
lesson.show(figure, "The ratio is 0 at t = 1, 0.9 near t = 10 and 1 from t = 100 on")

# %% [markdown]
# **By hand.** At $t = 1$: $\sigma_1^2 = 0$, exactly $1 - \alpha_1 = 0.00085$. A standard deviation of 0.03 is not seen in an image, so nothing
# needs to be learned, and $\Sigma_\theta$ has no parameters. The package returns the exact variance at $t = 1$, as a Gaussian of
# variance 0 has no density:

# %%
lesson.source(ldm.reverse_step)

# %% [markdown]
# **Take away.** The network supplies the mean, by a guess of $z_0$. The variance is fixed.

# %% [markdown]
# ## 6.3 The loss, and Algorithm 1
#
# **How is the guess learned?** [D14], *The loss of latent diffusion*:
#
# $$L_\mathrm{LDM} = \mathbb{E}\, \lVert \epsilon - \epsilon_\theta(z_t, t, \tau_\theta(y)) \rVert^2$$
#
# Add noise that you know; ask for it; square the error. The index of $\tau_\theta$ says that the text encoder is trained too. [D15],
# *"Algorithm 1: Training"*, as printed:
#
# > for $e = 1, \dots, E$, over all $(x_0, y)$:
# >
# > (a) $t \sim \mathrm{Uniform}(1, \dots, T)$
# >
# > (b) $\epsilon \sim \mathcal{N}(0, I)$
# >
# > (c) $x_t \leftarrow \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$
# >
# > (d) $\ell_t(\theta) \leftarrow \lVert \epsilon - \epsilon_\theta(x_t, t, \tau_\theta(y)) \rVert^2$
# >
# > (e) $\theta \leftarrow \theta - \nabla_\theta \ell_t(\theta)$
#
# (The letters are ours.) **Find two slips.** The first is in (c) and (d): this is *latent* diffusion, so what is noised is $z_0 = \mathrm{encoder}(x_0)$.
#
# The second is in (e): there is no step size. Corrected, $\theta \leftarrow \theta - \eta \nabla_\theta \ell_t(\theta)$. Is that pedantry?
#
# **By hand.** Take the smallest network there is, $\epsilon_\theta = \theta z_t$, and data with $z_0 \sim \mathcal{N}(0, 1)$. Then
# $\mathbb{E}(\epsilon - \theta z_t)^2 = 1 - 2 s \theta + \theta^2$ with $s = \sqrt{1 - \bar\alpha_t}$, its gradient is $2(\theta - s)$ and its minimum lies at
# $\theta = s$. As printed, from $\theta = 0$: first to $2s$, then back to $2s - 2s = 0$, and so on for ever. With $\eta = \frac14$ the
# distance from $s$ is halved at each step.

# %%
s, paths = (1 - schedule.alpha_bar[500]).sqrt(), {}
for name in ("printed", "corrected"):
    theta, paths[name] = torch.tensor(0.0, dtype=torch.float64), []
    for _ in range(9):
        paths[name].append(1 - 2 * s * theta + theta**2)
        theta = getattr(ldm.SLIPS["D15"], name)(theta, 2 * (theta - s), 0.25)
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(paths["corrected"], "o-", label=r"corrected, $\eta = 1/4$")
axis.plot(paths["printed"], "s--", label="printed")
axis.set(xlabel="update", ylabel="loss at t = 500", ylim=(0, 1.1))
axis.legend(loc="center right")
lesson.show(figure, "The printed update stays at a loss of 1; with a step size the loss falls to 0.28 in a few updates")
lesson.claim("loss that is left, less alpha_bar_500", paths["corrected"][-1] - schedule.alpha_bar[500], 0, within=1e-3)

# %% [markdown]
# What is left, $\bar\alpha_t$, is not the network's fault: noise and image cannot be told apart completely, and the best guess has this
# error. A loss of 0 is not to be hoped for.
#
# **Exercise 6.2.** Lines (c) and (d), corrected, as a mean over the values of the latent. `network` takes $z_t$ and returns its guess of the noise.


# %% tags=["exercise"]
def my_loss(network, z_0, eps, alpha_bar):
    ### BEGIN SOLUTION
    z_t = alpha_bar.sqrt() * z_0 + (1 - alpha_bar).sqrt() * eps
    return (eps - network(z_t)).square().mean()
    ### END SOLUTION


check.loss(my_loss)

# %% [markdown]
# **Exercise 6.3.** Line (e), corrected.


# %% tags=["exercise"]
def my_update(theta, gradient, eta):
    ### BEGIN SOLUTION
    return theta - eta * gradient
    ### END SOLUTION


check.update(my_update)

# %% [markdown]
# The package's loss takes the parameterisation from the schedule: a model of the velocity (2.7) is asked for $v$ in the place of $\epsilon$.
# (The docstring counts lines as on the slide: 2-4 draw $(x_0, y)$, $t$ and $\epsilon$, 5-7 are (c) and (d), 8 is (e).)

# %%
lesson.source(ldm.ldm_loss)

# %% [markdown]
# **Take away.** Training is regression: the noise is the label, and labels cost nothing.

# %% [markdown]
# ## 6.4 Half a minute of training
#
# **What does a model learn in half a minute?** Train one. Its world has nine things, three shapes in three colours, on latents of
# 3 x 8 x 8. A prompt is two words, such as "blue ring"; where the thing stands is left open, and there are 36 places. One of the
# nine, the blue ring, is kept out of training.

# %%
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1)}
SHAPES = {"square": ("###", "###", "###"), "cross": (".#.", "###", ".#."), "ring": ("###", "#.#", "###")}
WORDS = ["", *COLOURS, *SHAPES]  # the number of a word is its token; "" is the empty prompt
THINGS = [(colour, shape) for colour in COLOURS for shape in SHAPES]
HELD_OUT = ("blue", "ring")


def picture(colour, shape, top, left):
    """A thing at a place, (3, 8, 8)."""
    mask = torch.tensor([[float(x == "#") for x in row] for row in SHAPES[shape]])
    z = torch.zeros(3, 8, 8)
    z[:, top : top + 3, left : left + 3] = torch.tensor(COLOURS[colour])[:, None, None] * mask
    return z


world = torch.stack([picture(*thing, top, left) for thing in THINGS for top in range(6) for left in range(6)])
world = world / world.std()  # the schedule wants a variance of 1 (lesson 3)
thing_of = [thing for thing in THINGS for _ in range(36)]
tokens = torch.tensor([[WORDS.index(word) for word in thing] for thing in thing_of])
train = torch.tensor([i for i, thing in enumerate(thing_of) if thing != HELD_OUT])


def as_images(z):
    """Latents of this world as images in [0, 1]; grey is 0."""
    return (0.5 + z.permute(0, 2, 3, 1) / (2 * world.max())).clamp(0, 1)


lesson.side_by_side(
    {" ".join(thing_of[i]): as_images(world[i : i + 1])[0] for i in (14, 50, 86, 130, 280)},
    "Five of the 324 pictures: small squares, crosses and rings in red, green and blue on grey",
)

# %% [markdown]
# The network is the package's UNet with two levels, and the text encoder is a table, a vector for each word. Both are trained together,
# by Algorithm 1, with two additions. One prompt in ten is *dropped*, that is, replaced by the empty one: 6.5 needs a
# network that knows what to do without a prompt. And line (e) is Adam's, a gradient step with a step size for each parameter.

# %%
torch.manual_seed(0)
tiny = ldm.Schedule(ldm.ScheduleConfig(parameterisation="v"))
unet = ldm.UNet(
    ldm.UNetConfig(
        channels=(16, 32),
        layers=1,
        attention=(False, True),
        heads=(1, 4),
        context_width=32,
        latent_channels=3,
        groups=8,
    )
)
tau = torch.nn.Embedding(len(WORDS), 32)
parameters = [*unet.parameters(), *tau.parameters()]
STEPS, BATCH = 1200, 32
adam = torch.optim.Adam(parameters)
rate = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=4e-3, total_steps=STEPS, pct_start=0.05)
losses = []
for _ in range(STEPS):
    pick = train[torch.randint(len(train), (BATCH,))]  # some z_0 and their y
    t = torch.randint(1, T + 1, (BATCH,))  # (a)
    eps = torch.randn(BATCH, 3, 8, 8)  # (b)
    dropped = torch.rand(BATCH, 1) < 0.1
    loss = ldm.ldm_loss(unet, tiny, world[pick], tau(torch.where(dropped, 0, tokens[pick])), t, eps)  # (c), (d)
    adam.zero_grad()
    loss.backward()
    adam.step()  # (e)
    rate.step()  # the step size rises for the first 5% of the steps, and then falls to 0
    losses.append(loss.item())
print(f"{sum(p.numel() for p in parameters):,} parameters, {STEPS} steps of {BATCH} latents")

# %% [markdown]
# How good could it be? The world is finite, so the best denoiser of each prompt can be written down (2.8): its guess is the mean of
# that prompt's 36 pictures, each weighted by how likely $z_t$ is to have come from it. Its loss is the floor:


# %%
def floor(draws=600):
    """The least loss: that of the ideal denoiser of each prompt."""
    total = 0
    for k in range(len(THINGS)):
        ideal = ldm.IdealDenoiser(tiny, ldm.data_set(world[36 * k : 36 * k + 36].flatten(1).double()))
        z_0 = world[36 * k + torch.randint(36, (draws,))].double()
        t = torch.randint(1, T + 1, (draws,))
        total += ldm.ldm_loss(ideal, tiny, z_0, torch.zeros(draws, 1, 1), t, torch.randn_like(z_0)).item()
    return total / len(THINGS)


least = floor()
mean = np.convolve(losses, np.ones(50) / 50, mode="valid")
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.plot(np.arange(len(mean)) + 50, mean, label="mean of the last 50 losses")
axis.axhline(least, color="#D55E00", ls="--", label="the best denoiser")
axis.set(xlabel="step", ylabel="loss (of v)", ylim=(0, None))
axis.legend()
lesson.show(figure, "The loss falls from 1, fast at first and then slowly; it stays above the dashed floor")
lesson.claim("loss of the last 200 steps", np.mean(losses[-200:]), 0.22, within=0.05)
lesson.claim("the floor", least, 0.15, within=0.04)


# %% [markdown]
# Now sample: DDIM (2.8), from noise, for all nine prompts. `eta=0.0` means that no step adds fresh noise (it is not the $\eta$ of 6.3),
# and `guidance` is explained in 6.5; 1 is none. A sample is *right* if the nearest picture of the world shows its prompt, and is nearer
# than 0.6: an empty latent, all grey, is 0.83 away from its nearest.


# %%
@torch.no_grad()
def sample(prompts, guidance, steps=30):
    """Latents of pairs of words, by DDIM."""
    context = tau(torch.tensor([[WORDS.index(word) for word in prompt] for prompt in prompts]))
    empty = tau(torch.zeros(len(prompts), 2, dtype=torch.int64))
    z = ldm.Noise(list(range(len(prompts))), (3, 8, 8))()
    step = ldm.ddim_step(eta=0.0)
    for t, t_prev in pairwise(ldm.times(tiny, steps)):
        timestep = torch.tensor([t - 1])
        output = ldm.guided(unet(z, timestep, empty), unet(z, timestep, context), guidance)
        z = step(tiny, z, tiny.predict(z, output, t), t, t_prev, torch.zeros_like(z))
    return z


def nearest(z):
    """For each latent the number of the nearest picture of the world, and how far it is (root mean square)."""
    distance, index = (torch.cdist(z.flatten(1), world.flatten(1)) / 192**0.5).min(dim=1)
    return index, distance


def right(z, prompts):
    """True for each latent that is near to a picture, the nearest of which shows the prompt."""
    shows = torch.tensor([thing_of[i] == prompt for i, prompt in zip(nearest(z)[0], prompts)])
    return shows & (nearest(z)[1] < 0.6)


lesson.claim("distance of an empty latent from the nearest picture", nearest(torch.zeros(1, 192))[1], 0.83, within=0.02)


COPIES = 8
prompts = [thing for thing in THINGS for _ in range(COPIES)]
z = sample(prompts, guidance=1.0)
figure, axes = plt.subplots(4, len(THINGS), figsize=(9, 4.2))
for k, column in enumerate(axes.T):
    for axis, image in zip(column, as_images(z[COPIES * k : COPIES * k + 4])):
        axis.imshow(image)
        axis.axis("off")
    column[0].set_title("\n".join(THINGS[k]), fontsize=8)
lesson.show(
    figure,
    "Four samples of each of nine prompts: most show the thing, at various places; the last column has blue squares",
)
found = right(z, prompts).double().reshape(len(THINGS), COPIES).mean(dim=1)
for thing, share in zip(THINGS, found):
    print(f"{' '.join(thing):13} {share:4.0%} right{'   (never seen in training)' * (thing == HELD_OUT)}")
lesson.claim("right, of the eight that were trained", found[:-1].mean(), 0.9, within=0.15)
made = [" ".join(thing_of[i]) for i in nearest(z[-COPIES:])[0]]
print("for a blue ring the model makes:", *(f"{made.count(thing)} times a {thing}" for thing in sorted(set(made))))
lesson.claim("right, of the one that was not", found[-1], 0, within=0.25)
print(f"the shipped UNet has {sum(p.numel() for p in model.unet.parameters()) / 253_299:.0f} times as many parameters")

# %% [markdown]
# So after half a minute, in a world of 324 pictures, most samples are right, though not all are clean. But it was never
# shown a blue ring, and does not put one together from its two words: it paints the blue things that it knows. From eight combinations it has
# learned eight, and not a rule. The shipped model has more than forty times as many parameters, was trained on far more combinations, for seven
# hours on two cores, and by this loop.
#
# **Take away.** A random $t$, known noise, a squared error: a few lines are all that training is.

# %% [markdown]
# ## 6.5 Guidance
#
# **Can we ask the model to follow the prompt more closely?** *Classifier-free guidance*, on no slide but in every model of this kind, [D18]:
#
# $$\epsilon = \epsilon_u + w\,(\epsilon_c - \epsilon_u)$$
#
# $\epsilon_c$ is the prediction with the prompt ($c$ for conditional) and $\epsilon_u$ that with the empty prompt. Their difference is what the
# prompt changes; $w$ exaggerates it. $w = 0$ ignores the prompt, $w = 1$ is no guidance.
#
# **By hand.** $\epsilon_u = 1$, $\epsilon_c = 2$: $w = 1$ gives 2, $w = 4$ gives 5, which neither prediction said.

# %%
lesson.source(ldm.guided)

# %% [markdown]
# **Exercise 6.4.** Write it.


# %% tags=["exercise"]
def my_guided(eps_u, eps_c, w):
    ### BEGIN SOLUTION
    return eps_u + w * (eps_c - eps_u)
    ### END SOLUTION


check.guided(my_guided)

# %% [markdown]
# A model of $v$ may guide $v$ in the place of $\epsilon$: given $z_t$, each is a linear function of the other, with the same result.

# %%
noisy, v_u, v_c = torch.randn(3, 1, 3, 8, 8, dtype=torch.float64)
eps_u, eps_c = (tiny.predict(noisy, v, 500).eps for v in (v_u, v_c))
difference = tiny.predict(noisy, ldm.guided(v_u, v_c, 4.0), 500).eps - ldm.guided(eps_u, eps_c, 4.0)
lesson.claim("eps from the guided v, less the guided eps", difference.abs().max(), 0, within=1e-12)

# %% [markdown]
# In the tiny world we can see what this buys, and what it costs: how many samples are right, and how far they are from the nearest
# picture there is.

# %%
weights = (0, 1, 2, 4, 8)
results = {w: sample(prompts, guidance=float(w)) for w in weights}
share = [right(z, prompts).double().mean().item() for z in results.values()]
far = [nearest(z)[1].mean().item() for z in results.values()]
figure, axes = plt.subplots(1, 2, figsize=(8, 2.7))
axes[0].plot(weights, share, "o-")
axes[0].axhline(1 / 9, color="#999999", ls=":")
axes[0].text(8, 1 / 9 + 0.03, "by chance", ha="right", fontsize=9)
axes[0].set(xlabel="w", title="share of right samples", ylim=(0, 1.05))
axes[1].plot(weights, far, "s-", color="#D55E00")
axes[1].set(xlabel="w", title="distance to the nearest picture", ylim=(0, None))
lesson.show(
    figure,
    "The share of right samples rises up to w = 2, stays at w = 4 and falls at 8; the distance is least at w = 2",
)
lesson.claim("right at w = 0", share[0], 1 / 9, within=0.12)
lesson.claim("right at w = 2 (at most 8 of 9 are, without blue rings)", share[2], 8 / 9, within=0.1)
lesson.claim("right at w = 8", share[4], 0.65, within=0.2)
lesson.claim("distance at w = 8, by that at w = 2", far[4] / far[2], 2, within=0.8)

# %% [markdown]
# And in the shipped model:

# %%
PROMPT = "a photo of a castle on the beach"
strengths = (0, 1, 4, 20)
pictures = [model.generate([PROMPT], [3], guidance=float(w))[0] for w in strengths]
lesson.side_by_side(
    {f"w = {w}": image for w, image in zip(strengths, pictures)},
    "At w = 0 no castle; at w = 1 a soft one; at w = 4 a clear one; at w = 20 hard edges, and spots in the sky and sand",
)
latent, context = torch.randn(1, *model.latent_shape), model.encode_prompts([PROMPT])
rows = []
hook = model.unet.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
for w in (1.0, 4.0):
    model.predict(latent, 500, context, guidance=w)
hook.remove()
print(f"latents that the network sees for one prediction: {rows[0]} without guidance, {rows[1]} with")
assert rows == [1, 2]

# %% [markdown]
# The price is work, since the network predicts twice, and likeness: a large $w$ leads to where no data is, to hard edges and to spots where
# the sky is even. Models therefore use a moderate one: 4 here, 7.5 with Stable Diffusion.
#
# **Take away.** Guidance goes from the unprompted prediction through the prompted one and beyond it.

# %% [markdown]
# ## 6.6 The whole model
#
# **What does `generate` do?** Everything of lessons 2 to 6, once:

# %%
y = model.encode_prompts([PROMPT])  # tau(y), lesson 4
z = ldm.Noise([3], model.latent_shape)()  # z_T
step = ldm.ddim_step(eta=0.0)
for t, t_prev in pairwise(ldm.times(model.schedule, 30)):
    prediction = model.predict(z, t, y, guidance=4.0)  # UNet twice, guidance [D18], then eps and z_0 [D12]
    z = step(model.schedule, z, prediction, t, t_prev, torch.zeros_like(z))  # [D17]
by_hand = model.decode(z)[0]  # lesson 3
difference = np.abs(by_hand.astype(int) - pictures[2]).max()
lesson.claim("largest difference from model.generate, in grey levels", difference, 0, within=1)

# %% [markdown]
# The prompt need not be a sentence. For *class-conditional generation*, one of the tasks of the opening slides, $\tau$ is a table with a
# few vectors for each class (in 6.4: one for each word); nothing else changes:

# %%
classes = ("cat", "penguin", "rocket", "mushroom")
lesson.side_by_side(
    {name: np.array(p2p.generate(name, model="stickers-classes", seed=1)) for name in classes},
    "Four images, each of the thing whose class was given: a cat, a penguin, a rocket and a mushroom",
)

# %% [markdown]
# **Take away.** Text encoder, UNet and decoder, and one loop.

# %% [markdown]
# ## 6.7 Four tasks by one formula
#
# **Must a model be trained anew to inpaint, uncrop, colour or enlarge?** These are the other *Tasks of image generation* of the opening slide.
# In all four something of an image is given, and the rest is to be made. Write what is given as $y = A x$, for a known linear $A$:
# the pixels outside a hole, a part, the grey levels, the means of blocks. (Here $y$ is not the prompt, and $A$ no attention map.) And let
# $A^+$ put $y$ back into an image, such that $A A^+ y = y$. Then
#
# $$\hat x_0 \leftarrow A^+ y + (I - A^+ A)\, \hat x_0$$
#
# keeps of a guess $\hat x_0$ what $y$ leaves open, and puts $y$ in the place of the rest. (Not from the slides: Wang et al., [arXiv
# 2212.00490](https://arxiv.org/abs/2212.00490).) Done to the guess of every step, it turns any sampler into a restorer.
#
# **By hand.** An image of two pixels, of which the mean is given: $A x = (x_1 + x_2)/2$, $A^+ y = (y, y)$. Let $y = 5$ and the guess be $(1, 3)$.
# Then $A^+ A \hat x_0 = (2, 2)$, what is left open is $(-1, 1)$, and the result $(4, 6)$: its mean is 5, and the second pixel is still lighter than the first by 2.
#
# **Exercise 6.5.** The $A^+$ of super-resolution, for $A$ the mean of each block of `factor` x `factor` pixels. `y` is (h, w).
#
# <details><summary>Hint</summary>
#
# The mean of a block of equal values is that value. `repeat_interleave(factor, dim)` repeats each row, or each column.
#
# </details>


# %% tags=["exercise"]
def my_enlarge(y, factor):
    ### BEGIN SOLUTION
    return y.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
    ### END SOLUTION


check.enlarge(my_enlarge)

# %% [markdown]
# **Exercise 6.6.** The formula. `A` and `A_plus` are functions.


# %% tags=["exercise"]
def my_project(x_0, y, A, A_plus):
    ### BEGIN SOLUTION
    return A_plus(y) + x_0 - A_plus(A(x_0))
    ### END SOLUTION


check.project(my_project)

# %% [markdown]
# The package's, and what is special in *latent* diffusion: the formula speaks of pixels, so each guess is decoded, corrected, and
# encoded again.

# %%
lesson.source(ldm.project)

# %%
lesson.source(ldm.project_latent)

# %% [markdown]
# All four tasks, on one image, whose truth we know:

# %%
CAR = "a photo of a red car on the street"
truth = model.generate([CAR], [1])[0]
hole = np.zeros((128, 128))
hole[24:88, 44:104] = 1
luma = (truth @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
coarse = truth.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
BLUE = CAR.replace("red", "blue")
restored = {
    "inpaint": p2p.restore("inpaint", truth, CAR, mask=hole, model=model),
    "uncrop": p2p.restore("uncrop", truth[:, :72], CAR, box=(0, 0, 72, 128), model=model),
    "colour": p2p.restore("colour", np.repeat(luma[..., None], 3, axis=-1), BLUE, model=model),
    "enlarge": p2p.restore("super", coarse, CAR, model=model),
}
figure, axes = plt.subplots(2, 5, figsize=(9, 4))
for column, (name, one) in zip(axes.T, restored.items()):
    column[0].imshow(one.degraded)
    column[0].set_title(f"{name}: $A^+ y$", fontsize=9)
    column[1].imshow(one.restored)
    column[1].set_title("restored" if name != "colour" else "restored, with 'blue'", fontsize=9)
axes[0, 4].imshow(truth)
axes[0, 4].set_title("truth", fontsize=9)
for axis in axes.flat:
    axis.axis("off")
lesson.show(
    figure,
    "A hole, a cut, a grey and a coarse image of a car, and below each the car complete, the grey one in blue; "
    "in the uncropped one the horizon jumps at the cut",
)

# %% [markdown]
# Nothing was trained for this. (In "uncrop" the horizon jumps at the cut: the formula says what is known, not that both sides fit.)
# The grey image was coloured by a prompt that says "blue", since the grey levels leave it open. Is
# what was given still there?

# %%
for name, one in restored.items():
    A, _ = one.given.degradation
    x = torch.from_numpy(np.array(one.restored)).permute(2, 0, 1)[None] / 127.5 - 1
    error = 127.5 * (A(x) - one.given.y).abs().max().item()
    lesson.claim(f"{name}: A of the result, less y, in grey levels, at most", error, 0, within=6)
lesson.claim(
    "enlarged: PSNR to the truth, in dB", ldm.psnr(truth, np.array(restored["enlarge"].restored)), 40, within=4
)

# %% [markdown]
# It is, to a few grey levels, because values beyond black and white are cut off. (Inside the model it is there as far as the autoencoder
# keeps it (3.2); the last correction is made in pixels.) This image is easy, since the model made it itself. How good the four are, over many
# images and against simpler methods, is measured in `docs/restoration.md`.
#
# **Take away.** What is known goes in by a projection, what is not comes from the model.

# %% [markdown]
# ## What you have found
#
# | | slip | corrected |
# |---|---|---|
# | D13, on one slide | $f$ is missing | $f(\mathrm{UNet}(\dots))$, by what the network predicts |
# | D15 | no step size | $\theta \leftarrow \theta - \eta \nabla_\theta \ell_t(\theta)$ |
# | D15 | pixels $x_0$, $x_t$ | latents $z_0 = \mathrm{encoder}(x_0)$, $z_t$ |
#
# - The variance of a step back leaves out the doubt about $z_0$, which matters at the end only (D19).
# - A loss of 0 is not to be had: noise and image cannot be told apart completely.
# - Guidance makes samples follow the prompt; too much of it leads away from the data.
# - Inpainting, uncropping, colourisation and super-resolution differ in $A$ alone.
#
# Next: change a word of the prompt, and keep the image.
