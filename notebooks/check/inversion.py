"""Exercises of lesson 9: inversion, and how an edit is measured."""

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(9)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


def _number(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def _clean(z, eps, abar):
    return (z - (1 - abar).sqrt() * eps) / abar.sqrt()


def _noised(z_0, eps, abar):
    return abar.sqrt() * z_0 + (1 - abar).sqrt() * eps


step_back = Exercise(
    "step_back",
    lambda z_prev, eps, abar, abar_prev: (
        (abar / abar_prev).sqrt() * z_prev + ((1 - abar).sqrt() - (abar * (1 - abar_prev) / abar_prev).sqrt()) * eps
    ),
    [(_draw(2), _draw(2), _number(0.5), _number(0.9)), (_draw(3), _draw(3), _number(0.1), _number(0.2))],
    [
        (
            lambda z_prev, eps, abar, abar_prev: _noised(_clean(z_prev, eps, abar), eps, abar_prev),
            "the two times are swapped: z_prev has abar_prev, and z_t is to have abar.",
        ),
        (
            lambda z_prev, eps, abar, abar_prev: _noised(z_prev, eps, abar),
            "z_prev has noise already: take it away first, by D9, and then add that of t.",
        ),
        (
            lambda z_prev, eps, abar, abar_prev: _noised(_clean(z_prev, eps, abar_prev), eps, abar_prev),
            "this leads to z_prev again: the second step takes abar, of t.",
        ),
        (
            lambda z_prev, eps, abar, abar_prev: _clean(z_prev, eps, abar_prev),
            "this is the clean latent; add the noise of t to it.",
        ),
    ],
)


def _iterated(f, z, times):
    for _ in range(times):
        z = f(z)
    return z


def _wave(z):
    return 0.5 * z.cos() + 0.2


def _line(z):
    return 1 - z / 2


fixed_point = Exercise(
    "fixed_point",
    lambda step, z_prev, iterations: _iterated(step, step(z_prev), iterations),
    [(_line, _draw(2), 0), (_line, _draw(2), 3), (_wave, _draw(3), 2)],
    [
        (
            lambda step, z_prev, iterations: _iterated(step, z_prev, iterations),
            "one too few: the naive step is the first, and the iterations come after it.",
        ),
        (
            lambda step, z_prev, iterations: step(z_prev),
            "every iteration gave the same: pass on the z_t found last, not z_prev.",
        ),
        (
            lambda step, z_prev, iterations: _iterated(step, step(z_prev), max(iterations - 1, 0)),
            "the naive step does not count as an iteration: there are 1 + iterations calls.",
        ),
        (
            lambda step, z_prev, iterations: _iterated(step, step(z_prev), iterations + 1),
            "one too many: there are 1 + iterations calls.",
        ),
    ],
)

pull = Exercise(
    "pull",
    lambda eps_u, eps_c, w: eps_u + w * (eps_c - eps_u) - eps_c,
    [(_draw(2), _draw(2), 4.0), (_draw(2), _draw(2), 1.0), (_draw(3), _draw(3), 0.0)],
    [
        (
            lambda eps_u, eps_c, w: w * (eps_c - eps_u),
            "this is the distance from the empty prompt's prediction: inversion used eps_c, from which it is w - 1.",
        ),
        (
            lambda eps_u, eps_c, w: (1 - w) * (eps_c - eps_u),
            "the sign: subtract eps_c from the guided prediction, not the other way round.",
        ),
        (
            lambda eps_u, eps_c, w: eps_u + w * (eps_c - eps_u),
            "this is the guided prediction; subtract the one that inversion used.",
        ),
    ],
)


def _with_first(z, row):
    return torch.cat([row, z[1:]])


pin = Exercise(
    "pin",
    lambda z, z_source: _with_first(z, z_source),
    [(_draw(2, 3), _draw(1, 3)), (_draw(3, 2), _draw(1, 2))],
    [
        (
            lambda z, z_source: z_source.expand_as(z),
            "the targets would be the image too: replace the first row alone.",
        ),
        (
            lambda z, z_source: z + z_source - z[:1],
            "the source's correction was added to the targets too; direct inversion leaves them alone.",
        ),
        (
            lambda z, z_source: torch.cat([z_source, z]),
            "one row too many: the image's latents take the place of the first row.",
        ),
        (lambda z, z_source: z_source, "the targets are missing: return all rows."),
    ],
)


def _decibels(square):
    return 10 * torch.log10(255**2 / square)


def _images(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    image, answer = torch.randint(256, (2, *shape), generator=_generator).double()
    where = torch.zeros(shape, dtype=torch.bool)
    where[:1] = True
    return image, answer, where


part_psnr = Exercise(
    "part_psnr",
    lambda image, answer, where: _decibels(((image - answer).square() * where).sum() / where.sum()),
    [_images(3, 2), _images(4, 3)],
    [
        (
            lambda image, answer, where: _decibels((image - answer).square().mean()),
            "this is of the whole image; only the pixels in `where` count.",
        ),
        (
            lambda image, answer, where: _decibels(((image - answer).square() * where).mean()),
            "you divided by the number of all pixels; divide by that of the pixels in `where`.",
        ),
        (
            lambda image, answer, where: _decibels((image - answer)[~where].square().mean()),
            "these are the other pixels: `where` says which count.",
        ),
        (
            lambda image, answer, where: 10 * torch.log10(255 / (image - answer)[where].square().mean()),
            "the largest value is squared too: 255^2.",
        ),
    ],
)
