"""The exercises' checks: they accept the package's own functions and name what is wrong with others."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import ldm
from notebooks import check

EXERCISES = [getattr(check, name) for name in check.__all__]


def latents(f: Callable) -> Callable:
    """A function of latents (b, c, h, w), for tensors of any shape and a schedule whose alpha_bar is given."""
    return lambda *tensors: f(*(x.reshape(1, 1, 1, -1) for x in tensors)).reshape(tensors[0].shape)


class Times(ldm.Schedule):
    """A schedule with given alphas: its t are 1, 2, and so on."""

    def __init__(self, *alpha: torch.Tensor, parameterisation: str = "eps"):
        super().__init__(ldm.ScheduleConfig(T=len(alpha), parameterisation=parameterisation))
        self.alpha = torch.stack([torch.ones_like(alpha[0]), *alpha])


def ddim_step(z_t, eps, abar, abar_prev):
    schedule = Times(abar_prev, abar / abar_prev)
    prediction = latents(lambda z, e: schedule.z_0_from_eps(z, e, 2))(z_t, eps)
    step = ldm.ddim_step(eta=0.0)
    take = lambda z, e, z_0: step(schedule, z, ldm.Prediction(e, z_0), 2, 1, torch.zeros_like(z))
    return latents(take)(z_t, eps, prediction)


def nearest(z, codebook):
    entries = ldm.Codebook(*codebook.shape).double()
    entries.embedding.weight.data = codebook
    return entries.indices(z.T[None, :, :, None]).flatten()


# the package's function for each exercise, with the exercise's arguments
OURS = {
    "forward_step": lambda z, eps, alpha: latents(lambda a, b: Times(alpha).forward_step(a, b, 1))(z, eps),
    "alpha_bar": lambda alpha: Times(*alpha).alpha_bar[1:],
    "add_noise": lambda z, eps, abar: latents(lambda a, b: Times(abar).add_noise(a, b, 1))(z, eps),
    "posterior_mean": lambda z_t, z_0, alpha, abar, abar_prev: latents(
        lambda a, b: Times(abar_prev, alpha).posterior(a, b, 2, 1)[0]
    )(z_t, z_0),
    "clean_latent": lambda z, eps, abar: latents(lambda a, b: Times(abar).z_0_from_eps(a, b, 1))(z, eps),
    "eps_from_v": lambda z, v, abar: latents(lambda a, b: Times(abar, parameterisation="v").predict(a, b, 1).eps)(z, v),
    "ddim_step": ddim_step,
    "kl": lambda mean, log_var: latents(lambda a, b: ldm.Gaussian(a, b).kl())(mean, log_var),
    "sample": lambda mean, log_var, eps: latents(lambda a, b, c: ldm.Gaussian(a, b).sample(c))(mean, log_var, eps),
    "nearest": nearest,
    "psnr": lambda x, y: ldm.psnr(*(np.repeat(a.numpy().round().astype(np.uint8)[..., None], 3, -1) for a in (x, y))),
    "compression": lambda factor, channels: (
        ldm.AutoencoderConfig(widths=(32,) * int(math.log2(factor) + 1), latent_channels=channels).compression
    ),
}


def said(exercise, answer, capsys) -> str:
    """The sentence with which an answer is met."""
    capsys.readouterr()
    exercise(answer)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("exercise", EXERCISES, ids=check.__all__)
def test_the_packages_own_function_is_right(exercise, capsys):
    assert said(exercise, OURS[exercise.name], capsys) == (
        f"Right: {exercise.name} passes all {len(exercise.cases)} cases."
    )


@pytest.mark.parametrize("exercise", EXERCISES, ids=check.__all__)
def test_three_typical_mistakes_get_sentences_of_their_own(exercise, capsys):
    sentences = [said(exercise, mistaken, capsys) for mistaken, _ in exercise.mistakes]
    assert sentences == [f"Not yet: {sentence}" for _, sentence in exercise.mistakes]
    assert len(set(sentences)) == len(sentences) >= 3


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (3, "give the function itself, check.add_noise(my_add_noise), not int."),
        (lambda z_0, eps, abar: None, "returns nothing: does it end with `return`?"),
        (lambda z_0, eps, abar: ..., "returns nothing: does it end with `return`?"),
        (lambda z_0, eps: z_0, "raises TypeError: "),
        (lambda z_0, eps, abar: z_0[:1], "has shape (1,), and should have (2,)."),
        (lambda z_0, eps, abar: z_0 / 0, "is not finite: is something divided by zero"),
        (lambda z_0, eps, abar: z_0, "0.99) should be ["),
        (lambda z_0, eps, abar: "noise", "and is 'noise'."),
    ],
)
def test_any_other_answer_gets_a_sentence_too(answer, sentence, capsys):
    assert sentence in said(check.add_noise, answer, capsys)


def test_an_answer_that_writes_into_its_arguments_harms_no_later_case(capsys):
    first = said(check.add_noise, lambda z_0, eps, abar: z_0.zero_(), capsys)
    assert first == said(check.add_noise, lambda z_0, eps, abar: torch.zeros_like(z_0), capsys)
    assert said(check.add_noise, OURS["add_noise"], capsys).startswith("Right: ")
