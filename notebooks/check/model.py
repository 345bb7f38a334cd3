"""Exercises of lesson 6: the network's clock, its training, guidance, and restoration."""

import math

import torch

from notebooks.check.exercise import Exercise

_generator = torch.Generator().manual_seed(6)


def _draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator, dtype=torch.float64)


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _clock(angle, first=math.cos, second=math.sin):
    """An embedding whose angle number k of `half` is angle(t, k, half)."""

    def embedding(t, width):
        angles = [angle(t, k, width // 2) for k in range(width // 2)]
        return torch.tensor([f(a) for f in (first, second) for a in angles], dtype=torch.float64)

    return embedding


def _turning(t, k, half):
    return t * 10_000 ** (-k / half)


timestep_embedding = Exercise(
    "timestep_embedding",
    _clock(_turning),
    [(0, 4), (3, 4), (250, 6), (999, 2)],
    [
        (
            _clock(_turning, math.sin, math.cos),
            "the sines come first in yours; the cosines do.",
        ),
        (
            _clock(lambda t, k, half: t * 10_000 ** (-k / (2 * half))),
            "the exponent is -k / half, with half = width / 2; you divided by the whole width.",
        ),
        (
            _clock(lambda t, k, half: t * 10_000 ** (k / half)),
            "the sign of the exponent is wrong: later entries turn slower, not faster.",
        ),
        (
            lambda t, width: _clock(_turning)(t, width).reshape(2, -1).T.flatten(),
            "you alternate cosines and sines; first come all the cosines, then all the sines.",
        ),
    ],
    tolerance=1e-4,  # float32 angles of up to 1000 are off by 1e-4
)


class _Guess:
    """A stand-in for the network: z_t -> a guess of the noise."""

    def __init__(self, slope: float):
        self.slope = slope

    def __call__(self, z_t):
        return self.slope * z_t + 0.1 * z_t**2

    def __repr__(self) -> str:
        return "network"


_batches = [(_Guess(slope), _draw(3), _draw(3), _number(abar)) for slope, abar in ((0.5, 0.9), (1.0, 0.3), (-0.2, 0.6))]


def _loss(noisy, target=lambda z_0, eps, z_t: eps, reduce=torch.mean):
    def loss(network, z_0, eps, abar):
        z_t = noisy(z_0, eps, abar)
        return reduce((network(z_t) - target(z_0, eps, z_t)) ** 2)

    return loss


def _noisy(z_0, eps, abar):
    return abar.sqrt() * z_0 + (1 - abar).sqrt() * eps


loss = Exercise(
    "loss",
    lambda network, z_0, eps, abar: sum((e - g) ** 2 for e, g in zip(eps, network(_noisy(z_0, eps, abar)))) / len(eps),
    _batches,
    [
        (
            _loss(lambda z_0, eps, abar: abar.sqrt() * z_0 + (1 - abar) * eps),
            "this is D6 as its slide prints it: the noise has a factor of sqrt(1 - alpha_bar_t).",
        ),
        (
            _loss(lambda z_0, eps, abar: z_0),
            "the network was shown the clean latent; it has to find the noise in z_t.",
        ),
        (
            _loss(_noisy, target=lambda z_0, eps, z_t: z_0),
            "you compared with z_0; eps_theta is a guess of the noise.",
        ),
        (
            _loss(_noisy, target=lambda z_0, eps, z_t: z_t - z_0),
            "you compared with z_t - z_0, which is noise at another scale; D14 has eps itself.",
        ),
        (
            _loss(_noisy, reduce=torch.sum),
            "take the mean over the values of a latent, as the package does; a sum grows with its size.",
        ),
    ],
)

update = Exercise(
    "update",
    lambda theta, gradient, eta: torch.sub(theta, gradient, alpha=eta),
    [(_draw(2), _draw(2), 0.25), (torch.tensor([1.0, -2.0]), torch.tensor([4.0, 0.0]), 0.5)],
    [
        (
            lambda theta, gradient, eta: theta - gradient,
            "this is the slide's line, without a step size: the gradient has a factor of eta.",
        ),
        (
            lambda theta, gradient, eta: theta + eta * gradient,
            "this climbs: the gradient points to where the loss grows.",
        ),
        (
            lambda theta, gradient, eta: -eta * gradient,
            "this is the step alone; add it to theta.",
        ),
    ],
)

guided = Exercise(
    "guided",
    lambda eps_u, eps_c, w: (1 - w) * eps_u + w * eps_c,
    [(torch.tensor([1.0]), torch.tensor([2.0]), 4.0), (_draw(2), _draw(2), 1.0), (_draw(2), _draw(2), 0.0)],
    [
        (
            lambda eps_u, eps_c, w: eps_c + w * (eps_c - eps_u),
            "here w = 1 is no guidance: start from eps_u. (Some papers start from eps_c; their w is ours less 1.)",
        ),
        (
            lambda eps_u, eps_c, w: eps_u + w * (eps_u - eps_c),
            "the direction is wrong: go from eps_u towards eps_c.",
        ),
        (
            lambda eps_u, eps_c, w: eps_c + w * (eps_u - eps_c),
            "the two are exchanged: w = 0 ignores the prompt, w = 1 is the prompt's own prediction.",
        ),
        (
            lambda eps_u, eps_c, w: w * eps_c,
            "eps_u plays no part; guidance goes on in the direction from eps_u to eps_c.",
        ),
    ],
)

_coarse = [(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 2), (_draw(2, 3), 3), (_draw(1, 2), 1)]


def _corners(y, factor):
    x = torch.zeros(y.shape[0] * factor, y.shape[1] * factor, dtype=y.dtype)
    x[::factor, ::factor] = y
    return x


enlarge = Exercise(
    "enlarge",
    lambda y, factor: torch.tensor(
        [[row[j // factor] for j in range(len(row) * factor)] for row in y.tolist() for _ in range(factor)]
    ),
    _coarse,
    [
        (
            lambda y, factor: y.repeat(factor, factor),
            "this puts copies of the image side by side; each pixel has to become a block of factor x factor.",
        ),
        (
            lambda y, factor: y.repeat_interleave(factor, 0).repeat_interleave(factor, 1) / factor**2,
            "averaging this gives y / factor^2, and not y: A A^+ y should be y.",
        ),
        (
            _corners,
            "one pixel of each block has the value and the others are 0: their average is y / factor^2, and not y.",
        ),
        (
            lambda y, factor: y.repeat_interleave(factor, 0),
            "the rows are repeated, and the columns are not.",
        ),
    ],
)


class _Mean:
    """A: the mean of neighbours."""

    def __call__(self, x):
        return x.reshape(-1, 2).mean(dim=1)

    def __repr__(self) -> str:
        return "A"


class _Twice:
    """A^+: every value twice."""

    def __call__(self, y):
        return y.repeat_interleave(2)

    def __repr__(self) -> str:
        return "A_plus"


project = Exercise(
    "project",
    lambda x_0, y, A, A_plus: x_0 + A_plus(y - A(x_0)),
    [(torch.tensor([1.0, 3.0]), torch.tensor([5.0]), _Mean(), _Twice()), (_draw(4), _draw(2), _Mean(), _Twice())],
    [
        (
            lambda x_0, y, A, A_plus: A_plus(y),
            "this is what is given, alone: the part of x_0 that y leaves open, x_0 - A^+ A x_0, is missing.",
        ),
        (
            lambda x_0, y, A, A_plus: x_0 + A_plus(y),
            "what x_0 already says about y is counted twice: take A^+ A x_0 away.",
        ),
        (
            lambda x_0, y, A, A_plus: A_plus(y) + A_plus(A(x_0)),
            "you kept the part of x_0 that y determines; keep the other, x_0 - A^+ A x_0.",
        ),
        (
            lambda x_0, y, A, A_plus: x_0 - A_plus(y - A(x_0)),
            "the sign of the correction is wrong: y - A x_0 is what is missing, so add it.",
        ),
    ],
)
