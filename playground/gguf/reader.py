"""Walks forward through the bytes of a model file, a window at a time.

Knows numbers, strings and how to skip; the order in which GGUF puts them is header.py's to know. One idea: the window
starts at 4 MiB and doubles, so that a header is had in a few reads even where each read is a request over the network.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from playground.errors import BadModelFile
from playground.gguf.sources import ByteSource
from playground.gguf.string_runs import LENGTH, pass_strings

MIB: Final = 1024 * 1024
FIRST_WINDOW_BYTES: Final = 4 * MIB
LARGEST_WINDOW_BYTES: Final = 16 * MIB
LARGEST_HEADER_BYTES: Final = 64 * MIB  # real ones are 0.7 to 16 MB: a larger one is refused, not read
LARGEST_STRING_BYTES: Final = 32 * MIB  # some files carry the whole tokenizer.json, of some 10 MB, as one string

UINT32: Final = Struct("<I")
_FETCH_AGAIN: Final = "Fetch the file again: its download may have stopped early."


class GgufReader:
    """A position in a byte source that only moves forward; raises BadModelFile wherever the bytes end too soon."""

    def __init__(self, source: ByteSource) -> None:
        self.size = source.size
        self._source = source
        self._buffer = b""
        self._start = 0  # offset in the file of the buffer's first byte
        self._at = 0  # position in the buffer
        self._window_bytes = FIRST_WINDOW_BYTES

    @property
    def offset(self) -> int:
        """Bytes from the start of the file to the next unread one."""
        return self._start + self._at

    @property
    def left(self) -> int:
        """Bytes of the file that come after this position."""
        return self.size - self.offset

    def unpack(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """The next fields; `what` names them in the error."""
        self._need(layout.size, what)
        fields = layout.unpack_from(self._buffer, self._at)
        self._at += layout.size
        return fields

    def take(self, count: int, what: str) -> bytes:
        """The next `count` bytes as they are."""
        self._need(count, what)
        raw = self._buffer[self._at : self._at + count]
        self._at += count
        return raw

    def uint32(self, what: str) -> int:
        number: int = self.unpack(UINT32, what)[0]
        return number

    def uint64(self, what: str) -> int:
        number: int = self.unpack(LENGTH, what)[0]
        return number

    def string(self, what: str) -> str:
        """A string with its 64-bit length before it, which must be UTF-8."""
        length = self.uint64(f"the length of {what}")
        if length > LARGEST_STRING_BYTES:
            raise BadModelFile(
                f"The model file is damaged: {what} claims to be {length:,} bytes long.",
                "Fetch the file again, or choose another one.",
            )
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadModelFile(
                f"The model file is damaged: {what} is not readable text (UTF-8).",
                "Fetch the file again, or choose another one.",
            ) from error

    def skip(self, count: int, what: str) -> None:
        """Move on without reading: bytes beyond the window are never asked for."""
        self._refuse_beyond(count, what)
        self._at += count

    def skip_strings(self, count: int, what: str) -> None:
        """Move past `count` strings without building them; their text is not looked at."""
        while count:
            self._need(LENGTH.size, what)
            passed, self._at = pass_strings(self._buffer, self._at, count)
            count -= passed
            self._refuse_beyond(LENGTH.size * count, what)

    def _need(self, count: int, what: str) -> None:
        if self._at + count > len(self._buffer):
            self._refuse_beyond(count, what)
            self._fetch(count, what)

    def _refuse_beyond(self, count: int, what: str) -> None:
        if count > self.left:
            raise _ends_in(what, self.size)
        if self.offset + count > LARGEST_HEADER_BYTES:
            raise BadModelFile(
                f"The model file is damaged or not a language model: {what} lies more than "
                f"{LARGEST_HEADER_BYTES // MIB} MiB into the file, where only weights should be.",
                "Fetch the file again, or choose another one.",
            )

    def _fetch(self, count: int, what: str) -> None:
        """Let the window start here and hold at least `count` bytes; what came before is let go."""
        kept = self._buffer[self._at :]
        self._start, self._at = self.offset, 0
        wanted = min(max(self._window_bytes, count - len(kept)), self.size - self._start - len(kept))
        self._buffer = kept + self._source.read(self._start + len(kept), wanted)
        self._window_bytes = min(2 * self._window_bytes, LARGEST_WINDOW_BYTES)
        if len(self._buffer) < count:
            raise _ends_in(what, self._start + len(self._buffer))


def shown(text: str) -> str:
    """A name out of an untrusted file, fit for a sentence: one line, not long."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text[:80])
    return f"{printable}…" if len(text) > 80 else printable or "(no name)"


def _ends_in(what: str, size: int) -> BadModelFile:
    return BadModelFile(f"The model file is cut off: it ends after {size:,} bytes, within {what}.", _FETCH_AGAIN)
