"""Checks of the exercises: `check.add_noise(my_add_noise)` says in a sentence what is wrong with an answer."""

from notebooks.check.latents import compression, kl, nearest, psnr, sample
from notebooks.check.noise import (
    add_noise,
    alpha_bar,
    clean_latent,
    ddim_step,
    eps_from_v,
    forward_step,
    posterior_mean,
)

__all__ = [
    "add_noise",
    "alpha_bar",
    "clean_latent",
    "compression",
    "ddim_step",
    "eps_from_v",
    "forward_step",
    "kl",
    "nearest",
    "posterior_mean",
    "psnr",
    "sample",
]
