"""`--profile`: what a command took, on standard error."""

import re

import pytest
import torch
from torch import nn

from p2p.cli import profile
from p2p.cli.profile import profiled
from tests.support.command_line import CAT, DOG

SECONDS = re.compile(r"^(.*?) +([\d.]+) s(?: +(\d+) x)?", re.MULTILINE)


def test_every_network_is_counted(p2p, capsys):
    """Three calls of the UNet in three steps, two images decoded, the prompts and the empty one encoded."""
    p2p("edit", CAT, DOG, "--steps", "3", "--profile", "-o", "x.png")
    told = capsys.readouterr().err.partition("profile, on cpu")[2]
    rows = {name: (float(seconds), calls and int(calls)) for name, seconds, calls in SECONDS.findall(told)}
    assert rows["UNet"][1] == 3 and rows["decoder"][1] == 2 and "encoder" not in rows
    assert rows["text encoder"][1] >= 2
    *parts, whole = (seconds for seconds, _ in rows.values())
    assert sum(parts) == pytest.approx(whole, abs=0.005 * len(rows))  # each is rounded to 0.01 s
    assert re.search(r"^peak of memory +\d+ MiB$", told, re.MULTILINE)


def test_a_command_without_networks_has_no_rows_of_them(p2p, capsys):
    p2p("show", "mapper", CAT, DOG, "--profile", "-o", "x.png")
    told = capsys.readouterr().err
    assert "in all" in told and "UNet" not in told and "drawing" not in told


def test_the_image_does_not_tell_of_the_profile(p2p, tmp_path):
    """The same bytes, with the call in them."""
    for name, more in (("a.png", ["--profile"]), ("b.png", [])):
        p2p("edit", CAT, DOG, "--steps", "2", "-o", name, *more)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    for name, more in (("a.png", ["--profile"]), ("b.png", [])):
        p2p("generate", CAT, "--steps", "2", "-o", name, *more)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


class Slow(nn.Linear):
    """A network that takes a second of a made-up clock."""

    def forward(self, x):
        profile.perf_counter.now += 1
        return super().forward(x)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_times_are_those_of_the_clock(monkeypatch):
    """2 s, a call of 1 s, 3 s, a call of 1 s, 4 s; and outside nothing is watched."""
    clock = Clock()
    monkeypatch.setattr(profile, "perf_counter", clock)
    monkeypatch.setitem(profile.NETWORKS, Slow, "slow")
    network, x = Slow(1, 1), torch.zeros(1)
    with profiled() as found:
        clock.now += 2
        network(x)
        clock.now += 3
        network(x)
        clock.now += 4
    network(x)
    assert found.calls == {"slow": [1.0, 1.0]}
    before, slow, between, after, whole = (float(seconds) for _, seconds, _ in SECONDS.findall(str(found)))
    assert (before, slow, between, after, whole) == (2, 2, 3, 4, 11)
