"""What comes from the hub: the files of a checkpoint byte for byte, no others, and once."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest

from tests.support.server import Refusal, Repository, sha256
from tests.support.toy import CONTENT, REPOSITORY, TOY, UNET, VAE, add, content
from weights import hub as ours
from weights.hub import download, local


@pytest.mark.parametrize("name", ["pinned", "branch"])
def test_the_files_come_byte_for_byte_and_no_others_and_are_not_asked_for_again(get, hub, name):
    assert local(name) is None
    folder = get(name)
    assert content(folder) == CONTENT
    assert folder.name == REPOSITORY.commit
    assert {r.what for r in hub.state.requests} == {"api", *CONTENT}
    assert sum(r.what == "api" for r in hub.state.requests) == 1
    hub.state.requests.clear()
    assert get(name) == folder == local(name)
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


def test_a_system_without_links(get, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    folder = get()
    assert not (folder / UNET).is_symlink()
    assert content(folder) == CONTENT
    hub.state.requests.clear()
    assert get() == folder
    assert hub.state.requests == []
    (folder / UNET).write_bytes(b"x" + CONTENT[UNET][1:])
    with pytest.raises(ValueError, match="corrupted"):
        local("pinned")
    assert content(get()) == CONTENT


def test_no_such_checkpoint():
    with pytest.raises(ValueError, match="no checkpoint 'sd3': give one of sd14, sd15"):
        download("sd3")
    with pytest.raises(ValueError, match="no checkpoint 'sd3'"):
        local("sd3")
