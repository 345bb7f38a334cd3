"""The command line, used as a stranger would: on a small random model in a folder, without a network."""

import socket
import sys
from pathlib import Path

import pytest

from ldm.pipeline import LatentDiffusion
from p2p.__main__ import main
from tests.support.model_files import save_model


@pytest.fixture(scope="session")
def folder(tiny: LatentDiffusion, tmp_path_factory) -> Path:
    """The random model as files."""
    return save_model(tiny, tmp_path_factory.mktemp("model"))


@pytest.fixture
def p2p(folder, monkeypatch, tmp_path):
    """Call the command line in an empty folder with all sockets blocked; returns nothing, raises SystemExit."""

    def no_network(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.chdir(tmp_path)

    def call(*args: str, model: str = str(folder)) -> None:
        monkeypatch.setattr(sys, "argv", ["p2p", *args, "--model", model])
        main()

    return call
