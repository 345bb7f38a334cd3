"""Downloads of public checkpoints from the Hugging Face hub, with the content of every file verified.

The hub's client shows progress, resumes dropped connections, keeps no half-written file, shares its cache with other
programs, and honours HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE. It checks sizes only, so each file is hashed here once,
and marked with its hash, size and modification time, which protects against accidents, not against other programs.
"""

import errno
import json
import re
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, errors, model_info, snapshot_download
from huggingface_hub.utils import httpx
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from weights.checkpoints import CHECKPOINTS, LICENCES, Checkpoint


def download(name: str) -> Path:
    """Download a checkpoint, unless it is complete in the cache, verify every file, and return its folder.

    Files that other programs downloaded into the same cache count too, and are verified when first used here; a
    complete checkpoint needs no network. After a failure, the same call resumes from the files that are complete.

    Raises:
        ValueError: there is no such checkpoint, it could not be downloaded, or its content is wrong; with the remedy.
        OSError: a file in the cache could not be read.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint {name!r}: give one of {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[name]
    places = [checkpoint, *(replace(checkpoint, hub=mirror, revision="main") for mirror in checkpoint.mirrors)]
    for place in places:
        with suppress(errors.LocalEntryNotFoundError):
            snapshot = snapshot_download(place.hub, revision=place.revision, allow_patterns=[], local_files_only=True)
            if verified(place, Path(snapshot)):
                return Path(snapshot)
    for place in places:
        try:
            return fetch(name, place)
        except Exception as e:  # the client's own, of which a network causes a dozen kinds
            if type(e) is ValueError:
                raise
            gone = isinstance(e, errors.RepositoryNotFoundError) and not isinstance(e, errors.GatedRepoError)
            if not gone or place is places[-1]:
                raise ValueError(explanation(e, name, place)) from e
            print(f"{place.hub} is not on {constants.ENDPOINT}; trying its next mirror", file=sys.stderr)


def folder(place: Checkpoint) -> Path:
    """A repository's folder in the client's cache."""
    return Path(constants.HF_HUB_CACHE).expanduser().resolve() / f"models--{place.hub.replace('/', '--')}"


def verified(place: Checkpoint, snapshot: Path, listed: dict[str, str | None] | None = None) -> bool:
    """Hash the files of a snapshot, unless they are marked and have not changed since. Return False if a file is
    missing, or its recorded hash: that listed by the hub, else the name of the content that the client links to, or, on
    systems without links, that in our mark. Raises ValueError if content is corrupted, and removes it."""
    marked, marks = folder(place) / "verified" / f"{snapshot.name}.json", {}
    with suppress(OSError, ValueError):  # there are none, or they are damaged
        marks = json.loads(marked.read_bytes())
    for names in map(place.choices, place.files):
        file = next((name for name in names if (snapshot / name).is_file()), names[0])
        path = snapshot / file
        linked = path.readlink().name if path.is_symlink() else marks.get(file, [None])[0]
        hash = expected(place, file, listed[file] if listed else linked)
        if not listed and not (hash and path.is_file()):
            return False
        now = [hash, path.stat().st_size, path.stat().st_mtime_ns]
        if marks.get(file) != now and (found := digest(path, hash)) != hash:
            with suppress(OSError):
                content = path.resolve()
                path.unlink()
                if content.is_relative_to(folder(place).parent):  # else it is a file of the user's own
                    content.unlink(missing_ok=True)
            raise ValueError(
                f"the content of {file} of {place.hub} is corrupted: its hash is {found}, not {hash}; the file is "
                f"removed, unless {snapshot} is read-only: the same command again fetches it afresh"
            )
        marks[file] = now
    with suppress(OSError):  # in a read-only cache, files are verified each time
        marked.parent.mkdir(exist_ok=True)
        marked.write_text(json.dumps(marks))
    return True


def expected(place: Checkpoint, file: str, recorded: str | None) -> str | None:
    """The hash to verify a file by: the pinned sha256 if there is one, else the recorded hash, which is sha256, or
    git's for files stored in git. None if there is none, or if it is another sha256 than the pinned one."""
    pinned = place.sha256.get(file, recorded)
    hashed = re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", recorded or "")
    return pinned if hashed and (pinned == recorded or len(recorded) == 40) else None


def digest(path: Path, like: str) -> str:
    """A file's hash, of the kind of `like`."""
    with path.open("rb") as file:
        return sha_fileobj(file).hex() if len(like) == 64 else git_hash(file.read())


def fetch(name: str, place: Checkpoint) -> Path:
    """Download a checkpoint's missing files, verify all of them, and return the folder."""
    info = model_info(place.hub, revision=place.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    commit = info.sha or ""  # it becomes part of a path
    if not re.fullmatch("[0-9a-f]{40}" if place.revision == "main" else place.revision, commit):
        raise ValueError(f"{constants.ENDPOINT} has {commit!r} as {place.revision} of {place.hub}, which cannot be")
    listed = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings or ()}
    # only names from our own table are requested: no name from a server becomes a path
    files = [next((name for name in place.choices(file) if name in listed), file) for file in place.files]
    if lacking := [file for file in files if not expected(place, file, listed.get(file))]:
        raise ValueError(f"{place.hub} at {commit} lacks {', '.join(lacking)}, or has another than was published")
    print(
        f"{name}: {place.about}\nlicence {place.licence}: {LICENCES[place.licence]}\n"
        f"{place.size / 1e6:,.0f} MB from {constants.ENDPOINT}/{place.hub} at {commit} into {folder(place)}",
        file=sys.stderr,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough free disk space")
        snapshot = Path(snapshot_download(place.hub, revision=commit, allow_patterns=files))
    verified(place, snapshot, listed)
    if commit != place.revision:  # from now on the branch means this commit
        (folder(place) / "refs").mkdir(exist_ok=True)
        (folder(place) / "refs" / place.revision).write_text(commit)
    print(f"the content of all {len(files)} files is verified", file=sys.stderr)
    return snapshot


def explanation(error: Exception, name: str, place: Checkpoint) -> str:
    """One sentence with the remedy."""
    hub, cache = constants.ENDPOINT, folder(place)
    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
    reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300].rstrip('.')}"
    match cause:
        case errors.GatedRepoError():
            return f"{place.hub} is gated: accept its licence on {hub}/{place.hub}, and log in with `hf auth login`"
        case errors.RepositoryNotFoundError():
            return f"{place.hub} is not on {hub}, or is private: give the folder of a copy instead of {name}"
        case errors.HfHubHTTPError():
            return f"{hub} refused {place.hub}: {reason}; see your login with `hf auth whoami`, or try again later"
        case errors.OfflineModeIsEnabled() | httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            elsewhere = f"run `p2p download {name}` where there is a network and copy that folder here"
            return f"{name} is not complete in {cache}, and could not be fetched: {reason}; {elsewhere}"
        case OSError(errno=errno.ENOSPC | errno.EDQUOT) | UserWarning():
            return f"no space for {name} in {cache}: {reason}; set HF_HOME to a folder on another disk"
    return f"could not fetch {place.hub} from {hub} into {cache}: {reason}; complete files are kept, try again"
