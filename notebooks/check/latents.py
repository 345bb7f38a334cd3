"""Exercises of lesson 3: the autoencoders and what they cost."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(3)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


_gaussians = [(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.0])), (_draw(3), _draw(3)), (_draw(3), _draw(3) - 2)]

kl = Exercise(
    "kl",
    lambda mean, log_var: torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_var.exp().sqrt()), torch.distributions.Normal(0.0, 1.0)
    ),
    _gaussians,
    [
        (
            lambda mean, log_var: mean**2 + log_var.exp() - 1 - log_var,
            "twice too much: the exponent of a Gaussian has a factor of 1/2.",
        ),
        (
            lambda mean, log_var: (mean**2 + log_var.exp() - 1 + log_var) / 2,
            "the sign of log sigma^2 is wrong: a narrow q should be far from N(0, 1), not near.",
        ),
        (
            lambda mean, log_var: (mean**2 + (log_var / 2).exp() - 1 - log_var) / 2,
            "you used sigma where sigma^2 belongs: exp(log_var) is the variance.",
        ),
        (
            lambda mean, log_var: ((1 + mean**2) / log_var.exp() - 1 + log_var) / 2,
            "this is KL(N(0, 1) || q), the other way round.",
        ),
    ],
)

sample = Exercise(
    "sample",
    lambda mean, log_var, eps: mean + log_var.exp().sqrt() * eps,
    [(*case, _draw(*case[0].shape)) for case in _gaussians[1:]],
    [
        (
            lambda mean, log_var, eps: mean + log_var.exp() * eps,
            "exp(log_var) is the variance; eps is multiplied by the standard deviation.",
        ),
        (
            lambda mean, log_var, eps: mean + log_var * eps,
            "log_var is a logarithm: take exp of half of it to get the standard deviation.",
        ),
        (
            lambda mean, log_var, eps: mean + 0 * eps,
            "this is the mean: without noise it is no sample.",
        ),
    ],
)

_codebook = torch.tensor([[3.0, 3.0], [1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)

nearest = Exercise(
    "nearest",
    lambda z, codebook: torch.tensor([min(range(len(codebook)), key=lambda j: (v - codebook[j]).norm()) for v in z]),
    [(torch.tensor([[0.9, 0.4], [0.2, 2.0], [-3.0, 0.5]], dtype=torch.float64), _codebook), (_draw(6, 2), _codebook)],
    [
        (
            lambda z, codebook: torch.cdist(z, codebook).argmax(dim=1),
            "these are the farthest entries: take the arg-min of the distance.",
        ),
        (
            lambda z, codebook: (z @ codebook.T).argmax(dim=1),
            "you took the largest product, which favours long entries such as (3, 3); B3 takes the least distance.",
        ),
        (
            lambda z, codebook: codebook[torch.cdist(z, codebook).argmin(dim=1)],
            "these are the entries themselves; return their numbers, one for each row of z.",
        ),
        (
            lambda z, codebook: torch.cdist(z, codebook).argmin(dim=0),
            "for each entry you found the nearest row of z; it is asked the other way round.",
        ),
    ],
)

_images = [(torch.tensor([[10.0, 20.0], [30.0, 40.0]]), torch.tensor([[13.0, 24.0], [30.0, 40.0]]))]
_images += [tuple((_draw(4, 4) * 50 + 128).clamp(0, 255).round() for _ in range(2))]

psnr = Exercise(
    "psnr",
    lambda x, y: 20 * torch.log10(255 / torch.linalg.vector_norm(x - y) * x.numel() ** 0.5),
    _images,
    [
        (
            lambda x, y: 10 * torch.log10(1 / (x - y).square().mean()),
            "the peak of these images is 255, not 1.",
        ),
        (
            lambda x, y: 20 * torch.log10(255**2 / (x - y).square().mean()),
            "twice too much: a ratio of squares is 10 log10; 20 log10 is for the ratio of their roots.",
        ),
        (
            lambda x, y: 10 * torch.log10(255**2 / (x - y).square().sum()),
            "take the mean of the squared differences, not their sum: a larger image is not a worse one.",
        ),
        (
            lambda x, y: 20 * torch.log10(255 / (x - y).abs().mean()),
            "you averaged absolute differences; PSNR averages their squares.",
        ),
    ],
)

compression = Exercise(
    "compression",
    lambda factor, channels: 3 * factor**2 / channels,
    [(8, 4), (8, 8), (4, 3), (16, 16)],
    [
        (
            lambda factor, channels: factor**2 / channels,
            "an image has three values a pixel: red, green, blue.",
        ),
        (
            lambda factor, channels: 3 * factor / channels,
            "the factor holds along both axes: a latent has factor^2 times fewer positions.",
        ),
        (
            lambda factor, channels: channels / (3 * factor**2),
            "upside down: how many values of the image fall to one of the latent? More than 1.",
        ),
    ],
)
