"""Archives, headers and whole files that lie, are damaged, or are something else: each is refused."""

import gzip
import os
import zipfile

import pytest
import torch
from tensor_files import (
    CONTENT,
    HTML,
    PICKLED,
    POINTER,
    claim,
    entry,
    legacy_of,
    pickled,
    read_all,
    refused,
    safetensors_of,
    some_tensors,
    write,
    zip_of,
)

from weights.pickled import MAX_BYTES
from weights.tensors import open_tensors

TRUE = pickled({"a": claim()})


# ---------------------------------------------------------------------------------------------------------------------
# archives of torch.save


def test_a_checksum_that_does_not_hold_is_found_when_the_numbers_are_read(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(CONTENT, CONTENT[::-1]))
    assert open_tensors(path).shapes == {"a": (2, 3)}  # which are not read before
    refused("checksum", path)
    path.write_bytes(whole.replace(b"FloatStorage", b"LongStorage\n"))
    refused("CRC", path)


def test_a_compressed_archive_is_refused(tmp_path):
    content = bytes(2**24)  # 16 MiB in 16 kB
    program = pickled({"a": claim(numel=2**22, shape=(2**22,), stride=(1,))})
    path = zip_of(program, tmp_path / "ckpt", content, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**15
    refused("compressed archive", path)


def test_a_record_larger_than_the_file_is_refused(tmp_path):
    path = zip_of(pickled({"a": claim(numel=2**28, shape=(2**28,), stride=(1,))}), tmp_path / "ckpt")
    whole = bytearray(path.read_bytes())
    entry = whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02", whole.index(b"PK\x01\x02") + 1) + 1)  # of data/0
    whole[entry + 20 : entry + 28] = 2 * (2**30).to_bytes(4, "little")
    path.write_bytes(whole)
    refused("'a' are not there", path)


def test_places_beyond_what_a_file_can_have_are_refused(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/more", b"")  # so that the list is written again
        archive.getinfo("archive/data/0").header_offset = 2**64 - 1
    refused("'a' are not there", path)
    claims = {"a": claim(numel=2**63, shape=(1,), stride=(1,)), "b": claim(key="1")}
    refused("a storage has not the length", legacy_of(pickled(claims, "legacy"), path, numel=2**63, keys=("0", "1")))


def test_the_storages_of_a_checkpoint_are_those_that_it_lists(tmp_path):
    for keys in ((), ("0", "1"), ("1",), ("0", "0"), (0,), ([],), ("0", None)):
        refused(
            "its storages are not those", legacy_of(pickled({"a": claim()}, "legacy"), tmp_path / "ckpt", keys=keys)
        )


def test_a_list_of_records_has_a_limit(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    whole = path.read_bytes()
    end = bytearray(whole[-22:])
    end[12:16] = (MAX_BYTES + 1).to_bytes(4, "little")
    path.write_bytes(whole[:-22] + bytes(MAX_BYTES) + end)
    refused("list of records is longer", path)


def test_two_records_of_one_name_are_refused(tmp_path):
    path = zip_of(TRUE, tmp_path / "ckpt")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data/0", CONTENT[::-1])
    refused("two records of one name", path)


def test_other_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "ckpt", "w") as archive:
        archive.writestr("word/document.xml", b"<xml/>")
    refused("not one that torch.save wrote", tmp_path / "ckpt")
    with zipfile.ZipFile(tmp_path / "ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", TRUE)
        archive.writestr("archive/data/0", CONTENT)
        archive.writestr("archive/byteorder", b"big")
    refused("little-endian", tmp_path / "ckpt")


# ---------------------------------------------------------------------------------------------------------------------
# headers of safetensors


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ([entry(shape="[7]")], "damaged"),
        ([entry(shape="[7]", offsets="[0,28]")], "damaged"),
        ([entry(shape="[5]", offsets="[0,20]")], "damaged"),
        ([entry(shape="[5]", offsets="[4,24]")], "damaged"),
        ([entry(shape="[-6]")], "damaged"),
        ([entry(shape="[4294967296,4294967296]")], "damaged"),
        ([entry(shape="[1099511627776]", offsets="[0,4398046511104]")], "damaged"),
        ([entry(shape="[18446744073709551616]")], "damaged"),
        ([entry(shape="6")], "damaged"),
        ([entry(), entry("b", shape="[0,4611686018427387904]", offsets="[24,24]")], "damaged|larger than the file"),
        ([entry(dtype="float")], "damaged"),
        ([entry(dtype="C64", shape="[3]")], "C64, of 'a', are not supported"),
        ([entry(shape="[1,1,1,1,1,1,1,1,6]")], "9 axes"),
        ([entry(), entry(dtype="I32")], "'a' twice"),
        ([entry(), entry("\\u0061", dtype="I32")], "'a' twice"),
        (['"__metadata__":{"a":"1","a":"2"}', entry()], "'a' twice"),
        ([entry()[:-1] + ',"dtype":"I32"}'], "twice|duplicate"),
        ([entry()[:-1]], "damaged"),
        (['"a":{' * 100_000], "damaged"),
    ],
    ids=range(19),
)
def test_a_safetensors_header_that_lies_is_refused(entries, match, tmp_path):
    header = "{" + ",".join(entries) + "}"
    refused(match, safetensors_of(header.encode(), CONTENT, tmp_path))


def test_a_true_safetensors_header_is_believed(tmp_path):
    header = "{" + entry(shape="[2,3]") + "}  "
    found = read_all(safetensors_of(header.encode(), CONTENT, tmp_path))
    assert torch.equal(found["a"], torch.arange(6.0).reshape(2, 3))


# ---------------------------------------------------------------------------------------------------------------------
# whole files


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "model.bin"])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "it is empty"),
        (HTML, "web page"),
        (b"\xef\xbb\xbf\n" + HTML, "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "web page"),
        (POINTER, "git lfs pull"),
        (gzip.compress(POINTER, mtime=0), "gzip"),
        (b"Not Found", "no file of tensors, or damaged: it begins with b'Not Found'"),
        (b"PK\x03\x04", "damaged or cut short"),
        (bytes(1000), "no file of tensors"),
        (b"\xff" * 1000, "no file of tensors"),
        (b"\xff" * 7 + b"\x00{}", "no file of tensors"),
    ],
)
def test_what_a_file_is_its_first_bytes_say(content, match, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(match, tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", *PICKLED])
@pytest.mark.parametrize("left", [-1, 60, 1000])
def test_a_file_that_is_cut_short_is_refused(kind, left, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    path.write_bytes(path.read_bytes()[:left])
    refused("damaged|cut short", path)


@pytest.mark.parametrize("kind", ["safetensors", "legacy"])
def test_a_file_that_goes_on_after_its_end_is_refused(kind, tmp_path):
    path = write(kind, some_tensors(), tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    refused("damaged", path)


def test_what_is_not_a_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        refused("no such file|File name too long|null", path)
    os.mkfifo(tmp_path / "pipe")
    refused("no such file", tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused("no such file", tmp_path / "loop")
