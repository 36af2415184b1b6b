"""The models of a pool: how far each is, who waits for memory, and how long loads take.

pool.py decides which model may load. Nothing here is thread-safe: the pool's lock guards it.
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
    """A file with a context is one process; with another context it is another one."""

    path: Path
    context: ContextParameters


@dataclass(frozen=True)
class LoadedModel:
    """A model in the pool, as people see it. users: how many leases there are."""

    key: ModelKey
    state: State
    users: int
    plan: MemoryPlan | None


@dataclass(frozen=True)
class Waiting:
    """Why a model is not ready yet: other models are loading or in use, or another load has waited for too long.

    position: in the queue for memory, 1 is next. 0 if the model itself is loaded, but the memory of it is another's.
    """

    position: int
    for_models: tuple[LoadedModel, ...]


@dataclass(frozen=True)
class LoadStatus:
    """How far a load is, from 0 to 1, and why it waits, if it does."""

    fraction: float
    waiting: Waiting | None = None


@dataclass(frozen=True)
class LoadTime:
    """How many seconds a load takes: measured the last time for this file, or estimated from other files."""

    seconds: float
    is_measured: bool


class PooledModel:
    """A model that is loaded or on its way.

    must_wait: it would fit if other models were not in use.
    given_up: nobody waits for it any more, or it was unloaded. stands_still: its load has made no progress for long, so
    that others do not wait for it.
    """

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self.users = 0
        self.last_used = 0
        self.progress = 0.0
        self.plan: MemoryPlan | None = None
        self.engine: LocalEngine | None = None
        self.ready = False
        self.given_up = False
        self.must_wait = False
        self.stands_still = False
        self.error: PlaygroundError | None = None
        self.idle_timer: threading.Timer | None = None

    @property
    def holds_memory(self) -> bool:
        """Whether a load has to leave what this model's plan needs: what it has not taken yet looks free."""
        return (self.ready or self.stands_still) and self.engine is not None and self.plan is not None

    @property
    def is_alive(self) -> bool:
        """False only after its process has ended."""
        return self.engine is None or self.engine.is_alive


class LoadQueue:
    """Loads that wait for memory, in the order of their arrival. After `turn_seconds` a load has its turn."""

    def __init__(self, turn_seconds: float) -> None:
        self._turn_seconds = turn_seconds
        self._since: dict[PooledModel, float] = {}

    def __iter__(self) -> Iterator[PooledModel]:
        return iter(list(self._since))

    def __contains__(self, model: PooledModel) -> bool:
        return model in self._since

    def add_model(self, model: PooledModel) -> None:
        self._since[model] = time.monotonic()

    def remove_model(self, model: PooledModel) -> None:
        self._since.pop(model, None)

    def position_of(self, model: PooledModel) -> int:
        """1 is next."""
        return list(self._since).index(model) + 1

    def has_turn(self, model: PooledModel) -> bool:
        """Whether it has waited for long enough."""
        return model in self._since and time.monotonic() - self._since[model] >= self._turn_seconds

    def must_let_others_pass(self, model: PooledModel) -> bool:
        """Whether it is the turn of a load before this one."""
        return any(self.has_turn(other) for other in list(self._since)[: self.position_of(model) - 1])


class LoadTimes:
    """How long files took to load."""

    def __init__(self) -> None:
        self._measured: dict[Path, tuple[int, float]] = {}

    def add_load(self, path: Path, weight_bytes: int, seconds: float) -> None:
        self._measured.pop(path, None)
        self._measured[path] = (weight_bytes, seconds)
        while len(self._measured) > MOST_REMEMBERED:
            del self._measured[next(iter(self._measured))]

    def expected_time(self, path: Path, weight_bytes: int) -> LoadTime | None:
        """None if no file was ever loaded."""
        if path in self._measured:
            return LoadTime(self._measured[path][1], is_measured=True)
        total_bytes = sum(size for size, _ in self._measured.values())
        total_seconds = sum(seconds for _, seconds in self._measured.values())
        if not total_bytes or not total_seconds:
            return None
        return LoadTime(weight_bytes * total_seconds / total_bytes, is_measured=False)
