"""Public checkpoints by name: only of the kind that is wanted, and of their folders only the files that count."""

from pathlib import Path

from weights.checkpoints import CHECKPOINTS

KINDS = {  # what each kind is, and who loads it
    "model": ("a model", "weights.load.load"),
    "autoencoder": ("an autoencoder alone", "weights.load.load_autoencoder"),
    "clip": ("a CLIP", "weights.load.load_clip"),
    "tokenizer": ("a tokenizer alone", ""),
}


def fetched(name: str) -> Path:
    """The folder of a public checkpoint, downloaded on first use."""
    from weights import hub  # its client takes half a second to load, and the shipped model needs none

    return hub.download(name)


def names_of(kind: str) -> list[str]:
    return [name for name, checkpoint in CHECKPOINTS.items() if checkpoint.kind == kind]


def refuse_other_kind(name: str, is_kind: str, kind: str) -> None:
    """Raises ValueError if what the name stands for is of another kind than wanted."""
    if is_kind != kind:
        (is_what, loader), (what, _) = KINDS[is_kind], KINDS[kind]
        elsewhere = f", which `{loader}` loads" if loader else ""
        raise ValueError(f"{name} is {is_what}{elsewhere}, not {what}: give {' or '.join(names_of(kind))}, or a path")


def files_of(name: str, folder: Path) -> frozenset[Path]:
    """The files of a checkpoint's folder that count: those of its table entry, which were verified. The folder is
    shared, and what other programs leave there beside them nobody has looked at."""
    checkpoint = CHECKPOINTS[name]
    return frozenset(folder / choice for file in checkpoint.files for choice in checkpoint.choices(file))
