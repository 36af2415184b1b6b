"""What a child process that reads a stranger's file is left with: no secrets, no more memory than there is, no rights.

A model file is data from anywhere, read by a large C++ library. Whatever a bad one makes of the process, it must find
no access token there, gain no rights, fill no disk with its remains, and not drag the page down when it asks for memory
without end. Every limit is asked for and none is needed: where a system has no such limit, the child works without it.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

import playground
from playground.machine.memory import read_memory

MOST_OPEN_FILES: Final = 1024  # a model of hundreds of shards included
SPARE_BYTES: Final = 1 << 30  # address space that is never used: stacks of threads, malloc's arenas
_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h
_SECRET: Final = re.compile(
    r"TOKEN|SECRET|PASSWO?R?D|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|COOKIE|^PLAYGROUND_REMOTE|AUTH"
)


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a child: this package importable, ggml's backtraces (a debugger) off, numpy kept small.

    Variables whose names sound like secrets stay here.
    """
    root = str(Path(playground.__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, environ.get("PYTHONPATH")) if part)
    open_ones = {name: value for name, value in environ.items() if not _SECRET.search(name.upper())}
    return {**open_ones, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}


def confine_this_process(most_bytes: int | None = None) -> None:
    """Give up, for good, what no reader of a model file needs.

    most_bytes: of anonymous memory; without it, all memory that this computer may use, swap included. Mapped weights do
    not count: RLIMIT_DATA is about private writable memory, where RLIMIT_AS would refuse a mapping of a large file.
    Beyond it an allocation fails, which llama.cpp and Python both tell in words. Linux heeds it; macOS does not.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, MOST_OPEN_FILES)
    most = _all_memory() if most_bytes is None else most_bytes
    if most:
        _limit(resource.RLIMIT_DATA, most + SPARE_BYTES)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _limit(kind: int, most: int) -> None:
    """Lower a limit; one that is lower already stays."""
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(kind)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lower, lower))


def _all_memory() -> int:
    """Bytes that may be had at most; 0 where nothing tells."""
    total = read_memory().total
    try:
        return total and total + int(psutil.swap_memory().total)
    except Exception:  # psutil raises whatever its parsing meets
        return 0
