"""What was fetched is hashed: content that is not the published is found, whoever fetched or changed it."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from tests.support.server import Fault, git_name, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, add, blob, content, offline
from weights import hub as cached
from weights.checkpoints import CHECKPOINTS
from weights.hub import local


@pytest.mark.parametrize("file", [UNET, VOCABULARY])
def test_content_of_the_right_size_that_is_corrupted(get, hub, cache, file):
    """The client takes it; of a file in git the hub records git's sha1, of the others sha256."""
    hub.state.faults[file] = Fault("corrupt")
    corrupted = bytes([CONTENT[file][0] ^ 1]) + CONTENT[file][1:]
    hashed = sha256 if file == UNET else git_name
    hashes = f"expected the hash {hashed(CONTENT[file])}, found {hashed(corrupted)}"
    with pytest.raises(ValueError, match=f"content of {file} of maker/toy is corrupted: {hashes}"):
        get()
    assert not blob(cache, hashed(CONTENT[file])).exists()
    assert local("pinned") is None
    hub.state.faults.clear()
    assert content(get()) == CONTENT


def test_hashes_are_those_of_git_and_sha256sum(tmp_path):
    """printf 'hello\\n' | git hash-object --stdin; printf 'hello\\n' | sha256sum"""
    (tmp_path / "file").write_bytes(b"hello\n")
    assert cached.digest(tmp_path / "file", "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert (
        cached.digest(tmp_path / "file", "0" * 64) == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )


def test_what_was_verified_is_not_hashed_again_until_it_changes(get, hashed):
    folder = get()
    assert len(hashed) == len(CONTENT)
    hashed.clear()
    assert local("pinned") == folder
    assert hashed == []
    os.utime(folder / UNET, (1, 1))  # as after a copy
    for _ in range(2):
        assert local("pinned") == folder
    assert hashed == [Path(UNET).name]


def test_a_file_changed_in_the_cache_is_found_and_fetched_afresh(get, hub):
    folder = get()
    (folder / UNET).resolve().write_bytes(b"x" + CONTENT[UNET][1:])
    with pytest.raises(ValueError, match=f"content of {UNET} of maker/toy is corrupted"):
        local("pinned")
    assert content(get()) == CONTENT


def test_a_file_of_another_size_is_found_even_if_its_time_is_the_same(get):
    path = (get() / UNET).resolve()
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(CONTENT[UNET] + b"!")
    os.utime(path, ns=(time_ns, time_ns))
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned")


def test_a_snapshot_that_links_out_of_the_cache_does_not_cost_the_file_there(get, hub, tmp_path):
    folder = get()
    mine = tmp_path / sha256(CONTENT[UNET])
    mine.write_bytes(b"my own model")
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(mine)
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned")
    assert mine.read_bytes() == b"my own model"
    assert content(get()) == CONTENT


@pytest.mark.parametrize("note", [b"", b"[1]", b'{"unet/config.json": 3}', b"\xff"])
def test_a_damaged_note_is_as_good_as_none(get, cache, hashed, note):
    folder = get()
    hashed.clear()
    (found,) = cache.glob("models--maker--toy/verified/*")
    found.write_bytes(note)
    assert local("pinned") == folder
    assert len(hashed) == len(CONTENT)


def test_a_cache_that_may_only_be_read_is_verified_each_time(get, cache, hashed, monkeypatch):
    folder = get()
    (found,) = cache.glob("models--maker--toy/verified/*")
    found.unlink()
    hashed.clear()

    def refuse(*_):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(cached, "save_atomically", refuse)
    for _ in range(2):
        assert local("pinned") == folder
    assert len(hashed) == 2 * len(CONTENT)


def test_a_corrupted_file_that_may_not_be_removed(get, cache, monkeypatch):
    folder = get()
    (folder / UNET).resolve().write_bytes(b"x" + CONTENT[UNET][1:])

    def refuse(*_):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(cached, "discard", refuse)
    with pytest.raises(ValueError, match=r"is corrupted: .* could not be removed from the cache: .*read-only"):
        local("pinned")


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_what_another_program_fetched_counts_and_is_verified(get, hub, cache, name, hashed):
    for file in CONTENT:
        huggingface_hub.hf_hub_download(
            "maker/toy", file, revision=CHECKPOINTS[name].revision, endpoint=hub.url, cache_dir=cache
        )
    hub.state.requests.clear()
    with offline():
        assert content(get(name)) == CONTENT
    assert hub.state.requests == []
    assert len(hashed) == len(CONTENT)


def test_what_another_program_took_corrupted_is_found(hub, get, cache):
    hub.state.faults[VAE] = Fault("corrupt")
    for file in CONTENT:
        huggingface_hub.hf_hub_download(
            "maker/toy", file, revision=REPOSITORY.commit, endpoint=hub.url, cache_dir=cache
        )
    with pytest.raises(ValueError, match=f"content of {VAE} of maker/toy is corrupted"):
        get()


def test_a_repository_with_another_model_under_the_name_is_refused_before_it_is_fetched(get, hub, cache, monkeypatch):
    get()
    add(monkeypatch, sha256={UNET: "a" * 64})
    assert local("pinned") is None
    with pytest.raises(ValueError, match=f"{UNET} of maker/toy is not the published file: .*one {'a' * 64}"):
        get()
    assert blob(cache, REPOSITORY.etag(UNET)).exists()  # it is as the hub has it, and may be another program's
    shutil.rmtree(cache)
    hub.state.requests.clear()
    with pytest.raises(ValueError, match="is not the published file"):
        get()
    assert [r.what for r in hub.state.requests] == ["api"]


def test_the_sha256_of_a_file_in_git_is_checked_too(get, monkeypatch):
    add(monkeypatch, sha256={VOCABULARY: "a" * 64})
    found = hashlib.sha256(CONTENT[VOCABULARY]).hexdigest()
    with pytest.raises(ValueError, match=f"content of {VOCABULARY} .*expected the hash {'a' * 64}, found {found}"):
        get()
    add(monkeypatch, sha256={VOCABULARY: found})
    assert content(get()) == CONTENT


def test_no_name_that_a_server_lists_becomes_a_path(get, hub, tmp_path):
    get()
    assert {r.what for r in hub.state.requests} == {"api", *CONTENT}
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_a_branch_s_commit_in_the_cache_is_no_path(get, cache):
    folder = get("branch")
    elsewhere = cache / "elsewhere"
    for file in CONTENT:
        (elsewhere / file).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / file).symlink_to((folder / file).resolve())
    assert local("branch") == folder
    (cache / "models--maker--toy/refs/main").write_text("../../elsewhere")
    assert local("branch") is None
