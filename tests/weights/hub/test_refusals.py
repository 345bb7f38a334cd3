"""What can go wrong on the way: one clear sentence each, nothing half-written, and the next try succeeds."""

import errno
import shutil
from collections import namedtuple

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from tests.support.server import Damage, Refusal, Repository, git_hash, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, content, offline
from weights import hub as downloads
from weights.checkpoints import CHECKPOINTS

GATED = r"^maker/toy is gated: accept its licence on .*/maker/toy, .*`hf auth login`$"
UNHASHED = b'{"id": "-", "sha": "%s", "siblings": [%s]}' % (
    REPOSITORY.commit.encode(),
    b", ".join(b'{"rfilename": "%s", "size": 1}' % file.encode() for file in CONTENT),
)
CORRUPTED = "the content of {} of maker/toy is corrupted: expected the hash {}, found {}; the file was removed"


@pytest.mark.parametrize(
    "what, fault, sentence",
    [
        (UNET, Damage("truncate", 5_000), f"^the connection broke during {UNET} of maker/toy: .* try again$"),
        (UNET, Damage("lengthen"), f"^could not store {UNET} .* size 25600 but has size 25601.*; try again$"),
        (UNET, Refusal(500), f"refused {UNET} of maker/toy with status 500: .*; try again later$"),
        (UNET, Refusal(404, "EntryNotFound"), f"refused {UNET} of maker/toy with status 404"),
        ("model_index.json", Refusal(401, "GatedRepo"), GATED),
        ("api", Refusal(401, "GatedRepo"), GATED),  # without a token, and with one:
        ("api", Refusal(403, "GatedRepo"), GATED),
        ("api", Refusal(403), "refused the list of files .* status 403: .*; see your login with `hf auth whoami`$"),
        ("api", Refusal(404, "RevisionNotFound"), "^maker/toy has no revision main$"),
        ("api", Refusal(200, body=b"<html>Log in!</html>"), r"did not answer as a hub does .* is a login page between"),
        ("api", Refusal(200, body=b"[]"), "did not answer as a hub does"),
        ("api", Refusal(200, body=UNHASHED), r"gives no hash of model_index\.json in maker/toy"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value[0]} {value[1]}",
)
def test_a_fault_is_one_sentence_and_leaves_nothing(get, hub, cache, what, fault, sentence):
    hub.repositories["copier/toy"] = REPOSITORY  # a mirror, which is only asked when a repository is gone
    hub.faults[what] = fault
    with pytest.raises(ValueError, match=sentence):
        get("branch")
    assert len([r for r in hub.requests if r.what == what]) <= 16  # the client tries a few times
    assert {r.repository for r in hub.requests} == {"maker/toy"}
    before = 0 if what == "api" else [*CONTENT].index(what)  # files that came before it
    kept = {path.name for path in cache.rglob("blobs/*")}
    assert kept == {REPOSITORY.etag(file) for file in [*CONTENT][:before]}  # no part of a file either
    hub.faults.clear()
    hub.requests.clear()
    assert content(get("branch")) == CONTENT
    assert {r.what for r in hub.requests} == {"api", *[*CONTENT][before:]}


@pytest.mark.parametrize("file", [UNET, VOCABULARY])  # the hub records sha256 of one, git's hash of the other
def test_content_of_the_right_size_that_is_corrupted(get, hub, cache, file):
    hub.faults[file] = Damage("corrupt")
    expected, found = map(
        sha256 if file == UNET else git_hash, (CONTENT[file], bytes([CONTENT[file][0] ^ 1]) + CONTENT[file][1:])
    )
    with pytest.raises(ValueError, match=CORRUPTED.format(file, expected, found)):
        get()
    assert not [*cache.rglob(expected)]
    hub.faults.clear()
    assert content(get()) == CONTENT


@pytest.mark.parametrize("name, commit", [("branch", "../../../../evil"), ("branch", ""), ("pinned", "b" * 40)])
def test_a_commit_that_is_none_or_another(get, hub, tmp_path, name, commit):
    hub.faults["api"] = Refusal(200, body=b'{"id": "-", "sha": "%s", "siblings": []}' % commit.encode())
    with pytest.raises(ValueError, match=f"that {CHECKPOINTS[name].revision} of maker/toy is the commit '{commit}'"):
        get(name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(get, hub):
    hub.repositories["maker/toy"] = Repository({k: v for k, v in CONTENT.items() if k not in (UNET, VOCABULARY)})
    with pytest.raises(ValueError, match=f"^maker/toy has no {VOCABULARY}, {UNET} at {REPOSITORY.commit}$"):
        get()
    assert [r.what for r in hub.requests] == ["api"]


def test_no_network(get, hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match=f"^could not reach {hub.url} for .*maker/toy.*run `p2p download pinned`"):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# mirrors of a repository that is gone


def test_mirrors_are_asked_in_turn_when_a_repository_is_gone(get, hub, capfd):
    hub.repositories["archive/toy"] = hub.repositories.pop("maker/toy")
    folder = get("branch")
    assert content(folder) == CONTENT
    assert "maker/toy is not on" in capfd.readouterr().err
    hub.requests.clear()
    assert get("branch") == folder
    assert hub.requests == []
    hub.repositories.clear()
    shutil.rmtree(folder.parents[2])
    with pytest.raises(ValueError, match=r"^archive/toy is not on http.*, or is private; none of its mirrors is$"):
        get("branch")
    assert [r.repository for r in hub.requests] == ["maker/toy", "copier/toy", "archive/toy"]


def test_a_mirror_of_a_pinned_repository_must_have_its_content(get, hub, cache, pin):
    """A commit is one repository's; the known sha256 hold a mirror to the same content."""
    pin(mirrors=("copier/toy",), sha256={file: sha256(CONTENT[file]) for file in (VAE, UNET)})
    hub.repositories = {"copier/toy": Repository(CONTENT, commit="d" * 40)}
    folder = get()
    assert content(folder) == CONTENT and folder.name == "d" * 40
    with offline():
        assert get() == folder
    shutil.rmtree(cache)
    hub.repositories["copier/toy"] = Repository(CONTENT | {UNET: b"another"}, commit="e" * 40)
    with pytest.raises(ValueError, match=f"^{UNET} of copier/toy is not the published file"):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# offline, and disks


def test_offline_the_cache_suffices_or_what_is_missing_is_named(get, hub, cache):
    with (
        offline(),
        pytest.raises(ValueError, match=f"^branch may not be fetched offline, and nothing of it .* {cache}"),
    ):
        get("branch")
    assert hub.requests == []
    folder = get("branch")
    with offline():
        assert get("branch") == folder
        (folder / UNET).unlink()
        (folder / VOCABULARY).unlink()
        match = f"{folder} lacks {VOCABULARY}, {UNET}\\. Where there is a network, run `p2p download"
        with pytest.raises(ValueError, match=match):
            get("branch")


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_found_before_anything_is_fetched(get, hub, monkeypatch):
    total = sum(map(len, CONTENT.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, total - 1))
    with pytest.raises(ValueError, match=r"^no space for pinned in .*: 0\.0 MB are to be fetched, 0\.0 MB are free; "):
        get()
    assert [r.what for r in hub.requests] == ["api"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, total))
    (get() / VAE).unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, len(CONTENT[VAE])))
    assert content(get()) == CONTENT  # what is there needs no space


