"""Files that lie, are damaged, would run code or are something else: each is refused by one clear error.

What the libraries find themselves is tested by chance, in test_fuzz; here is what they would let pass, and what a
person is told to do.
"""

import gzip
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support.tensor_files import (
    CHECKPOINTS,
    CONTENT,
    HTML,
    PICKLED,
    POINTER,
    claim,
    legacy_of,
    pickled,
    refused,
    save,
    some_tensors,
    traps,
    write,
    zip_of,
)
from weights.files.tensors import MAX_ITEMS, MAX_PICKLE

# ---------------------------------------------------------------------------------------------------------------------
# pickles that run code


@pytest.mark.parametrize("trap", traps(Path()))
@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_with_a_call_is_refused_and_not_run(kind, trap, tmp_path):
    sentinel = tmp_path / "sprung"
    path = save(kind, {"state_dict": some_tensors(), "callback": traps(sentinel)[trap]}, tmp_path)
    assert "may run code: get the weights as .safetensors" in refused(r"asks for '[\w.]+'", path)
    assert not sentinel.exists()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # a trap leaves its file open
        pickle.loads(pickle.dumps(traps(sentinel)[trap]))
    assert sentinel.exists()  # the trap does work


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_another_writer_is_refused(protocol, tmp_path):
    path, sprung = tmp_path / "model.ckpt", traps(tmp_path / "sprung")["eval"]
    path.write_bytes(pickle.dumps(sprung, protocol))
    refused("torch.save did not write|no file of tensors", path)
    if protocol > 2:
        for checkpoint in (some_tensors(), {"a": sprung}):
            torch.save(checkpoint, path, pickle_protocol=protocol)
            refused(f"its pickle is of protocol {protocol}, .*: get the weights as .safetensors", path)
    assert not (tmp_path / "sprung").exists()


# ---------------------------------------------------------------------------------------------------------------------
# pickles that lie


NOT_THERE = "not there, or not as many as its pickle says"
ANY = "cannot be read"  # in the words of the library that found it


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (dict(shape=(2, 4), stride=(4, 1)), ANY),
        (dict(stride=(2**62, 2**62)), ANY),
        (dict(offset=1), ANY),
        (dict(offset=2**70), ANY),
        (dict(stride=(-3, 1), offset=3), ANY),
        (dict(shape=(-2, -3)), ANY),
        (dict(shape=(2, 0, -6), stride=(1, 1, 1)), f"cannot be in this file|{ANY}"),
        (dict(shape=("2", 3)), ANY),
        (dict(numel=-6), ANY),
        (dict(storage="FloatStorage"), ANY),
        (dict(storage=int), "asks for '__builtin__.long'"),
        (dict(numel=5, shape=(5,), stride=(1,)), f"{NOT_THERE}|wrong byte size"),
        (dict(numel=7), f"{NOT_THERE}|wrong byte size"),
        (dict(numel=2**40, shape=(2**40,), stride=(1,)), ANY),
        (dict(key="1"), ANY),
        (dict(key="../data/0"), ANY),
        (dict(storage=torch.DoubleStorage), ANY),
        (dict(storage=torch.HalfStorage), NOT_THERE),
        (dict(shape=(10**6, 10**6), stride=(0, 0)), "cannot be in this file"),
        (dict(shape=(1,) * 9, stride=(1,) * 9), "cannot be in this file"),
    ],
    ids=range(20),
)
def test_a_tensor_that_is_not_where_the_pickle_says_is_refused(kind, lie, match, tmp_path):
    refused(match, CHECKPOINTS[kind](pickled({"a": claim(**lie)}, kind), tmp_path / "ckpt"))


DEEP = b"\x85" * (2 * MAX_ITEMS)  # a tuple in a tuple ...


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"", ANY),
        (b"\x80\x02}", ANY),
        (b"\x80\x02X\xff\xff\xff\xffaa.", ANY),
        (b"\x80\x02\x86.", "nothing to work on"),
        (b"\x80\x02q\x07.", ANY),
        (b"\x80\x02}K\x01a.", ANY),
        (b"\x80\x02K\x05Q.", ANY),
        (b"(i__main__\nX\n.", ANY),
        (b"\x80\x02})" + DEEP + b"K\x01s.", "items in one another"),  # as a key, hashed to its end
        (b"\x80\x02}]q\0" + b"h\0h\0\x86q\0" * 50 + b"K\x01s.", "items in one another"),  # pairs of pairs, 2^50
        (b"\x80\x02" + b"]" * 2 * MAX_ITEMS + b".", "items in one another"),
    ],
    ids=range(11),
)
def test_a_program_that_torch_save_would_not_write_is_refused(kind, program, match, tmp_path):
    refused(match, CHECKPOINTS[kind](program, tmp_path / "ckpt"))


def test_a_pickle_has_a_limit(tmp_path):
    for kind, checkpoint in CHECKPOINTS.items():
        refused(ANY, checkpoint(pickled({"a": claim(), "b": "x" * MAX_PICKLE}, kind), tmp_path / "ckpt"))


@pytest.mark.parametrize("keys", [(), ("0", "1"), ("1",), ("0", "0"), (0,), ([],)], ids=str)
def test_an_old_checkpoint_has_the_numbers_that_it_lists(keys, tmp_path):
    """Of others, torch.load would take what lies in memory by chance."""
    refused(ANY, legacy_of(pickled({"a": claim()}, "legacy"), tmp_path / "ckpt", keys=keys))


