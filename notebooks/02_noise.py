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
# # 2. Noise, and how to undo it
#
# An image is destroyed in a thousand small steps, each of which adds a little noise. Every step can be undone a little,
# if one can tell noise from image. This lesson works out both directions on paper, checks most of the slides' formulas
# by numbers, and finds the slips among them. No network is needed: at the end you will sample with the best denoiser there
# is, which for a few data points can be written down (2.8).
#
# You need: Gaussians (mean, variance, the product of two densities, the KL divergence) and a little PyTorch.
#
# Ids such as [D5] name formulas of the slides; [EQUATIONS.md](../EQUATIONS.md) lists all of them, with the slide each is from.
#
# The lecture writes $x$ for images on its first slides and $z$ for latents later. The formulas are the same for both;
# we write $z$.

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
schedule = ldm.Schedule()  # Stable Diffusion's: T = 1000

# %% [markdown]
# ## 2.1 One step
#
# **How do you destroy something slowly?**
#
# [D2], *Diffusion model: forward process*:
#
# $$q(z_t \mid z_{t-1}) = \mathcal{N}(\sqrt{\alpha_t}\, z_{t-1},\ (1 - \alpha_t) I)$$
#
# A draw from a Gaussian is its mean plus its *standard deviation* times $\epsilon \sim \mathcal{N}(0, I)$. So a step
# shrinks the latent by $\sqrt{\alpha_t}$, a little below 1, and adds noise of variance $1 - \alpha_t$. In the package:

# %%
lesson.source(ldm.Schedule.forward_step)

# %% [markdown]
# **By hand.** Take $z_{t-1} = 2$, $\epsilon = -1$ and $\alpha_t = 0.64$. Then
# $z_t = 0.8 \cdot 2 + \sqrt{0.36} \cdot (-1) = 1.6 - 0.6 = 1$.
#
# Why these two factors? Their squares add up to 1. If $z_{t-1}$ has variance 1, so has
# $z_t$: $\alpha_t \cdot 1 + (1 - \alpha_t) = 1$. Noise replaces signal, and the scale stays.

# %%
z = torch.randn(100_000, 1, 1, 1)
for t in range(1, schedule.T + 1):
    z = schedule.forward_step(z, torch.randn_like(z), t)
lesson.claim("variance after a thousand steps, of 100,000 values", z.var(), 1.0, within=0.03)

# %% [markdown]
# The numbers $\alpha_t$ are not learned: the **schedule** is fixed. Stable Diffusion gives
# $\beta_t = 1 - \alpha_t$, the variance of a step's noise, as a line in its square root from $0.00085$ to $0.012$.

# %%
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(range(1, schedule.T + 1), schedule.beta)
axis.set(xlabel="t", ylabel=r"$\beta_t = 1 - \alpha_t$", title="Variance of the noise that step t adds")
lesson.show(figure, "A curve that rises from 0.00085 at t = 1 to 0.012 at t = 1000, bent slightly upwards")

# %% [markdown]
# **Exercise 2.1.** Write one step. `alpha` is $\alpha_t$, a number in a tensor.
#
# <details><summary>Hint</summary>
#
# $\mathcal{N}(\mu, \sigma^2)$ is sampled by $\mu + \sigma \epsilon$. Which of the two is $1 - \alpha_t$?
#
# </details>


# %% tags=["exercise"]
def my_forward_step(z_prev, eps, alpha):
    ### BEGIN SOLUTION
    return alpha.sqrt() * z_prev + (1 - alpha).sqrt() * eps
    ### END SOLUTION


check.forward_step(my_forward_step)

# %% [markdown]
# **Take away.** A step keeps the variance at 1 and moves a share of $1 - \alpha_t$ of it from signal to noise.

