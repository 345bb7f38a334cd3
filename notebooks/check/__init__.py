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
from notebooks.check.first import change, paste, seeded_noise
from notebooks.check.latents import compression, kl, nearest, psnr, sample
from notebooks.check.model import enlarge, guided, loss, project, timestep_embedding, update
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
    "alpha",
    "alpha_bar",
    "attend",
    "attention_map",
    "blend",
    "change",
    "clean_latent",
    "compression",
    "ddim_step",
    "edited_values",
    "enlarge",
    "eps_from_v",
    "forward_step",
    "guided",
    "inject",
    "kl",
    "local_blend",
    "loss",
    "mapper",
    "multi_head",
    "nearest",
    "paste",
    "positions",
    "posterior_mean",
    "project",
    "psnr",
    "refine",
    "region",
    "reweight",
    "sample",
    "scores",
    "seeded_noise",
    "switch",
    "timestep_embedding",
    "update",
    "used",
    "word_map",
]
