"""What a child process may have: no secrets, no new rights, no more memory than there is.

A model file is data from anywhere, read by a large C++ library. If a hostile one takes over the process, it must
find no access token there, gain no rights, leave no core dump on the disk, and not slow down the page by asking for
memory without end. A process that only computes gives up files, connections and processes too. Where a system lacks one
of these limits, the child works without it.
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

    Variables whose names sound like secrets are left out.
    """
    root = str(Path(playground.__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, environ.get("PYTHONPATH")) if part)
    public = {name: value for name, value in environ.items() if not _SECRET.search(name.upper())}
    return {**public, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1", "OPENBLAS_NUM_THREADS": "1"}


def confine_this_process(
    most_bytes: int | None = None, spare_bytes: int = SPARE_BYTES, *, for_driver: bool = False
) -> None:
    """Give up, for good, what no reader of a model file needs.

    most_bytes: of anonymous memory, spare_bytes on top; None is all memory that this computer may use, swap included.
    Mapped weights do not count: RLIMIT_DATA limits private writable memory, whereas RLIMIT_AS would refuse the mapping
    of a large file. Beyond it an allocation fails, which llama.cpp and Python both report. macOS does not enforce it.
    for_driver: leave out what a GPU's driver cannot bear: it maps as much memory as the device has, and NVIDIA's starts
    a program with rights of its own (nvidia-modprobe) where its device files are missing.
    """
    _lower_limit(resource.RLIMIT_CORE, 0)
    _lower_limit(resource.RLIMIT_NOFILE, MOST_OPEN_FILES)
    if for_driver:
        return
    most = _memory_and_swap() if most_bytes is None else most_bytes
    if most:
        _lower_limit(resource.RLIMIT_DATA, most + spare_bytes)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def confine_to_computing(most_bytes: int) -> None:
    """Give up everything but `most_bytes` of memory and what is open now: no further file, connection or process.

    For a process that runs somebody else's program. All modules must be imported before.
    """
    confine_this_process(most_bytes, spare_bytes=0)
    _lower_limit(resource.RLIMIT_NOFILE, 0)
    _lower_limit(resource.RLIMIT_FSIZE, 0)
    _lower_limit(resource.RLIMIT_NPROC, 0)  # root is exempt


def _lower_limit(kind: int, most: int) -> None:
    """Lower a resource limit for good; one that is lower already stays."""
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(kind)
        lower = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (lower, lower))


def _memory_and_swap() -> int:
    """Bytes that this computer can give at most; 0 where that is unknown."""
    total = read_memory().total
    try:
        return total and total + int(psutil.swap_memory().total)
    except Exception:  # psutil raises any error of its parsing
        return 0
