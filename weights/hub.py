"""Downloads of public checkpoints from the Hugging Face hub, with the content of every file verified.

The hub's client shows progress, resumes dropped connections, keeps no half-written file, shares its cache with other
programs, and honours HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. It checks the size of files, not their content. So each
file is hashed here once, and a mark with its hash, size and modification time is left beside it, so that gigabytes are
not hashed at every load. Marks protect against accidents only: whoever can write to the cache can write them.
"""

import contextlib
import errno
import hashlib
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
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from ldm.helpers.files import save_atomically
from weights.checkpoints import CHECKPOINTS, LICENCES, Checkpoint

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # git's hash for files stored in git, else sha256


class Place(NamedTuple):
    """A repository on the hub that has a checkpoint."""

    name: str
    checkpoint: Checkpoint
    repository: str
    revision: str  # a commit, or a branch

    @property
    def cache(self) -> Path:
        return Path(constants.HF_HUB_CACHE).expanduser().resolve()

    @property
    def folder(self) -> Path:
        """The repository's folder in the client's cache."""
        return self.cache / f"models--{self.repository.replace('/', '--')}"

    @property
    def page(self) -> str:
        return f"{constants.ENDPOINT}/{self.repository}"

    def expected(self, file: str, recorded: str) -> str:
        """The hash to verify a file by: the pinned sha256 if there is one, else the hash that the hub recorded.

        Raises:
            ValueError: the hub recorded none, or another sha256 than the pinned one.
        """
        pinned = self.checkpoint.sha256.get(file, recorded)
        if not HASH.fullmatch(recorded):
            raise ValueError(f"{constants.ENDPOINT} gives no hash of {file} in {self.repository} to verify it by")
        if len(pinned) == len(recorded) and pinned != recorded:
            raise ValueError(
                f"{file} of {self.repository} is not the published file: its sha256 is {recorded}, that of the "
                f"published one {pinned}; nothing was fetched"
            )
        return pinned


