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
from weights.files.tensors import MAX_HEADER, MAX_ITEMS, MAX_PICKLE

CODE = "may run code: get the weights as .safetensors"
NOT_THERE = "not there, or not as many as its pickle says"
ANY = "cannot be read"  # in the words of the library that found it

# ---------------------------------------------------------------------------------------------------------------------
# pickles that run code, or lie


@pytest.mark.parametrize("trap", traps(Path()))
@pytest.mark.parametrize("kind", PICKLED)
def test_a_pickle_with_a_call_is_refused_and_not_run(kind, trap, tmp_path):
    sentinel = tmp_path / "sprung"
    path = save(kind, {"state_dict": some_tensors(), "callback": traps(sentinel)[trap]}, tmp_path)
    refused(rf"asks for '[\w.]+'.* {CODE}", path)
    if kind == "legacy":  # whose list of storages is a pickle too
        refused(CODE, legacy_of(pickled({"a": claim()}, kind), path, keys=(traps(sentinel)[trap],)))
    assert not sentinel.exists()
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # a trap leaves its file open
        pickle.loads(pickle.dumps(traps(sentinel)[trap]))
    assert sentinel.exists()  # the trap does work


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_another_writer_is_refused(protocol, tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(pickle.dumps(traps(tmp_path / "sprung")["eval"], protocol))
    refused("torch.save did not write|no file of tensors", path)
    if protocol > 2:
        torch.save(some_tensors(), path, pickle_protocol=protocol)
        refused(f"asks for 'protocol {protocol}'.* {CODE}", path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("lie", "match"),
    [
        (dict(shape=(2, 4), stride=(4, 1)), ANY),
        (dict(stride=(-3, 1), offset=3), ANY),
        (dict(numel=2**40, shape=(2**40,), stride=(1,)), ANY),
        (dict(key="../data/0"), ANY),
        (dict(storage=int), CODE),
        (dict(numel=5, shape=(5,), stride=(1,)), f"{NOT_THERE}|wrong byte size"),
        (dict(numel=7), f"{NOT_THERE}|wrong byte size"),
        (dict(storage=torch.HalfStorage), f"{NOT_THERE}|wrong byte size"),
        (dict(shape=(10**6, 10**6), stride=(0, 0)), "cannot be in this file"),
        (dict(shape=(1,) * 9, stride=(1,) * 9), "cannot be in this file"),
        (dict(shape=(2, 0, -6), stride=(1, 1, 1)), f"cannot be in this file|{ANY}"),
    ],
    ids=range(11),
)
def test_a_tensor_that_is_not_where_the_pickle_says_is_refused(kind, lie, match, tmp_path):
    refused(match, CHECKPOINTS[kind](pickled({"a": claim(**lie)}, kind), tmp_path / "ckpt"))


DEEP = b"\x85" * (2 * MAX_ITEMS)  # a tuple in a tuple ...


@pytest.mark.parametrize("kind", PICKLED)
@pytest.mark.parametrize(
    ("program", "match"),
    [
        (b"", ANY),
        (b"\x80\x02}X\xff\xff\xff\xffaa.", ANY),
        (b"\x80\x02\x86.", ANY),
        (b"\x80\x02}r\xff\xff\xff\x7f.", ANY),  # a memo of 2^31 entries
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", CODE),  # 2 GiB
        (b"\x80\x02ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R.", CODE),  # 8 GiB
        (b"\x80\x02})" + DEEP + b"K\x01s.", "in one another"),  # as a key, hashed to its end
        (b"\x80\x02}]q\0" + b"h\0h\0\x86q\0" * 50 + b"K\x01s.", "in one another"),  # pairs of pairs, 2^50
        (b"\x80\x02" + b"]" * 2 * MAX_ITEMS + b".", "in one another"),
        (pickled({"a": 1, "b": "x" * MAX_PICKLE}), "is longer"),
    ],
    ids=range(10),
)
def test_a_program_that_torch_save_would_not_write_is_refused(kind, program, match, tmp_path):
    refused(match, CHECKPOINTS[kind](program, tmp_path / "ckpt"))


@pytest.mark.parametrize("keys", [(), ("0", "1"), ("1",), ("0", "0"), (0,), ([],)], ids=str)
def test_an_old_checkpoint_has_the_numbers_that_it_lists(keys, tmp_path):
    """Of others, torch.load would take what lies in memory by chance."""
    refused(ANY, legacy_of(pickled({"a": claim()}, "legacy"), tmp_path / "ckpt", keys=keys))
    if keys == ("0", "0"):
        two = pickled({"a": claim(), "b": claim(key="1")}, "legacy")
        refused(NOT_THERE, legacy_of(two, tmp_path / "ckpt", keys=("0",)))
        refused(NOT_THERE, legacy_of(two, tmp_path / "ckpt", CONTENT + (6).to_bytes(8, "little") + CONTENT, keys=keys))


# ---------------------------------------------------------------------------------------------------------------------
# archives, and whole files


def test_archives_that_torch_save_does_not_write_are_refused(tmp_path):
    program, path, match = pickled({"a": claim()}), tmp_path / "ckpt", "a zip archive that torch.save did not write"
    refused(match, zip_of(program, path, compression=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(zip_of(program, path), "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", CONTENT[::-1])
    refused(match, path)
    with zipfile.ZipFile(zip_of(program, path), "a") as archive:
        archive.writestr("archive/DATA.PKL", b"another")  # which torch might take for the one that was checked
    refused(match, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", b"<xml/>")
    refused(match, path)
    path.write_bytes(zip_of(program, path).read_bytes().replace(CONTENT, CONTENT[::-1]))
    refused("'archive/data/0' does not have the checksum", path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf\n" + HTML, "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (POINTER, "git lfs pull"),
        (gzip.compress(POINTER, mtime=0), "an archive: unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "an archive: unpack it first"),
        (b"Not Found", "no file of tensors, or damaged: it begins with b'Not Found'"),
        (b"PK\x03\x04", "damaged or cut short"),
        (b"\xff" * 7 + b"\x00{}", "no file of tensors"),  # a header of 70 petabytes
        (b'{"weight_map": {"a": "b"}}' + b" " * MAX_HEADER, "no file of tensors"),
        (b"GGUF\x03\0\0\0", "a GGUF file, whose numbers are quantised: get the weights as .safetensors"),
        (b"\x08\x07\x12\x07pytorch", "an ONNX graph: get the weights as .safetensors"),
        (b"\x89PNG\r\n\x1a\n", "an image, and no model"),
    ],
    ids=range(13),
)
def test_what_a_file_is_its_first_bytes_say(content, match, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(match, tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
def test_a_file_that_is_cut_short_or_goes_on_is_refused(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:60], whole[:1000], *([] if kind == "zip" else [whole + b"\0"])):
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
INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(extra=FIRST), r"differ in \['extra'\]"),
        (dict(decay=None), r"differ in \['decay'\]"),
        (dict(double=FIRST), r"differ in \['double'\]"),
        (dict(double=1), "weight_map must be"),
        # in the place of the second shard
        *((shard, "in another folder") for shard in ("../outside", "/etc/passwd", "", "link")),
        *((shard, "no such file") for shard in ("..", "C:shard", "a\\b", "a\0b", "nothing")),
        ("pointer", "pointer cannot be read: it is a git-lfs pointer"),
        (INDEX, "it is no file of tensors"),
    ],
    ids=str,
)
def test_an_index_that_does_not_fit_its_shards_is_refused(changes, match, tmp_path):
    path = write("shards", some_tensors(), tmp_path)
    for outside in ("outside", "elsewhere/shard"):
        (tmp_path.parent / outside).parent.mkdir(exist_ok=True)
        (tmp_path.parent / outside).write_bytes((tmp_path / SECOND).read_bytes())
    (tmp_path / "link").symlink_to(tmp_path.parent / "elsewhere/shard")
    (tmp_path / "pointer").write_bytes(POINTER)
    shard_of = json.loads(path.read_text())["weight_map"]
    if isinstance(changes, str):
        changes = {name: changes for name in shard_of if shard_of[name] == SECOND}
    changed = {name: shard for name, shard in (shard_of | changes).items() if shard is not None}
    path.write_text(json.dumps({"weight_map": changed}))
    refused(match, path)


@pytest.mark.parametrize("text", ['{"error": "none"}', '{"weight_map": {}}', '{"weight_map"', '{"a": ' * 100_000])
def test_json_that_is_not_an_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    refused(f"{INDEX} cannot be read: ", tmp_path / INDEX)
