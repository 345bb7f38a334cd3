"""The exercises' checks: they accept the package's own functions and name what is wrong with others."""

import json
import math
from collections.abc import Callable
from itertools import chain
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

import ldm
import p2p
from ldm.blocks import Downsample
from ldm.restoration import pooled
from notebooks import check
from p2p.inversion.ddim import ddim, step_back
from p2p.inversion.direct import direct
from p2p.inversion.inverted import Inverted
from p2p.local_blend import Mention, looked
from p2p.mappers import Run
from p2p.masks import composite
from weights.key_names import compvis_sources
from weights.training.train_autoencoder import latent_scale

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


def change(x, y, where):
    """From the PSNR of the pixels that count."""
    images = (np.repeat(image[where].numpy().reshape(1, -1, 1), 3, axis=-1) for image in (x, y))
    return 255 / 10 ** (ldm.psnr(*images) / 20)


def nearest(z, codebook):
    entries = ldm.Codebook(*codebook.shape).double()
    entries.embedding.weight.data = codebook
    return entries.indices(z.T[None, :, :, None]).flatten()


def head(f: Callable) -> Callable:
    """A function of one head's matrices, of one that takes batches of heads."""
    return lambda *matrices: f(*(x[None, None].double() for x in matrices))[0, 0]


def multi_head(q, k, v, heads):
    return ldm.multi_head(ldm.attend, heads, *(x[None] for x in (q, k, v)))[0]


def mapper(runs, m, m_star):
    """The package's mapper is square, of all tokens with padding."""
    length = max(m, m_star)
    return p2p.mapper(tuple(Run(*run) for run in runs), length)[:m, :m_star]


def scores(Q, K):
    """From the map, with a key of zeros, whose scores are 0, to tell the scores apart from their softmax."""
    A = head(ldm.attention_map)(Q, torch.cat([K, torch.zeros_like(K[:1])]))
    return A[:, :-1].log() - A[:, -1:].log()


def edited_values(A_hat, V, V_star):
    """With queries and keys whose map is the given one."""
    n = len(A_hat)
    return head(ldm.attend)(torch.eye(n), n**0.5 * A_hat.log().T, V_star)


def refine(A, A_star, a):
    P = torch.tensor([[float(i == j) for j in a] for i in range(A.shape[1])], dtype=torch.float64)
    return p2p.used(A, A_star, P, torch.tensor([float(i is None) for i in a], dtype=torch.float64))


def reweight(A, j, c):
    factors = torch.ones(A.shape[1], dtype=A.dtype)
    factors[j] = c
    return p2p.used(A, A, torch.zeros(2 * A.shape[1:], dtype=A.dtype), factors)


def positions(height, width, level):
    z = torch.zeros(1, 1, height, width)
    for _ in range(level):
        z = Downsample(1, all_sides=True)(z)
    return z.numel()


def word_map(A, j, height, width):
    maps = p2p.WordMaps(min(height, width))
    maps(ldm.Site("cross", "mid", 0, height, width), A[None])
    return maps.mean()[0, j]


def region(word_map, threshold):
    size = tuple(word_map.shape)
    return looked(word_map[None, None], [Mention(0, (0,), "cat")], threshold, 0, size).double()


class Letters:
    """A character for each piece: the tokenizers library merges characters."""

    def __init__(self, pieces):
        self.of = {piece: chr(0xE000 + i) for i, piece in enumerate(sorted(set(pieces)))}
        self.back = {letter: piece for piece, letter in self.of.items()}

    def spell(self, pieces) -> str:
        return "".join(map(self.of.get, pieces))

    def read(self, merged: str) -> str:
        return "".join(map(self.back.get, merged))


def best_pair(words):
    """The first merge that the tokenizers library learns."""
    letters = Letters(chain(*words))
    trainer = BpeTrainer(vocab_size=len(letters.of) + 1, show_progress=False)
    tokenizer = Tokenizer(BPE())
    tokenizer.train_from_iterator([letters.spell(word) for word, times in words.items() for _ in range(times)], trainer)
    (pair,) = json.loads(tokenizer.to_str())["model"]["merges"]
    return tuple(map(letters.read, pair))


