"""Connections that break, answers that are no hub's and refusals: one clear error each, and nothing left behind."""

import shutil

import huggingface_hub.constants
import pytest

from tests.support.server import Fault, Refusal, Repository, Silence, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, add, blob, content
from weights import hub as ours
from weights.checkpoints import CHECKPOINTS
from weights.hub import local


def test_a_dropped_connection_is_resumed_where_it_broke(get, hub):
    hub.state.faults[UNET] = Fault("drop", after=12_345)
    assert content(get()) == CONTENT
    # the client keeps whole chunks, here of 1,000 bytes
    assert [r.range for r in hub.state.requests if r.what == UNET and r.method == "GET"][-1] == "bytes=12000-"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("truncate", after=5_000), f"the connection broke during {UNET} of maker/toy"),
        (Fault("reset", after=5_000), f"the connection broke during {UNET} of maker/toy"),
        (Fault("lengthen"), f"{UNET} of maker/toy came in a wrong size.*25600 but has size 25601"),
        (Refusal(500), f"refused {UNET} of maker/toy with status 500"),
    ],
)
def test_what_does_not_come_whole_is_tried_a_few_times_and_leaves_nothing(get, hub, cache, fault, text):
    hub.state.faults[UNET] = fault
    with pytest.raises(ValueError, match=text):
        get()
    assert len([r for r in hub.state.requests if r.what == UNET]) <= 16
    assert local("pinned") is None
    blobs = {path.name for path in blob(cache, "").iterdir()}
    assert blobs == {REPOSITORY.etag(file) for file in CONTENT if file != UNET}  # no part of a file either
    hub.state.faults.clear()
    assert content(get()) == CONTENT


def test_no_network(get, hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match=f"could not reach {hub.url} for .*maker/toy.*run `p2p download pinned`"):
        get()


def test_an_answer_that_is_no_hubs(get, hub):
    hub.state.faults["api"] = Refusal(200, body=b"<html>Welcome to the hotel. Log in!</html>")
    with pytest.raises(ValueError, match=r"did not answer as a hub does .* is a login page between"):
        get()
    hub.state.faults["api"] = Refusal(200, body=b"[]")
    with pytest.raises(ValueError, match="did not answer as a hub does"):
        get()


@pytest.mark.parametrize(
    ("name", "commit"),
    [("branch", "../../../../evil"), ("branch", "main"), ("branch", ""), ("pinned", "b" * 40), ("pinned", "main")],
)
def test_a_commit_that_is_none_or_another_is_refused(get, hub, tmp_path, name, commit):
    hub.state.faults["api"] = Refusal(200, body=b'{"id": "-", "sha": "%s", "siblings": []}' % commit.encode())
    revision = CHECKPOINTS[name].revision
    with pytest.raises(ValueError, match=f"says that {revision} of maker/toy is the commit '{commit}'"):
        get(name)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_silent(get, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    hub.state.faults["api"] = Silence(1.0)
    with pytest.raises(ValueError, match=r"the connection broke during the list of files of maker/toy: timed out"):
        get()


@pytest.mark.parametrize(
    ("error", "text"),
    [  # of the library that the client fetches some files by
        (ConnectionResetError("gone"), "the connection broke during model_index"),
        (RuntimeError("panic"), "the client of http.* failed at model_index.* panic; try again"),
    ],
)
def test_errors_of_the_clients_own_library(get, monkeypatch, error, text):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(ours, "hf_hub_download", fail)
    with pytest.raises(ValueError, match=text):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# the hub's refusals


@pytest.mark.parametrize("status", [401, 403])  # without and with a token
@pytest.mark.parametrize("what", ["api", "model_index.json"])
def test_a_gated_repository(get, hub, status, what):
    hub.state.faults[what] = Refusal(status, "GatedRepo")
    with pytest.raises(ValueError, match=r"maker/toy is gated: accept its licence on .*/maker/toy, .*`hf auth login`"):
        get("branch")


def test_a_login_that_is_refused(get, hub):
    hub.state.faults["api"] = Refusal(403)
    with pytest.raises(ValueError, match=r"refused the list of files .* with status 403.*see your login with `hf auth"):
        get()


def test_a_missing_repository(get, hub):
    del hub.state.repositories["maker/toy"]
    with pytest.raises(ValueError, match=r"maker/toy is not on http.*, or is private; no mirror of it is known"):
        get()


def test_a_mirror_of_a_missing_repository(get, hub, capfd):
    hub.state.repositories["archive/toy"] = hub.state.repositories.pop("maker/toy")
    folder = get("branch")
    assert content(folder) == CONTENT
    said = capfd.readouterr().err
    assert "maker/toy is not on" in said
    assert "trying its mirror copier/toy" in said
    assert "trying its mirror archive/toy" in said
    hub.state.requests.clear()
    assert get("branch") == folder == local("branch")
    assert hub.state.requests == []


def test_a_mirror_of_a_pinned_repository_is_asked_for_its_own_main(get, hub, cache, monkeypatch):
    """A commit is one repository's; the known sha256 hold a mirror to the same content."""
    known = {VAE: sha256(CONTENT[VAE]), UNET: sha256(CONTENT[UNET])}
    add(monkeypatch, mirrors=("copier/toy",), sha256=known)
    del hub.state.repositories["maker/toy"]
    hub.state.repositories["copier/toy"] = Repository(CONTENT, commit="d" * 40)
    folder = get()
    assert content(folder) == CONTENT and folder.name == "d" * 40
    hub.state.requests.clear()
    assert get() == folder == local("pinned")
    assert hub.state.requests == []
    shutil.rmtree(cache)
    hub.state.repositories["copier/toy"] = Repository(CONTENT | {UNET: b"another"}, commit="e" * 40)
    with pytest.raises(ValueError, match=f"{UNET} of copier/toy is not the published file"):
        get()


def test_no_mirror_either(get, hub):
    hub.state.repositories.clear()
    with pytest.raises(ValueError, match=r"archive/toy is not on .*; none of its mirrors is"):
        get("branch")
    assert [r.repository for r in hub.state.requests] == ["maker/toy", "copier/toy", "archive/toy"]


def test_a_mirror_is_not_asked_for_another_reason(get, hub):
    hub.state.repositories["copier/toy"] = REPOSITORY
    hub.state.faults["api"] = Refusal(500)
    with pytest.raises(ValueError, match="refused the list of files of maker/toy with status 500"):
        get("branch")
    assert {r.repository for r in hub.state.requests} == {"maker/toy"}


def test_a_missing_revision(get, hub):
    hub.state.repositories["maker/toy"] = Repository(CONTENT, commit="d" * 40)
    with pytest.raises(ValueError, match=f"maker/toy has no revision {REPOSITORY.commit}"):
        get()


def test_a_missing_file(get, hub):
    hub.state.repositories["maker/toy"] = Repository({k: v for k, v in CONTENT.items() if k not in (UNET, VOCABULARY)})
    with pytest.raises(ValueError, match=f"maker/toy has no {VOCABULARY}, {UNET} at {REPOSITORY.commit}"):
        get()
    assert [r.what for r in hub.state.requests] == ["api"]


def test_a_file_without_a_hash(get, hub):
    body = b'{"id": "-", "sha": "%s", "siblings": [%s]}' % (
        REPOSITORY.commit.encode(),
        b", ".join(b'{"rfilename": "%s", "size": 1}' % file.encode() for file in CONTENT),
    )
    hub.state.faults["api"] = Refusal(200, body=body)
    with pytest.raises(ValueError, match=r"gives no hash of model_index\.json in maker/toy"):
        get()
