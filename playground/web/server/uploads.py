"""What a browser uploads: checked while it arrives, kept on the disk of the models, removed afterwards.

Gradio writes each upload to its folder before any event hears of it, and removes it when nothing asked for it for a
time. It has one size limit for all files. But a model file has gigabytes, an export of measurements megabytes, and
everything else is a short text with instructions. So an upload is ended here at its first byte that should not come:
whether there is room is checked before the first byte, and whether a model file begins as one with its first four.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground import events
from playground.machine.files import DISK_FULL_ERRORS, why_not_writable
from playground.measure.export import MOST_BYTES as MAX_EXPORT_BYTES
from playground.settings import Settings
from playground.text_format import gigabytes, gigabytes_apart
from playground.web.gradio_private import upload_folder

UPLOADS: Final = "uploads"  # the folder in the data folder
KEPT_SECONDS: Final = 600  # an upload that no event used is removed when so old
CLEANING_SECONDS: Final = 60  # so often Gradio looks for them
MODEL_ENDING: Final = ".gguf"
EXPORT_ENDING: Final = ".json"  # measurements with all their answers, or a chat
MAGIC: Final = b"GGUF"
MAX_TEXT_BYTES: Final = 2_000_000  # of instructions; how many characters they may have, the chat decides
MAX_BYTES_OF_ALL: Final = 256 << 20  # of all visitors within RECENT_SECONDS, where strangers come
RECENT_SECONDS: Final = 660.0  # as long as an upload can lie there
RESERVED_BYTES: Final = 256 << 20  # of the disk, for everything else
_LEFT_BEHIND_SECONDS: Final = 86_400  # an upload so old was left by a run that ended badly
_BAD_HEADER: Final = b"\r\n@\r\n\r\n"  # no header's name begins so: a multipart parser stops here


class RejectedRequest(Exception):
    """A request that is not let through: an HTTP status and a sentence; `setting` as in RequestRefused."""

    def __init__(self, status: int, words: str, setting: str = "") -> None:
        super().__init__(words)
        self.status, self.setting = status, setting


# --- while they arrive ---


class Uploads:
    """Passes uploads on to Gradio, and watches them. Model files may come where local files may be opened."""

    def __init__(self, settings: Settings) -> None:
        self._max_model_bytes = settings.max_dropped_bytes
        self._quota = None if settings.allow_local_files else UploadQuota(MAX_BYTES_OF_ALL)

    async def pass_on(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises RejectedRequest before the first byte is read."""
        folder = upload_folder()
        _check_folder(folder)
        if self._quota:
            await app(scope, self._quota.counted(receive), send)  # Gradio's own limit is for instructions here
        else:
            check = UploadCheck(scope, receive, send, folder, self._max_model_bytes)
            await app(scope, check.receive, check.send)


class UploadQuota:
    """Counts the bytes of recent uploads, of all visitors; beyond `max_bytes` uploads are refused for a while."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._recent: deque[tuple[float, int]] = deque()  # (when the upload began, bytes)
        self._sum = 0

    def counted(self, receive: Receive) -> Receive:
        now = self._clock()
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._sum -= self._recent.popleft()[1]
        if self._sum >= self._max_bytes:
            raise RejectedRequest(429, "Too much was uploaded in the last minutes. Try again later.")

        async def receive_counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            self._recent.append((now, size))
            self._sum += size
            return message if self._sum <= self._max_bytes else {"type": "http.disconnect"}

        return receive_counted


class UploadCheck:
    """One upload on its way to Gradio, whose `receive` and `send` take the place of the server's own.

    What is refused, and what breaks off, reaches Gradio as a body that makes no sense: then Gradio removes what it has
    written of it. Nothing is buffered.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, folder: Path, max_model_bytes: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        headers = Headers(scope=scope)
        self._length = headers.get("content-length", "")
        self._folder = folder
        _, options = parse_options_header(headers.get("content-type", ""))
        self._boundary = options.get(b"boundary", b"")
        self._parts = _PartCheck(self._boundary, max_model_bytes) if self._boundary else None
        self._rejected: RejectedRequest | None = None
        self._is_first = True
        self._has_answered = False

    async def receive(self) -> Message:
        """The next message, as long as its bytes may come."""
        try:
            if self._is_first:
                self._is_first = False
                self._check_room()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return self._nonsense()
            if self._parts:
                self._parts.feed(message.get("body", b""))
        except RejectedRequest as rejected:
            self._rejected = rejected
            events.refused("", "upload", rejected.setting, str(rejected))
            return self._nonsense()
        return message

    async def send(self, message: Message) -> None:
        """Gradio's answer, or in its place the reason why the upload was ended."""
        if self._rejected is None:
            await self._send(message)
        elif not self._has_answered:
            self._has_answered = True
            close = {"connection": "close"}  # the rest of the upload is not read
            answer = PlainTextResponse(str(self._rejected), self._rejected.status, close)
            await answer(self._scope, self._receive, self._send)

    def _check_room(self) -> None:
        coming = int(self._length) if self._length.isascii() and self._length.isdigit() else 0
        self._folder.mkdir(parents=True, exist_ok=True)
        free = max(0, shutil.disk_usage(self._folder).free - RESERVED_BYTES)
        if coming > free:
            wanted, there = gigabytes_apart(coming, free)
            raise RejectedRequest(
                507,
                f"That file has {wanted}, and the playground's disk has room for {there}. Make room, or open it by its "
                "path: then it is not copied.",
            )

    def _nonsense(self) -> Message:
        return {"type": "http.request", "body": b"\r\n--" + self._boundary + _BAD_HEADER, "more_body": False}


