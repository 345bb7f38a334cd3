"""Training of the first stage: L1 on pixels and on their differences, with a small KL [B2] or commitment [B3]."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from ldm.autoencoder import Autoencoder
from ldm.helpers.images import to_bytes, to_tensor
from ldm.helpers.likeness import psnr
from ldm.quantize import CodebookAverages, commitment_loss

CROP = 64  # the network is convolutional: trained on crops, it works on whole scenes
KL_WEIGHT = 5e-4  # nats per latent value, relative to L1 per colour value
BETA = 0.25  # squared distance to the codebook per latent value, relative to L1 per colour value; from the VQ-VAE paper


def random_crops(
    pictures: UInt8[ndarray, "n H W 3"], batch: int, generator: torch.Generator
) -> Float[Tensor, "b 3 c c"]:
    """Take random crops of random images, half of them mirrored, in [-1, 1]."""
    n, H, W = pictures.shape[:3]
    draw = lambda high: torch.randint(high, (batch,), generator=generator).tolist()
    corners = zip(draw(n), draw(H - CROP + 1), draw(W - CROP + 1), draw(2))
    crops = []
    for i, y, x, mirrored in corners:
        crop = to_tensor(pictures[i : i + 1, y : y + CROP, x : x + CROP])
        crops.append(crop.flip(-1) if mirrored else crop)
    return torch.cat(crops).contiguous(memory_format=torch.channels_last)


def pixel_loss(error: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
    """L1 of the values and of the differences between neighbours, which keeps edges sharp."""
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges


def autoencoder_loss(model: Autoencoder, x: Float[Tensor, "b 3 H W"], eps: Float[Tensor, "b c h w"]) -> Tensor:
    """The pixel loss plus the weighted KL."""
    q = model.posterior(x)
    return pixel_loss(model.reconstruct(q.sample(eps)) - x) + KL_WEIGHT * q.kl().mean()


def vq_loss(
    model: Autoencoder, averages: CodebookAverages, x: Float[Tensor, "b 3 H W"], generator: torch.Generator
) -> Tensor:
    """The pixel loss plus the weighted commitment; then updates the codebook by its moving averages, in place."""
    z = model.latent(x)
    index = model.quantize.indices(z)
    commitment = commitment_loss(z, model.quantize.vectors(index))
    loss = pixel_loss(model.reconstruct(z) - x) + BETA * commitment
    averages.update(model.quantize, z, index)
    averages.restart(model.quantize, z, generator)
    return loss


@torch.no_grad()
def reconstructions(model: Autoencoder, pictures: UInt8[ndarray, "n H W 3"]) -> UInt8[ndarray, "n H W 3"]:
    """[B1] decoder(encoder(x)) for each image."""
    parts = []
    for i in range(0, len(pictures), 20):
        x = to_tensor(pictures[i : i + 20]).contiguous(memory_format=torch.channels_last)
        parts.append(to_bytes(model.decode(model.encode(x))))
    return np.concatenate(parts)


def mean_psnr(model: Autoencoder, pictures: UInt8[ndarray, "n H W 3"]) -> float:
    """[B1] The mean PSNR of the images' reconstructions, in dB."""
    return float(np.mean([psnr(*pair) for pair in zip(reconstructions(model, pictures), pictures)]))


@torch.no_grad()
def latent_scale(model: Autoencoder, pictures: UInt8[ndarray, "n H W 3"]) -> float:
    """The factor that gives the latents of these images unit variance."""
    x = to_tensor(pictures).contiguous(memory_format=torch.channels_last)
    return 1 / model.latent(x).std().item()
