"""Exercises of lesson 2: the forward process and the way back."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(2)


def _latent() -> torch.Tensor:
    return torch.randn(2, generator=_generator, dtype=torch.float64)


def _numbers(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


_one = [(_latent(), _latent(), *_numbers(abar)) for abar in (0.99, 0.5, 0.05)]

forward_step = Exercise(
    "forward_step",
    lambda z_prev, eps, alpha: alpha.sqrt() * z_prev + (1 - alpha).sqrt() * eps,
    _one,
    [
        (
            lambda z_prev, eps, alpha: alpha.sqrt() * z_prev + (1 - alpha) * eps,
            "1 - alpha_t is the variance of the noise [D2]; what multiplies eps is the standard deviation, its root.",
        ),
        (
            lambda z_prev, eps, alpha: alpha * z_prev + (1 - alpha) * eps,
            "both factors lack their root: your z_t has variance alpha_t^2 + (1 - alpha_t)^2, which is below 1.",
        ),
        (
            lambda z_prev, eps, alpha: (1 - alpha).sqrt() * z_prev + alpha.sqrt() * eps,
            "signal and noise are exchanged: alpha_t is near 1, and a step should change the latent only a little.",
        ),
    ],
)

alpha_bar = Exercise(
    "alpha_bar",
    lambda alpha: torch.stack([alpha[: t + 1].log().sum().exp() for t in range(len(alpha))]),
    [tuple(_numbers([0.9, 0.8, 0.7, 0.6])), tuple(_numbers([0.99, 0.5]))],
    [
        (
            lambda alpha: alpha.cumsum(0),
            "alpha_bar_t is the product of the alphas up to t [D5], not their sum; it falls from 1 towards 0.",
        ),
        (
            lambda alpha: (1 - alpha).cumprod(0),
            "you multiplied the betas, 1 - alpha_t; alpha_bar_t multiplies the alphas.",
        ),
        (
            lambda alpha: torch.cat([torch.ones_like(alpha[:1]), alpha.cumprod(0)[:-1]]),
            "yours is shifted by one: alpha_bar_1 is alpha_1 itself, and alpha_bar_0 = 1 stands before it.",
        ),
        (
            lambda alpha: alpha.prod(),
            "this is alpha_bar_T alone; return alpha_bar_t for every t, as many as there are alphas.",
        ),
    ],
)

add_noise = Exercise(
    "add_noise",
    lambda z_0, eps, abar: abar.sqrt() * z_0 + (1 - abar).sqrt() * eps,
    _one,
    [
        (
            lambda z_0, eps, abar: abar.sqrt() * z_0 + (1 - abar) * eps,
            "this is D6 as the slide prints it: (1 - alpha_bar_t) is the variance, and its root multiplies eps.",
        ),
        (
            lambda z_0, eps, abar: abar * z_0 + (1 - abar) * eps,
            "both factors lack their root: squared, they should add up to 1.",
        ),
        (
            lambda z_0, eps, abar: (1 - abar).sqrt() * z_0 + abar.sqrt() * eps,
            "signal and noise are exchanged: alpha_bar_t is what is left of the signal.",
        ),
    ],
)

# alpha_t and alpha_bar_{t-1} of three steps, and alpha_bar_t, which is their product
_steps = [
    (_latent(), _latent(), *_numbers(alpha, alpha * before, before))
    for alpha, before in ((0.75, 0.8), (0.99, 0.5), (0.6, 0.1))
]


def _bayes(z_t, z_0, alpha, abar, abar_prev):
    """The product of N(z_t; sqrt(alpha) z, 1 - alpha) and N(z; sqrt(abar_prev) z_0, 1 - abar_prev), as precisions."""
    likelihood, prior = alpha / (1 - alpha), 1 / (1 - abar_prev)
    return (likelihood * z_t / alpha.sqrt() + prior * abar_prev.sqrt() * z_0) / (likelihood + prior)


def _mean(of_z_0, of_z_t):
    """A posterior mean with the roots and the 1 - alpha_bar that its two numerators use: "t" or "t-1"."""

    def mean(z_t, z_0, alpha, abar, abar_prev):
        root, left = (abar if of_z_0 == "t" else abar_prev), (abar if of_z_t == "t" else abar_prev)
        return (root.sqrt() * (1 - alpha) * z_0 + alpha.sqrt() * (1 - left) * z_t) / (1 - abar)

    return mean


posterior_mean = Exercise(
    "posterior_mean",
    _bayes,
    _steps,
    [
        (
            _mean("t", "t"),
            "this is D7 as the slide prints it; by Bayes' rule both numerators have alpha_bar_{t-1}, the step before.",
        ),
        (
            _mean("t-1", "t"),
            "the factor of z_0 is right; that of z_t should have 1 - alpha_bar_{t-1} in its numerator.",
        ),
        (
            _mean("t", "t-1"),
            "the factor of z_t is right; that of z_0 should have sqrt(alpha_bar_{t-1}) in its numerator.",
        ),
        (
            lambda z_t, z_0, alpha, abar, abar_prev: _bayes(z_0, z_t, alpha, abar, abar_prev),
            "z_0 and z_t are exchanged: late in sampling the mean should lie close to z_t.",
        ),
    ],
)

clean_latent = Exercise(
    "clean_latent",
    lambda z_t, eps, abar: z_t / abar.sqrt() - (1 / abar - 1).sqrt() * eps,
    _one,
    [
        (
            lambda z_t, eps, abar: (z_t + (1 - abar) * eps) / abar.sqrt(),
            "this is D9 as the slide prints it: noise that was added has to be subtracted, and at its own scale.",
        ),
        (
            lambda z_t, eps, abar: (z_t - (1 - abar) * eps) / abar.sqrt(),
            "the noise went in with a factor of sqrt(1 - alpha_bar_t); it has to come out with the same.",
        ),
        (
            lambda z_t, eps, abar: z_t - (1 - abar).sqrt() * eps,
            "what is left is sqrt(alpha_bar_t) z_0: divide by the root.",
        ),
        (
            lambda z_t, eps, abar: (z_t - (1 - abar).sqrt() * eps) / abar,
            "you divide by alpha_bar_t; the signal's factor is its root.",
        ),
    ],
)

eps_from_v = Exercise(
    "eps_from_v",
    # z_t and v are a rotation of z_0 and eps by the angle whose cosine is sqrt(alpha_bar_t); this rotates back
    lambda z_t, v, abar: torch.cos(abar.sqrt().acos()) * v + torch.sin(abar.sqrt().acos()) * z_t,
    _one,
    [
        (
            lambda z_t, v, abar: abar.sqrt() * z_t - (1 - abar).sqrt() * v,
            "this is z_0: solve v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) z_0 and D6 for eps instead.",
        ),
        (
            lambda z_t, v, abar: abar.sqrt() * v - (1 - abar).sqrt() * z_t,
            "a sign is wrong: with alpha_bar_t near 0, where v is -z_0, eps should be z_t itself.",
        ),
        (
            lambda z_t, v, abar: (v + (1 - abar).sqrt() * z_t) / abar.sqrt(),
            "you put z_t in the place of z_0: z_0 is not known, so it has to be eliminated with D6.",
        ),
    ],
)

# alpha_bar_t and alpha_bar_{t'} of three strides, the last of which ends at the clean latent
_strides = [(_latent(), _latent(), *_numbers(abar, before)) for abar, before in ((0.5, 0.9), (0.05, 0.2), (0.3, 1.0))]


def _ddim(direction):
    def step(z_t, eps, abar, abar_prev):
        z_0 = z_t / abar.sqrt() - (1 / abar - 1).sqrt() * eps
        return abar_prev.sqrt() * z_0 + direction(abar, abar_prev) * eps

    return step


ddim_step = Exercise(
    "ddim_step",
    _ddim(lambda abar, abar_prev: (1 - abar_prev).sqrt()),
    _strides,
    [
        (
            _ddim(lambda abar, abar_prev: (1 - abar).sqrt()),
            "the noise is still at the scale of t: at t' it has a factor of sqrt(1 - alpha_bar_{t'}).",
        ),
        (
            _ddim(lambda abar, abar_prev: 1 - abar_prev),
            "the noise's factor lacks its root, as in D6 on the slide.",
        ),
        (
            _ddim(lambda abar, abar_prev: 0 * abar),
            "you return the scaled clean latent alone; the noise of t' has to be put back.",
        ),
        (
            lambda z_t, eps, abar, abar_prev: (z_t - (1 - abar).sqrt() * eps) + (1 - abar_prev).sqrt() * eps,
            "the clean latent has to be divided by sqrt(alpha_bar_t) and multiplied by sqrt(alpha_bar_{t'}).",
        ),
    ],
)
