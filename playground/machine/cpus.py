"""Says how many threads are worth running on this computer, and what limits them.

llama.cpp's threads spin while they wait for each other, so a thread without a core of its own slows all others down,
and so does a slow core among fast ones: each thread gets the same share of the work. The answer is the physical cores
that this process may run on, of several kinds only the fast ones, and no more than its quota of processor time.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from playground.machine.cgroups import Cgroup, own_cgroups, parse_whole_number, read_small_file

# Of the fastest core's capacity: a core below this is one of the slow kind. Linux's figures of pairs in use: 0.40
# (Cortex-A55 beside A76), 0.25 and 0.85 (A520 and A720 beside an X4), 0.47 (A53 beside A72).
_FAST_SHARE: Final = 2 / 3


@dataclass(frozen=True)
class Processors:
    """usable: threads worth running, at least 1. physical: this computer's cores, None where unknown. logical: its
    hardware threads. affinity: how many of those this process may run on. quota: cores' worth of time it may use,
    None without a limit. limited_by: what decides `usable`, as in "limited by ...".
    """

    usable: int
    physical: int | None
    logical: int
    affinity: int
    quota: float | None
    limited_by: str


@dataclass(frozen=True)
class SystemProcessors:
    """What the operating system says; `allowed` are the numbers of the hardware threads this process may run on."""

    physical: int | None
    logical: int
    allowed: Set[int] | None  # None: all, or the system has no such thing (macOS)
    fast: int | None = None  # of the physical cores, where the system tells two kinds apart (Apple's processors)


@dataclass(frozen=True)
class Throttling:
    """How often the quota stopped this process and its group since the group was made, summed over the groups."""

    periods: int
    throttled_periods: int
    throttled_seconds: float

    def since(self, earlier: Throttling) -> Throttling:
        return Throttling(
            self.periods - earlier.periods,
            self.throttled_periods - earlier.throttled_periods,
            self.throttled_seconds - earlier.throttled_seconds,
        )


def read_system_processors() -> SystemProcessors:
    """psutil's counts and the affinity mask, where there is one."""
    try:
        physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count() or os.cpu_count() or 1
    except Exception:  # psutil raises any error of its parsing
        physical, logical = None, os.cpu_count() or 1
    try:
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    except OSError:
        allowed = None
    return SystemProcessors(physical, max(logical, len(allowed or ())), allowed, _fast_cores_of_a_mac())


def _fast_cores_of_a_mac() -> int | None:
    """Apple's hw.perflevel0.physicalcpu, which is also what llama.cpp's own programs run on by default."""
    if sys.platform != "darwin":
        return None
    count = ctypes.c_int32()
    size = ctypes.c_size_t(ctypes.sizeof(count))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(
            b"hw.perflevel0.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, ctypes.c_size_t(0)
        )
    except (OSError, AttributeError):
        return None
    return count.value if not failed and count.value > 0 else None


def read_processors(
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
    system: Callable[[], SystemProcessors] = read_system_processors,
) -> Processors:
    """Reads everything at each call. Never raises: what cannot be read is no limit."""
    own = system()
    everything = frozenset(range(own.logical))
    allowed = own.allowed or everything
    quotas = list(_quotas(root, environ))
    choices = [
        (_cores_among(root, own, everything), "this computer's cores"),
        (_cores_among(root, own, allowed), "the processors assigned to this process"),
        *_fast_cores(root, own, allowed),
        # The part of a core that a quota leaves over serves the page itself.
        *((math.floor(quota), name) for quota, name in quotas),
    ]
    threads, limited_by = min(choices, key=lambda choice: choice[0])
    quota = min((quota for quota, _ in quotas), default=None)
    return Processors(max(1, threads), own.physical, own.logical, len(allowed), quota, limited_by)


