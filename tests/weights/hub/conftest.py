"""A hub on this machine, and downloads from it."""

import threading
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from tests.support.server import Hub
from tests.support.toy import REPOSITORY, TOY
from weights import hub as cached
from weights.checkpoints import CHECKPOINTS, Checkpoint
from weights.hub import download


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """The client's, empty, as HF_HOME would have it; the client reads that when it is imported."""
    folder = tmp_path / "deep" / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def hub(monkeypatch, cache):
    """A hub with a toy, pinned under the name `pinned` and as a branch with two mirrors under the name `branch`."""
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1,localhost")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept of a dropped connection
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's waits between its tries
    monkeypatch.setitem(CHECKPOINTS, "pinned", TOY)
    branch = Checkpoint(**vars(TOY) | {"revision": "main", "mirrors": ("copier/toy", "archive/toy")})
    monkeypatch.setitem(CHECKPOINTS, "branch", branch)
    huggingface_hub.close_session()  # the client read the proxies when it opened it
    with Hub() as server:
        # as the variable HF_ENDPOINT has it, from which the client makes both when it is imported
        template = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            template.replace(huggingface_hub.constants.ENDPOINT, server.url),
        )
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        server.state.repositories["maker/toy"] = REPOSITORY
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def get(hub):
    """Download from the local hub into an empty cache."""
    return lambda name="pinned": download(name)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that were hashed."""
    names, digest = [], cached.digest

    def noting(path, like):
        names.append(path.name)
        return digest(path, like)

    monkeypatch.setattr(cached, "digest", noting)
    return names
