"""The models of a pool as it keeps them, and the line in which those stand that are not loading yet.

Decides nothing about memory: who may load is pool.py's to say. Not thread-safe: the pool's lock guards it all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from playground.engine.local.client import LocalEngine
from playground.engine.local.pool_types import LoadedModel, ModelKey, State
from playground.errors import PlaygroundError
from playground.fit.plan import MemoryPlan


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
