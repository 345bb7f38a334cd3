"""Vector quantisation [B3]: each latent vector is replaced by the nearest entry of a codebook.

After VQ-VAE (van den Oord, Vinyals and Kavukcuoglu 2017). An image's latent is then one integer per position. The
encoder and the decoder are trained on

    pixel loss + codebook_loss + beta commitment_loss

or without the codebook loss, if `CodebookAverages` updates the entries.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.helpers.checks import check_alike
from ldm.shapes import Latent

IDLE = 0.02  # an entry chosen less often than this fraction of the mean is restarted


class Codebook(nn.Module):
    """[B3] K entries e_k, each with one value per latent channel. Named as in the public files."""

    def __init__(self, size: int, channels: int):
        super().__init__()
        self.embedding = nn.Embedding(size, channels)

    @torch.no_grad()
    def indices(self, z: Latent) -> Int[Tensor, "b h w"]:
        """[B3] k = arg-min_j ||z - e_j|| over all K entries, at each position."""
        dtype = torch.promote_types(z.dtype, torch.float32)  # cdist has no half precision
        vectors = rearrange(z, "b c h w -> (b h w) c").to(dtype)
        # From differences: with the square expanded, rounding can make another entry nearer to e_k than e_k itself.
        distances = torch.cdist(vectors, self.embedding.weight.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")
        return distances.argmin(dim=1).reshape(z.shape[0], *z.shape[2:])

    def vectors(self, index: Int[Tensor, "b h w"]) -> Latent:
        """The entries at these indices."""
        return rearrange(self.embedding(index), "b h w c -> b c h w")

    def forward(self, z: Latent) -> Latent:
        """[B3] z_q, the nearest entry at each position, with the straight-through gradient to z."""
        return straight_through(z, self.vectors(self.indices(z)))


def straight_through(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """[B3] The value of z_q, bit for bit, with the gradient of z: the backward pass treats quantisation as identity."""
    check_alike(z=z, z_q=z_q)
    return z_q.detach() + (z - z.detach())


def codebook_loss(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """[B3] ||sg[z] - z_q||^2, which pulls the entries to the encoder's vectors; a mean over values, not a sum."""
    check_alike(z=z, z_q=z_q)
    return F.mse_loss(z_q, z.detach())


def commitment_loss(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """[B3] ||z - sg[z_q]||^2, which keeps the encoder near the chosen entries; a mean over values, not a sum."""
    check_alike(z=z, z_q=z_q)
    return F.mse_loss(z, z_q.detach())


class CodebookAverages(nn.Module):
    """[B3] Exponential moving averages that update the entries instead of the codebook loss (VQ-VAE, appendix).

    If n_k of a step's vectors are nearest to entry k,

        N_k <- gamma N_k + (1 - gamma) n_k
        m_k <- gamma m_k + (1 - gamma) (sum of these vectors)
        e_k <- m_k / N_k

    They are part of the training state, not of the model: weights files do not contain them.

    Args:
        codebook: the codebook to update; its entries should require no gradient.
        gamma: the decay per step.
    """

    def __init__(self, codebook: Codebook, gamma: float = 0.99):
        super().__init__()
        self.gamma = gamma
        entries = codebook.embedding.weight.detach()
        self.register_buffer("N", torch.zeros_like(entries[:, 0]))
        self.register_buffer("m", torch.zeros_like(entries))

    @torch.no_grad()
    def update(self, codebook: Codebook, z: Latent, index: Int[Tensor, "b h w"]) -> None:
        """Take one step of the recursion. Changes the codebook in place."""
        n = torch.bincount(index.flatten(), minlength=len(self.N))
        total = torch.zeros_like(self.m).index_add_(0, index.flatten(), rearrange(z, "b c h w -> (b h w) c"))
        self.N.lerp_(n.to(self.N.dtype), 1 - self.gamma)
        self.m.lerp_(total, 1 - self.gamma)
        chosen = n > 0  # m_k / N_k of the others does not change, until rounding makes it 0 / 0
        codebook.embedding.weight[chosen] = self.m[chosen] / self.N[chosen, None]

    @torch.no_grad()
    def restart(self, codebook: Codebook, z: Latent, generator: torch.Generator) -> None:
        """Move rarely chosen entries, which would otherwise stay where they are, to random vectors of z (Dhariwal et
        al. 2020). Changes the codebook in place."""
        mean = self.N.mean()
        idle = self.N / mean < IDLE
        vectors = rearrange(z, "b c h w -> (b h w) c")
        drawn = vectors[torch.randint(len(vectors), (int(idle.sum()),), generator=generator)]
        codebook.embedding.weight[idle] = drawn
        self.N[idle], self.m[idle] = mean, mean * drawn


def usage(index: Int[Tensor, "*shape"], size: int) -> float:
    """The fraction of a codebook's entries that occur among the indices."""
    return len(index.unique()) / size


def perplexity(index: Int[Tensor, "*shape"]) -> float:
    """exp(entropy) of the entries' frequencies: 1 if always the same, n if n entries occur equally often."""
    p = index.unique(return_counts=True)[1].cpu().double() / index.numel()
    return (-(p * p.log()).sum()).exp().item()
