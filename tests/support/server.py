"""The Hugging Face hub in miniature, on a free port of this machine, with faults to switch on.

It answers what its client asks for one model: the commit and files of a revision, and the files. As on the hub, a large
(LFS) file is kept on another host, to which the answer redirects: here this machine's other name.
"""

import hashlib
import json
import os
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


def git_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repository:
    files: dict[str, bytes]
    commit: str = "c0ffee" * 6 + "c0ff"

    def etag(self, file: str) -> str:
        return (sha256 if is_lfs(file) else git_name)(self.files[file])

    def info(self) -> dict:
        siblings = []
        for file, content in self.files.items():
            sibling = {"rfilename": file, "size": len(content), "blobId": git_name(content)}
            if is_lfs(file):
                pointer = f"version 1\noid sha256:{sha256(content)}\nsize {len(content)}\n".encode()
                lfs = {"sha256": sha256(content), "size": len(content), "pointerSize": len(pointer)}
                sibling |= {"blobId": git_name(pointer), "lfs": lfs}
            siblings.append(sibling)
        return {"id": "-", "sha": self.commit, "siblings": siblings}


def is_lfs(file: str) -> bool:
    return file.endswith((".safetensors", ".bin"))


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a file's content."""

    kind: str  # drop, once; truncate and reset, each time; corrupt; lengthen
    after: int = 0  # bytes that come before it


@dataclass(frozen=True)
class Refusal:
    """What is answered instead."""

    status: int
    code: str = ""  # as the hub names it
    body: bytes = b""


@dataclass(frozen=True)
class Silence:
    """No answer for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Request:
    method: str
    what: str  # "api", or a file
    range: str | None
    repository: str


@dataclass
class State:
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: dict[str, Fault | Refusal | Silence] = field(default_factory=dict)  # of "api" or a file
    requests: list[Request] = field(default_factory=list)


class Hub(ThreadingHTTPServer):
    """`with Hub() as hub: threading.Thread(target=hub.serve_forever).start()`"""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = State()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):  # HTTP/1.0: one request a connection
    server: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        state, path = self.server.state, unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            name, revision = found.groups()
            what = "api"
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/(?:resolve|large)/([^/]+)/(.+)", path):
            name, revision, what = found.groups()
        elif path.startswith("/api/"):  # of its own accord the client asks for more, which no download needs
            return self.refuse(Refusal(404))
        else:
            raise AssertionError(f"the hub has no {path}")
        state.requests.append(Request(self.command, what, self.headers["Range"], name))
        fault = state.faults.get(what)
        repository = state.repositories.get(name)
        if isinstance(fault, Silence):
            threading.Event().wait(fault.seconds)
            return None
        if isinstance(fault, Refusal):
            return self.refuse(fault)
        if repository is None:
            return self.refuse(Refusal(401, "RepoNotFound"))
        if revision not in ("main", repository.commit):
            return self.refuse(Refusal(404, "RevisionNotFound"))
        if what == "api":
            return self.answer(200, json.dumps(repository.info()).encode(), {"Content-Type": "application/json"})
        if what not in repository.files:
            return self.refuse(Refusal(404, "EntryNotFound"))
        content = repository.files[what]
        if is_lfs(what) and "/resolve/" in path:
            large = f"http://localhost:{self.server.server_port}/{name}/large/{revision}/{what}"
            headers = {
                "X-Linked-Etag": f'"{repository.etag(what)}"',
                "X-Linked-Size": str(len(content)),
                "X-Repo-Commit": repository.commit,
                "Location": large,
            }
            return self.answer(302, b"", headers)
        return self.send_content(what, content, {"ETag": f'"{git_name(content)}"', "X-Repo-Commit": repository.commit})

    def refuse(self, refusal: Refusal):
        self.answer(refusal.status, refusal.body, {"X-Error-Code": refusal.code} if refusal.code else {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]):
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_content(self, what: str, content: bytes, headers: dict[str, str]):
        """A file from where the request wants it, and its fault if it has one."""
        faults = self.server.state.faults
        fault = faults.get(what, Fault("none")) if self.command == "GET" else Fault("none")
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if self.headers["Range"] else 0
        if fault.kind == "corrupt":
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault.kind == "lengthen":
            content += b"!"
        end = len(content)
        if fault.kind in ("drop", "truncate", "reset"):
            end = start + fault.after if fault.kind == "drop" else fault.after
        if fault.kind == "drop":
            del faults[what]
        if start:
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        headers = headers | {"Content-Length": str(len(content) - start)}
        self.answer(206 if start else 200, content[start:end], headers)
        if fault.kind == "reset":  # closed at once rather than in order: the client's next read fails
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
