"""What comes from the hub: a checkpoint's files byte for byte, no others, once, and verified whoever fetched them."""

import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from tests.support.server import Damage, Repository, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, content, offline
from weights import hub as downloads
from weights.checkpoints import CHECKPOINTS


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_the_files_come_byte_for_byte_and_once(get, hub, name, tmp_path):
    folder = get(name)
    assert content(folder) == CONTENT
    assert folder.name == REPOSITORY.commit
    assert {r.what for r in hub.requests} == {"api", *CONTENT}
    assert sum(r.what == "api" for r in hub.requests) == 1
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]  # no listed name becomes a path
    hub.requests.clear()
    assert get(name) == folder
    assert hub.requests == []


def test_a_dropped_connection_is_resumed_where_it_broke(get, hub):
    hub.faults[UNET] = Damage("drop", after=12_345)
    assert content(get()) == CONTENT
    # the client keeps whole chunks, here of 1,000 bytes
    assert [r.range for r in hub.requests if r.what == UNET and r.method == "GET"][-1] == "bytes=12000-"


def test_licence_size_and_commit_are_shown_before_a_download(get, capfd, monkeypatch):
    def nothing(*_, **__):
        raise OSError("stop")

    monkeypatch.setattr(downloads, "hf_hub_download", nothing)
    with pytest.raises(ValueError, match="stop"):
        get()
    printed = capfd.readouterr()
    assert printed.out == ""
    total = sum(map(len, CONTENT.values())) / 1e6
    for text in ("licence openrail++: use is free, but", "maker/toy", REPOSITORY.commit, f"{total:.1f} MB to fetch"):
        assert text in printed.err


def test_the_client_finds_nothing_wrong_with_the_cache(get, cache):
    get("branch")
    found = huggingface_hub.scan_cache_dir(cache)
    assert found.warnings == []
    ((revision,),) = [repository.revisions for repository in found.repos]
    assert (revision.commit_hash, revision.refs) == (REPOSITORY.commit, {"main"})  # `hf cache prune` keeps it


def test_pickles_are_taken_but_not_in_place_of_known_weights(get, hub, pin):
    pickled = {"vae/pytorch_model.bin" if file == VAE else file: data for file, data in CONTENT.items()}
    hub.repositories["maker/toy"] = Repository(pickled)
    pin(sha256={VAE: sha256(CONTENT[VAE])})
    with pytest.raises(ValueError, match=f"maker/toy has no {VAE} at {REPOSITORY.commit}"):
        get()
    pin()
    assert content(get()) == pickled


def test_a_branch_stays_at_the_commit_that_was_fetched(get, hub, cache):
    folder = get("branch")
    hub.repositories["maker/toy"] = Repository(CONTENT | {VAE: b"new"}, commit="f" * 40)
    assert get("branch") == folder
    # other programs that ask the client for the branch find the same commit
    found = huggingface_hub.try_to_load_from_cache("maker/toy", VAE, cache_dir=cache)
    assert Path(found).read_bytes() == CONTENT[VAE]


# ---------------------------------------------------------------------------------------------------------------------
# verified


def test_a_file_is_hashed_once_until_it_changes(get, hashed):
    folder = get()
    assert len(hashed) == len(CONTENT)
    hashed.clear()
    get()
    assert hashed == []
    os.utime(folder / UNET, (1, 1))  # as after a copy
    get()
    get()
    assert hashed == [Path(UNET).name]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("changed", [b"x" + CONTENT[UNET][1:], CONTENT[UNET] + b"!"], ids=["content", "size alone"])
def test_a_file_that_changes_in_the_cache(get, hub, monkeypatch, links, changed):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    folder = get()
    path = (folder / UNET).resolve()
    assert (path == folder / UNET) is not links
    hub.requests.clear()
    assert get() == folder and hub.requests == []
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(changed)
    if len(changed) > len(CONTENT[UNET]):
        os.utime(path, ns=(time_ns, time_ns))
    with offline(), pytest.raises(ValueError, match=f"content of {UNET} of maker/toy is corrupted"):
        get()
    assert content(get()) == CONTENT


def test_a_link_out_of_the_cache_does_not_cost_the_file_there(get, tmp_path):
    folder = get()
    mine = tmp_path / sha256(CONTENT[UNET])
    mine.write_bytes(b"my own model")
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(mine)
    with pytest.raises(ValueError, match="corrupted"):
        get()
    assert mine.read_bytes() == b"my own model"
    assert content(get()) == CONTENT


def test_a_damaged_mark_is_as_good_as_none(get, cache, hashed):
    folder = get()
    hashed.clear()
    (cache / "models--maker--toy/verified" / REPOSITORY.commit / UNET).write_bytes(b"\xff")
    assert get() == folder
    assert hashed == [Path(UNET).name]


def test_a_read_only_cache_is_verified_each_time(get, cache, hashed):
    folder = get()
    shutil.rmtree(cache / "models--maker--toy/verified")
    (cache / "models--maker--toy/verified").write_bytes(b"")  # nothing can be written below it, even by root
    hashed.clear()
    assert get() == get() == folder
    assert len(hashed) == 2 * len(CONTENT)


@pytest.mark.parametrize("name", ["pinned", "branch"])
@pytest.mark.parametrize("damaged", [True, False])
def test_what_another_program_fetched_is_verified(get, hub, cache, name, damaged, hashed):
    hub.faults |= {VAE: Damage("corrupt")} if damaged else {}
    for file in CONTENT:
        huggingface_hub.hf_hub_download("maker/toy", file, revision=CHECKPOINTS[name].revision)
    hub.requests.clear()
    with offline():
        if damaged:
            with pytest.raises(ValueError, match=f"content of {VAE} of maker/toy is corrupted"):
                get(name)
        else:
            assert content(get(name)) == CONTENT
            assert len(hashed) == len(CONTENT)
    assert hub.requests == []


def test_another_model_under_the_name_is_not_fetched(get, hub, cache, pin):
    get()
    pin(sha256={UNET: "a" * 64})
    with pytest.raises(ValueError, match=f"{UNET} of maker/toy is not the published file: .*one {'a' * 64}"):
        get()
    assert [*cache.rglob(REPOSITORY.etag(UNET))]  # it is as the hub has it, and may be another program's
    shutil.rmtree(cache)
    hub.requests.clear()
    with pytest.raises(ValueError, match="is not the published file"):
        get()
    assert [r.what for r in hub.requests] == ["api"]


def test_the_sha256_of_a_file_in_git_is_checked_too(get, pin):
    pin(sha256={VOCABULARY: "a" * 64})
    found = sha256(CONTENT[VOCABULARY])
    with pytest.raises(ValueError, match=f"content of {VOCABULARY} .*expected the hash {'a' * 64}, found {found}"):
        get()
    pin(sha256={VOCABULARY: found})
    assert content(get()) == CONTENT