def places(name: str) -> list[Place]:
    """The repositories that may have a checkpoint, best first."""
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint {name!r}: give one of {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[name]
    revisions = {checkpoint.hub: checkpoint.revision} | dict.fromkeys(checkpoint.mirrors, "main")
    return [Place(name, checkpoint, repository, revision) for repository, revision in revisions.items()]


def download(name: str) -> Path:
    """Download a checkpoint, unless it is complete in the cache, verify every file, and return its folder.

    Files that other programs downloaded into the same cache count too, and are verified when first used here; a
    checkpoint that is complete needs no network. If something fails, complete files stay in the cache, so the same call
    resumes from there.

    Raises:
        ValueError: there is no such checkpoint, it could not be downloaded, or its content is wrong; with the remedy.
        OSError: a file in the cache could not be read.
    """
    options, lack = places(name), ""
    for place in options:
        snapshot, files, missing = held(place)
        if not missing:
            for file, expected in files.items():
                verify(place, snapshot, file, expected)
            return snapshot
        if snapshot and not lack:
            lack = f"{snapshot} lacks {', '.join(missing)}"
    if is_offline_mode():
        lack = lack or f"nothing of it is in {options[0].cache}"
        raise ValueError(f"{name} may not be fetched offline, and {lack}. {without_network(options[0])}")
    for place in options:
        try:
            commit, listed = listing(place)
        except Gone as e:
            gone = str(e)
            say(f"{gone}; trying its next mirror, if it has one")
        else:
            return fetch(place, commit, listed)
    raise ValueError(f"{gone}; {'none of its mirrors is' if options[1:] else 'no mirror of it is known'}")


def say(text: str) -> None:
    print(text, file=sys.stderr)


# ----------------------------------------------------------------------------------------------------------------------
# what is in the cache


def held(place: Place) -> tuple[Path | None, dict[str, str], list[str]]:
    """The snapshot in the cache, its files with the hashes to verify them by, and the missing files. A file without a
    recorded hash counts as missing, and so does one that is known not to be the published one."""
    snapshot, files, missing = None, {}, []
    for file in place.checkpoint.files:
        for choice in place.checkpoint.choices(file):
            found = try_to_load_from_cache(place.repository, choice, place.cache, place.revision)
            if not isinstance(found, str):  # None, or known not to exist
                continue
            snapshot = Path(found.removesuffix(choice))
            with contextlib.suppress(ValueError, OSError):
                files[choice] = place.expected(choice, recorded(snapshot, choice))
                break
        else:
            missing.append(file)
    return snapshot, files, missing


def recorded(snapshot: Path, file: str) -> str:
    """The hash of a file in the cache: the client names the content by it and links to it; on systems without links,
    our mark has it. Raises OSError if there is neither."""
    path = snapshot / file
    return path.readlink().name if path.is_symlink() else mark(snapshot, file).read_text(errors="replace").split(" ")[0]


def mark(snapshot: Path, file: str) -> Path:
    """The file with the hash, size and modification time at which a file was verified."""
    return snapshot.parents[1] / "verified" / snapshot.name / file


def verify(place: Place, snapshot: Path, file: str, expected: str) -> None:
    """Hash a file of a snapshot, unless it was verified before and has not changed since.

    Raises:
        ValueError: the content has another hash than expected, and the file has been removed from the cache.
        OSError: the file could not be read.
    """
    path, marked = snapshot / file, mark(snapshot, file)
    now = f"{expected} {path.stat().st_size} {path.stat().st_mtime_ns}".encode()
    if marked.is_file() and marked.read_bytes() == now:
        return
    if (found := digest(path, expected)) != expected:
        try:
            discard(path, place.cache)
            outcome = "was removed from the cache: the same command again fetches it afresh"
        except OSError as e:
            outcome = f"could not be removed from the cache: {e}"
        raise ValueError(
            f"the content of {file} of {place.repository} is corrupted: expected the hash {expected}, found {found}; "
            f"the file {outcome}"
        )
    with contextlib.suppress(OSError):  # in a read-only cache, files are verified each time
        marked.parent.mkdir(parents=True, exist_ok=True)
        marked.write_bytes(now)


def digest(path: Path, like: str) -> str:
    """A file's hash, of the kind of `like`: sha256 of the content, or git's hash."""
    git = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256" if len(like) == 64 else lambda: git).hexdigest()


def discard(path: Path, cache: Path) -> None:
    """Remove a file of a snapshot, and the content that it links to if that is inside the cache."""
    content = path.resolve()
    path.unlink()
    if content.is_relative_to(cache):
        content.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------------------------
# what is on the hub


def listing(place: Place) -> tuple[str, dict[str, tuple[int, str]]]:
    """The commit of the revision, and the size and hash of each file in it, as recorded by the hub."""
    with explained(place, f"the list of files of {place.repository}"):
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = HfApi().model_info(place.repository, revision=place.revision, files_metadata=True, timeout=timeout)
    # the commit becomes part of a path
    if not COMMIT.fullmatch(info.sha or "") or (COMMIT.fullmatch(place.revision) and info.sha != place.revision):
        found = f"{place.revision} of {place.repository} is the commit {info.sha!r}"
        raise ValueError(f"{constants.ENDPOINT} answered that {found}, which cannot be")
    hash_of = lambda file: (file.lfs.sha256 if file.lfs else file.blob_id) or ""
    return info.sha, {file.rfilename: (file.size or 0, hash_of(file)) for file in info.siblings or ()}


def fetch(place: Place, commit: str, listed: dict[str, tuple[int, str]]) -> Path:
    """Download a checkpoint's missing files at a commit, verify all of them, and return the folder."""
    checkpoint, snapshot = place.checkpoint, place.folder / "snapshots" / commit
    # only names from our own table are requested: no name from a server becomes a path
    choices = {file: [c for c in checkpoint.choices(file) if c in listed] for file in checkpoint.files}
    if missing := [file for file, found in choices.items() if not found]:
        raise ValueError(f"{place.repository} has no {', '.join(missing)} at {commit}")
    files = {found[0]: place.expected(found[0], listed[found[0]][1]) for found in choices.values()}
    wanted = sum(listed[file][0] for file in files if not (snapshot / file).is_file())
    free = shutil.disk_usage(next(f for f in (place.cache, *place.cache.parents) if f.is_dir())).free
    if free < wanted:  # the client only warns
        raise ValueError(
            f"no space for {place.name} in {place.cache}: {wanted / 1e6:,.1f} MB are to be fetched, "
            f"{free / 1e6:,.1f} MB are free; set HF_HOME to a folder on another disk"
        )
    say(f"{place.name}: {checkpoint.about}")
    say(f"licence {checkpoint.licence}: {LICENCES[checkpoint.licence]}; see {place.page}")
    say(f"{wanted / 1e6:,.1f} MB to fetch from {place.repository} at {commit} into {place.cache}")
    for file, expected in files.items():
        with explained(place, f"{file} of {place.repository}"):
            hf_hub_download(place.repository, file, revision=commit, cache_dir=place.cache)
        verify(place, snapshot, file, expected)
    if commit != place.revision:  # from now on the branch means this commit
        with explained(place, "the name of its commit"):
            ref = place.folder / "refs" / place.revision
            ref.parent.mkdir(exist_ok=True)
            save_atomically(lambda part: part.write_text(commit), ref)
    say(f"the content of all {len(files)} files is verified")
    return snapshot


# ----------------------------------------------------------------------------------------------------------------------
# what can go wrong


class Gone(ValueError):
    """The repository does not exist, or is private."""


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
            raise Gone(f"{place.repository} is not on {constants.ENDPOINT}, or is private") from e
        raise ValueError(explanation(cause, place, what)) from e


def explanation(error: Exception, place: Place, what: str) -> str:
    hub, reason = constants.ENDPOINT, (str(error) or type(error).__name__).splitlines()[0]
    match error:
        case GatedRepoError():
            login = "make an access token there, and log in with `hf auth login`"
            return f"{place.repository} is gated: accept its licence on {place.page}, {login}"
        case RevisionNotFoundError():
            return f"{place.repository} has no revision {place.revision}"
        case HfHubHTTPError():
            status, said = error.response.status_code, error.server_message or error.response.reason_phrase
            advice = "see your login with `hf auth whoami`" if status in (401, 403) else "try again later"
            return f"{hub} refused {what} with status {status}: {said}; {advice}"
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return f"could not reach {hub} for {what}: {reason}. {without_network(place)}"
        case httpx.HTTPError() | ConnectionError() | TimeoutError():
            return f"the connection broke during {what}: {reason}; complete files are kept, try again"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"no space left in {place.cache} for {what}; set HF_HOME to a folder on another disk"
        case OSError() | RuntimeError():
            return f"could not store {what} in {place.cache}: {reason}; try again"
        case _:
            return f"{hub} did not answer as a hub does about {what}: {reason}; is a login page between?"
