"""Walks forward through the bytes of a model file, a window at a time.

Knows numbers, strings and how to skip; the order in which GGUF puts them is header.py's to know. One idea: the window
starts at 4 MiB and doubles, so that a header is had in a few reads even where each read is a request over the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from struct import Struct, error
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from gguf.constants import GGUFValueType

from playground.errors import BadModelFile

MIB: Final = 1024 * 1024
FIRST_WINDOW_BYTES: Final = 4 * MIB
LARGEST_WINDOW_BYTES: Final = 16 * MIB
LARGEST_HEADER_BYTES: Final = 64 * MIB  # real ones are 0.7 to 16 MB: a larger one is refused, not read
LARGEST_STRING_BYTES: Final = 32 * MIB  # some files carry the whole tokenizer.json, of some 10 MB, as one string

UINT32: Final = Struct("<I")
_FETCH_AGAIN: Final = "Fetch the file again: its download may have stopped early."
LENGTH: Final = Struct("<Q")
_SWEEP_BYTES: Final = 256 * 1024
_WORTH_A_SWEEP: Final = 64  # strings; a sweep that passes fewer costs more than the loop
_LOOP_STRINGS: Final = 4096
LONGEST_ARRAY_BUILT: Final = 1024  # items
_ANOTHER_FILE: Final = "Fetch the file again, or choose another one."

_NUMBERS: Final[dict[GGUFValueType, str]] = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "B",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}
_LAYOUTS: Final = {kind: Struct("<" + code) for kind, code in _NUMBERS.items()}


# --- where the bytes come from ---


class ByteSource(Protocol):
    """Bytes that can be asked for anywhere, in any order."""

    @property
    def size(self) -> int:
        """Bytes of the whole file, weights included."""

    def read_range(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; fewer only where the file ends. Raises OSError when they cannot be had."""


