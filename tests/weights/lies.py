"""Files of tensors whose headers lie, that would be large if they were believed, or that would run code."""

import json
import pickle
import zipfile
from pathlib import Path
from random import Random

import torch
from damage import Case, Whole, base_tensors, flipped
from tensor_files import CHECKPOINTS, HTML, claim, pickled, traps

NUMBERS = (0, 1, 2, 3, 5, -1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 1.5, "4", None, True, [], {})


def lie_in_json(rng: Random, entries: dict) -> None:
    """Changes one value somewhere, to something of the same kind or any other."""
    keys = list(entries) if isinstance(entries, dict) else range(len(entries))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(entries[key], dict | list) and rng.random() < 0.8:
        return lie_in_json(rng, entries[key])
    choices = {
        int: lambda: entries[key] + rng.choice([-8, -4, -2, -1, 1, 2, 4, 8]),
        str: lambda: rng.choice(["F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "U8", "BOOL", "F128", "", "../x", "x"]),
    }
    others = rng.choice(NUMBERS)
    entries[key] = choices.get(type(entries[key]), lambda: others)() if rng.random() < 0.5 else others


def safetensors_header(whole: Whole) -> tuple[dict, bytes]:
    end = 8 + int.from_bytes(whole.content[:8], "little")
    return json.loads(whole.content[8:end]), whole.content[end:]


def lying_safetensors(rng: Random, whole: Whole) -> Case:
    header, numbers = safetensors_header(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        lie_in_json(rng, header)
    text = json.dumps(header).encode()
    return whole.damaged(len(text).to_bytes(8, "little") + text + numbers, "either")


def renamed_or_reshaped(rng: Random, whole: Whole) -> Case:
    """What is not the truth, but consistent: only the library can say what it means."""
    header, numbers = safetensors_header(whole)
    names = [name for name in header if name != "__metadata__"]
    first, second = rng.sample(names, 2)
    match rng.randrange(4):
        case 0:
            header[first], header[second] = header[second], header[first]
        case 1:
            header[first]["shape"].reverse()
        case 2:
            header["x" * rng.randint(0, 300)] = header.pop(first)
        case 3:
            alike = {"F16": "BF16", "BF16": "F16", "U8": "I8", "F32": "I32", "I64": "F64"}
            header[first]["dtype"] = alike[header[first]["dtype"]]
    text = json.dumps(header).encode()
    return whole.damaged(len(text).to_bytes(8, "little") + text + numbers, "either")


def said_twice(rng: Random, whole: Whole) -> Case:
    header, numbers = safetensors_header(whole)
    name = rng.choice([name for name in header if name != "__metadata__"])
    again = json.dumps({name: rng.choice([header[name], rng.choice(list(header.values()))])})
    entries = [json.dumps({name: entry}) for name, entry in header.items()]
    entries.insert(rng.randrange(len(entries) + 1), again)
    text = ("{" + ",".join(entry[1:-1] for entry in entries) + "}").encode()
    return whole.damaged(len(text).to_bytes(8, "little") + text + numbers, "refused")


def lying_length(rng: Random, whole: Whole) -> Case:
    length = rng.choice([rng.randrange(2**63), rng.randrange(2**27), rng.randrange(len(whole.content))])
    assert length != int.from_bytes(whole.content[:8], "little")
    return whole.damaged(length.to_bytes(8, "little") + whole.content[8:], "refused")


def lying_index(rng: Random, whole: Whole) -> Case:
    index = json.loads(whole.content)
    shards, names = sorted(set(index["weight_map"].values())), list(index["weight_map"])
    name, shard = rng.choice(names), rng.choice(shards)
    outside = [f"../{shard}", f"./{shard}", str(whole.path.parent / shard), "..", "", "/dev/zero", "\0", "x" * 300]
    may = "refused"
    match rng.randrange(5):
        case 0:
            index["weight_map"][name] = rng.choice([*outside, shard + "x", whole.path.name])
        case 1:
            index["weight_map"].update({n: rng.choice(outside) for n in names if index["weight_map"][n] == shard})
        case 2:
            del index["weight_map"][name]
        case 3:
            index["weight_map"]["extra"] = shard
        case 4:
            lie_in_json(rng, index)
            may = "either"
    return whole.damaged(json.dumps(index).encode(), may)


def damaged_shard(rng: Random, whole: Whole) -> Case:
    shard = rng.choice(sorted(whole.path.parent.glob("*.safetensors")))
    content = shard.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    # not in the header's padding, nor its metadata: what is there does not count
    damages = (
        content[: rng.randrange(len(content))],
        content + b"\0",
        flipped(content, rng.randrange(8), 0),
        HTML,
        b"",
    )
    if rng.random() < 0.2:
        shard.unlink()
    else:
        shard.write_bytes(rng.choice([*damages, content[:length] + rng.randbytes(8) + content[length:]]))
    whole.path.write_bytes(whole.content)
    return Case(whole.path, "refused", whole.tensors)


def lying_pickle(rng: Random, whole: Whole) -> Case:
    small, large = [0, 1, 2, 3, 4, 6, 7], [-1, -6, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30]
    number = lambda: rng.choice(small if rng.random() < 0.7 else large)
    axes = rng.randint(0, 4)
    lies = {
        "numel": number,
        "offset": number,
        "shape": lambda: tuple(number() for _ in range(axes)),
        "stride": lambda: tuple(number() for _ in range(axes)),
        "key": lambda: rng.choice(["0", "1", "../0", "", 0]),
        "storage": lambda: rng.choice([torch.FloatStorage, torch.IntStorage, torch.DoubleStorage, torch.HalfStorage]),
    }
    told = set(rng.sample(sorted(lies), rng.randint(1, 3)))
    told |= {"shape", "stride"} if told & {"shape", "stride"} else set()
    said = {what: lies[what]() for what in sorted(told)}
    if "stride" in said:  # along an axis of one element it may be any number, though torch gives up on large ones
        said["stride"] = tuple(s if n > 1 else 1 for n, s in zip(said["shape"], said["stride"]))
    program = pickled({"state_dict": {"a": claim(**said), "b": 1}}, whole.kind)
    CHECKPOINTS[whole.kind](program, whole.path)
    return Case(whole.path, "either", {}, whole.library)


def bomb(rng: Random, whole: Whole) -> Case:
    """Small files that would be large, deep or long if they were believed."""
    deep = rng.choice([10_000, 100_000, 1_000_000])
    name = b"X\x01\0\0\0a"
    programs = [
        b"}" + b"]" * deep + b".",
        b"}" + name + b")" + b"\x85" * deep + b"s.",  # tuples in tuples
        b"})" + b"\x85" * deep + b"K\x01s.",  # the same as a key, which hashing would follow to its end
        b"}" + name + b"]q\0" + b"h\0\x86q\0" * 1000 + b"s.",  # pairs of pairs, 2^1000 if they were counted
        b"}r\xff\xff\xff\x7f.",  # a memo of 2^31 entries
        b"}" + name + b"X\xff\xff\xff\x7fa.",
        b"}" + name + b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85Rs.",
        b"}" + name + b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85Rs.",
        b"}" + name + b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"1.",
        b"}" * deep + b".",
    ]
    CHECKPOINTS[whole.kind](b"\x80\x02" + rng.choice(programs), whole.path)
    return Case(whole.path, "refused", {})


def repacked(rng: Random, whole: Whole) -> Case:
    """The records of an archive, some compressed, renamed, left out, doubled, or with other content."""
    with zipfile.ZipFile(whole.path.with_suffix(".whole")) as archive:
        records = [[record.filename, archive.read(record), zipfile.ZIP_STORED] for record in archive.infolist()]
    for _ in range(rng.randint(1, 3)):
        record = rng.choice(records)
        match rng.randrange(5):
            case 0:
                record[2] = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
            case 1:
                record[0] = rng.choice([record[0] + "0", record[0].replace("/", "\\"), "../" + record[0], "x", "/"])
            case 2:
                record[1] = rng.choice([record[1][:-1], record[1] + b"\0", b"", bytes(2**22)])
            case 3 if len(records) > 1:
                records.remove(record)
            case _:
                records.append(list(record))
    with zipfile.ZipFile(whole.path, "w") as archive:
        for name, content, compression in records:
            archive.writestr(name, content, compression)
    return Case(whole.path, "either", whole.tensors, whole.library)


# ---------------------------------------------------------------------------------------------------------------------
# pickles that call


def trap(rng: Random, whole: Whole) -> Case:
    sprung = rng.choice(list(traps(sentinel(whole)).values()))
    nested = rng.choice([sprung, [sprung], {"x": sprung}, (1, sprung), {sprung: 1}])
    checkpoint = {
        "value": lambda: {"state_dict": base_tensors(), "callback": nested},
        "tensor": lambda: {"state_dict": {**base_tensors(), "decay": nested}},
        "first": lambda: {"callback": nested, "state_dict": base_tensors()},
        "whole": lambda: nested,
    }[rng.choice(["value", "tensor", "first", "whole"])]()
    form, protocol = rng.choice(["zip", "legacy", "plain", "magic"]), rng.randint(2, 5)
    if form in ("zip", "legacy"):
        zipped = form == "zip"
        torch.save(checkpoint, whole.path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    else:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) if form == "magic" else b""
        whole.path.write_bytes(magic + pickle.dumps(sprung, rng.randint(0, 5)))
    return Case(whole.path, "refused", whole.tensors)


def sentinel(whole: Whole) -> Path:
    return whole.path.parent / "sprung"
