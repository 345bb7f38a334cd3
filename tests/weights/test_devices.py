"""The device that `auto` is, whatever this machine has: a GPU is only said to be there."""

from types import SimpleNamespace

import pytest
import torch

from p2p.cli.parser import parser
from weights.load import pick_device


@pytest.fixture
def machine(monkeypatch):
    """Says that a machine has these."""

    def has(*devices: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return has


@pytest.mark.parametrize(
    "has, picked", [(["cuda"], "cuda"), (["mps"], "mps"), ([], "cpu"), (["cuda", "mps"], "cuda")], ids=str
)
def test_auto_is_a_gpu_where_there_is_one(machine, has, picked, monkeypatch):
    machine(*has)
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=torch.device(device)))
    assert pick_device("auto") == torch.device(picked)


@pytest.mark.parametrize("name", ["cuda:1", "cpu"])
def test_what_is_named_is_taken_whatever_else_is_there(machine, name, monkeypatch):
    machine("cuda", "mps")
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=torch.device(device)))
    assert pick_device(name) == torch.device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_that_is_there_and_does_not_answer_is_one_error(machine):
    machine("cuda")
    with pytest.raises(ValueError, match="no device 'cuda' here"):
        pick_device("auto")


@pytest.mark.parametrize("name", ["mps", "meta", "nonsense", "cuda:9"])
def test_an_absent_device_is_one_line_with_those_there_are(machine, name):
    machine()
    with pytest.raises(ValueError, match=r"^no device '.*: give cpu or auto") as refused:
        pick_device(name)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250


def test_the_command_line_leaves_the_choice_to_auto():
    assert parser().parse_args(["generate", "a cat", "-o", "cat.png"]).device == "auto"
