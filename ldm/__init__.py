"""Latent diffusion, from the schedule to the picture.

How threads wait is set here, since libgomp reads it once, when torch is loaded, and whatever of ours is run comes past
here before that: `p2p` and `weights` import this too.
"""

import os

from ldm.helpers.lazy import exports

# A thread that is done first turns in place for some milliseconds, 300,000 turns, before it sleeps; another program on
# the same cores waits for as long. So few cost nothing alone and take a third off the time beside it: tests/busy.py.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

__all__, __getattr__, __dir__ = exports(  # torch is imported with the first of them
    __name__,
    {
        "ldm.config": "AUTOENCODERS AutoencoderConfig ModelConfig PRESETS ScheduleConfig TextConfig UNetConfig",
        "ldm.schedule": "Prediction Schedule guided",
        "ldm.samplers": "DDIM SAMPLERS Sampler ddim_step ddpm_step times",
        "ldm.attention": "Attention Site attend attention_map element_wise multi_head",
        "ldm.unet": "UNet timestep_embedding",
        "ldm.autoencoder": "Autoencoder Gaussian",
        "ldm.quantize": "Codebook codebook_loss commitment_loss perplexity straight_through",
        "ldm.tokenizer": "CLIPTokenizer Tokens",
        "ldm.text_encoder": "TextEncoder",
        "ldm.contrastive": "contrastive_loss similarity zero_shot",
        "ldm.train": "ldm_loss",
        "ldm.pipeline": "LatentDiffusion Noise State",
        "ldm.helpers.likeness": "psnr structure",
    },
)
