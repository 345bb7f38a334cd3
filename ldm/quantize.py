"""Vector quantisation [B3]: each latent vector becomes the nearest entry of a codebook.

After VQ-VAE (van den Oord, Vinyals and Kavukcuoglu 2017). A picture's latent is then a whole number per position. The
encoder and the decoder train on

    loss of pixels + codebook_loss + beta commitment_loss

or, where `CodebookAverages` moves the entries, on the same without the codebook loss.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ldm.checks import check_alike

IDLE = 0.02  # chosen less often than this share of the mean, an entry begins again


class Codebook(nn.Module):
    """[B3] K entries e_k, each with as many numbers as a latent has channels. Named as in the public files."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(size, width)

    @torch.no_grad()
    def indices(self, z: Float[Tensor, "b c h w"]) -> Int[Tensor, "b h w"]:
        """[B3] k = arg-min_j ||z - e_j|| over all K entries, at each position."""
        dtype = torch.promote_types(z.dtype, torch.float32)  # cdist knows no shorter numbers
        vectors = rearrange(z, "b c h w -> (b h w) c").to(dtype)
        # By differences: with the square expanded, rounding can find another entry nearer to e_k than e_k itself.
        distances = torch.cdist(vectors, self.embedding.weight.to(dtype), compute_mode="donot_use_mm_for_euclid_dist")
        return distances.argmin(dim=1).reshape(z.shape[0], *z.shape[2:])

    def vectors(self, index: Int[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
        """The entries at these indices."""
        return rearrange(self.embedding(index), "b h w c -> b c h w")

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """[B3] z_q, the nearest entry at each position; its gradient goes straight through to z."""
        return straight_through(z, self.vectors(self.indices(z)))


def straight_through(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """[B3] The value of z_q, to the bit, with the gradient of z: backwards, quantisation is the identity."""
    check_alike(z=z, z_q=z_q)
    return z_q.detach() + (z - z.detach())


def codebook_loss(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """[B3] ||sg[z] - z_q||^2, which moves the entries to the encoder's vectors; a mean over numbers, not a sum."""
    check_alike(z=z, z_q=z_q)
    return F.mse_loss(z_q, z.detach())


def commitment_loss(z: Float[Tensor, "*shape"], z_q: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """[B3] ||z - sg[z_q]||^2, which keeps the encoder near the entries it chose; a mean over numbers, not a sum."""
    check_alike(z=z, z_q=z_q)
    return F.mse_loss(z, z_q.detach())


class CodebookAverages(nn.Module):
    """[B3] Moving averages that the entries follow, in place of the codebook loss (the VQ-VAE paper's appendix).

    Where n_k of a step's vectors chose entry k,

        N_k <- gamma N_k + (1 - gamma) n_k
        m_k <- gamma m_k + (1 - gamma) (sum of these vectors)
        e_k <- m_k / N_k

    They belong to the training and not to the model: a file of weights has none.

    Args:
        codebook: what will follow; its entries should require no gradient.
        gamma: how much of the average a step keeps.
    """

    def __init__(self, codebook: Codebook, gamma: float = 0.99):
        super().__init__()
        self.gamma = gamma
        entries = codebook.embedding.weight.detach()
        self.register_buffer("N", torch.zeros_like(entries[:, 0]))
        self.register_buffer("m", torch.zeros_like(entries))

    @torch.no_grad()
    def update(self, codebook: Codebook, z: Float[Tensor, "b c h w"], index: Int[Tensor, "b h w"]) -> None:
        """One step of the recursion. Changes the codebook in place."""
        n = torch.bincount(index.flatten(), minlength=len(self.N))
        total = torch.zeros_like(self.m).index_add_(0, index.flatten(), rearrange(z, "b c h w -> (b h w) c"))
        self.N.lerp_(n.to(self.N.dtype), 1 - self.gamma)
        self.m.lerp_(total, 1 - self.gamma)
        chosen = n > 0  # m_k / N_k of the others stays, until rounding makes it 0 / 0
        codebook.embedding.weight[chosen] = self.m[chosen] / self.N[chosen, None]

    @torch.no_grad()
    def restart(self, codebook: Codebook, z: Float[Tensor, "b c h w"], generator: torch.Generator) -> None:
        """Move the entries that are hardly chosen to random vectors of z, or nothing would ever move them (Dhariwal et
        al. 2020). Changes the codebook in place."""
        mean = self.N.mean()
        idle = self.N / mean < IDLE
        vectors = rearrange(z, "b c h w -> (b h w) c")
        drawn = vectors[torch.randint(len(vectors), (int(idle.sum()),), generator=generator)]
        codebook.embedding.weight[idle] = drawn
        self.N[idle], self.m[idle] = mean, mean * drawn


def usage(index: Int[Tensor, "*shape"], size: int) -> float:
    """Share of a codebook's entries that occur among the indices."""
    return len(index.unique()) / size


def perplexity(index: Int[Tensor, "*shape"]) -> float:
    """exp(entropy) of how often each entry occurs: 1 if always the same, n if n entries occur equally often."""
    p = index.unique(return_counts=True)[1].cpu().double() / index.numel()
    return (-(p * p.log()).sum()).exp().item()
