"""What the client of the Hugging Face hub has in its cache, and whether its content is what the hub recorded.

The client puts a file in place only when its length is right; at its content it does not look. Here each file is hashed
once. What was verified is noted beside the snapshot with its size and time of change, so that gigabytes are not hashed
at every load. The note guards against accidents: who can write to the cache can write the note.
"""

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pydantic

from ldm.helpers.files import save_atomically
from weights.checkpoints import Checkpoint

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's name of a file kept in git, else sha256


@dataclass(frozen=True)
class Verified:
    """What a file was when its content was found to have this hash."""

    hash: str
    size: int
    mtime_ns: int


NOTES = pydantic.TypeAdapter(dict[str, Verified])


@dataclass(frozen=True)
class Place:
    """A repository of a hub that has a checkpoint, and its folder in the client's cache."""

    name: str
    checkpoint: Checkpoint
    repository: str
    revision: str  # a commit, or a branch
    endpoint: str
    cache: Path

    @property
    def folder(self) -> Path:
        return self.cache / f"models--{self.repository.replace('/', '--')}"

    @property
    def ref(self) -> Path:
        """The file that names the commit that a branch meant when it was fetched."""
        return self.folder / "refs" / self.revision

    def snapshot(self, commit: str) -> Path:
        """The folder with the files of a commit."""
        return self.folder / "snapshots" / commit

    def cached(self) -> Path | None:
        """The snapshot of the wanted revision, which may be incomplete."""
        commit = self.revision
        if not COMMIT.fullmatch(commit):
            commit = self.ref.read_text(encoding="ascii", errors="replace").strip() if self.ref.is_file() else ""
        folder = self.snapshot(commit)
        return folder if COMMIT.fullmatch(commit) and folder.is_dir() else None

    def is_other(self, file: str, recorded: str) -> bool:
        """Whether a file of this hash is known not to be the published one."""
        known = self.checkpoint.sha256.get(file, recorded)
        return len(known) == len(recorded) and known != recorded


def held(place: Place, folder: Path) -> tuple[dict[str, str], list[str]]:
    """A snapshot's files with the hash that the hub recorded of each, and the files that it lacks.

    The client names a file's content by that hash and links to it; where a system has no links, the note has the hash.
    A file of neither counts as lacking, and so does one that is known not to be the published one.
    """
    notes, files, lacking = read_notes(folder), {}, []
    for file in place.checkpoint.files:
        for choice in place.checkpoint.choices(file):
            path = folder / choice
            noted = notes[choice].hash if choice in notes else ""
            recorded = path.readlink().name if path.is_symlink() else noted
            if path.is_file() and HASH.fullmatch(recorded) and not place.is_other(choice, recorded):
                files[choice] = recorded
                break
        else:
            lacking.append(file)
    return files, lacking


def notes_path(folder: Path) -> Path:
    return folder.parents[1] / "verified" / f"{folder.name}.json"


def read_notes(folder: Path) -> dict[str, Verified]:
    """What is noted of a snapshot; a note that cannot be read is as good as none."""
    try:
        return NOTES.validate_json(notes_path(folder).read_bytes())
    except (OSError, ValueError):
        return {}


def verify(place: Place, folder: Path, file: str, recorded: str) -> None:
    """Hash a file of a snapshot, unless it was found right before and has not changed since.

    Raises:
        ValueError: the content is not what was recorded, and the file has been removed from the cache; or it could not
            be read.
    """
    path, notes = folder / file, read_notes(folder)
    # where the published content is known, that is what counts: of a file in git the hub records no sha256
    expected, stat = place.checkpoint.sha256.get(file, recorded), path.stat()
    now = Verified(expected, stat.st_size, stat.st_mtime_ns)
    if notes.get(file) == now:
        return
    if (found := digest(path, expected)) != expected:
        problem = (
            f"the content of {file} of {place.repository} is corrupted: expected the hash {expected}, found {found}"
        )
        try:
            discard(path, place.cache)
        except OSError as e:
            raise ValueError(f"{problem}; the file could not be removed from the cache: {e}") from e
        raise ValueError(f"{problem}; the file was removed from the cache: the same command again fetches it afresh")
    with contextlib.suppress(OSError):  # in a cache that may only be read, files are verified each time
        notes_path(folder).parent.mkdir(exist_ok=True)
        save_atomically(lambda part: part.write_bytes(NOTES.dump_json(notes | {file: now})), notes_path(folder))


def digest(path: Path, like: str) -> str:
    """A file's hash, of the kind of `like`: sha256 of the content, or the name that git gives it."""
    sha1 = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256" if len(like) == 64 else lambda: sha1).hexdigest()
    except OSError as e:
        raise ValueError(f"could not read {path}: {e}") from e


def discard(path: Path, cache: Path) -> None:
    """Remove a file of a snapshot, and the content that it links to if that is the cache's."""
    content = path.resolve()
    path.unlink()
    if content.is_relative_to(cache):
        content.unlink(missing_ok=True)