def merge(pieces, pair):
    letters = Letters((*pieces, *pair))
    entries = [*letters.back, letters.spell(pair)]
    model = BPE({entry: i for i, entry in enumerate(entries)}, [tuple(map(letters.of.get, pair))])
    return tuple(letters.read(token.value) for token in model.tokenize(letters.spell(pieces)))


def columns(spans, start, end):
    prompt = "a butterfly, cat"
    pieces = tuple(prompt[a:b] for a, b in spans)
    tokens = ldm.Tokens(prompt, tuple(range(len(spans))), pieces, spans, len(spans) - 1)
    return [*p2p.columns(tokens, prompt[start:end])]


def visible(m):
    Q = K = torch.zeros(1, 1, m, 1)
    return (ldm.attend(Q, K, torch.eye(m)[None, None], causal=True)[0, 0] > 0).float()


def contrastive_loss(S):
    """Of features with these similarities: the texts are axes, and one more axis makes the images unit vectors."""
    S = S.double()
    scale, axes = 100.0, torch.eye(len(S) + 1).double()
    images = torch.cat([S / scale, (1 - (S / scale).square().sum(1, keepdim=True)).sqrt()], dim=1)
    return ldm.contrastive_loss(images, axes[:-1], scale)


def attention_parameters(channels, context):
    with torch.device("meta"):
        return sum(p.numel() for p in ldm.Attention(channels, context, heads=1).parameters())


def map_bytes(height, width, tokens, heads, rows):
    Q, K = (
        torch.empty(rows, heads, height * width, 4, device="meta"),
        torch.empty(rows, heads, tokens, 4, device="meta"),
    )
    return ldm.attention_map(Q, K).nbytes


def leading(T, steps, offset):
    config = ldm.ScheduleConfig(T=T, spacing="leading", offset=offset)
    return ldm.times(ldm.Schedule(config), steps)[:-1]


def scale(z):
    """Of an autoencoder with these latents, whatever the image."""

    class Fixed(ldm.Autoencoder):
        def latent(self, x, eps=None):
            return z

    config = ldm.AutoencoderConfig(channels=(2,), groups=1, latent_channels=z.shape[1])
    return latent_scale(Fixed(config), np.zeros((1, 8, 8, 3), np.uint8))


def diffusers_name(N, k):
    """From the names in Stable Diffusion's file: of our parameters of this block, the first three parts."""
    sources = compvis_sources(ldm.PRESETS["sd15"].unet)
    (name,) = {
        ".".join(ours.split(".")[:4])
        for ours, source in sources.items()
        if source.name.startswith(f"input_blocks.{N}.{k}.")
    }
    return name


def share(t, tau):
    """alpha_t of one word."""
    return p2p.Window(end=p2p.Step(int(tau))).compile(1000)(t)


def switch(A, A_star, t, tau):
    own = torch.full((A.shape[1],), share(t, tau), dtype=A.dtype)
    return p2p.used(A, A_star, own.diag(), 1 - own)


def loss(network, z_0, eps, abar):
    unet = lambda z_t, timestep, context: network(z_t.flatten()).reshape(z_t.shape)
    wide = (x.reshape(1, 1, 1, -1) for x in (z_0, eps))
    return ldm.ldm_loss(unet, Times(abar), next(wide), torch.zeros(1, 1, 1), torch.tensor([1]), next(wide))


def project(x_0, y, A, A_plus):
    """For images of one row and three equal channels."""
    image = lambda x: x.expand(1, 3, 1, -1)
    row = lambda f: lambda x: image(f(x[0, 0, 0]))
    return ldm.project(image(x_0), image(y), ldm.Degradation(row(A), row(A_plus)))[0, 0, 0]


def enlarge(y, factor):
    channels = y.expand(1, 3, -1, -1)  # of one grey image
    return pooled(factor).A_plus(channels)[0, 0]


class OneStep(ldm.LatentDiffusion):
    """A model of one timestep whose prediction makes the step back from z_0 a given function."""

    latent_dtype = torch.float64

    def __init__(self, step, z_0):
        self.schedule, self.step, self.z_0 = Times(torch.tensor(0.5).double()), step, z_0

    def predict(self, z_t, t, context):
        abar = self.schedule.alpha_bar[1]
        return ldm.Prediction((self.step(z_t) - abar.sqrt() * self.z_0) / (1 - abar).sqrt(), self.z_0)


