"""A stand-in of ZeroGPU's service on loopback, which lends the processor in the place of a GPU.

It answers what the package `spaces` 0.51 asks at SPACES_ZERO_DEVICE_API_URL: a report at the start of the page, then
for each call a schedule, the permission for the process that has the GPU, and its release.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import llama_cpp


@dataclass
class ZeroGpuService:
    """asked: the paths that were asked for, in order; schedules: what was asked of each schedule.

    left: seconds of the visitor's quota, None for as many as wanted. again: seconds until there are more.
    waiting: requests in the queue; with any, a schedule is granted only after a while.
    """

    address: str
    asked: list[str] = field(default_factory=list)
    schedules: list[dict[str, str]] = field(default_factory=list)
    left: int | None = None
    again: int = 0
    waiting: int = 0
    _changed: Condition = field(default_factory=Condition)

    @property
    def variables(self) -> dict[str, str]:
        return {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": self.address}

    def note(self, path: str) -> None:
        with self._changed:
            self.asked.append(path)
            self._changed.notify_all()

    def wait_for(self, path: str) -> None:
        """Returns once this path was asked for; raises AssertionError if that does not come."""
        with self._changed:
            assert self._changed.wait_for(lambda: path in self.asked, 30), f"{path} was not asked for: {self.asked}"


class _Handler(BaseHTTPRequestHandler):
    service: ZeroGpuService
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._note()
        self._answer(200, self.service.waiting)

    def do_POST(self) -> None:
        path = self._note()
        if path == "/schedule":
            self._schedule()
        else:
            self._answer(200 if path in ("/startup-report", "/allow", "/release") else 404)

    def _note(self) -> str:
        self._path = urlsplit(self.path)
        self.service.note(self._path.path)
        return self._path.path

    def _schedule(self) -> None:
        service = self.service
        asked = {name: values[0] for name, values in parse_qs(self._path.query).items()}
        service.schedules.append(asked)
        if service.left is not None and service.left < int(asked["durationSeconds"]):
            quota = {"left": service.left, "wait": service.again}
            self._answer(429, quota, {"X-Approve-Result": "quota-exceeded", "X-Authenticated": "regular"})
            return
        number = len(service.schedules)
        lent = {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": f"token {number}"}
        if not service.waiting:
            self._answer(200, lent)
            return
        chunked = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", "X-Queuing-Reason": "node"}
        self._begin(200, chunked)
        for event in ("event: ping\n\n", f"event: succeeded\ndata: {json.dumps(lent)}\n\n", ""):
            self.wfile.write(f"{len(event):x}\r\n{event}\r\n".encode())  # `spaces` reads one event of a chunk

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode() if body is not None else b""
        self._begin(status, {**(headers or {}), "Content-Type": "application/json", "Content-Length": str(len(text))})
        self.wfile.write(text)

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *values: object) -> None: ...


@contextmanager
def zerogpu_service() -> Iterator[ZeroGpuService]:
    """The service while the `with` lasts."""
    service = ZeroGpuService("")
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    service.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def visitors_token() -> str:
    """What the platform puts into the header X-IP-Token of a visitor's request; nothing here checks its signature."""
    return f"e30.{base64.urlsafe_b64encode(b'{}').decode()}.none"


def libraries(folder: Path) -> Path:
    """What a ZeroGPU Space has in its folder of llama.cpp with CUDA; here it is the llama.cpp of this Python."""
    folder.mkdir()
    (folder / "llama_cpp").symlink_to(Path(llama_cpp.__file__).parent)
    return folder
