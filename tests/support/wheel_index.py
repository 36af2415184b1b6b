"""An index of wheels on loopback, with the faults of real ones, and wheels packed again from what is installed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from threading import Event, Thread

LOGIN_PAGE = b"<!DOCTYPE html><html><body><form action='/login'>Welcome to the guest network</form></body></html>"
NOT_OF_A_WHEEL = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")


@dataclass
class WheelIndex:
    """What the index answers, by path; a path without an answer is 404, one in `silent` never gets its answer."""

    address: str
    closing: Event
    pages: dict[str, bytes] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def list_wheels(self, folder: str, *names: str) -> None:
        """The page of links of a folder, in the form of the bindings' own index."""
        links = "".join(f'    <a href="{self.address}/files/{name}">{name}</a>\n    <br>\n' for name in names)
        page = (
            f"<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Links for llama-cpp-python</h1>\n{links}  </body>\n</html>\n"
        )
        self.pages[f"/{folder}/llama-cpp-python/"] = page.encode()

    def offer(self, folder: str, wheel: Path) -> None:
        """A folder with one wheel."""
        self.list_wheels(folder, wheel.name)
        self.pages[f"/files/{wheel.name}"] = wheel.read_bytes()


@contextmanager
def wheel_index() -> Iterator[WheelIndex]:
    closing = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            if self.path in index.silent:
                closing.wait()
                return
            body = index.pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command != "HEAD":  # by which uv asks for a length first
                self.wfile.write(body or b"")

        do_HEAD = do_GET  # noqa: N815 the name that http.server calls

        def log_message(self, format: str, *values: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index = WheelIndex(f"http://127.0.0.1:{server.server_port}", closing)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield index
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def pack_again(name: str, target: Path, change: Callable[[str, bytes], bytes] = lambda _, content: content) -> Path:
    """A wheel of an installed distribution. change: makes of a file's path and content the content to pack."""
    installed = distribution(name)
    tags = [line[5:] for line in (installed.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    tag = next(one for one in tags if not one.startswith("py2-"))
    path = target / f"{name.replace('-', '_')}-{installed.version}-{tag}.whl"
    files = [file for file in installed.files or () if file.parts[0] != ".." and file.suffix != ".pyc"]
    kept = [file for file in files if file.name not in NOT_OF_A_WHEEL]
    metadata = next(file.parent for file in kept if file.name == "METADATA")
    with zipfile.ZipFile(path, "w") as wheel:
        for file in kept:
            wheel.writestr(str(file), change(str(file), Path(str(file.locate())).read_bytes()))
        wheel.writestr(f"{metadata}/RECORD", "".join(f"{file},,\n" for file in (*kept, f"{metadata}/RECORD")))
    return path