def test_the_list_of_an_old_checkpoint_is_a_pickle_too(tmp_path):
    path = legacy_of(pickled({"a": claim()}, "legacy"), tmp_path / "ckpt", keys=(traps(tmp_path / "sprung")["eval"],))
    refused("may run code", path)


# ---------------------------------------------------------------------------------------------------------------------
# archives of torch.save


def test_numbers_without_their_checksum_are_refused(tmp_path):
    path = zip_of(pickled({"a": claim()}), tmp_path / "ckpt")
    path.write_bytes(path.read_bytes().replace(CONTENT, CONTENT[::-1]))
    refused("'archive/data/0' does not have the checksum", path)


def test_a_compressed_archive_is_refused(tmp_path):
    content = bytes(2**24)  # 16 MiB in 16 kB
    program = pickled({"a": claim(numel=2**22, shape=(2**22,), stride=(1,))})
    refused("compressed archive", zip_of(program, tmp_path / "ckpt", content, compression=zipfile.ZIP_DEFLATED))


def test_archives_that_torch_save_does_not_write_are_refused(tmp_path):
    path = zip_of(pickled({"a": claim()}), tmp_path / "ckpt")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", CONTENT[::-1])
    refused("two records of one name", path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"<xml/>")
    refused("not one that torch.save wrote", path)


# ---------------------------------------------------------------------------------------------------------------------
# whole files


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (HTML, "web page"),
        (b"\xef\xbb\xbf\n" + HTML, "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (POINTER, "git lfs pull"),
        (gzip.compress(POINTER, mtime=0), "an archive: unpack it first"),
        (b"Not Found", "no file of tensors, or damaged: it begins with b'Not Found'"),
        (b"PK\x03\x04", "damaged or cut short"),
        (b"\xff" * 7 + b"\x00{}", "no file of tensors"),  # a header of 70 petabytes
        ((2**25).to_bytes(8, "little") + b"{}", "no file of tensors"),  # a header of 32 MiB
        (b"GGUF\x03\0\0\0", "a GGUF file, whose numbers are quantised: get the weights as .safetensors"),
        (b"\x08\x07\x12\x07pytorch", "an ONNX graph: get the weights as .safetensors"),
        (b"\x89PNG\r\n\x1a\n", "an image, and no model"),
        (b"7z\xbc\xaf\x27\x1c", "an archive: unpack it first"),
    ],
)
def test_what_a_file_is_its_first_bytes_say(content, match, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(match, tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_a_file_that_is_cut_short_or_goes_on_is_refused(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    whole = path.read_bytes()
    longer = [] if kind == "zip" else [whole + b"\0"]
    for damaged in (whole[:-1], whole[:60], whole[:1000], *longer):
        path.write_bytes(damaged)
        refused(ANY, path)


def test_what_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("", "nothing", "x" * 300, "a\0b", "pipe", "loop"):
        refused("no such file|File name too long|null", tmp_path / name)


# ---------------------------------------------------------------------------------------------------------------------
# indexes of shards


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def index(tmp_path):
    """An index of two shards; calling it changes its weight_map."""
    path = write("shards", some_tensors(), tmp_path)

    def change(edit: Callable[[dict], None] = lambda weight_map: None) -> Path:
        fields = json.loads(path.read_text())
        edit(fields["weight_map"])
        path.write_text(json.dumps(fields))
        return path

    return change


def test_a_shard_that_is_missing_or_damaged_is_named(index, tmp_path):
    (tmp_path / SECOND).write_bytes(POINTER)
    assert SECOND in refused("git-lfs pointer", index())
    (tmp_path / SECOND).unlink()
    assert SECOND in refused("there is no such file", index())


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda weight_map: weight_map.update(extra=FIRST), "extra"),
        (lambda weight_map: weight_map.pop("decay"), "decay"),
        (lambda weight_map: weight_map.update(double=FIRST), "double"),
    ],
)
def test_tensors_that_are_not_where_the_index_says_are_named(index, edit, name):
    refused(rf"differ in \['{name}'\]", index(edit))


@pytest.mark.parametrize(
    "shard", ["../shard.safetensors", "/etc/passwd", "..", "", ".hidden", "C:shard", "a\\b", "a\0b"]
)
def test_a_shard_is_a_plain_name_in_the_same_folder(index, tmp_path, shard):
    (tmp_path.parent / "shard.safetensors").write_bytes((tmp_path / SECOND).read_bytes())
    path = index(lambda weight_map: weight_map.update({n: shard for n, s in weight_map.items() if s == SECOND}))
    refused("a shard must be a file in the same folder", path)


def test_a_shard_that_links_out_of_the_folder_is_refused(index, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / SECOND).rename(tmp_path / "elsewhere" / SECOND)
    (tmp_path / SECOND).symlink_to(tmp_path / "elsewhere" / SECOND)
    refused("link to another folder", index())


def test_an_index_of_an_index_is_refused(index, tmp_path):
    path = index()
    refused("it is no file of tensors", index(lambda weight_map: weight_map.update({n: path.name for n in weight_map})))


@pytest.mark.parametrize(
    "text", ['{"error": "none"}', '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map"', '{"a": ' * 100_000]
)
def test_json_that_is_not_an_index_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refused("not an index|damaged", tmp_path / "model.safetensors.index.json")
