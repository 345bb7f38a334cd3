"""The training loop and Algorithm 1: exact resumption, and what the networks are asked for."""

import csv
import itertools
import math
import signal
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm.config import ScheduleConfig
from ldm.files import save_atomically
from ldm.muon import Muon
from ldm.schedule import Schedule
from ldm.train import Recipe, Trainer, hidden_matrices, ldm_loss
from weights.stickers import train_diffusion
from weights.stickers.train_diffusion import DiffusionLoss, new_model

# ---------------------------------------------------------------------------------------------------------------------
# the loop, on a regression small enough to train in no time


class Regression:
    """Mean squared error on a noisy linear target; keeps what it returned, and may misbehave at a chosen call."""

    def __init__(self, at: int | None = None, misbehave=lambda loss: loss):
        self.at, self.misbehave, self.losses = at, misbehave, []

    def __call__(self, model: nn.Module, generator: torch.Generator) -> torch.Tensor:
        x = torch.randn(16, 3, generator=generator)
        y = x.sum(-1, keepdim=True) + 0.1 * torch.randn(16, 1, generator=generator)
        loss = (model(x) - y).square().mean()
        if len(self.losses) == self.at:
            loss = self.misbehave(loss)
        self.losses.append(loss.item())
        return loss


class PowerCut(Exception):
    """Stands for whatever ends a process without a chance to save."""


def power_cut(loss):
    raise PowerCut


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


def recipe(**changes) -> Recipe:
    return Recipe(**dict(steps=230, batch=16, lr=0.01, warmup=20, decay=0.5, ema=0.9, seed=3) | changes)


def train(folder, loss, model=None, every=100, **changes) -> Trainer:
    """Run to the end of the recipe."""
    trainer = Trainer(model or network(), loss, recipe(**changes), folder)
    for _ in trainer.run(every):
        pass
    return trainer


def log(folder) -> list[tuple[str, str, str]]:
    """(step, loss, learning rate) of every logged row; the speed is the clock's business."""
    rows = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [(row["step"], row["loss"], row["learning_rate"]) for row in rows]


