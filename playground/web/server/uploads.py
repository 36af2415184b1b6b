"""What comes up from a browser: where its files lie on this computer, and their end.

Gradio writes each upload down before any event hears of it, and keeps it until nothing asked for it for a time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gradio.utils import get_upload_folder
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from playground import events
from playground.text_format import gibibytes, gibibytes_apart

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MODEL_ENDING: Final = ".gguf"
MAGIC: Final = b"GGUF"
NO_HEADER: Final = b"\r\n@\r\n\r\n"  # no name of a header begins so: a parser stops here
LARGEST_TEXT_BYTES: Final = 2_000_000  # of instructions; how many characters count is the chat's to say
LEFT_FREE_BYTES: Final = 256 << 20  # of the disk, for everything else


class _Unwanted(Exception):
    """The upload ends here: an HTTP status and what a person reads; `setting` as in RequestRefused."""

    def __init__(self, status: int, words: str, setting: str = "") -> None:
        super().__init__(words)
        self.status, self.words, self.setting = status, words, setting


class UploadCheck:
    """One upload on its way to Gradio: pass on `receive` and `send` in place of the server's own.

    folder: where uploads come to lie. most_model_bytes: of one model file. What is refused, and what breaks off,
    reaches Gradio as a body that makes no sense, for then Gradio removes what it has written of it.
    """

    def __init__(
        self, headers: dict[bytes, bytes], receive: Receive, send: Send, folder: Path, most_model_bytes: int
    ) -> None:
        self._receive, self._send = receive, send
        self._headers, self._folder = headers, folder
        _, options = parse_options_header(headers.get(b"content-type", b""))
        self._boundary = options.get(b"boundary", b"")
        self._parts = _Parts(self._boundary, most_model_bytes) if self._boundary else None
        self._refusal: _Unwanted | None = None
        self._is_first = True
        self._has_answered = False

    async def receive(self) -> Message:
        """What came, as long as it may come."""
        try:
            if self._is_first:
                self._is_first = False
                self._check_room()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return self._nonsense()
            if self._parts:
                self._parts.take(message.get("body", b""))
        except _Unwanted as refusal:
            self._refusal = refusal
            events.refused("", "upload", refusal.setting, refusal.words)
            return self._nonsense()
        return message

    async def send(self, message: Message) -> None:
        """Gradio's answer, or in its place why the upload was ended."""
        if self._refusal is None:
            await self._send(message)
        elif not self._has_answered:
            self._has_answered = True
            body = self._refusal.words.encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
            headers.append((b"connection", b"close"))  # the rest of the upload is not read
            await self._send({"type": "http.response.start", "status": self._refusal.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def _check_room(self) -> None:
        said = self._headers.get(b"content-length", b"")
        coming = int(said) if said.isdigit() else 0
        self._folder.mkdir(parents=True, exist_ok=True)
        free = max(0, shutil.disk_usage(self._folder).free - LEFT_FREE_BYTES)
        if coming > free:
            wanted, there = gibibytes_apart(coming, free)
            raise _Unwanted(
                507,
                f"That file has {wanted}, and the playground's disk has room for {there}. Make room, or open it by its "
                "path: then it is not copied.",
            )

    def _nonsense(self) -> Message:
        return {"type": "http.request", "body": b"\r\n--" + self._boundary + NO_HEADER, "more_body": False}


class _Parts:
    """The files of one body as they come: `take` raises _Unwanted."""

    def __init__(self, boundary: bytes, most_model_bytes: int) -> None:
        self._most_model_bytes = most_model_bytes
        self._field = self._value = b""
        self._name = ""
        self._size = 0
        self._beginning = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._hear_field,
                "on_header_value": self._hear_value,
                "on_header_end": self._hear_header,
                "on_part_data": self._hear_data,
            },
        )

    def take(self, body: bytes) -> None:
        with suppress(MultipartParseError):  # Gradio refuses it in its own words
            self._parser.write(body)

    def _begin(self) -> None:
        self._name, self._size, self._beginning = "", 0, b""
        self._field = self._value = b""

    def _hear_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _hear_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _hear_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = Path(options.get(b"filename", b"").decode("utf-8", "replace")).name
        self._field = self._value = b""

    def _hear_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if not self._name.lower().endswith(MODEL_ENDING):
            if self._size > LARGEST_TEXT_BYTES:
                raise _Unwanted(413, f"{self._name or 'That file'} is too large for instructions.")
            return
        if self._size > self._most_model_bytes:
            raise _Unwanted(
                413,
                f"{self._name} has more than {gibibytes(self._most_model_bytes)}. Open it by its path instead.",
                "max_dropped_bytes",
            )
        if len(self._beginning) < len(MAGIC):
            self._beginning += data[start : min(end, start + len(MAGIC))]
            if not MAGIC.startswith(self._beginning[: len(MAGIC)]):
                raise _Unwanted(415, f"{self._name} is no GGUF model: it does not begin as one. Choose another file.")


UPLOADS: Final = "uploads"  # in the data folder
UPLOADS_KEPT: Final = (60, 600)  # looked for so often, removed when so old (seconds): what no event took up
_LEFT_BEHIND_SECONDS: Final = 86_400  # an upload so old was left by a run that ended badly


@contextmanager
def uploads_in(folder: Path) -> Iterator[None]:
    """Let uploads come to lie in this folder, on the disk where model files stay: these are then moved, not copied.

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


def discard_upload(path: str | Path) -> None:
    """Remove an uploaded file that was read; of a file that is no upload nothing is touched."""
    file = Path(path).resolve()
    if is_upload(file):
        with suppress(OSError):
            file.unlink()
            file.parent.rmdir()


def is_upload(path: str | Path) -> bool:
    """Whether the file came with an upload, and lies nowhere else, through links either."""
    return Path(get_upload_folder()).resolve() in Path(path).resolve().parents
