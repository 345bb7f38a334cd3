"""The Hugging Face hub in miniature, in the place of the network, with faults to switch on.

It answers what its client asks for one model: the commit and files of a revision, their tree, and the files.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from huggingface_hub.utils import httpx


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "c0ff"

    def etag(self, file: str) -> str:
        is_large = file.endswith((".safetensors", ".bin"))  # which are stored outside git
        return (sha256 if is_large else git_hash)(self.files[file])

    def described(self, how: str) -> dict | list:
        """What the hub answers about a revision, or about the tree of its files."""
        files = []
        for file, content in self.files.items():
            etag, size = self.etag(file), len(content)
            files.append({"rfilename": file, "path": file, "type": "file", "size": size, "blobId": etag, "oid": etag})
            if len(etag) == 64:
                files[-1]["lfs"] = {"sha256": etag, "oid": etag, "size": size, "pointerSize": 130}
        return files if how == "tree" else {"id": "-", "sha": self.commit, "siblings": files}


class Damage(NamedTuple):
    """What goes wrong with a file's content."""

    kind: str  # drop, once; truncate, each time; corrupt; lengthen
    after: int = 0  # bytes that come before it


class Refusal(NamedTuple):
    """What is answered instead."""

    status: int
    code: str = ""  # as the hub names it
    body: bytes = b""


class Request(NamedTuple):
    method: str
    what: str  # "api", or a file
    range: str | None
    repository: str


@dataclass
class Hub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: dict[str, Damage | Refusal] = field(default_factory=dict)  # of "api" or a file
    requests: list[Request] = field(default_factory=list)
    reachable: bool = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        if not self.reachable:
            raise httpx.ConnectError("Connection refused")
        refuse = lambda status, code="", body=b"": httpx.Response(status, headers={"X-Error-Code": code}, content=body)
        path = unquote(request.url.path)
        asked = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)/(revision|tree|resolve)/([^/]+)(?:/(.+))?", path)
        if asked is None:  # of its own accord the client asks for more, which no download needs
            return refuse(404)
        name, how, revision, what = asked.groups(default="api")
        self.requests.append(Request(request.method, what, request.headers.get("Range"), name))
        repository, fault = self.repositories.get(name), self.faults.get(what)
        if isinstance(fault, Refusal):
            return refuse(*fault)
        if repository is None:
            return refuse(401, "RepoNotFound")
        if revision not in ("main", repository.commit):
            return refuse(404, "RevisionNotFound")
        if what == "api":
            return httpx.Response(200, json=repository.described(how))
        if what not in repository.files:
            return refuse(404, "EntryNotFound")
        start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
        whole = repository.files[what]
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{repository.etag(what)}"'}
        longer = request.method == "GET" and fault == Damage("lengthen")
        headers |= {"Content-Length": str(len(whole) - start + longer)}
        content = self.content(what, whole, start) if request.method == "GET" else b""
        return httpx.Response(206 if start else 200, headers=headers, content=content)

    def content(self, what: str, whole: bytes, start: int) -> Iterator[bytes]:
        """A file from a position on, and its damage if it has one."""
        kind, after = self.faults.get(what, ("", 0))
        if kind == "corrupt":
            whole = bytes([whole[0] ^ 1]) + whole[1:]
        if kind not in ("drop", "truncate"):
            yield whole[start:] + b"!" * (kind == "lengthen")
            return
        yield whole[start : start + after if kind == "drop" else after]
        if kind == "drop":
            del self.faults[what]
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")
