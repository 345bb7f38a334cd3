"""A hub in the place of the network, and downloads from it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import httpx

from tests.support.server import Hub
from tests.support.toy import REPOSITORY, TOY
from weights import hub as downloads
from weights.checkpoints import CHECKPOINTS


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """The client's, empty, as HF_HOME would have it; the client reads that when it is imported."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.fixture
def hub(monkeypatch, cache) -> Hub:
    """A hub with a toy, pinned under the name `pinned` and as a branch with two mirrors under the name `branch`."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept of a dropped connection
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's waits between its tries
    monkeypatch.setitem(CHECKPOINTS, "pinned", TOY)
    monkeypatch.setitem(CHECKPOINTS, "branch", replace(TOY, revision="main", mirrors=("copier/toy", "archive/toy")))
    server = Hub({"maker/toy": REPOSITORY})
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda transport, request: server.answer(request))
    return server


@pytest.fixture
def get(hub):
    """Download from the local hub."""
    return lambda name="pinned": downloads.download(name)


@pytest.fixture
def pin(monkeypatch):
    """Change the pinned checkpoint."""
    return lambda **changes: monkeypatch.setitem(CHECKPOINTS, "pinned", replace(TOY, **changes))


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that were hashed."""
    names, digest = [], downloads.digest
    monkeypatch.setattr(downloads, "digest", lambda path, like: names.append(path.name) or digest(path, like))
    return names
