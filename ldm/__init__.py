"""Latent diffusion, from the noise schedule to the image.

Importing this package also sets how OpenMP's threads wait for each other. libgomp reads the setting once, when torch is
loaded, so `p2p` and `weights` import this package first.
"""

import os

from ldm.helpers.lazy import exports

# By default a waiting thread spins for some milliseconds, 300,000 turns, before it sleeps, and keeps its core from
# other programs. 3,000 turns cost nothing alone, and save a third of the time beside another program: tests/busy.py.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__all__, __getattr__, __dir__ = exports(  # torch is imported with the first of them
    __name__,
    {
        "ldm.config": "AutoencoderConfig CLIPConfig ModelConfig ScheduleConfig TextConfig UNetConfig VisionConfig",
        "ldm.presets": "AUTOENCODERS CLIP_PRESETS PRESETS",
        "ldm.schedule": "Prediction Schedule guided",
        "ldm.samplers": "DDIM SAMPLERS Sampler ddim_step ddpm_step times",
        "ldm.attention": "Attention Site SpatialTransformer attend attention_map element_wise multi_head",
        "ldm.unet": "UNet timestep_embedding",
        "ldm.autoencoder": "Autoencoder Gaussian",
        "ldm.quantize": "Codebook codebook_loss commitment_loss perplexity straight_through",
        "ldm.tokenizer": "CLIPTokenizer Tokens",
        "ldm.text_encoder": "TextEncoder",
        "ldm.contrastive": "contrastive_loss similarity zero_shot",
        "ldm.zoo.clip": "CLIP new_clip",
        "ldm.train": "ldm_loss",
        "ldm.restoration": "Degradation project project_latent",
        "ldm.pipeline": "LatentDiffusion",
        "ldm.states": "Noise State",
        "ldm.equations.cost": "flops",
        "ldm.equations.ideal_denoiser": "IdealDenoiser data_set gaussian",
        "ldm.equations.slips": "SLIPS",
        "ldm.equations.table_layer": "TableLayer print_lines released_lines table_lines",
        "ldm.equations.translation": "trained_translation",
        "ldm.equations.variational_bound": "reverse_step",
        "ldm.helpers.likeness": "psnr structure",
    },
)
