"""What the C library does with pages that this process has freed, where that library is glibc.

It gives a large block back to the kernel the moment it is freed; to have hundreds of megabytes of fresh pages again
costs ten times what filling them does. Small blocks it spreads over a heap for each of many threads, and what each of
these has left in pieces is more with every thread that came. With other C libraries nothing happens here.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1  # these four numbers: malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8
_USUAL_MMAP_MAX: Final = 65_536
_USUAL_MMAP_THRESHOLD: Final = 128 * 1024  # bytes; glibc moves it as blocks come and go, unless this is set
_AROUND: Final = 64 * 1024  # bytes by which the place of a freed block may be smaller than the block was said to be
_SMALLEST: Final = 1024  # bytes: smaller blocks find a place elsewhere
_TRIES: Final = 8  # that a piece of one size may come to lie elsewhere
_FEW_HEAPS: Final = 2
_NEVER: Final = 2**31 - 1  # bytes, as much as mallopt's int can say


def limit_malloc_arenas() -> None:
    """Let all threads share two heaps, before there are any threads; Python's own locks leave little to wait for.

    glibc's own setting for it, MALLOC_ARENA_MAX, is left as somebody has set it.
    """
    library: Any = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and "MALLOC_ARENA_MAX" not in os.environ:
        library.mallopt(_M_ARENA_MAX, _FEW_HEAPS)


def release_free_pages() -> None:
    """The kernel gets every page of this process that no block is on, from wherever between those that are.

    Takes some milliseconds for each hundred megabytes, and other threads that want memory wait for it.
    """
    library: Any = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(ctypes.c_size_t(0))


class KeptPages:
    """While `keeping` is true, large blocks take pages that stay with this process when they are freed.

    At other times large blocks have pages of their own, fresh from the kernel. One for a process, for all its life.
    """

    def __init__(self) -> None:
        library: Any = ctypes.CDLL(None)
        self._glibc: Any = library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
        self._keeping = False
        self._held: list[int] = []
        if self._glibc is not None:
            self._glibc.malloc.restype = ctypes.c_void_p
            self._glibc.mallopt(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
            self._glibc.mallopt(_M_TRIM_THRESHOLD, _NEVER)

    @property
    def keeping(self) -> bool:
        return self._keeping

    @keeping.setter
    def keeping(self, wanted: bool) -> None:
        if wanted == self._keeping:
            return
        self._keeping = wanted
        if self._glibc is not None:
            self._glibc.mallopt(_M_MMAP_MAX, 0 if wanted else _USUAL_MMAP_MAX)
        if wanted:
            self._let_go()
        else:
            self.give_back()

    def hold(self, byte_count: int) -> None:
        """A kept block of about so many bytes was just freed: nothing else shall lie in its place before the next."""
        if self._glibc is None or self._held or byte_count <= 2 * _AROUND:
            return
        self._glibc.mallopt(_M_MMAP_MAX, 0)
        first = self._malloc(byte_count - _AROUND)
        self._held.append(first)
        elsewhere = []
        size = 2 * _AROUND
        while size >= _SMALLEST:  # what is left of the place, in ever smaller pieces
            place = self._malloc(size)
            if first < place < first + byte_count:
                self._held.append(place)
            else:
                elsewhere.append(place)
                size = size // 2 if len(elsewhere) % _TRIES == 0 else size
        for place in elsewhere:
            self._free(place)
        self._glibc.mallopt(_M_MMAP_MAX, _USUAL_MMAP_MAX)

    def give_back(self) -> None:
        """The kernel gets the kept pages that are under no block now."""
        if self._glibc is not None:
            self._let_go()
            self._glibc.malloc_trim(ctypes.c_size_t(0))

    def _let_go(self) -> None:
        while self._held:
            self._free(self._held.pop())

    def _malloc(self, byte_count: int) -> int:
        return self._glibc.malloc(ctypes.c_size_t(byte_count)) or 0

    def _free(self, place: int) -> None:
        self._glibc.free(ctypes.c_void_p(place))
