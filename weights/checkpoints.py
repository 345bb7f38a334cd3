"""The public checkpoints that can be loaded by name, read from checkpoints.toml."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
LICENCES = TABLE.pop("licences")  # id -> a summary of its conditions
STABLE_DIFFUSION = tuple(TABLE.pop("stable_diffusion"))  # its files


@dataclass(frozen=True)
class Checkpoint:
    """A model's repository, and the files to download from it.

    If the revision is a branch, the commit at the first download is used. If the repository is gone, `mirrors` are
    tried in turn, on their branch main, since commits belong to one repository. A repository or mirror whose content
    differs from a hash in `sha256` is refused; mirrors require the hashes of all weights.
    """

    about: str
    hub: str
    licence: str  # one of LICENCES
    size: int | float  # bytes to download, roughly
    files: Sequence[str] = STABLE_DIFFUSION
    kind: Literal["model", "autoencoder", "clip", "tokenizer"] = "model"
    revision: str = "main"
    mirrors: Sequence[str] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def choices(self, file: str) -> tuple[str, ...]:
        """The names that a file may have: some repositories have weights only as pickles (`.bin`)."""
        if file in self.sha256 or not file.endswith(".safetensors"):
            return (file,)
        return file, re.sub(r"\bmodel$", "pytorch_model", file.removesuffix(".safetensors")) + ".bin"


CHECKPOINTS = {name: Checkpoint(**entry) for name, entry in TABLE.items()}


def fetched(name: str) -> Path:
    """The folder of a public checkpoint, downloaded on first use."""
    from weights import hub  # importing the hub's client takes half a second, and the included model does not need it

    return hub.download(name)


def files_of(name: str, folder: Path) -> frozenset[Path]:
    """The verified files of a checkpoint's folder: those of its table entry. The folder is shared, and may contain
    unverified files of other programs."""
    checkpoint = CHECKPOINTS[name]
    return frozenset(folder / choice for file in checkpoint.files for choice in checkpoint.choices(file))
