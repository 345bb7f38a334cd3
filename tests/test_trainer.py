"""The training loop, on a regression: exact resumption, whatever ends a run."""

import math
import signal

import pytest
import torch

from ldm.helpers.files import save_atomically
from tests.support.regression import Regression, assert_same, log, network, recipe, state, train
from weights.training.trainer import Trainer


class PowerCut(Exception):
    """Stands for whatever ends a process without a chance to save."""


def power_cut(loss):
    raise PowerCut


# ---------------------------------------------------------------------------------------------------------------------
# the same losses


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
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


def test_a_run_begun_again_logs_no_row_twice(tmp_path):
    with pytest.raises(PowerCut):
        train(tmp_path, Regression(at=70, misbehave=power_cut))
    train(tmp_path, Regression())
    assert [step for step, *_ in log(tmp_path)] == ["50", "100", "150", "200"]


def test_a_loss_depends_on_the_seed_and_the_step_alone(tmp_path):
    """Whatever else draws random numbers in the process, and however long the run is."""
    first, second, other = Regression(), Regression(), Regression()
    train(tmp_path / "a", first, steps=20, decay=0.0)
    torch.rand(7)
    train(tmp_path / "b", second, steps=30, decay=0.0)
    train(tmp_path / "c", other, steps=20, decay=0.0, seed=4)
    assert first.losses == second.losses[:20]
    assert first.losses[0] != other.losses[0]


def test_a_resumed_run_has_the_weight_decay_of_its_recipe(tmp_path):
    """And not that of the recipe it began with, which the saved state of the optimisers holds."""
    train(tmp_path, Regression(), steps=5, weight_decay=0.5)
    resumed = Trainer(network(), Regression(), recipe(weight_decay=0.25), tmp_path)
    found = [group["weight_decay"] for optimizer in resumed.optimizers.values() for group in optimizer.param_groups]
    assert found == [0.25] * len(resumed.optimizers)


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


# ---------------------------------------------------------------------------------------------------------------------
# ends: signals, crashes, numbers that are not finite


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def signum(request):
    """A signal, with a handler of ours in place of Python's and pytest's."""
    signum = signal.Signals[request.param]
    before = signal.signal(signum, handler)
    yield signum
    signal.signal(signum, before)


def handler(signum, frame):
    raise AssertionError("the handler from before the run was called during it")


def test_a_signal_ends_the_run_with_the_state_saved(tmp_path, signum, capsys):
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


def test_a_resumed_run_logs_the_same_rows(tmp_path):
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_infinite_loss_ends_the_run_and_keeps_the_saved_state(tmp_path, bad):
    steps = Trainer(network(), Regression(at=14, misbehave=lambda loss: loss * bad), recipe(), tmp_path).run(every=10)
    assert next(steps) == 10
    before = state(tmp_path)
    with pytest.raises(FloatingPointError, match="step 15"):
        next(steps)
    assert_same(state(tmp_path), before)
    assert all(value.isfinite().all() for value in before["model"].values())
