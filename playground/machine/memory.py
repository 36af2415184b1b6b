"""Says how much memory this computer can still give and what limits it, and how much memory a process takes.

The system's own figure counts reclaimable cache as free, which is right, but does not see a container's limit; so the
answer is the least of the system's figure and of what every limit on the way up leaves. Cached files count as free in
both, and so do the mapped weights of a loaded model: a caller that loads a second model must count the first one's
weights itself. ZFS has a cache of its own, which the system's figure counts as used.

A process has two kinds of memory: what must stay (anonymous, and shared memory, which has no file either), and pages of
mapped files, which the kernel may drop and read again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from playground.machine.cgroups import Cgroup, own_cgroups, parse_whole_number, read_small_file

_NO_LIMIT: Final = 1 << 60  # version 1 writes "no limit" as the largest multiple of a page, about 2**63
_UNITS: Final = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("kmgt", 1)},
    **{letter + "i": 1024**power for power, letter in enumerate("kmgt", 1)},
}
# What a model's process has of address space beside its resident memory: libraries, stacks, malloc's reserves. Measured
# 165 MiB with two threads; each further thread takes up to 8 MiB of it.
_UNTOUCHED_ADDRESSES: Final = 256 << 20
_PROCESS_LIMITS: Final = {  # the lines of /proc/self/limits, and the shell's word for each
    "Max address space": "what one process may take (ulimit -v)",
}
# As above, of what it may write to and maps from no file: measured 127 MiB with two threads.
_UNTOUCHED_DATA: Final = 160 << 20
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?i?)b?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class MachineMemory:
    """All in bytes.

    total: the machine's memory, or the limit where that is lower. usable: what can be taken now without swapping or
    being killed, from 0 to total; 0 where nothing on this system tells. limit: the lowest limit below the machine's
    memory. limited_by: what decides `usable`, as in "limited by ...".
    """

    total: int
    usable: int
    limit: int | None
    limited_by: str


@dataclass(frozen=True)
class SystemMemory:
    """The operating system's own figures in bytes, with reclaimable cache counted as available."""

    total: int
    available: int


@dataclass(frozen=True)
class _Limit:
    """A limit and what it leaves, in bytes; `left` may be a little out of 0 to `size`, as the kernel's counts lag."""

    size: int
    left: int
    name: str


def read_system_memory() -> SystemMemory | None:
    """psutil's figures; None where it has none (a /proc that is hidden or of an unknown form)."""
    try:
        memory = psutil.virtual_memory()
        return SystemMemory(int(memory.total), int(memory.available))
    except Exception:  # psutil raises any error of its parsing: OSError, KeyError, RuntimeError
        return None


def read_memory(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    system: Callable[[], SystemMemory | None] = read_system_memory,
    *,
    returnable: int = 0,
) -> MachineMemory:
    """Reads everything at each call, in about a millisecond. Never raises: what cannot be read is no limit.

    returnable: bytes that the playground's own processes hold and give back when a model needs them.
    """
    own = _with_zfs_cache(root, system() or SystemMemory(0, 0))
    if own.total:
        own = SystemMemory(own.total, own.available + returnable)
    limits = [limit for limit in _limits(root, environ, returnable) if not own.total or limit.size < own.total]
    limit = min((limit.size for limit in limits), default=None)
    total = limit if limit is not None else own.total
    choices = [(limit.left, limit.name) for limit in limits]
    if own.total:
        choices.insert(0, (own.available, "this computer's memory"))
    usable, name = min(choices, key=lambda choice: choice[0], default=(0, "a system that does not tell its memory"))
    return MachineMemory(total, max(0, min(usable, total)), limit, name)


