"""Counts what a running playground holds, from outside: processes, threads, open files, memory, and its own gauges.

Reads the system and the playground's figures for Prometheus; starts and ends nothing.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from playground.engine.local.client import WORKER
from playground.machine.memory import read_process_memory

_GAUGE: Final = re.compile(r"^(playground_\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Census:
    """What the playground's own process holds, and its children. memory_bytes: private memory of its own process."""

    workers: int
    other_children: int
    zombies: int
    threads: int
    open_files: int  # with sockets and pipes
    files_on_disk: int  # without the playground's few records, which it makes when it first has something to remember
    memory_bytes: int

    def leaks(self, before: Census) -> list[str]:
        """What is more than it was before, as phrases; memory is not compared."""
        grown = [
            (name.replace("_", " "), getattr(self, name), getattr(before, name))
            for name in ("workers", "other_children", "zombies", "threads", "open_files", "files_on_disk")
        ]
        return [f"{now} {name} instead of {then}" for name, now, then in grown if now > then]


def count(pid: int, home: Path) -> Census:
    """The census of a playground. home: the folder that it writes to, temporary files included."""
    process = psutil.Process(pid)
    children = process.children(recursive=True)
    zombies = [child for child in children if _is_zombie(child)]
    models = workers(pid)
    return Census(
        workers=len(models),
        other_children=len(children) - len(zombies) - len(models),
        zombies=len(zombies),
        threads=process.num_threads(),
        open_files=process.num_fds(),
        files_on_disk=sum(path.is_file() and not _is_record(path, home) for path in home.rglob("*")),
        memory_bytes=read_process_memory(pid).anonymous,
    )


def workers(pid: int) -> list[psutil.Process]:
    """The processes of the models that are loaded or on their way in."""
    return [child for child in psutil.Process(pid).children() if WORKER in _command(child)]


def busy_seconds(process: psutil.Process) -> float:
    """CPU time that the process has used so far; 0 if it is gone."""
    with suppress(psutil.Error):
        return float(sum(process.cpu_times()[:2]))
    return 0.0


def gauges(metrics: str) -> dict[str, float]:
    """Each of the playground's gauges, summed over its labels, from the text for Prometheus."""
    sums = dict.fromkeys(re.findall(r"^# TYPE (playground_\w+) gauge$", metrics, re.MULTILINE), 0.0)
    for name, value in _GAUGE.findall(metrics):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def _is_record(path: Path, home: Path) -> bool:
    """Such as measured-speeds.json; not a part of one that was never finished, whose name begins with a dot."""
    return path.parent == home / "data" and path.suffix == ".json" and not path.name.startswith(".")


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


def _is_zombie(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return False
