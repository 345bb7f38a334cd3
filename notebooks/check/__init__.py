"""Checks of the exercises: `check.add_noise(my_add_noise)` says in a sentence what is wrong with an answer."""

from notebooks.check.attention import attend, attention_map, multi_head, positions, scores, word_map
from notebooks.check.editing import (
    alpha,
    blend,
    edited_values,
    inject,
    local_blend,
    mapper,
    refine,
    region,
    reweight,
    switch,
    used,
)
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
from notebooks.check.public import attention_parameters, diffusers_name, leading, map_bytes, scale

__all__ = [
    "add_noise",
    "alpha",
    "alpha_bar",
    "attend",
    "attention_map",
    "attention_parameters",
    "blend",
    "clean_latent",
    "compression",
    "ddim_step",
    "diffusers_name",
    "edited_values",
    "eps_from_v",
    "forward_step",
    "inject",
    "kl",
    "leading",
    "local_blend",
    "map_bytes",
    "mapper",
    "multi_head",
    "nearest",
    "positions",
    "posterior_mean",
    "psnr",
    "refine",
    "region",
    "reweight",
    "sample",
    "scale",
    "scores",
    "switch",
    "used",
    "word_map",
]
