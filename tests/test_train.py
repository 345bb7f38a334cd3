"""The loss and Algorithm 1: what the networks are asked for, and what is drawn."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.schedule import Schedule
from ldm.train import ldm_loss
from tests.support.regression import assert_same, recipe
from weights.training import train_diffusion
from weights.training.train_diffusion import DiffusionLoss, new_model
from weights.training.trainer import Trainer


class Spy(nn.Module):
    """Stands in for either network and keeps what it was called with."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, []

    def forward(self, *args, attn_fn=None):  # training attends by whole maps, which changes no result
        self.calls.append(args)
        return self.answer(*args)


# ---------------------------------------------------------------------------------------------------------------------
# the loss; its minimum is proved in tests/equations/test_training.py


def noisy_batch(b: int, seed: int = 0):
    """z_0, eps and a context."""
    generator = torch.Generator().manual_seed(seed)
    z_0, eps = (torch.randn(b, 4, 16, 16, generator=generator) for _ in range(2))
    return z_0, eps, torch.zeros(b, 2, 3)


def test_the_network_is_asked_for_the_timestep_before_t():
    """t runs 1..T, the network's timestep 0..T-1."""
    schedule = Schedule(ScheduleConfig())
    z_0, eps, context = noisy_batch(3)
    unet = Spy(lambda z_t, timestep, context: z_t)
    ldm_loss(unet, schedule, z_0, context, torch.tensor([1, 17, 1000]), eps)
    assert [timestep.tolist() for _, timestep, _ in unet.calls] == [[0, 16, 999]]


def test_the_error_in_v_is_that_in_eps_over_root_alpha_bar():
    """By hand: v = (eps - sqrt(1 - alpha_bar) z_t) / sqrt(alpha_bar), so an eps off by i costs i^2 / alpha_bar."""

    class Off(nn.Module):
        def forward(self, z_t, timestep, context):
            off_by = torch.arange(1.0, 4.0).reshape(3, 1, 1, 1)
            signal, noise = schedule.signal(t, z_t), schedule.noise(t, z_t)
            return (eps + off_by - noise * z_t) / signal if v else eps + off_by

    z_0, eps, context = noisy_batch(3)
    t = torch.tensor([1, 500, 1000])
    for v in (False, True):
        schedule = Schedule(ScheduleConfig(parameterisation="v" if v else "eps"))
        abar = schedule.alpha_bar[t] if v else torch.ones(3)
        by_hand = (torch.tensor([1.0, 4.0, 9.0]) / abar).mean().float()
        # 1e-4 relative: float32 rounds eps + i - eps at 1e-7 times eps of up to 4, and v magnifies it by up to 15
        assert_close(ldm_loss(Off(), schedule, z_0, context, t, eps), by_hand, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_half_precision_is_a_float32_mean(dtype):
    schedule = Schedule(ScheduleConfig())
    z_0, eps, context = (part.to(dtype) for part in noisy_batch(3))
    output = noisy_batch(3, seed=1)[1].to(dtype)
    found = ldm_loss(lambda *_: output, schedule, z_0, context, torch.tensor([1, 500, 1000]), eps)
    # float32 sums of 3072 squares; half precision would round the mean by 2^-11 or 2^-8
    by_hand = (output.double() - eps.double()).square().mean().float()
    assert_close(found, by_hand, rtol=1e-5, atol=0)


# ---------------------------------------------------------------------------------------------------------------------
# Algorithm 1 on tiny networks


CAPTIONS = ["a photo of a cat", "a painting of a red car at night", "a photo of a big apple next to a dog", "a hat"]


@pytest.fixture
def algorithm_1(tiny, tokenizer) -> DiffusionLoss:
    """The stickers' loss on a few random latents."""
    latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return DiffusionLoss(tiny.config, tokenizer, latents, CAPTIONS, batch=4)


@pytest.mark.equation("D15")
def test_algorithm_1_reaches_every_parameter_of_both_networks(tiny, algorithm_1, tmp_path):
    trainer = Trainer(new_model(tiny.config), algorithm_1, recipe(lr=1e-3, warmup=1), tmp_path)
    for _ in range(3):  # the output layer begins at zero and lets no gradient through in the first step
        trainer.one_step()
    for name, parameter in trainer.model.named_parameters():
        largest = parameter.grad.abs().max().item()
        if name.endswith("k_proj.bias"):  # moves all of a query's scores alike, which the softmax ignores
            assert largest < 1e-7, name  # the rounding of a zero, seen at 1e-11; the smallest of the others is 1.6e-6
        else:
            assert largest > 1e-7, name


@pytest.mark.equation("D15")
def test_algorithm_1_lowers_the_loss_of_a_fixed_batch(tiny, algorithm_1, tmp_path):
    fixed = lambda model, generator: algorithm_1(model, torch.Generator().manual_seed(5))
    trainer = Trainer(new_model(tiny.config), fixed, recipe(lr=3e-3, warmup=5, steps=100), tmp_path)
    losses = [trainer.one_step() for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0], losses  # it falls to a fiftieth; at a standstill the ratio would be 1


def test_algorithm_1_resumes_exactly_with_the_real_networks(tiny, algorithm_1, tmp_path):
    """Their parameters lie channels-last in memory, which a round trip through the state must not change."""
    make = lambda folder: Trainer(new_model(tiny.config), algorithm_1, recipe(steps=100), folder)
    whole = make(tmp_path / "whole")
    losses = [whole.one_step() for _ in range(6)]
    first = make(tmp_path / "cut")
    assert [first.one_step() for _ in range(3)] == losses[:3]
    first.save()
    second = make(tmp_path / "cut")
    assert [second.one_step() for _ in range(3)] == losses[3:]
    assert_same(second.averaged.state_dict(), whole.averaged.state_dict())


@pytest.fixture
def spies(tiny) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "text_encoder": Spy(lambda ids: ids[..., None].float()),
            "unet": Spy(lambda z_t, timestep, context: torch.zeros_like(z_t)),
        }
    )


