"""Damage to files of tensors by chance, but the same each time: bytes that changed, headers, pickles and archives that
lie, pickles that would run code. Each writes a file in the place of a whole one."""

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from random import Random

import safetensors.torch
import torch

from tests.support.tensor_files import CHECKPOINTS, claim, pickled, some_tensors, traps, write


@dataclass
class Whole:
    """A whole file, from which damaged ones are made."""

    kind: str
    path: Path
    content: bytes
    tensors: dict[str, torch.Tensor]

    @classmethod
    def write(cls, kind: str, folder: Path) -> "Whole":
        unique = ("conv.weight", "linear.weight", "norm.bias", "position_ids", "bytes", "decay")  # in a file's bytes
        tensors = {name: some_tensors()[name] for name in unique}
        path = write(kind, tensors, folder)
        return cls(kind, path, path.read_bytes(), tensors)

    def by_the_library(self) -> dict[str, torch.Tensor]:
        """The tensors in the file as it is now, by another way than ours."""
        if self.kind == "safetensors":
            return safetensors.torch.load(self.path.read_bytes())
        entries = torch.load(self.path, map_location="cpu", weights_only=True)["state_dict"]
        return {name: entry for name, entry in entries.items() if isinstance(entry, torch.Tensor)}

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
# anywhere in a file


def flip_a_number(rng: Random, whole: Whole) -> None:
    position = rng.choice(whole.numbers_of(rng.choice(list(whole.tensors))))
    whole.path.write_bytes(flipped(whole.content, position, rng.randrange(8)))


def flip_elsewhere(rng: Random, whole: Whole) -> None:
    in_it = () if whole.kind == "shards" else whole.tensors  # an index holds no numbers
    numbers = {position for name in in_it for position in whole.numbers_of(name)}
    position = rng.choice([position for position in range(len(whole.content)) if position not in numbers])
    whole.path.write_bytes(flipped(whole.content, position, rng.randrange(8)))


def cut(rng: Random, whole: Whole) -> object:
    """Of an index, a shard."""
    if whole.kind == "shards":
        shard = rng.choice(sorted(whole.path.parent.glob("*.safetensors")))
        return shard.write_bytes(shard.read_bytes()[: rng.randrange(shard.stat().st_size)])
    whole.path.write_bytes(whole.content[: rng.randrange(len(whole.content))])


def replace_a_run(rng: Random, whole: Whole) -> None:
    """By nothing, noise, bytes from elsewhere or one byte; or insert that, so the rest moves; or keep only that."""
    position, length = rng.randrange(len(whole.content)), rng.randint(1, 64)
    source = rng.randrange(len(whole.content))
    runs = [b"", rng.randbytes(length), whole.content[source : source + length], rng.choice([b"\0", b"\xff"]) * length]
    before, after = whole.content[:position], whole.content[position + rng.choice([0, length, length]) :]
    run = rng.choice(runs)
    whole.path.write_bytes(rng.choice([before + run + after] * 9 + [run]))


# ---------------------------------------------------------------------------------------------------------------------
# headers that lie

VALUES = (0, 1, 3, -1, 2**31, 2**32, 2**62, 2**64, 10**30, 1.5, None, True, [], {}, "4", "F64", "BF16", "F128", "../x")


def lie_in_json(rng: Random, entries: dict | list) -> None:
    """Change one value somewhere, numbers often by a little."""
    if not entries:
        return
    key = rng.choice(list(entries) if isinstance(entries, dict) else range(len(entries)))
    if isinstance(entries[key], dict | list) and rng.random() < 0.8:
        return lie_in_json(rng, entries[key])
    near = type(entries[key]) is int and rng.random() < 0.5
    entries[key] = entries[key] + rng.choice([-8, -4, -1, 1, 4, 8]) if near else rng.choice(VALUES)


def lying_header(rng: Random, whole: Whole) -> None:
    """Of a .safetensors file: its JSON, which may say a thing twice, or the JSON's length."""
    end = 8 + int.from_bytes(whole.content[:8], "little")
    header = json.loads(whole.content[8:end])
    again = dict([rng.choice(list(header.items()))])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        lie_in_json(rng, header)
    text = json.dumps(header)
    if rng.random() < 0.2:
        text = f"{json.dumps(again)[:-1]}, {text[1:]}"
    length = rng.choice([rng.randrange(2**63), rng.randrange(2**27)]) if rng.random() < 0.2 else len(text)
    whole.path.write_bytes(length.to_bytes(8, "little") + text.encode() + whole.content[end:])


