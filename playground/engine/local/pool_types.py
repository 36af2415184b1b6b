"""What a pool of models says about itself: what is loaded, how far a load is, why it waits, how long it will take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

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

    place: in the line for memory; 1 is next, 0 where the model is loaded but another has waited for too long.
    """

    place: int
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
