"""Without a network, with a full disk, and where nothing may be written."""

import errno
import shutil
from collections import namedtuple

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from tests.support.toy import CONTENT, UNET, VAE, VOCABULARY, content, offline


def test_offline_with_nothing_there(get, hub, cache):
    match = f"branch may not be fetched offline, and nothing of it is in {cache}"
    with offline(), pytest.raises(ValueError, match=match):
        get("branch")
    assert hub.state.requests == []


def test_offline_with_all_there(get, hub):
    folder = get("branch")
    hub.state.requests.clear()
    with offline():
        assert get("branch") == folder
    assert hub.state.requests == []


def test_offline_with_a_part_there(get):
    folder = get()
    (folder / UNET).unlink()
    (folder / VOCABULARY).unlink()
    match = f"lacks {VOCABULARY}, {UNET}\\. Where there is a network, run `p2p download"
    with offline(), pytest.raises(ValueError, match=match):
        get()


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_found_before_anything_is_fetched(get, hub, monkeypatch):
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