def parse_size(text: str) -> int | None:
    """Bytes of a size such as "15Gi", "16GB", "512M" or "1073741824"; None for anything else, and for 0.

    Gi is 1024**3; G and GB are 1000**3, as in Kubernetes, from where a Space has its figures.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        return None
    return int(float(match[1]) * _UNITS[match[2].lower()]) or None


def _with_zfs_cache(root: Path, own: SystemMemory) -> SystemMemory:
    """Adds what ZFS gives back when memory is asked for: its cache (ARC) above the minimum that it keeps.

    Lines such as "size  4  8589934592" (name, type, bytes). A cache larger than the used memory is that of a host whose
    /proc shows through into a container with figures of its own; it is not added.
    """
    fields = (line.split() for line in read_small_file(root / "proc/spl/kstat/zfs/arcstats").splitlines())
    numbers = {field[0]: parse_whole_number(field[2]) or 0 for field in fields if len(field) == 3}
    size, minimum = numbers.get("size", 0), numbers.get("c_min", 0)
    if size > own.total - own.available:
        return own
    return SystemMemory(own.total, own.available + max(0, size - minimum))


def _limits(root: Path, environ: Mapping[str, str], returnable: int) -> Iterator[_Limit]:
    on_space = "SPACE_ID" in environ
    for group in own_cgroups(root, "memory"):
        size = _limit_of(group)
        if size is not None:
            name = "the Space's memory" if on_space else _plain_name(group)
            yield _Limit(size, size - _held_by(group) + returnable, name)
    space = parse_size(environ.get("MEMORY", "")) if on_space else None
    if space is not None:
        held = _held_by_processes_of_the_space(root) - returnable
        yield _Limit(space, space - held, "the Space's memory")
    yield from _process_limits(root)


def _process_limits(root: Path) -> Iterator[_Limit]:
    """The soft limits that every process started here inherits, from /proc/self/limits.

    They hold for each model's process by itself, so nothing is held yet. `ulimit -d` leaves mapped weights out, so that
    it is no limit on all: see `read_data_limit`.
    """
    for row, name in _PROCESS_LIMITS.items():
        if size := _process_limit(root, row):
            yield _Limit(size, size - _UNTOUCHED_ADDRESSES, name)


def read_data_limit(root: Path = Path("/")) -> int | None:
    """Bytes that must stay, of those that one process may take (ulimit -d): weights mapped from a file do not count."""
    size = _process_limit(root, "Max data size")
    return None if size is None else max(0, size - _UNTOUCHED_DATA)


def _process_limit(root: Path, row: str) -> int | None:
    """The soft limit in this row of /proc/self/limits; None where there is none."""
    for line in read_small_file(root / "proc/self/limits").splitlines():
        name, values = line[:26].strip(), line[26:].split()
        size = parse_whole_number(values[0]) if name == row and values else None
        if size and size < _NO_LIMIT:
            return size
    return None


def _limit_of(group: Cgroup) -> int | None:
    """The group's limit in bytes.

    Version 2: the lower of memory.max, where the kernel kills, and memory.high, where it stalls every allocation to
    reclaim first: a model beyond it would crawl, so it counts as a wall. Version 1: limit_in_bytes, or
    hierarchical_memory_limit, which also knows the parents that a container does not show. Its soft limit does not
    bind and is left out.
    """
    if group.version == 2:
        sizes = [group.read_integer("memory.max"), group.read_integer("memory.high")]
    else:
        hierarchical = group.read_table("memory.stat").get("hierarchical_memory_limit")
        sizes = [group.read_integer("memory.limit_in_bytes"), hierarchical]
    return min((size for size in sizes if size and size < _NO_LIMIT), default=None)


def _held_by(group: Cgroup) -> int:
    """Bytes that the group cannot give back: its usage without the cache that the kernel drops when asked.

    An unreadable usage counts as nothing held, an unreadable memory.stat as nothing to drop.
    """
    stat = group.read_table("memory.stat")
    if group.version == 2:
        usage = group.read_integer("memory.current") or 0
        cache = sum(stat.get(key, 0) for key in ("active_file", "inactive_file", "slab_reclaimable"))
    else:
        usage = group.read_integer("memory.usage_in_bytes") or 0
        cache = sum(stat.get(f"total_{key}", stat.get(key, 0)) for key in ("active_file", "inactive_file"))
    return usage - cache


def _held_by_processes_of_the_space(root: Path) -> int:
    """Anonymous bytes of all processes that share this one's groups: in a Space, the Space's own and no others."""
    own_groups = read_small_file(root / "proc/self/cgroup")
    held = 0
    for process in root.glob("proc/[0-9]*"):
        if read_small_file(process / "cgroup") != own_groups:
            continue
        for line in read_small_file(process / "status").splitlines():
            if line.startswith("RssAnon:"):
                held += (parse_whole_number(line.removeprefix("RssAnon:").removesuffix("kB")) or 0) * 1024
    return held


def _plain_name(group: Cgroup) -> str:
    return f"the limit set for {group.systemd_unit}" if group.systemd_unit else "the container's limit"


# --- files in memory ---


def is_held_in_memory(path: Path, root: Path = Path("/")) -> bool:
    """Whether all of a file lies in memory already, as in /dev/shm (tmpfs, ramfs): mapping it takes no more memory.

    A sparse file does not count: its holes take memory when they are read. False where the system does not tell.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    if getattr(status, "st_blocks", 0) * 512 < status.st_size:
        return False
    for line in read_small_file(root / "proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) > 2 and fields[2] == device and kind and kind[0] in ("tmpfs", "ramfs"):
            return True
    return False


# --- one process ---


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


def _kilobytes(path: Path) -> dict[str, int]:
    """Bytes by name from lines such as "RssAnon:      116 kB"."""
    sizes: dict[str, int] = {}
    for line in read_small_file(path).splitlines():
        name, _, value = line.partition(":")
        number = parse_whole_number(value.removesuffix("kB")) if value.endswith("kB") else None
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
