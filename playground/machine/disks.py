"""Measures how fast a file can be read from its disk, past the system's cache.

A model that does not fit waits for this. Some pieces of the file are read in a fraction of a second, each as large as
the kernel reads for a page that a mapped file lacks; the answer is remembered for all files of that disk.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Final

_REQUEST_BYTES: Final = 128 << 10  # Linux's usual read-ahead
_REQUESTS: Final = 96  # 12 MiB
_LONGEST_SECONDS: Final = 0.5  # a slow disk is known sooner

_known: dict[int, float] = {}  # by the number of the disk
_one_at_a_time = threading.Lock()


def disk_read_speed(path: Path) -> float | None:
    """Bytes per second from the disk that holds this file, measured once; None if it cannot be known.

    That is so for a small or unreadable file, for one with holes (a stand-in for a model that is not here), and where
    the system reads nothing past its cache (tmpfs, some network disks).
    """
    try:
        status = path.stat()
        if not path.is_file() or status.st_blocks * 512 < status.st_size:
            return None
        with _one_at_a_time:
            if status.st_dev not in _known and (speed := _measured(path, status.st_size)):
                _known[status.st_dev] = speed
            return _known.get(status.st_dev)
    except OSError:
        return None


def _measured(path: Path, size: int) -> float | None:
    """Reads pieces spread over the file into an aligned buffer, as O_DIRECT wants it."""
    if size < _REQUESTS * _REQUEST_BYTES:
        return None
    step = size // _REQUESTS // mmap.PAGESIZE * mmap.PAGESIZE
    file = _open_uncached(path)
    try:
        with mmap.mmap(-1, _REQUEST_BYTES) as piece:
            started, done = time.perf_counter(), 0
            for number in range(_REQUESTS):
                done += os.preadv(file, [piece], number * step)
                if time.perf_counter() - started > _LONGEST_SECONDS:
                    break
            return done / (time.perf_counter() - started)
    finally:
        os.close(file)


def _open_uncached(path: Path) -> int:
    if hasattr(os, "O_DIRECT"):
        return os.open(path, os.O_RDONLY | os.O_DIRECT)
    file = os.open(path, os.O_RDONLY)
    fcntl.fcntl(file, getattr(fcntl, "F_NOCACHE", 48), 1)  # macOS
    return file
