"""Damage to files of tensors by chance, but the same each time: bytes that changed, headers that lie, files that would
be large if they were believed, pickles that would run code. Each writes a file in the place of a whole one."""

import gzip
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import safetensors.torch
import torch

from tests.support.tensor_files import CHECKPOINTS, HTML, POINTER, claim, pickled, some_tensors, traps, write

Tensors = dict[str, torch.Tensor]


def of_safetensors(path: Path) -> Tensors:
    return safetensors.torch.load(path.read_bytes())


def of_torch(path: Path) -> Tensors:
    entries = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {name: entry for name, entry in entries.items() if isinstance(entry, torch.Tensor)}


@dataclass
class Whole:
    """A whole file, from which damaged ones are made."""

    kind: str
    path: Path
    content: bytes
    tensors: Tensors
    library: Callable[[Path], Tensors] | None  # reads what is in it, by another way than ours

    @classmethod
    def write(cls, kind: str, folder: Path) -> "Whole":
        unique = ("conv.weight", "linear.weight", "norm.bias", "position_ids", "bytes", "decay")  # in a file's bytes
        tensors = {name: some_tensors()[name] for name in unique}
        path = write(kind, tensors, folder)
        library = {"safetensors": of_safetensors, "shards": None}.get(kind, of_torch)
        return cls(kind, path, path.read_bytes(), tensors, library)

    def numbers_of(self, name: str) -> range:
        """The bytes of a tensor, which are random enough to be found."""
        numbers = self.tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert self.content.count(numbers) == 1
        return range(start := self.content.index(numbers), start + len(numbers))

    @property
    def sentinel(self) -> Path:
        """What a pickle that is run creates."""
        return self.path.parent / "sprung"


