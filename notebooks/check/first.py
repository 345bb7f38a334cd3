"""Exercises of lesson 1: noise from seeds, what an edit changed, and masks."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(1)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


def _normal(seed: int, shape: tuple) -> torch.Tensor:
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed))


def _in_one_stream(seeds, shape):
    generator = torch.Generator().manual_seed(seeds[0])
    return torch.stack([torch.randn(shape, generator=generator) for _ in seeds])


seeded_noise = Exercise(
    "seeded_noise",
    lambda seeds, shape: torch.stack([_normal(seed, shape) for seed in seeds]),
    [([3, 5], (1, 2, 2)), ([5, 3, 3], (1, 1, 2)), ([0], (2, 1, 2))],
    [
        (
            _in_one_stream,
            "only the first seed was used, so an image depends on what else is in its batch: each seed needs a "
            "generator of its own.",
        ),
        (
            lambda seeds, shape: torch.stack(
                [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            ),
            "torch.rand is uniform between 0 and 1; the noise is normal, with mean 0 and variance 1: torch.randn.",
        ),
        (
            lambda seeds, shape: torch.stack([_normal(seeds[0], shape) for _ in seeds]),
            "all rows have the noise of the first seed; row i has that of seeds[i].",
        ),
        (
            lambda seeds, shape: torch.stack([_normal(0, shape) for _ in seeds]),
            "the seeds were not used: every row is the noise of seed 0.",
        ),
    ],
)


def _bytes(*rows: list[int]) -> torch.Tensor:
    """An image of a single channel, (H, W, 1)."""
    return torch.tensor(rows, dtype=torch.uint8)[..., None]


def _bools(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)


def _squares(x, y, where):
    return (x.double() - y.double())[where].square()


change = Exercise(
    "change",
    lambda x, y, where: torch.linalg.vector_norm((x.double() - y.double())[where]) / (where.sum() * x.shape[2]) ** 0.5,
    [
        (_bytes([10, 20], [90, 7]), _bytes([13, 24], [30, 9]), _bools([1, 1], [0, 0])),
        (_bytes([10, 20], [90, 7]), _bytes([14, 16], [93, 1]), _bools([1, 1], [0, 1])),
        (
            *torch.randint(256, (2, 2, 3, 3), generator=_generator, dtype=torch.uint8),
            _bools([0, 1, 1], [1, 0, 1]),
        ),
    ],
    [
        (
            lambda x, y, where: (x - y)[where].double().square().mean().sqrt(),
            "bytes wrap around, 10 - 13 is 253: convert to float before you subtract.",
        ),
        (
            lambda x, y, where: _squares(x, y, where).mean(),
            "this is the mean square; its root is in grey levels again.",
        ),
        (
            lambda x, y, where: (x.double() - y.double()).square().mean().sqrt(),
            "you averaged over the whole image; only the pixels in `where` count.",
        ),
        (
            lambda x, y, where: ((x.double() - y.double()) * where[..., None]).square().mean().sqrt(),
            "the pixels outside `where` went into your mean, as zeros: divide by the number of those inside.",
        ),
        (
            lambda x, y, where: (x.double() - y.double())[where].mean().abs(),
            "lighter and darker cancel in a mean of differences: square them first.",
        ),
        (
            lambda x, y, where: _squares(x, y, where).sqrt().mean(),
            "you averaged absolute differences; square, average, then take the root.",
        ),
    ],
)

_mask = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)

paste = Exercise(
    "paste",
    lambda z, z_star, mask: torch.where(mask > 0, z_star, z),
    [
        (torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[7.0, 8.0, 9.0]]]), torch.tensor([[0.0, 1.0, 0.0]])),
        (_draw(2, 2, 3), _draw(2, 2, 3), _mask),
    ],
    [
        (
            lambda z, z_star, mask: mask * z + (1 - mask) * z_star,
            "the other way round: this is the slide's mask, which is 1 where the source stays; here it is 1 where the "
            "target goes.",
        ),
        (
            lambda z, z_star, mask: z + mask * z_star,
            "inside the mask both are added up: z needs a factor of 1 - mask.",
        ),
        (
            lambda z, z_star, mask: mask * z_star,
            "outside the mask nothing is left: z belongs there.",
        ),
        (
            lambda z, z_star, mask: mask * (z + z_star) / 2 + (1 - mask) * z,
            "inside the mask it is z* alone, not the mean of both.",
        ),
    ],
)
