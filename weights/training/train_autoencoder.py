"""Training of the first stage: errors of pixels and of their differences, with a small KL [B2] or commitment [B3]."""

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
AT_THINGS, NEAR = 0.7, 24  # share of the crops centred on a thing, within so many pixels: places are easy to draw
KL_WEIGHT = 1e-4  # nats per latent value, relative to L1 per colour value
SQUARED = 4.0  # weight of the squared error, which small parts of high contrast (eyes, spokes) dominate
BETA = 0.25  # squared distance to the codebook per latent value, relative to L1 per colour value; from the VQ-VAE paper


def random_crops(
    pictures: UInt8[ndarray, "n H W 3"],
    things: list[list[tuple[float, float]]],
    batch: int,
    generator: torch.Generator,
) -> Float[Tensor, "b 3 c c"]:
    """Take random crops of random images, most of them near a thing, half of them mirrored, in [-1, 1].

    `things` are the centres (x, y) of each image's things, in pixels.
    """
    n, H, W = pictures.shape[:3]
    draws = torch.rand((batch, 6), generator=generator, dtype=torch.float64).tolist()
    crops = []
    for image, near, which, u, v, mirrored in draws:
        i = int(n * image)
        x, y = u * (W - CROP), v * (H - CROP)
        if near < AT_THINGS:
            centre = things[i][int(which * len(things[i]))]
            x, y = (c - CROP / 2 + NEAR * (2 * d - 1) for c, d in zip(centre, (u, v)))
        left, top = min(max(round(x), 0), W - CROP), min(max(round(y), 0), H - CROP)
        crop = to_tensor(pictures[i : i + 1, top : top + CROP, left : left + CROP])
        crops.append(crop.flip(-1) if mirrored < 0.5 else crop)
    return torch.cat(crops).contiguous(memory_format=torch.channels_last)


def pixel_loss(error: Float[Tensor, "b 3 H W"]) -> Float[Tensor, ""]:
    """L1 of the values and of the differences between neighbours, which keeps edges sharp, and the squared error."""
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges + SQUARED * error.square().mean()


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