def read_throttling(root: Path = Path("/")) -> Throttling | None:
    """The counters of cpu.stat; None where no group counts (no quota, or not Linux)."""
    stats = [stat for group in own_cgroups(root, "cpu") if (stat := group.read_table("cpu.stat")).get("nr_periods")]
    if not stats:
        return None
    return Throttling(
        sum(stat["nr_periods"] for stat in stats),
        sum(stat.get("nr_throttled", 0) for stat in stats),
        # microseconds in version 2, nanoseconds in version 1
        sum(stat.get("throttled_usec", 0) / 1e6 + stat.get("throttled_time", 0) / 1e9 for stat in stats),
    )


def _cores_among(root: Path, own: SystemProcessors, threads: Set[int]) -> int:
    """Cores that have one of these hardware threads; where /sys does not tell, as many as the system counts in all."""
    cores = {_core_of(root, number) for number in threads}
    count = len(threads) if "" in cores else len(cores)
    return min(count, own.physical or count)


def _fast_cores(root: Path, own: SystemProcessors, allowed: Set[int]) -> Iterator[tuple[int, str]]:
    """The fast ones of several kinds of cores.

    Linux lists the hardware threads of the fast ones on Intel's processors of that sort; on ARM's it gives each one's
    capacity (cpu_capacity), from 1 to 1024 for the fastest.
    """
    fast = allowed & (_numbers(read_small_file(root / "sys/devices/cpu_core/cpus")) or _capable(root, allowed))
    count = _cores_among(root, own, fast) if fast else own.fast
    if count:
        yield count, "this computer's fast cores"


def _capable(root: Path, allowed: Set[int]) -> frozenset[int]:
    """The allowed hardware threads of the fast kind by capacity; empty where one does not tell."""
    folder = root / "sys/devices/system/cpu"
    capacities = {
        thread: parse_whole_number(read_small_file(folder / f"cpu{thread}/cpu_capacity")) or 0 for thread in allowed
    }
    if not all(capacities.values()):
        return frozenset()
    most = max(capacities.values())
    return frozenset(thread for thread, capacity in capacities.items() if capacity >= _FAST_SHARE * most)


def _numbers(text: str) -> frozenset[int]:
    """The numbers of a list such as "0-3,8"; empty for anything else."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = parse_whole_number(first), parse_whole_number(last or first)
        if start is None or end is None or end - start > 65536:
            return frozenset()
        numbers.update(range(start, end + 1))
    return frozenset(numbers)


def _core_of(root: Path, thread: int) -> str:
    """What the hardware threads of one core have in common, "" where unknown.

    The list of siblings, such as "0,4", is unique; a core's number is so only together with its package and die.
    """
    topology = root / f"sys/devices/system/cpu/cpu{thread}/topology"
    siblings = _numbers(read_small_file(topology / "thread_siblings_list"))
    if thread in siblings:
        return f"thread {min(siblings)}"
    core, package = read_small_file(topology / "core_id"), read_small_file(topology / "physical_package_id")
    if parse_whole_number(core) is None or parse_whole_number(package) is None:
        return ""
    return f"package {package} die {read_small_file(topology / 'die_id')} core {core}"


def _quotas(root: Path, environ: Mapping[str, str]) -> Iterator[tuple[float, str]]:
    on_space = "SPACE_ID" in environ
    for group in own_cgroups(root, "cpu"):
        quota = _quota_of(group)
        if quota is not None:
            yield quota, "the Space's cores" if on_space else _plain_name(group)
    if on_space:
        try:
            cores = float(environ.get("CPU_CORES", ""))
        except ValueError:
            return
        if math.isfinite(cores) and cores > 0:
            yield cores, "the Space's cores"


def _quota_of(group: Cgroup) -> float | None:
    """Cores' worth of time: version 2's cpu.max is "200000 100000" (or "max 100000"), version 1 has two files."""
    if group.version == 2:
        quota, _, period = group.read_text("cpu.max").partition(" ")
    else:
        quota, period = group.read_text("cpu.cfs_quota_us"), group.read_text("cpu.cfs_period_us")
    microseconds, of = parse_whole_number(quota), parse_whole_number(period)
    return microseconds / of if microseconds and of else None


def _plain_name(group: Cgroup) -> str:
    unit = group.systemd_unit
    return f"the processor quota set for {unit}" if unit else "the container's processor quota"
