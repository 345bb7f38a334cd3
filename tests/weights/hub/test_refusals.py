"""What can go wrong on the way: one clear sentence each, nothing half-written, and the next try succeeds."""

import errno
import shutil
import warnings
from collections import namedtuple
from contextlib import nullcontext

import huggingface_hub.file_download
import pytest

from tests.support.server import Damage, Refusal, Repository, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, content, offline
from weights import hub as downloads

GATED = r"^maker/toy is gated: accept its licence on .*/maker/toy, .*`hf auth login`$"
UNFETCHED = "^could not fetch maker/toy .* try again$"


def info(commit: str = REPOSITORY.commit, file: str = "") -> Refusal:
    """What a hub says of a repository, whose files have no hashes."""
    files = f'{{"rfilename": "{file}", "size": 1}}' if file else ""
    return Refusal(200, body=f'{{"id": "-", "sha": "{commit}", "siblings": [{files}]}}'.encode())


@pytest.mark.parametrize(
    "what, fault, sentence",
    [
        (UNET, Damage("truncate", 5_000), UNFETCHED),
        (UNET, Damage("lengthen"), UNFETCHED),
        (UNET, Refusal(500), "refused maker/toy: .*500.* try again later$"),
        (UNET, Refusal(404, "EntryNotFound"), "refused maker/toy: .*404"),
        ("model_index.json", Refusal(401, "GatedRepo"), GATED),
        ("api", Refusal(403, "GatedRepo"), GATED),
        ("api", Refusal(403), "refused maker/toy: .*403.*`hf auth whoami`"),
        ("api", Refusal(404, "RevisionNotFound"), "refused maker/toy: .*404.* Revision Not Found"),
        ("api", Refusal(200, body=b"<html>Log in!</html>"), UNFETCHED),
        ("api", Refusal(200, body=b"[]"), UNFETCHED),
        ("api", info(file="model_index.json"), r"lacks model_index\.json, "),
        ("api", info("../../../../evil"), r"has '\.\./\.\./\.\./\.\./evil' as main of maker/toy, which cannot be"),
        ("api", info(""), "has '' as main of maker/toy, which cannot be"),
    ],
    ids=range(13),
)
def test_a_fault_is_one_sentence_and_leaves_nothing(get, hub, cache, what, fault, sentence):
    hub.repositories["copier/toy"] = REPOSITORY  # a mirror, which is only asked when a repository is gone
    hub.faults[what] = fault
    with pytest.raises(ValueError, match=sentence) as error:
        get("branch")
    assert str(error.value).count("\n") == 0
    assert len([r for r in hub.requests if r.what == what]) <= 16  # the client tries a few times
    assert {r.repository for r in hub.requests} == {"maker/toy"}
    # no part of a file
    assert {path.name for path in cache.rglob("blobs/*")} <= {REPOSITORY.etag(file) for file in CONTENT if file != what}
    hub.faults.clear()
    assert content(get("branch")) == CONTENT


@pytest.mark.parametrize("file", [UNET, VOCABULARY])  # the hub records sha256 of one, git's hash of the other
def test_content_of_the_right_size_that_is_corrupted(get, hub, cache, file):
    hub.faults[file] = Damage("corrupt")
    with pytest.raises(
        ValueError, match=f"content of {file} of maker/toy is corrupted: .* not {REPOSITORY.etag(file)};"
    ):
        get()
    assert not [*cache.rglob(REPOSITORY.etag(file))]
    hub.faults.clear()
    assert content(get()) == CONTENT


def test_a_repository_with_another_commit_or_fewer_files(get, hub, tmp_path):
    hub.faults["api"] = info("b" * 40)
    with pytest.raises(ValueError, match=f"has '{'b' * 40}' as {REPOSITORY.commit} of maker/toy"):
        get()
    hub.faults.clear()
    hub.repositories["maker/toy"] = Repository({k: v for k, v in CONTENT.items() if k not in (UNET, VOCABULARY)})
    with pytest.raises(ValueError, match=f"^maker/toy at {REPOSITORY.commit} lacks {VOCABULARY}, {UNET}, or "):
        get()
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_leaves_out_a_file_is_refused(get, monkeypatch):
    folder = get()
    (folder / UNET).unlink()
    monkeypatch.setattr(downloads, "snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(ValueError, match="could not fetch maker/toy"):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# mirrors of a repository that is gone


def test_mirrors_are_asked_in_turn_when_a_repository_is_gone(get, hub, cache, capfd):
    hub.repositories["archive/toy"] = hub.repositories.pop("maker/toy")
    folder = get("branch")
    assert content(folder) == CONTENT
    assert "maker/toy is not on" in capfd.readouterr().err
    hub.requests.clear()
    assert get("branch") == folder
    assert hub.requests == []
    hub.repositories.clear()
    shutil.rmtree(cache)
    with pytest.raises(ValueError, match=r"^archive/toy is not on http.*, or is private: give the folder of a copy"):
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
    with pytest.raises(ValueError, match=f"^copier/toy at e* lacks {UNET}, or has another"):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# no network, and disks


@pytest.mark.parametrize("how", ["offline", "no network"])
def test_without_a_network_the_cache_suffices(get, hub, cache, how):
    folder = get("branch")
    hub.reachable = how == "offline"
    with offline() if how == "offline" else nullcontext():
        assert get("branch") == folder
        (folder / UNET).unlink()
        match = f"^branch is not complete in {cache}/models--maker--toy, .*; run `p2p download branch` where there is a"
        with pytest.raises(ValueError, match=match):
            get("branch")


Usage = namedtuple("Usage", "total used free")


def test_a_file_that_the_disk_has_no_space_for_is_not_begun(get, hub, monkeypatch):
    with monkeypatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, len(CONTENT[UNET]) - 1))
        with pytest.raises(ValueError, match=r"^no space for pinned in .*set HF_HOME"):
            get()
    assert not [r for r in hub.requests if (r.what, r.method) == (UNET, "GET")]
    assert content(get()) == CONTENT


@pytest.mark.parametrize(
    "code, sentence", [(errno.ENOSPC, "no space for pinned in"), (errno.EACCES, "could not fetch")]
)
def test_errors_while_a_file_is_written(get, cache, monkeypatch, code, sentence):
    def fail(url, temp_file, **_):
        temp_file.write(b"some")
        raise OSError(code, "because")

    with monkeypatch.context() as context:
        context.setattr(huggingface_hub.file_download, "http_get", fail)
        with pytest.raises(ValueError, match=f"^{sentence} .*because"):
            get()
    assert not [path for path in cache.rglob("blobs/*") if path.is_file()]
    assert content(get()) == CONTENT


def test_no_such_checkpoint():
    with pytest.raises(ValueError, match="no checkpoint 'sd3': give one of sd14, sd15"):
        downloads.download("sd3")
