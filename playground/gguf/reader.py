"""Reads the values of a GGUF file one after the other, through a window that moves forward.

The window starts at 4 MiB and doubles, so that a header takes a few reads even where each read is a request over the
network. Long arrays (a vocabulary is a quarter of a million strings) are skipped and remembered by their length.

Raises BadModelFile for bytes that are damaged or end too soon, and OSError if the source cannot be read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from gguf.constants import GGUFValueType

from playground.errors import BadModelFile
from playground.text_format import gigabytes, one_line

_LONGEST_NAME: Final = 80  # characters of a key or a tensor's name in a sentence
MIB: Final = 1024 * 1024
FIRST_WINDOW_BYTES: Final = 4 * MIB
LARGEST_WINDOW_BYTES: Final = 16 * MIB
LARGEST_HEADER_BYTES: Final = 64 * MIB  # real ones are 0.7 to 16 MB: a larger one is refused, not read
LARGEST_STRING_BYTES: Final = 32 * MIB  # some files hold the whole tokenizer.json, about 10 MB, as one string
LONGEST_ARRAY_KEPT: Final = 1024  # items; of a longer array only the length is kept
ANOTHER_FILE: Final = "Fetch the file again, or choose another one."

_UINT32: Final = Struct("<I")
_LENGTH: Final = Struct("<Q")
_SWEEP_BYTES: Final = 256 * 1024
_WORTH_A_SWEEP: Final = 64  # strings; a sweep that skips fewer costs more than the loop
_LOOP_STRINGS: Final = 4096

_NUMBER_CODES: Final[dict[GGUFValueType, str]] = {
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
_LAYOUTS: Final = {kind: Struct("<" + code) for kind, code in _NUMBER_CODES.items()}


# --- where the bytes come from ---


class ByteSource(Protocol):
    """The bytes of a file, readable at any offset in any order."""

    @property
    def size(self) -> int:
        """Bytes of the whole file, weights included."""

    def read_range(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; fewer only where the file ends. Raises OSError if they cannot be read."""


