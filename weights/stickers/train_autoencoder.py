"""The first stage's training: L1 on pixels and on their differences, and a little KL [B2]."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from ldm.autoencoder import Autoencoder
from weights.stickers.data import to_tensor

CROP = 64  # the network is convolutional: it learns on crops and works on whole scenes
KL_WEIGHT = 5e-4  # nats per latent number against L1 per colour value


def random_crops(
    pictures: UInt8[ndarray, "n H W 3"], batch: int, generator: torch.Generator
) -> Float[Tensor, "b 3 c c"]:
    """Crops at random places of random pictures, half of them mirrored, in [-1, 1]."""
    n, H, W = pictures.shape[:3]
    draw = lambda high: torch.randint(high, (batch,), generator=generator).tolist()
    corners = zip(draw(n), draw(H - CROP + 1), draw(W - CROP + 1), draw(2))
    crops = []
    for i, y, x, mirrored in corners:
        crop = to_tensor(pictures[i : i + 1, y : y + CROP, x : x + CROP])
        crops.append(crop.flip(-1) if mirrored else crop)
    return torch.cat(crops).contiguous(memory_format=torch.channels_last)


def autoencoder_loss(model: Autoencoder, x: Float[Tensor, "b 3 H W"], eps: Float[Tensor, "b c h w"]) -> Tensor:
    """L1 of values and of neighbours' differences, so that edges stay sharp, plus the weighted KL."""
    q = model.posterior(x)
    error = model.reconstruct(q.sample(eps)) - x
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.5 * edges + KL_WEIGHT * q.kl().mean()


@torch.no_grad()
def psnr(model: Autoencoder, pictures: UInt8[ndarray, "n H W 3"]) -> float:
    """[B1] Mean over the pictures of 10 log10(255^2 / mean squared error), in dB, of bytes against bytes."""
    values = []
    for i in range(0, len(pictures), 20):
        x = to_tensor(pictures[i : i + 20])
        y = model.decode(model.encode(x.contiguous(memory_format=torch.channels_last)))
        to_bytes = lambda a: ((a.clamp(-1, 1) + 1) * 127.5).round()
        error = F.mse_loss(to_bytes(y), to_bytes(x), reduction="none").mean(dim=(1, 2, 3))
        values.append(10 * torch.log10(255**2 / error))
    return torch.cat(values).mean().item()


@torch.no_grad()
def latent_scale(model: Autoencoder, pictures: UInt8[ndarray, "n H W 3"]) -> float:
    """The factor that gives the latents of these pictures unit variance."""
    x = to_tensor(pictures).contiguous(memory_format=torch.channels_last)
    return 1 / model.posterior(x).mean.std().item()
