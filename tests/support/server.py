"""The Hugging Face hub in miniature, on a free port of this machine, with faults to switch on.

It answers what its client asks for one model: the commit and files of a revision, their tree, and the files.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def is_lfs(file: str) -> bool:
    return file.endswith((".safetensors", ".bin"))


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "c0ff"

    def etag(self, file: str) -> str:
        return (sha256 if is_lfs(file) else git_hash)(self.files[file])

    def described(self, how: str) -> dict | list:
        """What the hub answers about a revision, or about the tree of its files."""
        files = [{"rfilename": f, "path": f, "type": "file", "size": len(self.files[f])} for f in self.files]
        for file in files:
            etag = self.etag(file["path"])
            file |= {"blobId": etag, "oid": etag}
            if is_lfs(file["path"]):
                file["lfs"] = {"sha256": etag, "oid": etag, "size": file["size"], "pointerSize": 130}
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


class Hub(ThreadingHTTPServer):
    """`with Hub() as hub:` runs it in a thread."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, Damage | Refusal] = {}  # of "api" or a file
        self.requests: list[Request] = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):  # HTTP/1.0: one request a connection
    server: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        asked = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+)/(revision|tree|resolve)/([^/]+)(?:/(.+))?", path)
        if asked is None:  # of its own accord the client asks for more, which no download needs
            return self.answer(404)
        name, how, revision, what = asked.groups(default="api")
        self.server.requests.append(Request(self.command, what, self.headers["Range"], name))
        repository, fault = self.server.repositories.get(name), self.server.faults.get(what)
        if isinstance(fault, Refusal):
            return self.refuse(*fault)
        if repository is None:
            return self.refuse(401, "RepoNotFound")
        if revision not in ("main", repository.commit):
            return self.refuse(404, "RevisionNotFound")
        if what == "api":
            content = json.dumps(repository.described(how)).encode()
            return self.answer(200, content, {"Content-Type": "application/json"})
        if what not in repository.files:
            return self.refuse(404, "EntryNotFound")
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{repository.etag(what)}"'}
        self.send_content(what, repository.files[what], headers)

    def refuse(self, status: int, code: str = "", body: bytes = b""):
        self.answer(status, body, {"X-Error-Code": code})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_content(self, what: str, content: bytes, headers: dict[str, str]):
        """A file from where the request wants it, and its damage if it has one."""
        kind, after = self.server.faults.get(what, ("", 0)) if self.command == "GET" else ("", 0)
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.headers["Range"] else 0
        if kind == "corrupt":
            content = bytes([content[0] ^ 1]) + content[1:]
        if kind == "lengthen":
            content += b"!"
        end = {"drop": start + after, "truncate": after}.get(kind, len(content))
        if kind == "drop":
            del self.server.faults[what]
        if start:
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        headers |= {"Content-Length": str(len(content) - start)}
        self.answer(206 if start else 200, content[start:end], headers)
