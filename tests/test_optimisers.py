"""What a step of training does to the weights: rates, Muon and AdamW, the clip, and the average."""

import itertools
import math
from copy import deepcopy

import torch
from torch import nn
from torch.testing import assert_close

from tests.support.regression import Regression, network, recipe, train
from weights.training.muon import Muon
from weights.training.trainer import Recipe, Trainer, hidden_matrices


def test_the_learning_rate_rises_stays_and_falls_to_a_hundredth():
    r = Recipe(steps=1000, batch=1, lr=0.5, warmup=100, decay=0.4)
    rate = [r.lr_at(step) for step in range(1001)]
    # 1e-12 relative: both sides are float64 and a handful of operations, each off by at most 1e-16
    close = lambda a, b: math.isclose(a, b, rel_tol=1e-12)
    assert all(close(rate[i], 0.5 * (i + 1) / 100) for i in range(100))  # step i is the (i+1)-th
    assert all(close(rate[i], 0.5) for i in range(99, 601))
    cosine = lambda u: 0.01 + 0.99 * (1 + math.cos(math.pi * u)) / 2  # u from 0 to 1 over the last 400 steps
    assert all(close(rate[600 + i], 0.5 * cosine(i / 400)) for i in range(401))
    assert close(rate[800], 0.5 * 0.505)  # half way down, half way between 1 and 0.01
    assert close(rate[1000], 0.5 / 100)
    assert all(a > b for a, b in itertools.pairwise(rate[600:]))


def test_the_optimisers_are_given_the_rate_of_each_step(tmp_path):
    trainer = Trainer(network(), Regression(), recipe(steps=30), tmp_path)
    for step in range(30):
        trainer.one_step()
        for optimizer in trainer.optimizers.values():
            assert [group["lr"] for group in optimizer.param_groups] == [trainer.recipe.lr_at(step)]


def test_a_first_step_has_equal_singular_values(tmp_path):
    """Muon's step, against the singular value decomposition; a bias takes AdamW's, which begins as the sign."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(16, 1)).to(memory_format=torch.channels_last)
    x = torch.randn(8, 6, 4, 4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    lr = 0.01
    trainer = Trainer(model, lambda m, _: m(x).square().mean(), recipe(warmup=0, lr=lr, weight_decay=0.0), tmp_path)
    trainer.one_step()
    U, _, Vh = torch.linalg.svd(model[0].weight.grad.flatten(1), full_matrices=False)
    step = (before["0.weight"] - model[0].weight.detach()).flatten(1)
    values = torch.linalg.diagonal(U.T @ step @ Vh.T) / (lr * 0.2 * math.sqrt(54))  # 54 = the matrix's longer side
    # five Newton-Schulz steps with the published coefficients bring singular values to between 0.7 and 1.2 only
    assert_close(values, torch.ones(4), rtol=0, atol=0.35)
    # Adam's epsilon of 1e-8 beside the gradient, and float32
    assert_close(before["0.bias"] - model[0].bias.detach(), lr * model[0].bias.grad.sign(), rtol=1e-4, atol=0)


def test_muon_is_torchs_to_the_precision_of_torchs():
    """Several steps on matrices that stand and that lie, of one shape and of others, beside torch.optim.Muon."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((8, 20), (20, 8), (8, 20), (5, 5), (1, 7))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    optimizers = (
        Muon(ours, lr=0.02, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(4):
        for p, q in zip(ours, theirs):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for p, q, p_0 in zip(ours, theirs, start):
        # torch's works in bfloat16, of 8 bits, through five steps that multiply what is small by 3.4 each
        assert (p - q).norm() < 0.03 * (p - p_0).norm()


def test_muon_moves_the_hidden_matrices_and_nothing_else(tiny):
    model = deepcopy(nn.ModuleDict({"text_encoder": tiny.text_encoder, "unet": tiny.unet})).requires_grad_(True)
    hidden, every = hidden_matrices(model), dict(model.named_parameters())
    outer = [name for name in every if every[name].ndim > 1 and name not in hidden]
    assert sorted(outer) == [
        "text_encoder.embeddings.position_embedding.weight",
        "text_encoder.embeddings.token_embedding.weight",
        "unet.conv_in.weight",
        "unet.conv_out.weight",
    ]
    assert all(p.ndim > 1 for p in hidden.values())


def test_the_averaged_weights_follow_their_recursion(tmp_path):
    """a_k = keep a_{k-1} + (1 - keep) w_k with keep = min(ema, (1 + k) / (10 + k)), k = 0, 1, ...; both begin alike."""
    trainer = Trainer(network(), Regression(), recipe(ema=0.5), tmp_path)
    expected = [p.detach().double() for p in trainer.model.parameters()]
    for k in range(25):
        trainer.one_step()
        keep = min(0.5, (1 + k) / (10 + k))  # the fraction is below 0.5 up to k = 7
        expected = [keep * a + (1 - keep) * p.detach().double() for a, p in zip(expected, trainer.model.parameters())]
        # 1e-6: the trainer's average is float32 (6e-8 of a weight below 2 per step), and older errors are halved
        assert_close([a.double() for a in trainer.averaged.parameters()], expected, rtol=0, atol=1e-6)
    moved = [(a - p).abs().max() for a, p in zip(trainer.averaged.parameters(), trainer.model.parameters())]
    assert min(moved) > 1e-4  # the average lags: a plain copy would not pass for one


def test_the_average_is_no_part_of_what_is_trained(tmp_path):
    trainer = train(tmp_path, Regression(), steps=10)
    assert all(not p.requires_grad and p.grad is None for p in trainer.averaged.parameters())
    assert not {id(p) for p in trainer.averaged.parameters()} & {id(p) for p in trainer.model.parameters()}


def test_parameters_that_need_no_gradient_do_not_change(tmp_path):
    model = network()
    model[0].requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = train(tmp_path, Regression(), model, steps=60)
    for name in before:
        frozen = name.startswith("0.")
        assert torch.equal(trainer.model.state_dict()[name], before[name]) == frozen, name
        assert torch.equal(trainer.averaged.state_dict()[name], before[name]) == frozen, name


def test_a_gradient_longer_than_the_clip_is_cut_to_it(tmp_path):
    """Adam divides the gradient's scale away, so the gradient is looked at, not the step."""
    trainer = Trainer(network(), Regression(at=0, misbehave=lambda loss: 1000 * loss), recipe(clip=0.25), tmp_path)
    trainer.one_step()
    norm = torch.cat([p.grad.flatten() for p in trainer.parameters]).norm()
    # 1e-5 relative: float32, and the clip adds 1e-6 to the norm (of some thousands) that it divides by
    assert_close(norm, torch.tensor(0.25), rtol=1e-5, atol=0)