@pytest.mark.parametrize(
    "error, sentence",
    [
        (OSError(errno.ENOSPC, "No space"), r"^no space left in .* for model_index\.json of maker/toy; set HF_HOME"),
        (PermissionError(errno.EACCES, "Permission denied"), r"^could not store model_index\.json .*Permission denied"),
        (ConnectionResetError("gone"), "^the connection broke during model_index"),  # from the library for Xet
        (RuntimeError("panic"), r"^could not store model_index.*: panic; try again$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_while_a_file_is_written(get, cache, monkeypatch, error, sentence):
    def fail(url, temp_file, **_):
        temp_file.write(b"some")
        raise error

    with monkeypatch.context() as context:
        context.setattr(huggingface_hub.file_download, "http_get", fail)
        with pytest.raises(ValueError, match=sentence):
            get()
    assert not [path for path in cache.rglob("blobs/*") if path.is_file()]
    assert content(get()) == CONTENT


def test_a_corrupted_file_that_may_not_be_removed(get, monkeypatch):
    (get() / UNET).resolve().write_bytes(b"x" + CONTENT[UNET][1:])

    def refuse(*_):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(downloads, "discard", refuse)
    with pytest.raises(ValueError, match=r"is corrupted: .* could not be removed from the cache: .*read-only"):
        get()


def test_no_such_checkpoint():
    with pytest.raises(ValueError, match="no checkpoint 'sd3': give one of sd14, sd15"):
        downloads.download("sd3")