@pytest.fixture
def many_draws(tiny, tokenizer, spies, monkeypatch):
    """(z_t, timestep, ids) of 20,000 draws, in batches of 1000, of latents i = 0..3 filled with 1000 (i + 1)."""

    def draw(dropout: float = train_diffusion.DROPOUT):
        monkeypatch.setattr(train_diffusion, "DROPOUT", dropout)
        latents = 1e3 * torch.arange(1.0, 5.0).reshape(4, 1, 1, 1).expand(4, 4, 1, 1)
        loss = DiffusionLoss(tiny.config, tokenizer, latents, CAPTIONS, batch=1000)
        generator = torch.Generator().manual_seed(0)
        for _ in range(20):
            loss(spies, generator)
        z_t, timestep, context = (torch.cat(part) for part in zip(*spies["unet"].calls))
        return z_t, timestep, context[..., 0].long()

    return draw


@pytest.mark.equation("D15")
def test_algorithm_1_pairs_every_latent_with_its_own_caption(many_draws, tokenizer):
    z_t, timestep, ids = many_draws(dropout=0.0)
    abar = Schedule(ScheduleConfig()).alpha_bar[timestep + 1]
    # alpha_bar is never below 0.0046, so the noise moves the quotient by 1 / 68 for each of its standard deviations
    shown = (z_t.mean(dim=(1, 2, 3)) / abar.sqrt() / 1e3).round().long() - 1
    assert set(shown.tolist()) == {0, 1, 2, 3}
    assert torch.equal(ids, tokenizer.batch(CAPTIONS)[shown])


@pytest.mark.equation("D15")
def test_algorithm_1_drops_a_tenth_of_the_captions(many_draws, tokenizer):
    """So that the empty prompt is known, and guidance works."""
    *_, ids = many_draws()
    dropped = (ids == tokenizer.batch([""])).all(-1).float().mean().item()
    # 20,000 draws of a coin that shows 0.1: standard deviation sqrt(0.1 * 0.9 / 20000) = 0.0021, and five of them
    assert abs(dropped - 0.1) < 5 * 0.0021


@pytest.mark.equation("D15")
def test_algorithm_1_draws_t_evenly_from_1_to_T(many_draws):
    _, timestep, _ = many_draws()
    assert timestep.min() == 0 and timestep.max() == 999  # each is missed by 20,000 draws with probability 2e-9
    counts = torch.bincount(timestep // 100, minlength=10)
    # each tenth is hit 2000 times, with standard deviation sqrt(20000 * 0.1 * 0.9) = 42; five of them
    assert (counts - 2000).abs().max() < 5 * 42


def test_a_new_model_predicts_the_bias_of_its_last_layer(tiny, algorithm_1):
    """So training begins near a prediction of no noise at all."""
    model = new_model(tiny.config)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    out = model["unet"](z, torch.tensor([0, 999]), model["text_encoder"](algorithm_1.ids[:2]))
    bias = model["unet"].conv_out.bias.reshape(1, -1, 1, 1).expand_as(out)
    assert torch.equal(out, bias)  # zeros are added to the bias, so exact