class _PartCheck:
    """The files of one multipart body, as their bytes come: `feed` raises RejectedRequest."""

    def __init__(self, boundary: bytes, max_model_bytes: int) -> None:
        self._max_model_bytes = max_model_bytes
        self._header_field = self._header_value = b""
        self._name = ""
        self._size = 0
        self._beginning = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_part_data": self._on_part_data,
            },
        )

    def feed(self, body: bytes) -> None:
        with suppress(MultipartParseError):  # Gradio refuses it in its own words
            self._parser.write(body)

    def _on_part_begin(self) -> None:
        self._name, self._size, self._beginning = "", 0, b""
        self._header_field = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_field.lower() == b"content-disposition":
            _, options = parse_options_header(self._header_value)
            self._name = Path(options.get(b"filename", b"").decode("utf-8", "replace")).name
        self._header_field = self._header_value = b""

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        ending = Path(self._name).suffix.lower()
        if ending == EXPORT_ENDING:
            if self._size > MAX_EXPORT_BYTES:
                raise RejectedRequest(413, f"{self._name} is too large for an export of measurements.")
            return
        if ending != MODEL_ENDING:
            if self._size > MAX_TEXT_BYTES:
                name, most = self._name or "That file", gigabytes(MAX_TEXT_BYTES)
                raise RejectedRequest(413, f"{name} is too large: a text or a chat may have {most} here.")
            return
        if self._size > self._max_model_bytes:
            raise RejectedRequest(
                413,
                f"{self._name} has more than {gigabytes(self._max_model_bytes)}. Open it by its path instead.",
                "max_dropped_bytes",
            )
        if len(self._beginning) < len(MAGIC):
            self._beginning += data[start : min(end, start + len(MAGIC))]
            if not MAGIC.startswith(self._beginning[: len(MAGIC)]):
                raise RejectedRequest(
                    415, f"{self._name} is not a GGUF model: its first bytes are not those of one. Choose another file."
                )


def _check_folder(folder: Path) -> None:
    """Refuses an upload that Gradio could not write down; how much room there is, the upload's own size decides."""
    error = why_not_writable(folder)
    if error and error.errno not in DISK_FULL_ERRORS:
        raise RejectedRequest(
            507,
            f"The playground's folder for uploads takes no file ({error.strerror or error}). Its operator can name "
            "another one with PLAYGROUND_DATA_DIR.",
        )


# --- on the disk ---


@contextmanager
def uploads_in(folder: Path) -> Iterator[None]:
    """Let uploads be written to this folder, on the disk where model files stay: these are then moved, not copied.

    Gradio's own place may be in memory. Where GRADIO_TEMP_DIR names one, that is kept.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        yield
        return
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    try:
        for left in folder.glob("*"):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    except OSError:  # it is tried again at the next start
        pass
    try:
        yield
    finally:
        del os.environ["GRADIO_TEMP_DIR"]


def discard_upload(path: str | Path | None) -> None:
    """Remove an uploaded file that was read; a file that is no upload is not touched."""
    file = Path(path or "").resolve()
    if is_upload(file):
        with suppress(OSError):
            file.unlink()
            file.parent.rmdir()


def is_upload(path: str | Path) -> bool:
    """Whether the file lies in the folder for uploads, links resolved."""
    return upload_folder().resolve() in Path(path).resolve().parents