def lying_index(rng: Random, whole: Whole) -> None:
    shard_of = json.loads(whole.content)["weight_map"]
    name, shard = rng.choice(list(shard_of)), rng.choice(sorted(set(shard_of.values())))
    outside = [f"../{shard}", str(whole.path.parent.parent / shard), "..", "", "/dev/zero", "\0", "x" * 300, 1, None]
    of_the_shard = dict.fromkeys((n for n in shard_of if shard_of[n] == shard), rng.choice(outside))
    one = {name: rng.choice([*outside, shard + "x", whole.path.name])}
    left_out = {n: s for n, s in shard_of.items() if n != name}
    lie = rng.choice([shard_of | one, shard_of | of_the_shard, shard_of | {"extra": shard}, left_out, [], {}, None])
    whole.path.write_text(json.dumps({"weight_map": lie}))


# ---------------------------------------------------------------------------------------------------------------------
# pickles and archives that lie


def lying_pickle(rng: Random, whole: Whole) -> None:
    small, large = [0, 1, 2, 3, 4, 6, 7], [-1, -6, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30]
    number = lambda: rng.choice(small if rng.random() < 0.7 else large)
    axes = rng.randint(0, 4)
    storages = [torch.FloatStorage, torch.IntStorage, torch.DoubleStorage, torch.HalfStorage]
    lies = {"numel": number(), "offset": number(), "key": rng.choice(["0", "1", "../0", "", 0])}
    lies |= {"shape": tuple(number() for _ in range(axes)), "stride": tuple(number() for _ in range(axes))}
    lies |= {"storage": rng.choice(storages)}
    told = set(rng.sample(sorted(lies), rng.randint(1, 3)))
    told |= {"shape", "stride"} if told & {"shape", "stride"} else set()
    entries = {"a": claim(**{what: lies[what] for what in sorted(told)}), "b": 1}
    CHECKPOINTS[whole.kind](pickled({"state_dict": entries}, whole.kind), whole.path)


def repacked(rng: Random, whole: Whole) -> None:
    """The records of an archive, one or two of them compressed, renamed, doubled, left out or with other content."""
    whole.path.write_bytes(whole.content)
    with zipfile.ZipFile(whole.path) as archive:
        records = [(record.filename, archive.read(record), zipfile.ZIP_STORED) for record in archive.infolist()]
    for _ in range(rng.randint(1, 2)):
        name, content, compression = records.pop(rng.randrange(len(records)))
        names = [name + "0", name.replace("/", "\\"), "../" + name, "x", "/"]
        contents = [content[:-1], content + b"\0", b"", bytes(2**22)]
        compressions = [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
        whole_one, compressed = (name, content, compression), (name, content, rng.choice(compressions))
        renamed, changed = (rng.choice(names), content, compression), (name, rng.choice(contents), compression)
        records += rng.choice([[compressed], [renamed], [changed], [], [whole_one, whole_one]])
    with zipfile.ZipFile(whole.path, "w") as archive:
        for record in records:
            archive.writestr(*record)


def trap(rng: Random, whole: Whole) -> object:
    """A pickle that calls, in all that torch.save writes and in plain ones."""
    sprung = rng.choice(list(traps(whole.sentinel).values()))
    nested = rng.choice([sprung, [sprung], {"x": sprung}, (1, sprung), {sprung: 1}])
    after, among = {"state_dict": whole.tensors, "callback": nested}, {"state_dict": {**whole.tensors, "a": nested}}
    form = rng.choice(["zip", "legacy", b"", pickle.dumps(0x1950A86A20F9469CFC6C, 2)])
    if isinstance(form, bytes):
        return whole.path.write_bytes(form + pickle.dumps(sprung, rng.randint(0, 5)))
    how = dict(pickle_protocol=rng.randint(2, 5), _use_new_zipfile_serialization=form == "zip")
    torch.save(rng.choice([after, among, nested]), whole.path, **how)
