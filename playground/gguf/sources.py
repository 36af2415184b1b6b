"""Where the bytes of a model file come from: a file, memory, and in other rooms HTTP ranges.

Knows offsets and counts, nothing of what the bytes mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class ByteSource(Protocol):
    """Bytes that can be asked for anywhere, in any order."""

    @property
    def size(self) -> int:
        """Bytes of the whole file, weights included."""

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`; fewer only where the file ends. Raises OSError when they cannot be had."""


class FileSource:
    """A file on this computer; opened anew for each read, so that there is nothing to close."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, count: int) -> bytes:
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

    def read(self, offset: int, count: int) -> bytes:
        return self._content[offset : offset + count]