class FileSource:
    """A file on this computer. It is opened for each read, so there is nothing to close."""

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
    """Bytes in memory. They may be only the beginning of a file of `size` bytes."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self._content = content
        self._size = len(content) if size is None else size

    @property
    def size(self) -> int:
        return self._size

    def read_range(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]


# --- values ---


@dataclass(frozen=True)
class LongArray:
    """An array that was skipped: the type and the number of its items."""

    item_type: GGUFValueType
    length: int


Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | tuple[Scalar, ...] | LongArray


class GgufReader:
    """A position in a byte source that only moves forward.

    Each method takes `what`, the name of the value for an error message.
    """

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
        """Bytes of the file after this position."""
        return self.size - self.offset

    def read_fields(self, layout: Struct, what: str) -> tuple[Any, ...]:
        self._load(layout.size, what)
        fields = layout.unpack_from(self._buffer, self._at)
        self._at += layout.size
        return fields

    def read_bytes(self, count: int, what: str) -> bytes:
        self._load(count, what)
        raw = self._buffer[self._at : self._at + count]
        self._at += count
        return raw

    def read_uint32(self, what: str) -> int:
        number: int = self.read_fields(_UINT32, what)[0]
        return number

    def read_uint64(self, what: str) -> int:
        number: int = self.read_fields(_LENGTH, what)[0]
        return number

    def read_string(self, what: str) -> str:
        """A UTF-8 string, preceded by its length in 64 bits."""
        length = self.read_uint64(f"the length of {what}")
        if length > LARGEST_STRING_BYTES:
            raise damaged(f"{what} claims to be {length:,} bytes long")
        try:
            return self.read_bytes(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(f"{what} is not readable text (UTF-8)") from error

    def read_value(self, key: str) -> Value:
        """A metadata value, preceded by its type."""
        kind = self._read_type(key)
        if kind is GGUFValueType.ARRAY:
            return self._read_array(key)
        return self._read_scalars(kind, 1, key)[0]

    def skip_bytes(self, count: int, what: str) -> None:
        """Move on without reading: bytes beyond the window are never requested from the source."""
        self._check_reach(count, what)
        self._at += count

    def skip_strings(self, count: int, what: str) -> None:
        """Move past `count` strings without decoding them."""
        while count:
            self._load(_LENGTH.size, what)
            skipped, self._at = skip_strings(self._buffer, self._at, count)
            count -= skipped
            self._check_reach(_LENGTH.size * count, what)

    def _read_type(self, key: str) -> GGUFValueType:
        number = self.read_uint32(f"the type of {key}")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise damaged(f"{key} has a value of type {number}, and GGUF has types 0 to 12") from None

    def _read_array(self, key: str) -> tuple[Scalar, ...] | LongArray:
        kind = self._read_type(key)
        if kind is GGUFValueType.ARRAY:
            raise BadModelFile(
                f"The model file cannot be used: {key} is an array of arrays, which llama.cpp does not read.",
                "Choose another file.",
            )
        length = self.read_uint64(f"the length of {key}")
        item_bytes = _LENGTH.size if kind is GGUFValueType.STRING else _LAYOUTS[kind].size
        if length * item_bytes > self.bytes_left:
            raise BadModelFile(
                f"The model file is damaged or cut off: {key} claims {length:,} items, more than fit in the file.",
                ANOTHER_FILE,
            )
        if length <= LONGEST_ARRAY_KEPT:
            return self._read_scalars(kind, length, key)
        if kind is GGUFValueType.STRING:
            self.skip_strings(length, key)
        else:
            self.skip_bytes(length * item_bytes, key)
        return LongArray(kind, length)

    def _read_scalars(self, kind: GGUFValueType, count: int, key: str) -> tuple[Scalar, ...]:
        if kind is GGUFValueType.STRING:
            return tuple(self.read_string(key) for _ in range(count))
        layout = _LAYOUTS[kind] if count == 1 else Struct(f"<{count}{_NUMBER_CODES[kind]}")
        values = self.read_fields(layout, key)
        if kind is not GGUFValueType.BOOL:
            return values
        if wrong := [value for value in values if value > 1]:
            raise damaged(f"{key} should be true (1) or false (0) and is {wrong[0]}")
        return tuple(map(bool, values))

    def _load(self, count: int, what: str) -> None:
        """Make sure that the window holds the next `count` bytes; moves it to start here if it does not."""
        if self._at + count <= len(self._buffer):
            return
        self._check_reach(count, what)
        kept = self._buffer[self._at :]
        self._start, self._at = self.offset, 0
        wanted = min(max(self._window_bytes, count - len(kept)), self.size - self._start - len(kept))
        self._buffer = kept + self._source.read_range(self._start + len(kept), wanted)
        self._window_bytes = min(2 * self._window_bytes, LARGEST_WINDOW_BYTES)
        if len(self._buffer) < count:
            raise _cut_off(what, self._start + len(self._buffer))

    def _check_reach(self, count: int, what: str) -> None:
        """Refuse to go on for `count` bytes if the file is shorter, or no real header is so long."""
        if count > self.bytes_left:
            raise _cut_off(what, self.size)
        if self.offset + count > LARGEST_HEADER_BYTES:
            raise BadModelFile(
                f"The model file is damaged or not a language model: {what} lies more than "
                f"{gigabytes(LARGEST_HEADER_BYTES)} into the file, where only weights should be.",
                ANOTHER_FILE,
            )


def printable(text: str) -> str:
    """A name from an untrusted file, for use in a sentence: at most 80 characters on one line."""
    return one_line(text, _LONGEST_NAME) or "(no name)"


def damaged(finding: str) -> BadModelFile:
    return BadModelFile(f"The model file is damaged: {finding}.", ANOTHER_FILE)


def made_elsewhere(finding: str) -> BadModelFile:
    """The error for a file that is whole, but breaks a rule of llama.cpp: another download would bring the same."""
    return BadModelFile(
        f"llama.cpp cannot use this file: {finding}.",
        "It was made for another program or version: choose another file of the model.",
    )


def _cut_off(what: str, size: int) -> BadModelFile:
    return BadModelFile(
        f"The model file is cut off: it ends after {size:,} bytes, within {what}.",
        "Fetch the file again: its download may have stopped early.",
    )


# --- long runs of strings ---


def skip_strings(window: bytes, at: int, count: int) -> tuple[int, int]:
    """Skip up to `count` strings from position `at`; returns how many were skipped, and the position after them.

    Skips all strings whose lengths are within the window. The position may lie beyond its end, because a damaged
    length can point anywhere. If none was skipped, the window ends within a length.

    The length of a string stands before it, so each start is known only from the string before: a loop over a large
    vocabulary takes most of the time of reading a header. `_sweep` skips thousands at once instead.
    """
    left = count
    while left and at + _LENGTH.size <= len(window):
        skipped, at = _sweep(window, at, left)
        left -= skipped
        if skipped < _WORTH_A_SWEEP:
            skipped, at = _loop(window, at, min(left, _LOOP_STRINGS))
            left -= skipped
    return count - left, at


def _sweep(window: bytes, at: int, most: int) -> tuple[int, int]:
    """Skip short strings by numpy: the length of a string under 256 bytes ends in seven zero bytes, which text has not.

    All such places are candidates for a start. They are starts as long as each string ends where the next one begins.
    """
    content = np.frombuffer(window, np.uint8, min(_SWEEP_BYTES, len(window) - at), at)
    zero = content == 0
    zeros_2 = zero[:-1] & zero[1:]
    zeros_4 = zeros_2[:-2] & zeros_2[2:]
    zeros_7 = zeros_4[:-3] & zeros_4[3:]
    starts = np.flatnonzero(zeros_7[1:])
    if not starts.size or starts[0] != 0:  # the next string is a long one
        return 0, at
    ends = starts + content[starts] + _LENGTH.size
    breaks = np.flatnonzero(ends[:-1] != starts[1:])
    skipped = min(most, int(breaks[0]) + 1 if breaks.size else starts.size)
    return skipped, at + int(ends[skipped - 1])


def _loop(window: bytes, at: int, most: int) -> tuple[int, int]:
    unpack_from = _LENGTH.unpack_from
    skipped = 0
    try:
        for skipped in range(most):  # noqa: B007 - read when the window ends
            at += unpack_from(window, at)[0] + _LENGTH.size
        skipped = most
    except (struct.error, OverflowError):
        pass  # the window ended, or a length pointed far beyond it
    return skipped, at