def flipped(content: bytes, position: int, bit: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


# ---------------------------------------------------------------------------------------------------------------------
# anywhere in a file, and files that are something else


def flip_a_number(rng: Random, whole: Whole) -> None:
    position = rng.choice(whole.numbers_of(rng.choice(list(whole.tensors))))
    whole.path.write_bytes(flipped(whole.content, position, rng.randrange(8)))


def flip_elsewhere(rng: Random, whole: Whole) -> None:
    in_it = () if whole.kind == "shards" else whole.tensors  # an index holds no numbers
    numbers = {position for name in in_it for position in whole.numbers_of(name)}
    position = rng.choice([position for position in range(len(whole.content)) if position not in numbers])
    whole.path.write_bytes(flipped(whole.content, position, rng.randrange(8)))


def flip_several(rng: Random, whole: Whole) -> None:
    content = whole.content
    for _ in range(rng.randint(2, 20)):
        content = flipped(content, rng.randrange(len(content)), rng.randrange(8))
    whole.path.write_bytes(content)


def cut(rng: Random, whole: Whole) -> None:
    whole.path.write_bytes(whole.content[: rng.randrange(len(whole.content))])


def insert_or_drop(rng: Random, whole: Whole) -> None:
    position, length = rng.randrange(len(whole.content)), rng.randint(1, 64)
    middle, skipped = (rng.randbytes(length), 0) if rng.random() < 0.5 else (b"", length)
    whole.path.write_bytes(whole.content[:position] + middle + whole.content[position + skipped :])


def overwrite(rng: Random, whole: Whole) -> None:
    """A run of bytes from elsewhere in the file, or of one byte."""
    position, length = rng.randrange(len(whole.content)), rng.randint(2, 64)
    source = rng.randrange(len(whole.content))
    run = rng.choice([whole.content[source : source + length], bytes([rng.choice([0, 255])]) * length])
    whole.path.write_bytes(whole.content[:position] + run + whole.content[position + len(run) :])


def something_else(rng: Random, whole: Whole) -> None:
    pages = [HTML, b"\n \t" + HTML, b"\xef\xbb\xbf" + HTML, HTML + whole.content, POINTER, POINTER + rng.randbytes(100)]
    noise = [b"", b"\0" * rng.randint(1, 9999), b"\xff" * rng.randint(1, 9999), rng.randbytes(rng.randint(1, 9999))]
    answers = [b"Entry not found", b'{"error": "Entry not found"}', b"[" * 100_000, b'{"weight_map": ' * 100_000]
    starts = [b"PK\x03\x04" + rng.randbytes(1000), b"PK\x05\x06" + bytes(18), b"\x80\x02" + rng.randbytes(100)]
    others = [gzip.compress(whole.content), whole.content[len(whole.content) // 2 :]]
    whole.path.write_bytes(rng.choice([*pages, *noise, *answers, *starts, *others]))


# ---------------------------------------------------------------------------------------------------------------------
# headers that lie

NUMBERS = (0, 1, 2, 3, 5, -1, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 1.5, "4", None, True, [], {})
STRINGS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "U8", "BOOL", "F128", "", "../x", "x")


def lie_in_json(rng: Random, entries: dict) -> None:
    """Changes one value somewhere, to something of the same kind or any other."""
    keys = list(entries) if isinstance(entries, dict) else range(len(entries))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(entries[key], dict | list) and rng.random() < 0.8:
        return lie_in_json(rng, entries[key])
    others = rng.choice(NUMBERS)
    of_its_kind = {int: lambda: entries[key] + rng.choice([-8, -4, -1, 1, 4, 8]), str: lambda: rng.choice(STRINGS)}
    entries[key] = of_its_kind.get(type(entries[key]), lambda: others)() if rng.random() < 0.5 else others


def write_header(whole: Whole, header: dict | str) -> None:
    """In the place of a .safetensors file's own."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    end = 8 + int.from_bytes(whole.content[:8], "little")
    whole.path.write_bytes(len(text).to_bytes(8, "little") + text + whole.content[end:])


def header_of(whole: Whole) -> dict:
    return json.loads(whole.content[8 : 8 + int.from_bytes(whole.content[:8], "little")])


def lying_safetensors(rng: Random, whole: Whole) -> None:
    header = header_of(whole)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        lie_in_json(rng, header)
    write_header(whole, header)


def renamed_or_reshaped(rng: Random, whole: Whole) -> None:
    """What is not the truth, but consistent: only the library can say what it means."""
    header = header_of(whole)
    first, second = rng.sample([name for name in header if name != "__metadata__"], 2)
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
    write_header(whole, header)


def said_twice(rng: Random, whole: Whole) -> None:
    header = header_of(whole)
    name = rng.choice([name for name in header if name != "__metadata__"])
    entries = [json.dumps({name: entry})[1:-1] for name, entry in header.items()]
    again = json.dumps({name: rng.choice([header[name], rng.choice(list(header.values()))])})[1:-1]
    entries.insert(rng.randrange(len(entries) + 1), again)
    write_header(whole, "{" + ",".join(entries) + "}")


def lying_length(rng: Random, whole: Whole) -> None:
    length = rng.choice([rng.randrange(2**63), rng.randrange(2**27), rng.randrange(len(whole.content))])
    assert length != int.from_bytes(whole.content[:8], "little")
    whole.path.write_bytes(length.to_bytes(8, "little") + whole.content[8:])


def lie_in_index(rng: Random, whole: Whole) -> None:
    index = json.loads(whole.content)
    lie_in_json(rng, index)
    whole.path.write_text(json.dumps(index))


def lying_index(rng: Random, whole: Whole) -> None:
    index = json.loads(whole.content)
    shard_of = index["weight_map"]
    name, shard = rng.choice(list(shard_of)), rng.choice(sorted(set(shard_of.values())))
    outside = [f"../{shard}", f"./{shard}", str(whole.path.parent / shard), "..", "", "/dev/zero", "\0", "x" * 300]
    match rng.randrange(4):
        case 0:
            shard_of[name] = rng.choice([*outside, shard + "x", whole.path.name])
        case 1:
            shard_of.update({n: rng.choice(outside) for n in shard_of if shard_of[n] == shard})
        case 2:
            del shard_of[name]
        case 3:
            shard_of["extra"] = shard
    whole.path.write_text(json.dumps(index))


def damaged_shard(rng: Random, whole: Whole) -> None:
    shard = rng.choice(sorted(whole.path.parent.glob("*.safetensors")))
    content = shard.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    # not in the header's padding, nor its metadata: what is there does not count
    damages = [content[: rng.randrange(len(content))], content + b"\0", flipped(content, rng.randrange(8), 0), HTML]
    damages += [b"", content[:end] + rng.randbytes(8) + content[end:]]
    shard.unlink()
    if rng.random() < 0.8:
        shard.write_bytes(rng.choice(damages))


# ---------------------------------------------------------------------------------------------------------------------
# pickles and archives that lie


def lying_pickle(rng: Random, whole: Whole) -> None:
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
    program = pickled({"state_dict": {"a": claim(**{what: lies[what]() for what in sorted(told)}), "b": 1}}, whole.kind)
    CHECKPOINTS[whole.kind](program, whole.path)


def bomb(rng: Random, whole: Whole) -> None:
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
    ]
    CHECKPOINTS[whole.kind](b"\x80\x02" + rng.choice(programs), whole.path)


def repacked(rng: Random, whole: Whole) -> None:
    """The records of an archive, some compressed, renamed, left out, doubled, or with other content."""
    whole.path.write_bytes(whole.content)
    with zipfile.ZipFile(whole.path) as archive:
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


def trap(rng: Random, whole: Whole) -> None:
    """A pickle that calls, in all that torch.save writes and in plain ones."""
    sprung = rng.choice(list(traps(whole.sentinel).values()))
    nested = rng.choice([sprung, [sprung], {"x": sprung}, (1, sprung), {sprung: 1}])
    after, among = {"state_dict": whole.tensors, "callback": nested}, {"state_dict": {**whole.tensors, "a": nested}}
    checkpoint = rng.choice([after, among, {"callback": nested, "state_dict": whole.tensors}, nested])
    form, protocol = rng.choice(["zip", "legacy", "plain", "magic"]), rng.randint(2, 5)
    if form in ("zip", "legacy"):
        zipped = form == "zip"
        torch.save(checkpoint, whole.path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    else:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) if form == "magic" else b""
        whole.path.write_bytes(magic + pickle.dumps(sprung, rng.randint(0, 5)))
