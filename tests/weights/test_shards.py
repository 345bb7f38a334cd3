"""Several files and an index of them, which is not trusted with paths."""

import json
from pathlib import Path

import pytest
from tensor_files import read_all, refused, some_tensors, write


@pytest.fixture
def index(tmp_path):
    """An index of two shards; calling it changes its weight_map."""
    path = write("shards", some_tensors(), tmp_path)

    def change(edit) -> Path:
        fields = json.loads(path.read_text())
        edit(fields["weight_map"])
        path.write_text(json.dumps(fields))
        return path

    return change


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_missing_shard_is_named(index, tmp_path):
    (tmp_path / SECOND).unlink()
    assert SECOND in refused("there is no such file", index(lambda weight_map: None))


def test_a_damaged_shard_is_named(index, tmp_path):
    (tmp_path / SECOND).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert SECOND in refused("git-lfs pointer", index(lambda weight_map: None))


def test_a_tensor_that_only_the_index_lists_is_named(index):
    assert FIRST in refused("differ in 'extra'", index(lambda weight_map: weight_map.update(extra=FIRST)))


def test_a_tensor_that_the_index_does_not_list_is_named(index):
    refused("differ in 'half'", index(lambda weight_map: weight_map.pop("half")))


def test_a_tensor_that_is_in_the_other_shard_is_named(index):
    refused("differ in 'half'", index(lambda weight_map: weight_map.update(half=SECOND)))


@pytest.mark.parametrize(
    "shard",
    ["../shard.safetensors", "/etc/passwd", "sub/shard", "..", ".", "", ".hidden", "C:shard", "a\\b", "a\0b", "~"],
)
def test_a_shard_is_a_plain_name_in_the_same_folder(index, tmp_path, shard):
    (tmp_path.parent / "shard.safetensors").write_bytes((tmp_path / SECOND).read_bytes())
    path = index(lambda weight_map: weight_map.update({n: shard for n, s in weight_map.items() if s == SECOND}))
    refused("a shard must be a file in the same folder", path)


def test_a_shard_that_links_out_of_the_folder_is_refused(index, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / SECOND).rename(elsewhere / SECOND)
    (tmp_path / SECOND).symlink_to(elsewhere / SECOND)
    refused("link to another folder", index(lambda weight_map: None))


def test_a_download_cache_links_index_and_shards_to_one_folder(index, tmp_path):
    path = index(lambda weight_map: None)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    for number, file in enumerate([path, tmp_path / FIRST, tmp_path / SECOND]):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    assert read_all(snapshot / path.name).keys() == some_tensors().keys()


def test_an_index_of_an_index_is_refused(index, tmp_path):
    path = index(lambda weight_map: None)
    refused("it is no file of tensors", index(lambda weight_map: weight_map.update({n: path.name for n in weight_map})))


@pytest.mark.parametrize(
    "text",
    [
        *('{"error": "Repository not found"}', '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {"a": 1}}'),
        *('{"weight_map": {"a": "b", "a": "c"}}', '{"weight_map"', "{}", '{"a": ' * 100_000),
    ],
)
def test_json_that_is_not_an_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused("not an index|says 'a' twice|JSON is damaged", tmp_path / "model.safetensors.index.json")