# %% [markdown]
# ## 2.2 All steps at once
#
# **Must we walk through 500 steps to see what $z_{500}$ looks like?**
#
# [D5], *Property 1*:
#
# $$q(z_t \mid z_0) = \mathcal{N}(\sqrt{\bar\alpha_t}\, z_0,\ (1 - \bar\alpha_t) I), \qquad
# \bar\alpha_t = \prod_{s=1}^{t} \alpha_s$$
#
# No. Two steps in a row multiply $z$ by $\sqrt{\alpha_1 \alpha_2}$; the noise of the first is shrunk by the second and
# has variance $\alpha_2 (1 - \alpha_1)$, to which the second adds $1 - \alpha_2$. Together
# $\alpha_2 - \alpha_1 \alpha_2 + 1 - \alpha_2 = 1 - \alpha_1 \alpha_2$. And so on for all the others.

# %%
factor, variance = 1.0, 0.0
for t in range(1, 501):
    factor *= schedule.alpha[t].sqrt()
    variance = schedule.alpha[t] * variance + 1 - schedule.alpha[t]
lesson.claim("factor of z_0 after 500 steps, less sqrt(alpha_bar)", factor - schedule.alpha_bar[500].sqrt(), 0, 1e-12)
lesson.claim("their variance, less 1 - alpha_bar", variance - (1 - schedule.alpha_bar[500]), 0, 1e-12)

# %% [markdown]
# **Exercise 2.2.** Compute all $\bar\alpha_1, \dots, \bar\alpha_T$ from all $\alpha_1, \dots, \alpha_T$.


# %% tags=["exercise"]
def my_alpha_bar(alpha):
    ### BEGIN SOLUTION
    return alpha.cumprod(0)
    ### END SOLUTION


check.alpha_bar(my_alpha_bar)

# %% [markdown]
# Now as a sum, which is how training uses it. [D6], as the slide prints it:
#
# $$z_t = \sqrt{\bar\alpha_t}\, z_0 + (1 - \bar\alpha_t)\, \epsilon \qquad\text{(printed)}$$
#
# **Find the slip** before you read on: which variance does this $z_t$ have, given $z_0$? Compare with [D5].
#
# $$z_t = \sqrt{\bar\alpha_t}\, z_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon \qquad\text{(corrected)}$$
#
# With the printed form the variance of the noise is $(1 - \bar\alpha_t)^2$. The training algorithm, on a later slide (6.3), has
# the root. The difference is not small: near $t = 350$, where $\bar\alpha_t = \frac12$, a latent would lose a quarter of
# its variance.

# %%
abar = schedule.alpha_bar
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.plot(abar + (1 - abar), label="corrected: $\\bar\\alpha_t + (1 - \\bar\\alpha_t)$")
axis.plot(abar + (1 - abar) ** 2, "--", label="printed: $\\bar\\alpha_t + (1 - \\bar\\alpha_t)^2$")
axis.set(xlabel="t", ylabel="variance of $z_t$", ylim=(0.6, 1.05), title="Variance, if that of $z_0$ is 1")
axis.legend(loc="lower right")
lesson.show(figure, "The corrected form stays at 1 for every t. The printed one dips to 0.75 near t = 350.")
lesson.claim("least variance with the printed form", (abar + (1 - abar) ** 2).min(), 0.75, within=0.001)

# %%
lesson.source(ldm.Schedule.add_noise)

# %% [markdown]
# **By hand.** $\bar\alpha_t = 0.36$, $z_0 = 1$, $\epsilon = 0.5$: $z_t = 0.6 + 0.8 \cdot 0.5 = 1$; as printed it would be
# $0.6 + 0.64 \cdot 0.5 = 0.92$.
#
# What does it look like? Here is an image, made by the small model that comes with the package, with more and more
# noise. (The model itself adds noise to latents, not to pixels; lesson 3 explains why.)