def fixed_point(step, z_prev, iterations):
    """With whole moves, as in the lesson."""
    z_0 = z_prev.reshape(1, 1, 1, -1)
    with patch("p2p.inversion.ddim.MOVE", 1.0):
        found = ddim(OneStep(step, z_0), z_0, torch.zeros(1, 1, 1), p2p.Sampling(steps=1), iterations)
    return found.states[0].z_t.flatten()


def pin(z, z_source):
    """By the options of a run that follows the image's latents."""
    row = lambda x: x[:, None, None]
    inverted = direct(Inverted((ldm.State(1, row(z_source)),)))
    return inverted.options(len(z))["blend"](ldm.State(1, row(z)))[:, 0, 0]


def part_psnr(image, answer, where):
    return ldm.psnr(*(np.repeat(x[where].numpy().astype(np.uint8).reshape(1, -1, 1), 3, -1) for x in (image, answer)))


# the package's function for each exercise, with the exercise's arguments
OURS = {
    "seeded_noise": lambda seeds, shape: ldm.Noise(seeds, shape)(),
    "change": change,
    "paste": lambda z, z_star, mask: composite(mask.bool(), z_star[None], z[None])[0],
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
        ldm.AutoencoderConfig(channels=(32,) * int(math.log2(factor) + 1), latent_channels=channels).compression
    ),
    "timestep_embedding": lambda t, width: ldm.timestep_embedding(torch.tensor([t]), width)[0],
    "loss": loss,
    "update": ldm.SLIPS["D15"].corrected,
    "guided": lambda eps_u, eps_c, w: latents(lambda a, b: ldm.guided(a, b, w))(eps_u, eps_c),
    "enlarge": enlarge,
    "project": project,
    "scores": scores,
    "attention_map": head(ldm.attention_map),
    "attend": head(ldm.attend),
    "multi_head": multi_head,
    "positions": positions,
    "word_map": word_map,
    "switch": switch,
    "inject": lambda A, M: p2p.used(A, A.new_zeros(len(A), M.shape[1]), M, M.new_zeros(M.shape[1])),
    "mapper": mapper,
    "edited_values": edited_values,
    "blend": lambda alpha, A_hat, A_star: p2p.used(A_hat, A_star, alpha.diag(), 1 - alpha),
    "alpha": lambda t, tau: torch.tensor([share(t, one) for one in tau]),
    "refine": refine,
    "reweight": reweight,
    "used": p2p.used,
    "local_blend": lambda z, z_star, mask: composite(mask.bool(), z_star[None, None], z[None, None])[0, 0],
    "region": region,
    "best_pair": best_pair,
    "merge": merge,
    "columns": columns,
    "visible": visible,
    "similarity": ldm.similarity,
    "contrastive_loss": contrastive_loss,
    "zero_shot": ldm.zero_shot,
    "step_back": lambda z, eps, abar, abar_prev: latents(
        lambda a, b: step_back(Times(abar_prev, abar / abar_prev), a, b, 2, 1)
    )(z, eps),
    "fixed_point": fixed_point,
    "pull": lambda eps_u, eps_c, w: latents(lambda a, b: ldm.guided(a, b, w) - b)(eps_u, eps_c),
    "pin": pin,
    "part_psnr": part_psnr,
    "attention_parameters": attention_parameters,
    "map_bytes": map_bytes,
    "leading": leading,
    "scale": scale,
    "diffusers_name": diffusers_name,
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


def test_true_and_false_are_no_answer_where_numbers_are_needed(capsys):
    assert "has True and False" in said(check.alpha, lambda t, tau: t >= tau, capsys)


def test_an_error_is_shown_without_pytorchs_signatures(capsys):
    wrong = said(check.switch, lambda A, A_star, t, tau: torch.where(t < tau, A_star, A), capsys)  # t is an int
    assert "raises TypeError: where()" in wrong and "\n" not in wrong


def test_an_answer_that_writes_into_its_arguments_is_told_so(capsys):
    """In a model the source's map is needed again, by the next target."""

    def scaled(A, *rest):
        A *= 2
        return A

    assert "writes into its argument" in said(check.reweight, scaled, capsys)
    assert said(check.reweight, OURS["reweight"], capsys).startswith("Right: ")
