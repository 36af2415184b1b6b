"""The models of a pool as it keeps them, and the line in which those stand that are not loading yet.

Decides nothing about memory: who may load is pool.py's to say. Not thread-safe: the pool's lock guards it all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playground.engine.local.client import LocalEngine
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.llama.params import ContextParameters

State = Literal["waiting", "loading", "ready"]
MOST_REMEMBERED: Final = 256  # load times, by file


@dataclass(frozen=True)
class ModelKey:
    """A file with a context is one process; another context is another."""

    path: Path
    context: ContextParameters


@dataclass(frozen=True)
class LoadedModel:
    """What is loaded now, or on its way, for people to see."""

    key: ModelKey
    state: State
    users: int
    plan: MemoryPlan | None


@dataclass(frozen=True)
class Waiting:
    """Why a model is not there yet: others are loading or in use, or it is another's turn.

    position: in the queue for memory; 1 is next, 0 where the model is loaded but another has waited for too long.
    """

    position: int
    for_models: tuple[LoadedModel, ...]


@dataclass(frozen=True)
class LoadStatus:
    """How far a model is on its way to whoever wants it."""

    fraction: float
    waiting: Waiting | None = None


@dataclass(frozen=True)
class LoadTime:
    """How long a load takes, in seconds: as measured for this file the last time, or estimated from other files."""

    seconds: float
    is_measured: bool


class QueuedLoad:
    """A model on its way in, or in."""

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self.users = 0
        self.last_used = 0
        self.progress = 0.0
        self.plan: MemoryPlan | None = None
        self.engine: LocalEngine | None = None
        self.ready = False
        self.given_up = False
        self.must_wait = False  # it would fit if others were done
        self.error: PlaygroundError | None = None
        self.idle_timer: threading.Timer | None = None

    @property
    def is_alive(self) -> bool:
        """False only once its process has ended."""
        return self.engine is None or self.engine.is_alive

    def resident(self, line: LoadQueue) -> LoadedModel:
        """As people see it."""
        state: State = "ready" if self.ready else "waiting" if self in line else "loading"
        return LoadedModel(self.key, state, self.users, self.plan)


class LoadQueue:
    """Entries in the order in which they came; after `turn_seconds` here it is an entry's turn before all others."""

    def __init__(self, turn_seconds: float) -> None:
        self._turn_seconds = turn_seconds
        self._since: dict[QueuedLoad, float] = {}

    def __iter__(self) -> Iterator[QueuedLoad]:
        return iter(list(self._since))

    def __contains__(self, entry: QueuedLoad) -> bool:
        return entry in self._since

    def join(self, entry: QueuedLoad) -> None:
        self._since[entry] = time.monotonic()

    def leave(self, entry: QueuedLoad) -> None:
        self._since.pop(entry, None)

    def place(self, entry: QueuedLoad) -> int:
        """1 is next."""
        return list(self._since).index(entry) + 1

    def is_its_turn(self, entry: QueuedLoad) -> bool:
        """Whether it has stood here for long enough."""
        return entry in self._since and time.monotonic() - self._since[entry] >= self._turn_seconds

    def must_let_pass(self, entry: QueuedLoad) -> bool:
        """Whether it is the turn of one that stands before this one."""
        return any(self.is_its_turn(other) for other in list(self._since)[: self.place(entry) - 1])


class LoadTimes:
    """Remembers how long files took to load. Not thread-safe: the pool's lock guards it."""

    def __init__(self) -> None:
        self._measured: dict[Path, tuple[int, float]] = {}

    def add(self, path: Path, weight_bytes: int, seconds: float) -> None:
        self._measured.pop(path, None)
        self._measured[path] = (weight_bytes, seconds)
        while len(self._measured) > MOST_REMEMBERED:
            del self._measured[next(iter(self._measured))]

    def of(self, path: Path, weight_bytes: int) -> LoadTime | None:
        """None where no file was ever loaded."""
        if path in self._measured:
            return LoadTime(self._measured[path][1], is_measured=True)
        read = sum(size for size, _ in self._measured.values())
        taken = sum(seconds for _, seconds in self._measured.values())
        return LoadTime(weight_bytes * taken / read, is_measured=False) if read and taken else None
