"""Downloads of public checkpoints from the Hugging Face hub by its own client, with every file's content verified.

The client shows progress, resumes dropped connections, stores files in a cache shared with other programs, and honours
HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. It does not check the content of files. Here each file is hashed once, and its
hash, size and modification time are recorded, so that gigabytes are not hashed at every load. The record protects
against accidents only: whoever can write to the cache can write the record.
"""

import contextlib
import errno
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, hf_hub_download, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from ldm.helpers.files import save_atomically
from weights.checkpoints import CHECKPOINTS, LICENCES, Checkpoint

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's hash for files stored in git, else sha256


class Gone(ValueError):
    """The repository does not exist, or is private."""


class Place(NamedTuple):
    """A repository on a hub that has a checkpoint."""

    name: str
    checkpoint: Checkpoint
    repository: str
    revision: str  # a commit, or a branch
    endpoint: str
    cache: Path

    @property
    def folder(self) -> Path:
        """The repository's folder in the client's cache."""
        return self.cache / f"models--{self.repository.replace('/', '--')}"

    def is_other(self, file: str, recorded: str) -> bool:
        """True if a file with this hash is known not to be the published one."""
        known = self.checkpoint.sha256.get(file, recorded)
        return len(known) == len(recorded) and known != recorded


def places(name: str) -> list[Place]:
    """The repositories that may have a checkpoint, best first."""
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint {name!r}: give one of {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[name]
    endpoint, cache = constants.ENDPOINT.rstrip("/"), Path(constants.HF_HUB_CACHE).expanduser().resolve()
    revisions = {checkpoint.hub: checkpoint.revision} | dict.fromkeys(checkpoint.mirrors, "main")
    return [Place(name, checkpoint, hub, revision, endpoint, cache) for hub, revision in revisions.items()]


# ----------------------------------------------------------------------------------------------------------------------
# what is in the cache


def local(name: str) -> Path | None:
    """The folder of a checkpoint if it is complete in the cache, verified; else None. Uses no network.

    Files that other programs downloaded into the same cache count too; they are verified when first used here.

    Raises:
        ValueError: no such checkpoint, or a file with wrong content.
    """
    for place in places(name):
        folder, files, lacking = held(place)
        if folder and not lacking:
            for file, recorded in files.items():
                verify(place, folder, file, recorded)
            return folder
    return None


def held(place: Place) -> tuple[Path | None, dict[str, str], list[str]]:
    """The snapshot in the cache, its files with the hashes recorded by the hub, and the missing files.

    The client names a file's content by that hash and links to it; on systems without links, our record has the hash. A
    file with neither counts as missing, and so does one that is known not to be the published one.
    """
    folder, files, lacking = None, {}, []
    for file in place.checkpoint.files:
        for choice in place.checkpoint.choices(file):
            found = try_to_load_from_cache(place.repository, choice, place.cache, place.revision)
            if not isinstance(found, str):  # None, or known not to exist
                continue
            folder = Path(found.removesuffix(choice))
            recorded = Path(found).readlink().name if Path(found).is_symlink() else notes(folder).get(choice, [""])[0]
            if HASH.fullmatch(recorded) and not place.is_other(choice, recorded):
                files[choice] = recorded
                break
        else:
            lacking.append(file)
    return folder, files, lacking


def notes_path(folder: Path) -> Path:
    return folder.parents[1] / "verified" / f"{folder.name}.json"


def notes(folder: Path) -> dict[str, list]:
    """The recorded hash, size and modification time of a snapshot's verified files. An unreadable record counts as
    none."""
    try:
        return {
            file: [str(hash), size, time]
            for file, (hash, size, time) in json.loads(notes_path(folder).read_bytes()).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def verify(place: Place, folder: Path, file: str, recorded: str) -> None:
    """Hash a file of a snapshot, unless it was verified before and has not changed since.

    Raises:
        ValueError: the content differs from the record, and the file has been removed from the cache; or it could not
            be read.
    """
    path, noted = folder / file, notes(folder)
    # a pinned sha256 has precedence: for a file in git the hub records none
    expected = place.checkpoint.sha256.get(file, recorded)
    now = [expected, path.stat().st_size, path.stat().st_mtime_ns]
    if noted.get(file) == now:
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
    with contextlib.suppress(OSError):  # in a read-only cache, files are verified each time
        notes_path(folder).parent.mkdir(exist_ok=True)
        save_atomically(lambda part: part.write_text(json.dumps(noted | {file: now})), notes_path(folder))


def digest(path: Path, like: str) -> str:
    """A file's hash, of the kind of `like`: sha256 of the content, or git's hash."""
    sha1 = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256" if len(like) == 64 else lambda: sha1).hexdigest()
    except OSError as e:
        raise ValueError(f"could not read {path}: {e}") from e


def discard(path: Path, cache: Path) -> None:
    """Remove a file of a snapshot, and the content that it links to if that is inside the cache."""
    content = path.resolve()
    path.unlink()
    if content.is_relative_to(cache):
        content.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------------------------
# what is on the hub


def download(name: str) -> Path:
    """Download a checkpoint, unless it is complete in the cache, verify every file, and return its folder.

    If something fails, complete files stay in the cache, so the same call resumes from there.

    Raises:
        ValueError: there is no such checkpoint, it could not be downloaded, or its content is wrong; with the remedy.
    """
    if (folder := local(name)) is not None:
        return folder
    options = places(name)
    if is_offline_mode():
        found = [(folder, lacking) for folder, _, lacking in map(held, options) if folder]
        lack = f"{found[0][0]} lacks {', '.join(found[0][1])}" if found else f"nothing of it is in {options[0].cache}"
        raise ValueError(f"{name} may not be fetched offline, and {lack}. {without_network(options[0])}")
    for place, mirror in zip(options, [*options[1:], None]):
        try:
            commit, listed = listing(place)
        except Gone as e:
            if mirror is None:
                raise ValueError(
                    f"{e}; {'none of its mirrors is' if options[1:] else 'no mirror of it is known'}"
                ) from e
            say(f"{e}; trying its mirror {mirror.repository}")
        else:
            return fetch(place, commit, listed)


def say(text: str) -> None:
    print(text, file=sys.stderr)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def listing(place: Place) -> tuple[str, dict[str, tuple[int, str]]]:
    """The commit of the revision, and the size and hash of each file in it, as recorded by the hub."""
    revision = place.revision
    with explained(place, f"the list of files of {place.repository}"):
        info = HfApi(endpoint=place.endpoint).model_info(
            place.repository, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    # the commit becomes part of a path
    if not COMMIT.fullmatch(info.sha or "") or (COMMIT.fullmatch(revision) and info.sha != revision):
        raise ValueError(f"{place.endpoint} says that {revision} of {place.repository} is the commit {info.sha!r}")
    hash_of = lambda file: (file.lfs.sha256 if file.lfs else file.blob_id) or ""
    return info.sha, {file.rfilename: (file.size or 0, hash_of(file)) for file in info.siblings or ()}


def fetch(place: Place, commit: str, listed: dict[str, tuple[int, str]]) -> Path:
    """Download a checkpoint's missing files at a commit, verify all of them, and return the folder."""
    checkpoint, folder = place.checkpoint, place.folder / "snapshots" / commit
    # only names from our own table are requested: no name from a server becomes a path
    choices = {file: [c for c in checkpoint.choices(file) if c in listed] for file in checkpoint.files}
    if missing := [file for file, found in choices.items() if not found]:
        raise ValueError(f"{place.repository} has no {', '.join(missing)} at {commit}")
    files = {found[0]: listed[found[0]] for found in choices.values()}
    for file, (_, recorded) in files.items():
        if not HASH.fullmatch(recorded):
            raise ValueError(f"{place.endpoint} gives no hash of {file} in {place.repository} to verify it by")
        if place.is_other(file, recorded):
            raise ValueError(
                f"{file} of {place.repository} is not the published file: its sha256 is {recorded}, that of the "
                f"published one {checkpoint.sha256[file]}; nothing was fetched"
            )
    wanted = sum(size for file, (size, _) in files.items() if not (folder / file).is_file())
    free = shutil.disk_usage(next(f for f in (place.cache, *place.cache.parents) if f.is_dir())).free
    if free < wanted:
        raise ValueError(
            f"no space for {place.name} in {place.cache}: {megabytes(wanted)} are to be fetched, {megabytes(free)} are "
            "free; set HF_HOME to a folder on another disk"
        )
    say(f"{place.name}: {checkpoint.about}")
    say(f"licence {checkpoint.licence}: {LICENCES[checkpoint.licence]}; see {place.endpoint}/{place.repository}")
    say(f"{megabytes(wanted)} to fetch from {place.repository} at {commit} into {place.cache}")
    for file, (_, recorded) in files.items():
        with explained(place, f"{file} of {place.repository}"):
            hf_hub_download(place.repository, file, revision=commit, endpoint=place.endpoint, cache_dir=place.cache)
        verify(place, folder, file, recorded)
    if commit != place.revision:  # from now on the branch means this commit
        with explained(place, "the name of its commit"):
            ref = place.folder / "refs" / place.revision
            ref.parent.mkdir(exist_ok=True)
            save_atomically(lambda part: part.write_text(commit), ref)
    say(f"the content of all {len(files)} files is what the hub recorded")
    return folder


# ----------------------------------------------------------------------------------------------------------------------
# what can go wrong


def without_network(place: Place) -> str:
    return (
        f"Where there is a network, run `p2p download {place.name}` and copy {place.folder} from there; or give the "
        "folder of a copy instead of the name"
    )


@contextlib.contextmanager
def explained(place: Place, what: str) -> Iterator[None]:
    """Turn the client's exceptions into one ValueError with the remedy."""
    try:
        yield
    except (httpx.HTTPError, OSError, RuntimeError, ValueError, KeyError, TypeError) as e:
        cause = e.__cause__ if isinstance(e, LocalEntryNotFoundError) and e.__cause__ else e
        if isinstance(cause, RepositoryNotFoundError) and not isinstance(cause, GatedRepoError):
            raise Gone(f"{place.repository} is not on {place.endpoint}, or is private") from e
        raise ValueError(explanation(cause, place, what)) from e


def explanation(error: BaseException, place: Place, what: str) -> str:
    match error:
        case GatedRepoError():
            page = f"{place.endpoint}/{place.repository}"
            login = f"accept its licence on {page}, make an access token there, and log in with `hf auth login`"
            return f"{place.repository} is gated: {login}"
        case RevisionNotFoundError():
            return f"{place.repository} has no revision {place.revision}"
        case RemoteEntryNotFoundError():
            return f"{place.endpoint} does not have {what}"
        case HfHubHTTPError():
            status, said = error.response.status_code, error.server_message or error.response.reason_phrase
            advice = "see your login with `hf auth whoami`" if status in (401, 403) else "try again later"
            return f"{place.endpoint} refused {what} with status {status}: {said}; {advice}"
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return f"could not reach {place.endpoint} for {what}: {error}. {without_network(place)}"
        case httpx.HTTPError() | ConnectionError() | TimeoutError():
            broken = str(error) or type(error).__name__
            return f"the connection broke during {what}: {broken}; what has come whole is kept, try again"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"no space left in {place.cache} for {what}; set HF_HOME to a folder on another disk"
        case OSError() if "Consistency check failed" in str(error):
            return f"{what} came in a wrong size: {str(error).splitlines()[0]}; try again"
        case OSError():
            return f"could not write {what} into {place.cache}: {error}"
        case RuntimeError():
            return f"the client of {place.endpoint} failed at {what}: {error}; try again"
        case _:
            return f"{place.endpoint} did not answer as a hub does about {what}: {error}; is a login page between?"