# %%
image = p2p.generate("a photo of a cat on the grass", seed=7)
x_0 = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 127.5 - 1
eps = torch.randn_like(x_0)
figure, axes = plt.subplots(1, 6, figsize=(9, 1.9))
for axis, t in zip(axes, (0, 100, 250, 500, 750, 1000)):
    x_t = schedule.add_noise(x_0, eps, t)
    axis.imshow((x_t[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1))
    axis.set_title(f"t = {t}\n$\\sqrt{{\\bar\\alpha_t}}$ = {schedule.alpha_bar[t].sqrt():.2f}", fontsize=9)
    axis.axis("off")
lesson.show(figure, "A cat on grass at six times: clear at t = 0, grainy at 250, hard to see at 500, noise at 1000")

# %% [markdown]
# **Exercise 2.3.** Write [D6], corrected.


# %% tags=["exercise"]
def my_add_noise(z_0, eps, alpha_bar):
    ### BEGIN SOLUTION
    return alpha_bar.sqrt() * z_0 + (1 - alpha_bar).sqrt() * eps
    ### END SOLUTION


check.add_noise(my_add_noise)

# %% [markdown]
# **Take away.** $z_t$ is one sum of $z_0$ and noise, at any $t$, in one line. Squared, the two factors add up to 1.

# %% [markdown]
# ## 2.3 Where it ends
#
# **Is the last latent pure noise?**
#
# [D4]: the schedule is chosen such that $q(z_T) \sim \mathcal{N}(0, I)$.
#
# Approximately. Some of the image is left, since $\bar\alpha_T$ is small but not 0:

# %%
lesson.claim("alpha_bar_T", schedule.alpha_bar[-1], 0.00466, within=0.00001)
lesson.claim("factor of z_0 in z_T", schedule.alpha_bar[-1].sqrt(), 0.0683, within=0.0001)

# %% [markdown]
# Two distributions are easily confused here.
#
# - *Given an image*, $z_T$ is not standard normal: $q(z_T \mid z_0) = \mathcal{N}(\sqrt{\bar\alpha_T}\, z_0,
#   (1 - \bar\alpha_T) I)$. Its KL divergence from $\mathcal{N}(0, 1)$ is, for a value $z_0 = 1$ of a latent,
#   $\frac12(\sigma^2 + \mu^2 - 1 - \ln \sigma^2)$.
# - *Over all images*, the mean over $z_0$ is taken too. If latents had a normal distribution of mean 0 and variance 1, then $q(z_t)$
#   would be $\mathcal{N}(0, 1)$ exactly, at every $t$.

# %%
mean, variance = schedule.alpha_bar[-1].sqrt(), 1 - schedule.alpha_bar[-1]
kl = (variance + mean**2 - 1 - variance.log()) / 2
lesson.claim("KL of q(z_T given z_0 = 1), in nats", kl, 0.00234, within=0.00001)

# %% [markdown]
# The rest matters more than its size suggests. The mean brightness of an image is the average of all its values, in which
# the noise nearly cancels: so even at a factor of 0.07 a network can read it from $z_T$. Pure noise has none to read, and
# models trained this way can hardly make a very dark or a very bright image.
#
# **Take away.** Sampling starts from noise that training never quite saw. It works, nearly.

# %% [markdown]
# ## 2.4 The chain as one distribution
#
# **What is "the diffusion process", as a formula?**
#
# [D1] and [D3], as printed:
#
# $$q(z_{1:T}) = q(z_0) \prod_{t=1}^{T} q(z_t \mid z_{t-1}), \qquad
# p_\theta(z_{1:T}) = p(z_T) \prod_{t=1}^{T} p_\theta(z_{t-1} \mid z_t, \tau(y))$$
#
# **The slip is on the left.** Both right sides depend on $z_0$ as well: they are the joint densities of $z_{0:T}$, not of
# $z_{1:T}$. To see it, count: with $T = 2$ the right side of $q$ has the factors $q(z_0)$, $q(z_1 \mid z_0)$ and
# $q(z_2 \mid z_1)$, so three latents.
#
# $q$ runs forward and has nothing to learn. $p_\theta$ runs backward, and $\theta$ is the network. $\tau(y)$ is the prompt $y$,
# as the numbers that the network reads.

# %% [markdown]
# ## 2.5 One step back
#
# **If we knew the image, where did $z_t$ come from?**
#
# [D7] and [D8], *Property 2*, as printed:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_t}\,(1 - \alpha_t)}{1 - \bar\alpha_t} z_0 +
# \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_t)}{1 - \bar\alpha_t} z_t, \qquad
# \sigma_t^2 = \frac{(1 - \bar\alpha_{t-1})(1 - \alpha_t)}{1 - \bar\alpha_t}$$
#
# $q(z_{t-1} \mid z_t, z_0) = \mathcal{N}(\tilde\mu, \sigma_t^2 I)$ follows from Bayes' rule: the *prior* of $z_{t-1}$ is
# [D5] at $t - 1$, the *likelihood* is [D2]. A product of two Gaussians adds their precisions $1/\sigma^2$, and weighs
# their means by them. We can do it in numbers, without knowing the formula:


# %%
def by_bayes(t, z_t, z_0):
    """Mean and variance of z_{t-1}, from the product of the prior and the likelihood."""
    alpha, abar_prev = schedule.alpha[t], schedule.alpha_bar[t - 1]
    prior = 1 / (1 - abar_prev), abar_prev.sqrt() * z_0  # precision and mean, as densities of z_{t-1}
    likelihood = alpha / (1 - alpha), z_t / alpha.sqrt()
    precision = prior[0] + likelihood[0]
    return (prior[0] * prior[1] + likelihood[0] * likelihood[1]) / precision, 1 / precision


def printed(t, z_t, z_0):
    alpha, abar = schedule.alpha[t], schedule.alpha_bar[t]
    return (abar.sqrt() * (1 - alpha) * z_0 + alpha.sqrt() * (1 - abar) * z_t) / (1 - abar)


def corrected(t, z_t, z_0):
    alpha, abar, abar_prev = schedule.alpha[t], schedule.alpha_bar[t], schedule.alpha_bar[t - 1]
    return (abar_prev.sqrt() * (1 - alpha) * z_0 + alpha.sqrt() * (1 - abar_prev) * z_t) / (1 - abar)


for t in (2, 10, 100, 1000):
    bayes = by_bayes(t, 0.3, 1.0)[0]
    print(f"t = {t:4}: Bayes {bayes:.5f}   corrected {corrected(t, 0.3, 1.0):.5f}   printed {printed(t, 0.3, 1.0):.5f}")

# %% [markdown]
# **Two slips.** Both numerators need $\bar\alpha_{t-1}$, the step before:
#
# $$\tilde\mu = \frac{\sqrt{\bar\alpha_{t-1}}\,(1 - \alpha_t)}{1 - \bar\alpha_t} z_0 +
# \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} z_t$$
#
# As printed, the second fraction would cancel to $\sqrt{\alpha_t}$, and at the last step, $t = 1$, the mean would still
# depend on $z_1$ although $z_0$ is known. Where does the difference matter? Late in sampling, near $t = 1$, where the details are made.

# %%
t = torch.arange(1, schedule.T + 1)
error = [abs(printed(i, 1.0, 1.0) - corrected(i, 1.0, 1.0)) for i in t]
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.loglog(t, error, label="printed, less corrected, at $z_0 = z_t = 1$")
axis.loglog(t, [schedule.sigma(int(i), int(i) - 1) + 1e-12 for i in t], "--", label=r"$\sigma_t$, for scale")
axis.set(xlabel="t", ylim=(1e-4, 2), title="The printed mean is off by more than the step's noise, at the end")
axis.legend(loc="upper right")
lesson.show(figure, "Error of the printed mean falls from about 1 at t = 1; below about t = 35 it exceeds sigma_t")

# %%
lesson.source(ldm.Schedule.posterior)

# %% [markdown]
# (The package's function also takes longer strides, from $t$ to any earlier $t'$: then $\alpha_t$ is the product of the
# steps between.) At $t = 1$ the variance [D8] is 0: the last step draws nothing.
#
# **Exercise 2.4.** Write the posterior mean, corrected.


# %% tags=["exercise"]
def my_posterior_mean(z_t, z_0, alpha, alpha_bar, alpha_bar_prev):
    ### BEGIN SOLUTION
    of_z_0 = alpha_bar_prev.sqrt() * (1 - alpha) / (1 - alpha_bar)
    of_z_t = alpha.sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    return of_z_0 * z_0 + of_z_t * z_t
    ### END SOLUTION


check.posterior_mean(my_posterior_mean)

# %% [markdown]
# **Take away.** If the clean latent is known, every step back is a known Gaussian. So all a network has to supply is a
# guess of the clean latent.

# %% [markdown]
# ## 2.6 Noise and image are one unknown
#
# **If the network guesses the noise, do we have the image?**
#
# [D9], *Property 3*, as printed, has three slips at once; it is only [D6], solved for $z_0$:
#
# $$z_0 = \frac{z_0 + (1 - \bar\alpha_t)\,\epsilon}{\sqrt{\bar\alpha_t}} \quad\text{(printed)} \qquad\qquad
# z_0 = \frac{z_t - \sqrt{1 - \bar\alpha_t}\,\epsilon}{\sqrt{\bar\alpha_t}} \quad\text{(corrected)}$$
#
# Can you name all three? ($z_0$ stands on both sides; noise is added that has to be removed; and it lacks its root.)
#
# **By hand**, the example of 2.2 back again: $\bar\alpha_t = 0.36$, $z_t = 1$, $\epsilon = 0.5$ give
# $z_0 = (1 - 0.8 \cdot 0.5) / 0.6 = 1$.
#
# **Exercise 2.5.** Write it.


# %% tags=["exercise"]
def my_clean_latent(z_t, eps, alpha_bar):
    ### BEGIN SOLUTION
    return (z_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
    ### END SOLUTION


check.clean_latent(my_clean_latent)

# %% [markdown]
# Put [D9] into [D7], and the mean is a function of the noise alone. [D10], right as printed:
#
# $$\tilde\mu = \frac{1}{\sqrt{\alpha_t}} \left( z_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon \right)$$

# %%
z_0, eps = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)
z_t = schedule.add_noise(z_0, eps, 300)
difference = schedule.mean_from_eps(z_t, eps, 300) - schedule.posterior(z_t, z_0, 300, 299)[0]
lesson.claim("D10 less D7, at most", difference.abs().max(), 0, within=1e-12)

# %% [markdown]
# **Take away.** $z_t$, $z_0$ and $\epsilon$ lie on one line: two of them give the third.

# %% [markdown]
# ## 2.7 What the network learns
#
# **The reverse step, [D11], is a Gaussian too:** $p_\theta(z_{t-1} \mid z_t) = \mathcal{N}(\mu_\theta, \sigma_t^2 I)$
# with the variance of [D8] and a learned mean, $\mu_\theta \approx \tilde\mu$. Two Gaussians of equal variance differ by
# a KL divergence of $\lVert \tilde\mu - \mu_\theta \rVert^2 / 2\sigma_t^2$: the squared error of the mean, which is why
# the loss will be a squared error.
#
# The network does not have to predict the mean itself. [D12] lists three ways: **A** the mean, **B** the clean latent,
# **C** the noise. (Option C inherits the slips of [D9].) Stable Diffusion 1 predicts the noise. The small model here and
# Stable Diffusion 2.1 predict a mixture, the *velocity*
#
# $$v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, z_0.$$
#
# Why? At large $t$ a prediction of the noise tells almost nothing about the image, and an error in it is divided by
# $\sqrt{\bar\alpha_t}$. [D13] calls $f$ what turns a prediction into a mean: for $\epsilon$ it is [D10].
#
# Seen as a rotation: let $\cos\phi = \sqrt{\bar\alpha_t}$. Then $(z_t, v)$ is $(z_0, \epsilon)$ turned by $\phi$.

# %%
lesson.source(ldm.Schedule.predict)

# %%
v = schedule.v_from(z_0, eps, 300)
predicts_v = ldm.Schedule(ldm.ScheduleConfig(parameterisation="v"))
found = predicts_v.predict(z_t, v, 300)
lesson.claim("eps from v, less eps", (found.eps - eps).abs().max(), 0, within=1e-12)
lesson.claim("z_0 from v, less z_0", (found.z_0 - z_0).abs().max(), 0, within=1e-12)

# %% [markdown]
# **Exercise 2.6.** Compute $\epsilon$ from $z_t$ and $v$.
#
# <details><summary>Hint</summary>
#
# Two equations, [D6] and that of $v$, with two unknowns, $z_0$ and $\epsilon$. Multiply the first by
# $\sqrt{1 - \bar\alpha_t}$, the second by $\sqrt{\bar\alpha_t}$, and add.
#
# </details>


# %% tags=["exercise"]
def my_eps_from_v(z_t, v, alpha_bar):
    ### BEGIN SOLUTION
    return alpha_bar.sqrt() * v + (1 - alpha_bar).sqrt() * z_t
    ### END SOLUTION


check.eps_from_v(my_eps_from_v)

# %% [markdown]
# **Take away.** Mean, clean latent, noise and velocity are four names for one prediction. Which one a network makes is a
# matter of scale, not of principle.

# %% [markdown]
# ## 2.8 Sampling, with the best denoiser there is
#
# **How do we get images, or points, out of all this?**
#
# Start from $z_T \sim \mathcal{N}(0, I)$ and walk back. Two ways, neither printed on the slides but both needed:
#
# - [D16], **DDPM** (ancestral): $z_{t-1} = \tilde\mu(z_t, \hat z_0) + \sigma_t n$ with $n \sim \mathcal{N}(0, I)$, a draw at every step
#   (hats mark what the network predicts);
# - [D17], **DDIM**: $z_{t'} = \sqrt{\bar\alpha_{t'}}\, \hat z_0 + \sqrt{1 - \bar\alpha_{t'}}\, \hat\epsilon$, no draws: take the
#   guess of $z_0$, and add back the *same* noise, at the scale of $t'$.
#
# The code writes both as one family: in `ldm.ddim_step(eta)`, `eta` scales the noise that each step draws, from 0 (none:
# DDIM) to 1 (as much as DDPM). It is not lesson 6's step size $\eta$.
#
# With DDIM the result is a function of $z_T$ alone. That is what Prompt-to-Prompt builds on: same noise, other prompt.
#
# To see the formulas and nothing else, let the "images" be three points in the plane. For finitely many data points the
# best guess of $z_0$, the one with the least squared error, can be written down: the mean of the points $x_k$, each
# weighted by how probable it is given $z_t$,
#
# $$\hat z_0 = \sum_k A_k x_k, \qquad
# A = \mathrm{softmax}_k \Big( -\frac{\lVert z_t - \sqrt{\bar\alpha_t}\, x_k \rVert^2}{2 (1 - \bar\alpha_t)} \Big).$$
#
# By [D5] the argument is the logarithm of $q(z_t \mid x_k)$, but for a constant. Remember these weights; lesson 5 calls
# such a thing attention. `ldm.IdealDenoiser` computes them:

# %%
angles = torch.tensor([0.5, 7 / 6, 11 / 6], dtype=torch.float64) * torch.pi
points = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
ideal = ldm.IdealDenoiser(schedule, ldm.data_set(points))


def walk(z, step, steps=60):
    """All latents from z_T to z_0, (steps + 1, n, 2)."""
    path = [z]
    visited = ldm.times(schedule, steps)
    for t, t_prev in pairwise(visited):
        z = step(schedule, z, ideal.predict(z, t), t, t_prev, torch.randn_like(z))
        path.append(z)
    return torch.stack(path).flatten(2)


def same_point(one, other):
    """The share of samples that end at the same data point in both."""
    return (torch.cdist(one, points).argmin(1) == torch.cdist(other, points).argmin(1)).double().mean()


z_T = torch.randn(40, 2, 1, 1, dtype=torch.float64)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8))
for axis, (name, step) in zip(axes, {"DDPM": ldm.ddpm_step, "DDIM": ldm.ddim_step(eta=0.0)}.items()):
    path = walk(z_T, step)
    axis.plot(path[:, :12, 0], path[:, :12, 1], lw=0.8, color="#0072B2", alpha=0.6)
    axis.scatter(*path[0].T, s=12, color="#999999", label="$z_T$")
    axis.scatter(*points.T, s=60, color="#D55E00", zorder=3, label="data")
    axis.set(title=name, xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
    distance = torch.cdist(path[-1], points).amin(dim=1)
    lesson.claim(f"{name}: largest distance of a sample to its data point", distance.max(), 0, within=0.2)
    again = same_point(path[-1], walk(z_T, step)[-1])
    stated, within = {"DDPM": (0.4, 0.3), "DDIM": (1, 0)}[name]
    lesson.claim(f"{name}: share that ends at the same data point in a second run", again, stated, within)
axes[0].legend(loc="lower right")
lesson.show(figure, "Paths from noise to three data points: jagged with DDPM, smooth curves with DDIM")

# %% [markdown]
# Both end at the data. DDPM's paths tremble, and a second run from the same $z_T$ takes many samples to another point;
# DDIM's are smooth, and a second run gives the same.
#
# **Exercise 2.7.** Write a DDIM step, given a prediction of the noise. `alpha_bar_prev` is $\bar\alpha_{t'}$.
#
# <details><summary>Hint</summary>
#
# First the clean latent (exercise 2.5), then add noise to it (exercise 2.3), with the same $\epsilon$.
#
# </details>


# %% tags=["exercise"]
def my_ddim_step(z_t, eps, alpha_bar, alpha_bar_prev):
    ### BEGIN SOLUTION
    z_0 = (z_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
    return alpha_bar_prev.sqrt() * z_0 + (1 - alpha_bar_prev).sqrt() * eps
    ### END SOLUTION


check.ddim_step(my_ddim_step)

# %% [markdown]
# **How many steps are needed?** DDIM may skip: $t'$ need not be $t - 1$. What is lost?

# %%
reference = walk(z_T, ldm.ddim_step(eta=0.0), steps=1000)[-1]
for steps in (5, 10, 30, 100):
    ends = walk(z_T, ldm.ddim_step(eta=0.0), steps)[-1]
    print(f"{steps:4} steps: {same_point(ends, reference):.0%} of the samples end at the same data point as with 1000")

# %% [markdown]
# Here nothing is lost, even with 5 steps; but the data are three points far apart, and the denoiser is perfect.
#
# **Take away.** Sampling alternates a guess of the image and a smaller dose of noise. DDIM makes the image a function of
# the first noise.

# %% [markdown]
# ## What you have found
#
# | | slip | corrected |
# |---|---|---|
# | D1, D3 | the left side leaves out $z_0$ | $z_{0:T}$ |
# | D4 | only approximately, given $z_0$ | $\bar\alpha_T = 0.0047$ |
# | D6 | the noise lacks its root | $\sqrt{1 - \bar\alpha_t}\,\epsilon$ |
# | D7 | $\bar\alpha_t$ twice in the numerators | $\bar\alpha_{t-1}$ |
# | D9, D12 C | $z_0$ for $z_t$, plus for minus, no root | $(z_t - \sqrt{1 - \bar\alpha_t}\,\epsilon)/\sqrt{\bar\alpha_t}$ |
#
# Next: why the noise goes into a *latent*, and not into the image.
