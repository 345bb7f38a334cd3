"""What comes from the hub: a checkpoint's files byte for byte, no others, once, and verified whoever fetched them."""

import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest

from tests.support.server import Damage, Repository, sha256
from tests.support.toy import CONTENT, REPOSITORY, UNET, VAE, VOCABULARY, content, offline
from weights.checkpoints import CHECKPOINTS


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_the_files_come_byte_for_byte_and_once(get, hub, cache, name, tmp_path, capfd):
    folder = get(name)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "licence openrail++: use is free, but" in printed.err and f"maker/toy at {REPOSITORY.commit}" in printed.err
    assert content(folder) == CONTENT
    assert {r.what for r in hub.requests} == {"api", *CONTENT}
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]  # no listed name becomes a path
    hub.repositories["maker/toy"] = Repository(CONTENT | {VAE: b"new"}, commit="f" * 40)
    hub.requests.clear()
    assert get(name) == folder  # a branch stays at the commit that was fetched
    assert hub.requests == []
    # for other programs too, and nothing is wrong with the cache for them
    found = huggingface_hub.scan_cache_dir(cache)
    ((revision,),) = [repository.revisions for repository in found.repos]
    refs = {"main"} if name == "branch" else set()
    assert (found.warnings, revision.commit_hash, revision.refs) == ([], REPOSITORY.commit, refs)


def test_a_dropped_connection_is_resumed_where_it_broke(get, hub):
    hub.faults[UNET] = Damage("drop", after=12_345)
    assert content(get()) == CONTENT
    # the client keeps whole chunks, here of 1,000 bytes
    assert [r.range for r in hub.requests if r.what == UNET and r.method == "GET"][-1] == "bytes=12000-"


def test_pickles_are_taken_but_not_in_place_of_known_weights(get, hub, pin):
    pickled = {"vae/pytorch_model.bin" if file == VAE else file: data for file, data in CONTENT.items()}
    hub.repositories["maker/toy"] = Repository(pickled)
    pin(sha256={VAE: sha256(CONTENT[VAE])})
    with pytest.raises(ValueError, match=f"maker/toy at {REPOSITORY.commit} lacks {VAE}"):
        get()
    pin()
    assert content(get()) == pickled == content(get())


# ---------------------------------------------------------------------------------------------------------------------
# verified


def test_a_file_is_hashed_once_until_it_changes(get, cache, hashed):
    folder = get()
    assert len(hashed) == len(CONTENT)
    hashed.clear()
    get()
    assert hashed == []
    os.utime(folder / UNET, (1, 1))  # as after a copy
    assert get() == get() == folder
    assert hashed == [Path(UNET).name]
    marks = cache / "models--maker--toy/verified"
    for damaged in (b"\xff", b"{", b""):
        hashed.clear()
        (marks / f"{REPOSITORY.commit}.json").write_bytes(damaged)
        assert get() == folder
        assert len(hashed) == len(CONTENT)
    shutil.rmtree(marks)
    marks.write_bytes(b"")  # as in a read-only cache, nothing can be written below it, even by root
    hashed.clear()
    assert get() == get() == folder
    assert len(hashed) == 2 * len(CONTENT)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("changed", [b"x" + CONTENT[UNET][1:], CONTENT[UNET] + b"!"], ids=["content", "size alone"])
def test_a_file_that_changes_in_the_cache(get, hub, monkeypatch, links, changed):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    folder = get()
    path = (folder / UNET).resolve()
    assert (path == folder / UNET) is not links
    with offline():
        assert get() == folder
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


@pytest.mark.parametrize("name", ["pinned", "branch"])
@pytest.mark.parametrize("damaged", [True, False])
def test_what_another_program_fetched_is_verified(get, hub, name, damaged, hashed):
    hub.faults |= {VAE: Damage("corrupt")} if damaged else {}
    for file in CONTENT:
        huggingface_hub.hf_hub_download("maker/toy", file, revision=CHECKPOINTS[name].revision)
    with offline():
        if damaged:
            with pytest.raises(ValueError, match=f"content of {VAE} of maker/toy is corrupted"):
                get(name)
        else:
            assert content(get(name)) == CONTENT
            assert len(hashed) == len(CONTENT)


def test_another_model_under_the_name_is_not_fetched(get, hub, cache, pin):
    get()
    pin(sha256={UNET: "a" * 64})
    for kept in (True, False):
        hub.requests.clear()
        with pytest.raises(ValueError, match=f"lacks {UNET}, or has another than was published"):
            get()
        assert [r.what for r in hub.requests] == ["api"]
        # what is in the cache is as the hub has it, and may be another program's
        assert bool([*cache.rglob(REPOSITORY.etag(UNET))]) is kept
        shutil.rmtree(cache, ignore_errors=True)


def test_the_sha256_of_a_file_in_git_is_checked_too(get, pin):
    pin(sha256={VOCABULARY: "a" * 64})
    found = sha256(CONTENT[VOCABULARY])
    with pytest.raises(ValueError, match=f"content of {VOCABULARY} .*its hash is {found}, not {'a' * 64}"):
        get()
    pin(sha256={VOCABULARY: found})
    assert content(get()) == CONTENT