def state(folder) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def assert_same(a, b) -> None:
    """Two states, nested or not, agree to the bit."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert_close(a, b, rtol=0, atol=0)  # nothing to tolerate: the same operations on the same numbers
    else:
        assert a == b


def test_a_run_cut_off_after_a_logged_row_and_resumed_equals_one_that_was_not(tmp_path):
    whole = Regression()
    reference = train(tmp_path / "whole", whole)

    first = Regression(at=170, misbehave=power_cut)  # the state is of step 100, the last logged row of step 150
    with pytest.raises(PowerCut):
        train(tmp_path / "cut", first)
    assert state(tmp_path / "cut")["step"] == 100
    assert [step for step, *_ in log(tmp_path / "cut")] == ["50", "100", "150"]

    second = Regression()
    resumed = train(tmp_path / "cut", second)
    assert first.losses == whole.losses[:170]
    assert second.losses == whole.losses[100:]
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert [step for step, *_ in log(tmp_path / "cut")] == ["50", "100", "150", "200"]
    assert_same(resumed.model.state_dict(), reference.model.state_dict())
    assert_same(resumed.averaged.state_dict(), reference.averaged.state_dict())
    assert_same(state(tmp_path / "cut"), state(tmp_path / "whole"))


def test_a_resumed_run_drops_the_rows_that_it_will_write_again(tmp_path):
    with pytest.raises(PowerCut):
        train(tmp_path, Regression(at=170, misbehave=power_cut))
    Trainer(network(), Regression(), recipe(), tmp_path)
    assert [step for step, *_ in log(tmp_path)] == ["50", "100"]


def test_a_run_cut_off_before_its_first_save_and_begun_again_logs_no_row_twice(tmp_path):
    with pytest.raises(PowerCut):
        train(tmp_path, Regression(at=70, misbehave=power_cut))
    train(tmp_path, Regression())
    assert [step for step, *_ in log(tmp_path)] == ["50", "100", "150", "200"]


def test_the_loss_of_a_step_depends_on_the_seed_and_the_step_alone(tmp_path):
    """Whatever else draws random numbers in the process, and however long the run is."""
    first, second, other = Regression(), Regression(), Regression()
    train(tmp_path / "a", first, steps=20, decay=0.0)
    torch.rand(7)
    train(tmp_path / "b", second, steps=20, decay=0.0)
    train(tmp_path / "c", other, steps=20, decay=0.0, seed=4)
    assert first.losses == second.losses
    assert first.losses[0] != other.losses[0]


def test_every_step_draws_anew(tmp_path):
    """Nor does the run of another seed draw what a later step of this one draws."""
    drawn = []

    def loss(model, generator):
        drawn.append(torch.randint(2**62, (1,), generator=generator).item())
        return model(torch.ones(1, 3)).mean()

    train(tmp_path / "a", loss, steps=100, seed=0)
    train(tmp_path / "b", loss, steps=100, seed=1)
    assert len(set(drawn)) == 200  # of 2^62 numbers, 200 fair draws repeat one with probability 4e-15


def test_a_finished_run_takes_no_further_step(tmp_path):
    train(tmp_path, Regression(), steps=30)
    again = Regression()
    train(tmp_path, again, steps=30)
    assert again.losses == []


def test_run_saves_and_yields_every_so_many_steps_and_at_the_end(tmp_path):
    trainer = Trainer(network(), Regression(), recipe(steps=25), tmp_path)
    assert [(step, state(tmp_path)["step"]) for step in trainer.run(every=10)] == [(10, 10), (20, 20), (25, 25)]


def test_a_row_of_the_log_is_the_mean_of_its_fifty_losses(tmp_path):
    loss = Regression()
    train(tmp_path, loss, steps=100)
    means = [sum(loss.losses[i : i + 50]) / 50 for i in (0, 50)]
    assert [row[1] for row in log(tmp_path)] == [f"{mean:.6f}" for mean in means]


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def signum(request):
    """A signal, with a handler of ours in place of Python's and pytest's."""
    signum = signal.Signals[request.param]
    before = signal.signal(signum, handler)
    yield signum
    signal.signal(signum, before)


def handler(signum, frame):
    raise AssertionError("the handler from before the run was called during it")


def test_a_signal_ends_the_run_after_the_step_in_progress_with_the_state_saved(tmp_path, signum, capsys):
    def raise_signal(loss):
        signal.raise_signal(signum)
        return loss

    loss = Regression(at=7, misbehave=raise_signal)
    trainer = train(tmp_path, loss, every=5)
    assert len(loss.losses) == trainer.step == state(tmp_path)["step"] == 8
    assert_same(state(tmp_path)["model"], trainer.model.state_dict())
    assert "stopped at step 8" in capsys.readouterr().out

    rest, whole = Regression(), Regression()
    train(tmp_path, rest)
    train(tmp_path / "whole", whole)
    assert loss.losses + rest.losses == whole.losses


@pytest.mark.parametrize("ending", ["finished", "stopped", "failed", "abandoned"])
def test_the_signal_handlers_from_before_are_put_back(tmp_path, signum, ending):
    def misbehave(loss):
        if ending == "stopped":
            signal.raise_signal(signum)
        return loss * (math.nan if ending == "failed" else 1)

    steps = Trainer(network(), Regression(at=7, misbehave=misbehave), recipe(steps=20), tmp_path).run(every=5)
    next(steps)
    assert signal.getsignal(signum) is not handler
    if ending == "abandoned":
        steps.close()
    elif ending == "failed":
        with pytest.raises(FloatingPointError):
            list(steps)
    else:
        list(steps)
    assert signal.getsignal(signum) is handler


def test_a_run_stopped_between_two_rows_of_the_log_and_resumed_writes_the_same_rows(tmp_path):
    def interrupt(loss):
        signal.raise_signal(signal.SIGINT)
        return loss

    train(tmp_path / "stopped", Regression(at=72, misbehave=interrupt))
    train(tmp_path / "stopped", Regression())
    train(tmp_path / "whole", Regression())
    assert log(tmp_path / "stopped") == log(tmp_path / "whole")


def test_a_crash_while_saving_leaves_the_old_state_loadable(tmp_path, monkeypatch):
    def half_written(state, path):
        torch_save(state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        raise OSError("no space left on device")

    torch_save = torch.save
    loss = Regression()
    steps = Trainer(network(), loss, recipe(), tmp_path).run(every=10)
    next(steps)
    before = state(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_written)
        with pytest.raises(OSError, match="no space left"):
            next(steps)
    assert len(loss.losses) == 20
    assert_same(state(tmp_path), before)
    assert before["step"] == 10
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]  # the half that was written is gone

    resumed, whole = Regression(), Regression()
    train(tmp_path, resumed)
    train(tmp_path / "whole", whole)
    assert resumed.losses == whole.losses[10:]
    assert state(tmp_path)["step"] == 230


def test_save_atomically_never_shows_a_part_of_a_file(tmp_path):
    path = tmp_path / "file.txt"

    def write(part):
        assert part.parent == path.parent  # on the same disk, or putting it in place would be a copy
        assert not path.exists() or path.read_text() == "old"
        part.write_text("new")
        assert not path.exists() or path.read_text() == "old"

    save_atomically(write, path)
    assert path.read_text() == "new"
    path.write_text("old")
    save_atomically(write, path)
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


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


def test_a_convolutions_first_step_is_its_gradient_with_all_singular_values_made_equal(tmp_path):
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_the_last_saved_state_stays(tmp_path, bad):
    steps = Trainer(network(), Regression(at=14, misbehave=lambda loss: loss * bad), recipe(), tmp_path).run(every=10)
    assert next(steps) == 10
    before = state(tmp_path)
    with pytest.raises(FloatingPointError, match="step 15"):
        next(steps)
    assert_same(state(tmp_path), before)
    assert all(value.isfinite().all() for value in before["model"].values())


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


def test_the_error_in_v_is_the_error_in_eps_over_the_root_of_alpha_bar():
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
    # float32 sums of 3072 squares; half precision would round the mean by 2^-12 or 2^-9
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


class Spy(nn.Module):
    """Stands in for either network and keeps what it was called with."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.calls = answer, []

    def forward(self, *args):
        self.calls.append(args)
        return self.answer(*args)


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


def test_a_new_model_predicts_its_output_layers_bias_whatever_it_is_given(tiny, algorithm_1):
    """So training begins near a prediction of no noise at all."""
    model = new_model(tiny.config)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    out = model["unet"](z, torch.tensor([0, 999]), model["text_encoder"](algorithm_1.ids[:2]))
    bias = model["unet"].conv_out.bias.reshape(1, -1, 1, 1).expand_as(out)
    assert torch.equal(out, bias)  # zeros are added to the bias, so exact