class FileSource:
    """A file on this computer; opened anew for each read, so that there is nothing to close."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size

    @property
    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, count: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(count)


class BytesSource:
    """Bytes in memory. `size` may be told larger than what is there, for the beginning of a file."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self._content = content
        self._size = len(content) if size is None else size

    @property
    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]


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
    def bytes_left(self) -> int:
        """Bytes of the file that come after this position."""
        return self.size - self.offset

    def read_fields(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """The next fields; `what` names them in the error."""
        self._need(layout.size, what)
        fields = layout.unpack_from(self._buffer, self._at)
        self._at += layout.size
        return fields

    def read_bytes(self, count: int, what: str) -> bytes:
        """The next `count` bytes as they are."""
        self._need(count, what)
        raw = self._buffer[self._at : self._at + count]
        self._at += count
        return raw

    def read_uint32(self, what: str) -> int:
        number: int = self.read_fields(UINT32, what)[0]
        return number

    def read_uint64(self, what: str) -> int:
        number: int = self.read_fields(LENGTH, what)[0]
        return number

    def read_string(self, what: str) -> str:
        """A string with its 64-bit length before it, which must be UTF-8."""
        length = self.read_uint64(f"the length of {what}")
        if length > LARGEST_STRING_BYTES:
            raise BadModelFile(
                f"The model file is damaged: {what} claims to be {length:,} bytes long.",
                "Fetch the file again, or choose another one.",
            )
        try:
            return self.read_bytes(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadModelFile(
                f"The model file is damaged: {what} is not readable text (UTF-8).",
                "Fetch the file again, or choose another one.",
            ) from error

    def skip_bytes(self, count: int, what: str) -> None:
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
        if count > self.bytes_left:
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
        self._buffer = kept + self._source.read_range(self._start + len(kept), wanted)
        self._window_bytes = min(2 * self._window_bytes, LARGEST_WINDOW_BYTES)
        if len(self._buffer) < count:
            raise _ends_in(what, self._start + len(self._buffer))


def printable(text: str) -> str:
    """A name out of an untrusted file, fit for a sentence: one line, not long."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[:80])
    return f"{line}…" if len(text) > 80 else line or "(no name)"


def _ends_in(what: str, size: int) -> BadModelFile:
    return BadModelFile(f"The model file is cut off: it ends after {size:,} bytes, within {what}.", _FETCH_AGAIN)


# --- long runs of strings ---


def pass_strings(window: bytes, at: int, count: int) -> tuple[int, int]:
    """How many of `count` strings from `at` on were passed, and where the next one starts.

    Passes all whose lengths stand within the window; the position may lie beyond its end, as a damaged length points
    anywhere. Passing none means that the window ends within a length.
    """
    left = count
    while left and at + LENGTH.size <= len(window):
        passed, at = _sweep(window, at, left)
        left -= passed
        if passed < _WORTH_A_SWEEP:
            passed, at = _loop(window, at, min(left, _LOOP_STRINGS))
            left -= passed
    return count - left, at


def _sweep(window: bytes, at: int, most: int) -> tuple[int, int]:
    content = np.frombuffer(window, np.uint8, min(_SWEEP_BYTES, len(window) - at), at)
    zero = content == 0
    zeros_2 = zero[:-1] & zero[1:]
    zeros_4 = zeros_2[:-2] & zeros_2[2:]
    zeros_7 = zeros_4[:-3] & zeros_4[3:]
    starts = np.flatnonzero(zeros_7[1:])
    if not starts.size or starts[0] != 0:  # the string right here is long
        return 0, at
    ends = starts + content[starts] + LENGTH.size
    breaks = np.flatnonzero(ends[:-1] != starts[1:])
    passed = min(most, int(breaks[0]) + 1 if breaks.size else starts.size)
    return passed, at + int(ends[passed - 1])


def _loop(window: bytes, at: int, most: int) -> tuple[int, int]:
    unpack_from = LENGTH.unpack_from
    passed = 0
    try:
        for passed in range(most):  # noqa: B007 - read when the window ends
            at += unpack_from(window, at)[0] + 8
        passed = most
    except (error, OverflowError):
        pass  # the window ended, or a length pointed far beyond it
    return passed, at


# --- values of the metadata ---


@dataclass(frozen=True)
class LongArray:
    """An array too long to be built: what its items are and how many there were."""

    item_type: GGUFValueType
    length: int


Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | tuple[Scalar, ...] | LongArray


def read_value(cursor: GgufReader, key: str) -> Value:
    """The value at the cursor, its type before it; raises BadModelFile naming `key`."""
    kind = _read_type(cursor, key)
    if kind is GGUFValueType.ARRAY:
        return _read_array(cursor, key)
    return _read_scalars(cursor, kind, 1, key)[0]


def _read_type(cursor: GgufReader, key: str) -> GGUFValueType:
    number = cursor.read_uint32(f"the type of {key}")
    try:
        return GGUFValueType(number)
    except ValueError:
        raise BadModelFile(
            f"The model file is damaged: {key} has a value of type {number}, and GGUF has types 0 to 12.", _ANOTHER_FILE
        ) from None


def _read_array(cursor: GgufReader, key: str) -> tuple[Scalar, ...] | LongArray:
    kind = _read_type(cursor, key)
    if kind is GGUFValueType.ARRAY:
        raise BadModelFile(
            f"The model file cannot be used: {key} is an array of arrays, which llama.cpp does not read.",
            "Choose another file.",
        )
    length = cursor.read_uint64(f"the length of {key}")
    item_bytes = 8 if kind is GGUFValueType.STRING else _LAYOUTS[kind].size
    if length * item_bytes > cursor.bytes_left:
        raise BadModelFile(
            f"The model file is damaged or cut off: {key} claims {length:,} items, more than the file has room for.",
            _ANOTHER_FILE,
        )
    if length <= LONGEST_ARRAY_BUILT:
        return _read_scalars(cursor, kind, length, key)
    if kind is GGUFValueType.STRING:
        cursor.skip_strings(length, key)
    else:
        cursor.skip_bytes(length * item_bytes, key)
    return LongArray(kind, length)


def _read_scalars(cursor: GgufReader, kind: GGUFValueType, count: int, key: str) -> tuple[Scalar, ...]:
    if kind is GGUFValueType.STRING:
        return tuple(cursor.read_string(key) for _ in range(count))
    if kind is GGUFValueType.BOOL:
        return tuple(_truth(byte, key) for byte in cursor.read_fields(Struct(f"<{count}B"), key))
    if count == 1:
        return cursor.read_fields(_LAYOUTS[kind], key)
    return cursor.read_fields(Struct(f"<{count}{_NUMBERS[kind]}"), key)


def _truth(byte: int, key: str) -> bool:
    if byte > 1:
        raise BadModelFile(
            f"The model file is damaged: {key} should be true (1) or false (0) and is {byte}.", _ANOTHER_FILE
        )
    return byte == 1
