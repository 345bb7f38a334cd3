"""Public checkpoints from the Hugging Face hub, by its own client, and the content of every file verified.

The client shows progress, resumes after a dropped connection, and keeps what came in its cache, which other programs
share; weights/cache.py has what is checked there. HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE mean what they mean to it.
"""

import contextlib
import errno
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, is_offline_mode
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
from weights.cache import COMMIT, HASH, Place, held, verify
from weights.checkpoints import CHECKPOINTS, LICENCES


class Gone(ValueError):
    """There is no such repository, or none that may be seen."""


def places(name: str) -> list[Place]:
    """Where a checkpoint may be, best first."""
    if name not in CHECKPOINTS:
        raise ValueError(f"no checkpoint {name!r}: give one of {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[name]
    endpoint, cache = constants.ENDPOINT.rstrip("/"), Path(constants.HF_HUB_CACHE).expanduser().resolve()
    revisions = {checkpoint.hub: checkpoint.revision} | dict.fromkeys(checkpoint.mirrors, "main")
    return [Place(name, checkpoint, hub, revision, endpoint, cache) for hub, revision in revisions.items()]


def local(name: str) -> Path | None:
    """The folder of a checkpoint if all of it is in the cache, verified; else None. Uses no network.

    Files that other programs fetched into the same cache count too, and are verified here for the first time.

    Raises:
        ValueError: no such checkpoint, or a file whose content is not what it should be.
    """
    for place in places(name):
        folder = place.cached()
        if folder is not None:
            files, lacking = held(place, folder)
            if not lacking:
                for file, recorded in files.items():
                    verify(place, folder, file, recorded)
                return folder
    return None


def download(name: str) -> Path:
    """The folder of a checkpoint, fetched unless all of it is in the cache, every file's content verified.

    What has come whole stays in the cache when something fails, so the same call again goes on from there.

    Raises:
        ValueError: there is no such checkpoint, it could not be fetched, or its content is wrong; says which and what
            to do.
    """
    folder = local(name)
    if folder is not None:
        return folder
    options = places(name)
    if is_offline_mode():
        raise ValueError(offline_problem(options))
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
    """The commit that the revision means, and the size and hash of each file in it, as the hub records them."""
    revision = place.revision
    with explained(place, f"the list of files of {place.repository}"):
        info = HfApi(endpoint=place.endpoint).model_info(
            place.repository, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    # the commit becomes part of a path
    if not COMMIT.fullmatch(info.sha or "") or (COMMIT.fullmatch(revision) and info.sha != revision):
        raise ValueError(f"{place.endpoint} says that {revision} of {place.repository} is the commit {info.sha!r}")
    return info.sha, {
        file.rfilename: (file.size or 0, (file.lfs.sha256 if file.lfs else file.blob_id) or "")
        for file in info.siblings or ()
    }


def fetch(place: Place, commit: str, listed: dict[str, tuple[int, str]]) -> Path:
    """All of a checkpoint's files at a commit, downloaded where they are not yet, and verified."""
    checkpoint, folder = place.checkpoint, place.snapshot(commit)
    # only names of our own table are asked for: no name that a server lists becomes a path
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
                f"published one {place.checkpoint.sha256[file]}; nothing was fetched"
            )
    wanted = sum(size for file, (size, _) in files.items() if not (folder / file).is_file())
    check_space(place, wanted)
    say(f"{place.name}: {checkpoint.about}")
    say(f"licence {checkpoint.licence}: {LICENCES[checkpoint.licence]}; see {place.endpoint}/{place.repository}")
    say(f"{megabytes(wanted)} to fetch from {place.repository} at {commit} into {place.cache}")
    for file, (_, recorded) in files.items():
        with explained(place, f"{file} of {place.repository}"):
            hf_hub_download(place.repository, file, revision=commit, endpoint=place.endpoint, cache_dir=place.cache)
        verify(place, folder, file, recorded)
    if commit != place.revision:
        with explained(place, "the name of its commit"):
            place.ref.parent.mkdir(exist_ok=True)
            save_atomically(lambda part: part.write_text(commit), place.ref)
    say(f"the content of all {len(files)} files is what the hub recorded")
    return folder


# ---------------------------------------------------------------------------------------------------------------------
# what can go wrong


def check_space(place: Place, wanted: int) -> None:
    """Raises ValueError if so many bytes do not fit on the cache's disk."""
    disk = next(folder for folder in (place.cache, *place.cache.parents) if folder.is_dir())
    free = shutil.disk_usage(disk).free
    if free < wanted:
        raise ValueError(
            f"no space for {place.name} in {place.cache}: {megabytes(wanted)} are to be fetched, {megabytes(free)} are "
            "free; set HF_HOME to a folder on another disk"
        )


def offline_problem(options: list[Place]) -> str:
    """What a checkpoint lacks that may not be fetched."""
    found = [(place, folder) for place in options if (folder := place.cached())]
    lack = (
        f"{found[0][1]} lacks {', '.join(held(*found[0])[1])}" if found else f"nothing of it is in {options[0].cache}"
    )
    return f"{options[0].name} may not be fetched offline, and {lack}. {without_network(options[0])}"


def without_network(place: Place) -> str:
    return (
        f"Where there is a network, run `p2p download {place.name}` and copy {place.folder} from there; or give the "
        "folder of a copy instead of the name"
    )


def access(place: Place) -> str:
    return (
        f"{place.repository} is gated: accept its licence on {place.endpoint}/{place.repository}, make an access token "
        "in the settings of your account there, and log in with `hf auth login`"
    )


@contextlib.contextmanager
def explained(place: Place, what: str) -> Iterator[None]:
    """Whatever the client raises, as one ValueError that says what to do."""
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
            return access(place)
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
