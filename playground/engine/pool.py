"""Keeps models loaded: who uses which, who may load what, who gives way.

A model is loaded only if its plan fits; an idle model counts as free memory and gives way, the least recently used
first; one in use is never taken away. Models load one after the other, so that each is judged by what is really left.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playground.engine.client import LocalEngine
from playground.engine.cores import CoreShares
from playground.engine.messages import LoadProgress
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.dry_run import Planner
from playground.fit.plan import MemoryPlan
from playground.fit.verdict import gibibytes, judge, largest_context_that_fits
from playground.llama.parameters import ContextParameters
from playground.machine.process import read_process_memory

_LOOK_SECONDS: Final = 0.2  # how often a caller hears of a load that another thread runs, news or none


@dataclass(frozen=True)
class ModelKey:
    """A file with a context is one process; another context is another."""

    path: Path
    context: ContextParameters


@dataclass(frozen=True)
class ResidentModel:
    """What is loaded now, for people to see."""

    key: ModelKey
    state: Literal["loading", "ready"]
    users: int
    plan: MemoryPlan | None


class _Entry:
    """A model on its way in, or in. Its fields are the pool's; its lock is the pool's condition."""

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self.users = 0
        self.last_used = 0
        self.progress = 0.0
        self.plan: MemoryPlan | None = None
        self.engine: LocalEngine | None = None
        self.ready = False
        self.given_up = False
        self.error: PlaygroundError | None = None
        self.idle_timer: threading.Timer | None = None


class Lease:
    """The right to use a loaded model; it stays loaded while anybody holds one. Release it, or use `with`."""

    def __init__(self, pool: ModelPool, entry: _Entry) -> None:
        assert entry.engine and entry.plan
        self.engine: LocalEngine = entry.engine
        self.plan: MemoryPlan = entry.plan
        self._pool, self._entry = pool, entry
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._pool._release(self._entry)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ModelPool:
    """Loads models on demand and shares them. Thread-safe; `close` ends every model.

    usable_bytes: the memory this computer can give now.
    idle_seconds: a model nobody uses for so long is unloaded.
    """

    def __init__(
        self, cores: CoreShares, planner: Planner, usable_bytes: Callable[[], int], idle_seconds: float = 900
    ) -> None:
        self._cores = cores
        self._planner = planner
        self._usable_bytes = usable_bytes
        self._idle_seconds = idle_seconds
        self._entries: dict[ModelKey, _Entry] = {}
        self._news = threading.Condition()
        self._one_load = threading.Lock()
        self._ticks = itertools.count(1)
        self._closed = False

    # --- for those who want a model ---

    def open(
        self, path: Path, context: ContextParameters, *, allow_unfit: bool = False
    ) -> Generator[LoadProgress, None, Lease]:
        """Progress of the load, then (as the generator's return value) a lease: `lease = yield from pool.open(...)`.

        Progress comes several times a second, also when there is none: closing the generator gives the load up, unless
        somebody else waits for the same model, and a stop must never have to wait for a slow disk.
        Raises DoesNotFit before anything is allocated, BadModelFile, or ModelStopped.
        """
        entry = self._join(ModelKey(path.absolute(), context), allow_unfit)
        leased = False
        try:
            while not entry.ready:
                if entry.error:
                    raise entry.error
                told = entry.progress
                yield LoadProgress(told)
                self._wait_for_news(entry, told)
            leased = True
            return Lease(self, entry)
        finally:
            if not leased:
                self._release(entry)

    def usable_for(self, path: Path, *, idle_gives_way: bool = True) -> int:
        """Bytes that a load of this file could use: what is free, and what idle models would give back.

        Mapped weights of models in use look free to the system, but taking them would make those models crawl; weights
        of the same file are shared.
        """
        with self._news:
            ready = [entry for entry in self._entries.values() if entry.ready and entry.engine and entry.plan]
        path = path.absolute()
        usable = self._usable_bytes()
        counted: set[Path] = {path}
        for entry in ready:
            assert entry.engine and entry.plan
            if entry.users == 0 and idle_gives_way:
                usable += _anonymous_bytes(entry.engine)
            elif entry.key.path not in counted:
                usable -= entry.plan.weights
                counted.add(entry.key.path)
        return max(0, usable)

    def make_room_beside(self, lease: Lease, context: ContextParameters) -> None:
        """Let idle models give way until a loaded model can have a temporary context beside its own.

        Raises DoesNotFit when even then it cannot.
        """
        path = lease.engine.path
        plan = self._planner.plan(path, context)
        needed = plan.kv_cache + plan.recurrent + plan.compute + plan.output
        while needed > self.usable_for(path, idle_gives_way=False):
            if not self._unload_oldest_idle():
                wanted, usable = gibibytes(needed, self.usable_for(path))
                raise DoesNotFit(
                    f"To score {context.context_size:,} tokens, {path.name} needs {wanted} more for a while; "
                    f"{usable} can be used.",
                    "Score a shorter text, or close other programs.",
                )

    def resident(self) -> list[ResidentModel]:
        with self._news:
            return [
                ResidentModel(entry.key, "ready" if entry.ready else "loading", entry.users, entry.plan)
                for entry in self._entries.values()
            ]

    def unload_idle(self) -> None:
        """End every model that nobody uses."""
        with self._news:
            idle = [entry for entry in self._entries.values() if entry.ready and entry.users == 0]
        for entry in idle:
            self._unload_if_idle(entry)

    def close(self) -> None:
        with self._news:
            self._closed = True
            entries = list(self._entries.values())
            self._entries.clear()
            for entry in entries:
                if not entry.ready:  # its loader gives up in silence, so whoever waits learns of it here
                    entry.error = _shutting_down()
            self._news.notify_all()
        for entry in entries:
            self._end(entry)

    # --- the life of an entry ---

    def _wait_for_news(self, entry: _Entry, told: float) -> None:
        with self._news:
            self._news.wait_for(lambda: entry.ready or entry.error or entry.progress > told, _LOOK_SECONDS)

    def _join(self, key: ModelKey, allow_unfit: bool) -> _Entry:
        with self._news:
            if self._closed:
                raise _shutting_down()
            entry = self._entries.get(key)
            if entry is None or (entry.engine and not entry.engine.is_alive):
                entry = self._entries[key] = _Entry(key)
                loader = threading.Thread(target=self._load, args=(entry, allow_unfit), daemon=True, name="model load")
                loader.start()
            entry.users += 1
            if entry.idle_timer:
                entry.idle_timer.cancel()
            return entry

    def _release(self, entry: _Entry) -> None:
        with self._news:
            entry.users -= 1
            entry.last_used = next(self._ticks)
            current = self._entries.get(entry.key) is entry
            abandoned = entry.users == 0 and (
                not entry.ready or not current or not (entry.engine and entry.engine.is_alive)
            )
            if abandoned and current:
                del self._entries[entry.key]
            if entry.users == 0 and not abandoned:
                entry.idle_timer = threading.Timer(self._idle_seconds, self._unload_if_idle, (entry,))
                entry.idle_timer.daemon = True
                entry.idle_timer.start()
        if abandoned:
            self._end(entry)

    def _load(self, entry: _Entry, allow_unfit: bool) -> None:
        """Runs in a thread of its own, so that whoever waits can give up without taking the load from others."""
        try:
            with self._one_load:
                if entry.given_up:
                    return
                entry.plan = self._planner.plan(entry.key.path, entry.key.context)
                self._make_room(entry, entry.plan, allow_unfit)
                engine = LocalEngine(entry.key.path, entry.key.context, self._cores)
                with self._news:
                    entry.engine = engine
                    if entry.given_up:  # while the process was being started
                        engine.close()
                        return
                for progress in engine.load():
                    self._tell(entry, progress.fraction)
            with self._news:
                entry.ready = True
                self._news.notify_all()
        except Exception as error:  # whatever it was, whoever waits must learn of it
            with self._news:
                entry.error = (
                    error if isinstance(error, PlaygroundError) else PlaygroundError(f"The load failed: {error}.")
                )
                if self._entries.get(entry.key) is entry:
                    del self._entries[entry.key]
                self._news.notify_all()
            self._end(entry)

    def _tell(self, entry: _Entry, fraction: float) -> None:
        with self._news:
            entry.progress = fraction
            self._news.notify_all()

    def _make_room(self, entry: _Entry, plan: MemoryPlan, allow_unfit: bool) -> None:
        """Refuse before anything is unloaded or allocated; else let idle models give way until the plan fits."""
        path = entry.key.path
        verdict = judge(plan, self.usable_for(path))
        if verdict.kind == "wont_fit" and not allow_unfit:
            raise DoesNotFit(
                f"{path.name} at {plan.context.context_size:,} tokens: {verdict.reason}", self._way_out(entry)
            )
        while judge(plan, self.usable_for(path, idle_gives_way=False)).kind == "wont_fit":
            if not self._unload_oldest_idle():
                break

    def _unload_oldest_idle(self) -> bool:
        """False when there is none."""
        with self._news:
            idle = [other for other in self._entries.values() if other.ready and other.users == 0]
        if idle:
            self._unload_if_idle(min(idle, key=lambda other: other.last_used))
        return bool(idle)

    def _way_out(self, entry: _Entry) -> str:
        path, context = entry.key.path, entry.key.context
        largest = largest_context_that_fits(
            lambda size: self._planner.plan(path, ContextParameters(size, context.kv_type, context.slots)),
            self._planner.trained_context(path),
            self.usable_for(path),
        )
        if largest:
            return f"A context of {largest:,} tokens fits."
        return "Choose a smaller level or a smaller model, or close other programs."

    def _unload_if_idle(self, entry: _Entry) -> None:
        with self._news:
            if entry.users > 0 or self._entries.get(entry.key) is not entry:
                return
            del self._entries[entry.key]
        self._end(entry)

    def _end(self, entry: _Entry) -> None:
        with self._news:
            entry.given_up = True
            engine, timer = entry.engine, entry.idle_timer
        if timer:
            timer.cancel()
        if engine:
            engine.close()


def _shutting_down() -> PlaygroundError:
    return PlaygroundError("The playground is shutting down.", "Start it again.")


def _anonymous_bytes(engine: LocalEngine) -> int:
    try:
        return read_process_memory(engine.pid).anonymous
    except (OSError, PlaygroundError):
        return 0
