"""Downloads, against a hub on this machine: what is right comes byte for byte, and what is wrong is one clear error."""

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.file_download
import pytest
from hub_server import Fault, Hub, Refusal, Repository, Silence, git_name, sha256

from weights import cache as cached
from weights import hub as ours
from weights.checkpoints import CHECKPOINTS, LICENCES, STABLE_DIFFUSION, Checkpoint
from weights.hub import download, local

UNET, VAE, VOCABULARY = "unet/diffusion_pytorch_model.safetensors", "vae/model.safetensors", "tokenizer/vocab.json"
CONTENT = {
    "model_index.json": b'{"a": 1}',
    VOCABULARY: b'{"a</w>": 0}' * 100,
    VAE: b"vae" * 1000,
    UNET: bytes(range(256)) * 100,  # 25,600 bytes
}
NOT_WANTED = {
    "README.md": b"hello",
    "unet/diffusion_pytorch_model.fp16.safetensors": b"half",
    "safety_checker/model.safetensors": b"no",
    "../../../evil": b"evil",
    "/evil": b"evil",
}
REPOSITORY = Repository(CONTENT | NOT_WANTED)
TOY = Checkpoint(
    about="a toy", hub="maker/toy", licence="openrail++", size=0, files=tuple(CONTENT), revision=REPOSITORY.commit
)


@pytest.fixture
def hub(monkeypatch):
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
        server.state.repositories["maker/toy"] = REPOSITORY
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "deep" / "cache"


