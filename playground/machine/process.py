"""Measures a process's memory, and makes a child a good child: first to go when memory runs out, gone with its parent.

Knows nothing of models. The one idea: memory that must stay (anonymous, and shared memory, which has no file either)
and pages of mapped files, which the kernel may drop and read again, are two different things.
"""

from __future__ import annotations

import os
import select
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import psutil

from playground.machine.cgroups import read_text, whole_number

_OOM_SCORE: Final = 900  # of -1000 to 1000, where 1000 is "always first"
_WATCH_SECONDS: Final = 1.0


@dataclass(frozen=True)
class ProcessMemory:
    """Resident bytes: what must stay, and pages of mapped files.

    exact_split False: the system does not tell the two apart, and all is counted as anonymous.
    """

    anonymous: int
    mapped: int
    exact_split: bool = True

    @property
    def resident(self) -> int:
        return self.anonymous + self.mapped


def read_process_memory(pid: int, root: Path = Path("/")) -> ProcessMemory:
    """The memory of a process now. Raises ProcessLookupError when it is gone, PermissionError when it is another's.

    Linux: smaps_rollup, which counts pages one by one (16 ms for a GiB of small pages), else status, whose counters may
    be off by some pages per thread. Elsewhere psutil's resident size.
    """
    if pid <= 0:
        raise ProcessLookupError(f"no process has the number {pid}")
    folder = root / "proc" / str(pid)
    status = _kilobytes(folder / "status")
    rollup = _kilobytes(folder / "smaps_rollup")
    if "Rss" in rollup and "Anonymous" in rollup:
        must_stay = min(rollup["Rss"], rollup["Anonymous"] + status.get("RssShmem", 0))
        return ProcessMemory(must_stay, rollup["Rss"] - must_stay)
    if "RssAnon" in status and "RssFile" in status:
        return ProcessMemory(status["RssAnon"] + status.get("RssShmem", 0), status["RssFile"])
    return _psutil_memory(pid)


def offer_to_the_oom_killer_first(root: Path = Path("/")) -> None:
    """Asks the kernel to end this process before its parent when memory runs out. Linux; elsewhere nothing happens.

    The score is only ever raised: that needs no rights, and a container may have set a higher one.
    """
    file = root / "proc/self/oom_score_adj"
    try:
        if int(file.read_text()) < _OOM_SCORE:
            file.write_text(str(_OOM_SCORE))
    except (OSError, ValueError):
        pass


def end_when_parent_is_gone(parent: int | None = None) -> None:
    """Ends this process, at once and without clean-up, when its parent has ended in whatever way.

    parent: the parent's number, where it was handed down; a parent that ended before this call is then noticed too.

    A daemon thread waits for the parent: on Linux by a pidfd, else by looking every second whether this process was
    given to another parent. Linux's PR_SET_PDEATHSIG is no choice: it fires when the THREAD that started the child
    ends, and a web server's threads come and go. A child that is also told by the end of its standard input leaves in
    good order before this does it.
    """
    awaited = os.getppid() if parent is None else parent
    threading.Thread(target=_end_after, args=(awaited,), name="parent-watch", daemon=True).start()


def _end_after(parent: int) -> NoReturn:
    _wait_on_pidfd(parent)
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_WATCH_SECONDS)
    os._exit(1)


def _wait_on_pidfd(parent: int) -> None:
    """Returns when the process has ended; at once where the kernel cannot wait for it."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        descriptor = os.pidfd_open(parent)
    except OSError:
        return
    try:
        if os.getppid() == parent:  # else the number may by now be another process's
            select.select([descriptor], [], [])
    except (OSError, ValueError):
        pass
    finally:
        os.close(descriptor)


def _kilobytes(path: Path) -> dict[str, int]:
    """Bytes by name from lines such as "RssAnon:      116 kB"."""
    sizes: dict[str, int] = {}
    for line in read_text(path).splitlines():
        name, _, value = line.partition(":")
        number = whole_number(value.removesuffix("kB")) if value.endswith("kB") else None
        if number is not None:
            sizes[name] = number * 1024
    return sizes


def _psutil_memory(pid: int) -> ProcessMemory:
    try:
        resident = int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess as error:
        raise ProcessLookupError(f"the process {pid} is gone") from error
    except psutil.AccessDenied as error:
        raise PermissionError(f"the memory of process {pid} may not be read") from error
    if resident == 0:  # it has ended, and only its parent has not asked for its exit code yet
        raise ProcessLookupError(f"the process {pid} has ended")
    return ProcessMemory(resident, 0, exact_split=False)