@pytest.fixture
def get(hub, cache):
    """Download from the local hub into an empty cache."""
    return lambda name="pinned", **options: download(name, endpoint=hub.url, cache_dir=cache, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def blob(cache: Path, hashed: str) -> Path:
    return cache / "models--maker--toy" / "blobs" / hashed


def add(monkeypatch, **changes) -> None:
    """Change the pinned checkpoint."""
    monkeypatch.setitem(CHECKPOINTS, "pinned", Checkpoint(**vars(TOY) | changes))


# ---------------------------------------------------------------------------------------------------------------------
# what comes


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_the_files_come_byte_for_byte_and_no_others_and_are_not_asked_for_again(get, hub, cache, name):
    assert local(name, cache_dir=cache) is None
    folder = get(name)
    assert content(folder) == CONTENT
    assert folder.name == REPOSITORY.commit
    assert {r.what for r in hub.state.requests} == {"api", *CONTENT}
    assert sum(r.what == "api" for r in hub.state.requests) == 1
    hub.state.requests.clear()
    assert get(name) == folder == local(name, cache_dir=cache)
    assert hub.state.requests == []


def test_licence_size_and_commit_are_said_before_anything_is_fetched(get, hub, capfd, monkeypatch):
    def nothing(*_, **__):
        raise OSError("stop")

    monkeypatch.setattr(ours, "hf_hub_download", nothing)
    with pytest.raises(ValueError, match="stop"):
        get()
    said = capfd.readouterr()
    assert said.out == ""
    total = sum(map(len, CONTENT.values())) / 1e6
    for text in ("licence openrail++: use is free, but", "maker/toy", REPOSITORY.commit, f"{total:.1f} MB to fetch"):
        assert text in said.err


def test_the_clients_progress_bars_are_shown_on_a_terminal(get, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    get()
    assert terminal.getvalue().count("100%") >= len(CONTENT)


def test_the_settings_of_the_client_hold(hub, tmp_path):
    """It reads them when it is imported, so in a process of its own."""
    script = (
        "from weights.checkpoints import *\nfrom weights.hub import *\n"
        f"CHECKPOINTS['pinned'] = {TOY!r}\nprint(download('pinned'))\nassert local('pinned')"
    )
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    unset = {variable: value for variable, value in os.environ.items() if not variable.startswith("HF_")}
    done = subprocess.run([sys.executable, "-c", script], env=unset | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "home")
    assert content(folder) == CONTENT


def test_the_clients_own_tools_find_nothing_wrong_with_the_cache(get, cache):
    get("branch")
    found = huggingface_hub.scan_cache_dir(cache)
    assert found.warnings == []
    ((revision,),) = [repository.revisions for repository in found.repos]
    assert (revision.commit_hash, revision.refs) == (REPOSITORY.commit, {"main"})  # `hf cache prune` keeps it


def test_a_file_that_has_come_is_not_fetched_again_after_a_failure(get, hub):
    hub.state.faults[UNET] = Refusal(404, "EntryNotFound")
    with pytest.raises(ValueError, match="does not have"):
        get()
    hub.state.faults.clear()
    hub.state.requests.clear()
    assert content(get()) == CONTENT
    assert {r.what for r in hub.state.requests} == {"api", UNET}


def test_weights_that_exist_as_pickles_alone_are_taken_so_but_not_in_place_of_known_ones(get, hub, monkeypatch):
    pickled = {"vae/pytorch_model.bin" if file == VAE else file: data for file, data in CONTENT.items()}
    hub.state.repositories["maker/toy"] = Repository(pickled)
    add(monkeypatch, sha256={VAE: sha256(CONTENT[VAE])})
    with pytest.raises(ValueError, match=f"maker/toy has no {VAE} at {REPOSITORY.commit}"):
        get()
    add(monkeypatch)
    assert content(get()) == pickled


def test_a_branch_stays_at_the_commit_that_was_fetched(get, hub, cache):
    folder = get("branch")
    hub.state.repositories["maker/toy"] = Repository(CONTENT | {VAE: b"new"}, commit="f" * 40)
    assert get("branch") == folder
    # other programs that ask the client for the branch find the same commit
    found = huggingface_hub.try_to_load_from_cache("maker/toy", VAE, cache_dir=cache)
    assert Path(found).read_bytes() == CONTENT[VAE]


def test_a_system_without_links(get, hub, cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    folder = get()
    assert not (folder / UNET).is_symlink()
    assert content(folder) == CONTENT
    hub.state.requests.clear()
    assert get() == folder
    assert hub.state.requests == []
    (folder / UNET).write_bytes(b"x" + CONTENT[UNET][1:])
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned", cache_dir=cache)
    assert content(get()) == CONTENT


def test_no_such_checkpoint(cache):
    with pytest.raises(ValueError, match="no checkpoint 'sd3': give one of sd14, sd15"):
        download("sd3", cache_dir=cache)
    with pytest.raises(ValueError, match="no checkpoint 'sd3'"):
        local("sd3", cache_dir=cache)


# ---------------------------------------------------------------------------------------------------------------------
# connections


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
    assert local("pinned", cache_dir=cache) is None
    blobs = {path.name for path in blob(cache, "").iterdir()}
    assert blobs == {REPOSITORY.etag(file) for file in CONTENT if file != UNET}  # no part of a file either
    hub.state.faults.clear()
    assert content(get()) == CONTENT


def test_an_interrupted_download_leaves_nothing_that_counts(get, hub, cache, monkeypatch):
    hub.state.faults[UNET] = Fault("drop", after=12_345)

    def interrupt(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(time, "sleep", interrupt)  # where the client is when half of the file is there
        with pytest.raises(KeyboardInterrupt):
            get()
    assert not list(cache.rglob("*.incomplete"))
    assert not blob(cache, REPOSITORY.etag(UNET)).exists()
    assert local("pinned", cache_dir=cache) is None
    with pytest.raises(ValueError, match=f"snapshots/{REPOSITORY.commit} lacks {UNET}\\."):
        get(offline=True)
    assert content(get()) == CONTENT


def test_no_network(get, hub, cache):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ValueError, match=f"could not reach {hub.url} for .*maker/toy.*run `p2p download pinned`"):
        get()


def test_no_network_when_it_is_a_file_s_turn(get, hub, cache, monkeypatch):
    unreachable = huggingface_hub.utils.httpx.ConnectError("refused")

    def head(*_, **__):
        raise unreachable

    monkeypatch.setattr(huggingface_hub.file_download, "get_hf_file_metadata", head)
    with pytest.raises(ValueError, match=r"could not reach .* for model_index\.json of maker/toy: refused"):
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


def test_a_mirror_of_a_missing_repository(get, hub, cache, capfd):
    hub.state.repositories["archive/toy"] = hub.state.repositories.pop("maker/toy")
    folder = get("branch")
    assert content(folder) == CONTENT
    said = capfd.readouterr().err
    assert "maker/toy is not on" in said
    assert "trying its mirror copier/toy" in said
    assert "trying its mirror archive/toy" in said
    hub.state.requests.clear()
    assert get("branch") == folder == local("branch", cache_dir=cache)
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
    assert get() == folder == local("pinned", cache_dir=cache)
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


# ---------------------------------------------------------------------------------------------------------------------
# content


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
    assert local("pinned", cache_dir=cache) is None
    hub.state.faults.clear()
    assert content(get()) == CONTENT


def test_hashes_are_those_of_git_and_sha256sum(tmp_path):
    """printf 'hello\\n' | git hash-object --stdin; printf 'hello\\n' | sha256sum"""
    (tmp_path / "file").write_bytes(b"hello\n")
    assert cached.digest(tmp_path / "file", "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert (
        cached.digest(tmp_path / "file", "0" * 64) == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    )


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the files that were hashed."""
    names, digest = [], cached.digest

    def noting(path, like):
        names.append(path.name)
        return digest(path, like)

    monkeypatch.setattr(cached, "digest", noting)
    return names


def test_what_was_verified_is_not_hashed_again_until_it_changes(get, cache, hashed):
    folder = get()
    assert len(hashed) == len(CONTENT)
    hashed.clear()
    assert local("pinned", cache_dir=cache) == folder
    assert hashed == []
    os.utime(folder / UNET, (1, 1))  # as after a copy
    for _ in range(2):
        assert local("pinned", cache_dir=cache) == folder
    assert hashed == [Path(UNET).name]


def test_a_file_changed_in_the_cache_is_found_and_fetched_afresh(get, hub, cache):
    folder = get()
    (folder / UNET).resolve().write_bytes(b"x" + CONTENT[UNET][1:])
    with pytest.raises(ValueError, match=f"content of {UNET} of maker/toy is corrupted"):
        local("pinned", cache_dir=cache)
    assert content(get()) == CONTENT


def test_a_file_of_another_size_is_found_even_if_its_time_is_the_same(get, cache):
    path = (get() / UNET).resolve()
    time_ns = path.stat().st_mtime_ns
    path.write_bytes(CONTENT[UNET] + b"!")
    os.utime(path, ns=(time_ns, time_ns))
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned", cache_dir=cache)


def test_a_snapshot_that_links_out_of_the_cache_does_not_cost_the_file_there(get, hub, cache, tmp_path):
    folder = get()
    mine = tmp_path / sha256(CONTENT[UNET])
    mine.write_bytes(b"my own model")
    (folder / UNET).unlink()
    (folder / UNET).symlink_to(mine)
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned", cache_dir=cache)
    assert mine.read_bytes() == b"my own model"
    assert content(get()) == CONTENT


@pytest.mark.parametrize("note", [b"", b"[1]", b'{"unet/config.json": 3}', b"\xff"])
def test_a_damaged_note_is_as_good_as_none(get, cache, hashed, note):
    folder = get()
    hashed.clear()
    (found,) = cache.glob("models--maker--toy/verified/*")
    found.write_bytes(note)
    assert local("pinned", cache_dir=cache) == folder
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
        assert local("pinned", cache_dir=cache) == folder
    assert len(hashed) == 2 * len(CONTENT)


def test_a_corrupted_file_that_may_not_be_removed(get, cache, monkeypatch):
    folder = get()
    (folder / UNET).resolve().write_bytes(b"x" + CONTENT[UNET][1:])

    def refuse(*_):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(cached, "discard", refuse)
    with pytest.raises(ValueError, match=r"is corrupted: .* could not be removed from the cache: .*read-only"):
        local("pinned", cache_dir=cache)


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_what_another_program_fetched_counts_and_is_verified(get, hub, cache, name, hashed):
    for file in CONTENT:
        huggingface_hub.hf_hub_download(
            "maker/toy", file, revision=CHECKPOINTS[name].revision, endpoint=hub.url, cache_dir=cache
        )
    hub.state.requests.clear()
    assert content(get(name, offline=True)) == CONTENT
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
    assert local("pinned", cache_dir=cache) is None
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
    # nor does the client let one
    with pytest.raises(ValueError, match="Invalid filename"):
        huggingface_hub.hf_hub_download(
            "maker/toy", "../../../evil", revision=REPOSITORY.commit, endpoint=hub.url, cache_dir=tmp_path
        )


def test_a_branch_s_commit_in_the_cache_is_no_path(get, cache):
    folder = get("branch")
    elsewhere = cache / "elsewhere"
    for file in CONTENT:
        (elsewhere / file).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / file).symlink_to((folder / file).resolve())
    assert local("branch", cache_dir=cache) == folder
    (cache / "models--maker--toy/refs/main").write_text("../../elsewhere")
    assert local("branch", cache_dir=cache) is None


# ---------------------------------------------------------------------------------------------------------------------
# offline, and disks


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_offline_with_nothing_there(get, hub, cache, monkeypatch, how):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", how == "environment")
    with pytest.raises(ValueError, match=f"branch may not be fetched offline, and nothing of it is in {cache}"):
        get("branch", offline=how == "argument")
    assert hub.state.requests == []


def test_offline_with_all_there(get, hub):
    folder = get("branch")
    hub.state.requests.clear()
    assert get("branch", offline=True) == folder
    assert hub.state.requests == []


def test_offline_with_a_part_there(get):
    folder = get()
    (folder / UNET).unlink()
    (folder / VOCABULARY).unlink()
    with pytest.raises(ValueError, match=f"lacks {VOCABULARY}, {UNET}\\. Where there is a network, run `p2p download"):
        get(offline=True)


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_found_before_anything_is_fetched(get, hub, cache, monkeypatch):
    total = sum(map(len, CONTENT.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, total - 1))
    with pytest.raises(ValueError, match=r"no space for pinned in .*: 0\.0 MB are to be fetched, 0\.0 MB are free"):
        get()
    assert [r.what for r in hub.state.requests] == ["api"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, total))
    folder = get()
    (folder / VAE).unlink()  # what is there needs no space
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, len(CONTENT[VAE])))
    assert content(get()) == CONTENT


def test_a_disk_that_fills_up_on_the_way(get, cache, monkeypatch):
    def full(url, temp_file, **_):
        temp_file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(huggingface_hub.file_download, "http_get", full)
        with pytest.raises(ValueError, match=r"no space left in .* for model_index\.json of maker/toy; set HF_HOME"):
            get()
    assert not [path for path in cache.rglob("blobs/*") if path.is_file()]
    assert content(get()) == CONTENT


def test_a_cache_that_may_not_be_written(get, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", refuse)
    with pytest.raises(ValueError, match=r"could not write model_index\.json .*Permission denied"):
        get()


# ---------------------------------------------------------------------------------------------------------------------
# the table


CLIP_L, CLIP_H, KL, SD1, SD2 = 123_060_480, 340_387_840, 83_653_863, 859_520_964, 865_910_724
PARAMETERS = {  # of the networks, counted on the classes of diffusers and transformers
    "sd14": CLIP_L + KL + SD1,
    "sd15": CLIP_L + KL + SD1,
    "sd21-base": CLIP_H + KL + SD2,
    "sd21": CLIP_H + KL + SD2,
    "sd-turbo": CLIP_H + KL + SD2,
    "small-sd": CLIP_L + KL + 579_384_964,
    "tiny-sd": CLIP_L + KL + 323_384_964,
    "bk-sdm-base": CLIP_L + KL + 579_384_964,
    "bk-sdm-small": CLIP_L + KL + 482_346_884,
    "bk-sdm-tiny": CLIP_L + KL + 323_384_964,
    "ldm-text2im": 581_994_042 + 872_300_484 + KL,
    "ldm-celebahq": 274_056_163 + 55_322_782,
    "sd-vae-ft-mse": KL,
    "clip-vit-l": 427_616_513,
    "clip-tokenizer": 0,
    "bert-tokenizer": 0,
}


def test_the_table_has_every_name():
    assert list(CHECKPOINTS) == list(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_entry_of_the_table(name):
    entry = CHECKPOINTS[name]
    for repository in (entry.hub, *entry.mirrors):
        assert re.fullmatch(r"[\w-]+/[\w.-]+", repository)
        huggingface_hub.utils.validate_repo_id(repository)
        # removed by their publishers
        assert not repository.startswith(("runwayml/", "stabilityai/stable-diffusion-2"))
    assert len({entry.hub, *entry.mirrors}) == 1 + len(entry.mirrors)
    assert entry.revision == "main" or re.fullmatch(r"[0-9a-f]{40}", entry.revision)
    assert entry.licence in LICENCES
    # float32, and beside it vocabularies and headers of at most 2 MB
    assert 0 <= entry.size - 4 * PARAMETERS[name] < 2e6
    assert len(set(entry.files)) == len(entry.files)
    assert not [file for file in entry.files if re.search(r"safety|fp16|ema|flax|onnx|\.ckpt|\.msgpack|\.\.", file)]
    assert entry.sha256.keys() <= set(entry.files)
    assert all(re.fullmatch(r"[0-9a-f]{64}", known) for known in entry.sha256.values())
    weights = [file for file in entry.files if not file.endswith((".json", ".txt"))]
    # which is all that holds a mirror to the same content
    assert not entry.mirrors or set(weights) <= entry.sha256.keys()
    assert (entry.kind == "model") is ("model_index.json" in entry.files)
    assert (entry.kind == "tokenizer") is (not weights)
    assert all(file.endswith(".bin" if name.startswith("ldm-") else ".safetensors") for file in weights)
    for file in weights:
        config = f"{Path(file).parent}/config.json".removeprefix("./")
        assert config in entry.files  # no weights without their configuration


def test_the_entries_without_a_pin():
    unpinned = {name for name, entry in CHECKPOINTS.items() if entry.revision == "main"}
    small = {"small-sd", "tiny-sd", "bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"}
    assert unpinned == {"sd21-base", "sd21", "ldm-celebahq", *small}


def test_no_commit_is_anothers():
    repositories = {}
    for entry in CHECKPOINTS.values():
        if entry.revision != "main":
            repositories.setdefault(entry.revision, set()).add(entry.hub)
    assert len(repositories) == 6 and all(len(hubs) == 1 for hubs in repositories.values())


def test_no_hash_is_anothers():
    """Files that are the same in several checkpoints are named here; any other repetition is a slip of the pen."""
    seen = {}
    for name, entry in CHECKPOINTS.items():
        for file, known in entry.sha256.items():
            seen.setdefault(known, set()).add((file, name))
    shared = {frozenset(where) for where in seen.values() if len(where) > 1}
    texts = [frozenset((f"tokenizer/{f}", n) for n in ("sd14", "sd15", "sd21")) for f in ("vocab.json", "merges.txt")]
    assert shared == {
        *texts,
        frozenset(("vae/diffusion_pytorch_model.safetensors", name) for name in ("sd14", "sd15")),
        frozenset(("text_encoder/model.safetensors", name) for name in ("sd21-base", "sd21")),
        frozenset(("tokenizer/vocab.txt", name) for name in ("ldm-text2im", "bert-tokenizer")),
    }


def test_the_pickles_that_stand_in_for_safetensors():
    choices = CHECKPOINTS["small-sd"].choices
    assert choices("unet/config.json") == ("unet/config.json",)
    assert choices("unet/diffusion_pytorch_model.safetensors")[1] == "unet/diffusion_pytorch_model.bin"
    assert choices("text_encoder/model.safetensors")[1] == "text_encoder/pytorch_model.bin"
    assert CHECKPOINTS["clip-vit-l"].choices("model.safetensors")[1] == "pytorch_model.bin"
    assert all(len(CHECKPOINTS["sd14"].choices(file)) == 1 for file in STABLE_DIFFUSION)
