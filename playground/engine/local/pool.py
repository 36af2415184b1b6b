"""Keeps models loaded: who uses which, who may load what, who gives way, who waits.

A model is loaded only if its plan fits; an idle model counts as free memory and gives way, the least recently used
first; one in use is never taken away. Models load one after the other, so that each is judged by what is really left.

A load that would fit if others were done stands in a line until they are. Who has stood there for `turn_seconds` comes
first: no later load passes it, and nobody new begins to use a model that is in its way. So everyone's turn comes.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

from playground import events
from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.load_queue import (
    LoadedModel,
    LoadQueue,
    LoadStatus,
    LoadTime,
    LoadTimes,
    ModelKey,
    QueuedLoad,
    Waiting,
)
from playground.engine.local.memory_reservation import MemoryReservation, given_back, too_little_for_scoring
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.verdict import judge
from playground.llama.params import ContextParameters

__all__ = ["LoadStatus", "LoadTime", "LoadedModel", "ModelKey", "ModelLease", "ModelPool", "Waiting"]

_LOOK_SECONDS: Final = 0.2  # how often a caller hears of a load that another thread runs, news or none
_LOOK_AGAIN_SECONDS: Final = 1.0  # how often a load in the line looks for memory that came free without a word


class ModelLease:
    """The right to use a loaded model; it stays loaded while anybody holds one. Release it, or use `with`."""

    def __init__(self, pool: ModelPool, entry: QueuedLoad) -> None:
        assert entry.engine and entry.plan
        self.engine: LocalEngine = entry.engine
        self.plan: MemoryPlan = entry.plan
        self._pool, self._entry = pool, entry
        self._held = True

    def release(self) -> None:
        with self._pool._news:
            held, self._held = self._held, False
        if held:
            self._pool._release(self._entry)

    def __enter__(self) -> ModelLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ModelPool:
    """Loads models on demand and shares them. Thread-safe; `close` ends every model.

    usable_bytes: the memory this computer can give now.
    idle_seconds: a model nobody uses for so long is unloaded.
    turn_seconds: after so long in the line, a load comes before new uses of the models in its way.
    on_loaded: told the file of every model that has been loaded.
    """

    def __init__(
        self,
        cores: CpuShares,
        planner: Planner,
        usable_bytes: Callable[[], int],
        idle_seconds: float = 900,
        turn_seconds: float = 60,
        on_loaded: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._cores = cores
        self._planner = planner
        self._room = MemoryReservation(planner, usable_bytes)
        self._idle_seconds = idle_seconds
        self._on_loaded = on_loaded
        self._entries: dict[ModelKey, QueuedLoad] = {}
        self._news = threading.Condition()
        self._line = LoadQueue(turn_seconds)
        self._load_times = LoadTimes()
        self._one_load = threading.Lock()
        self._ticks = itertools.count(1)
        self._closed = False

    # --- for those who want a model ---

    def lease_model(
        self, path: Path, context: ContextParameters, *, allow_unfit: bool = False, wait_for_memory: bool = False
    ) -> Generator[LoadStatus, None, ModelLease]:
        """Progress of the load, then a lease as the generator's return value.

        `lease = yield from pool.lease_model(...)`

        Progress comes several times a second, also when there is none: closing the generator gives the load up, unless
        somebody else waits for the same model, and a stop must never have to wait for a slow disk.
        wait_for_memory: wait until models in use are free, if that makes room. Never while holding another lease: two
        callers could wait for each other for ever.
        Raises DoesNotFit before anything is allocated, BadModelFile, or ModelStopped.
        """
        key = ModelKey(path.absolute(), context)
        entry = self._join(key, allow_unfit)
        while isinstance(entry, Waiting):
            if not wait_for_memory:
                raise DoesNotFit(
                    f"{path.name} is about to make room for a model that has waited for its turn.",
                    "Try again in a moment.",
                )
            yield LoadStatus(0.0, entry)
            self._wait_for_any_news()
            entry = self._join(key, allow_unfit)
        leased = False
        try:
            while not entry.ready:
                if entry.error:
                    raise entry.error
                if entry.must_wait and not wait_for_memory:
                    raise self._too_much_beside_others(entry)
                told = entry.progress
                yield LoadStatus(told, self._reason_to_wait(entry))
                self._wait_for_news(entry, told)
            leased = True
            return ModelLease(self, entry)
        finally:
            if not leased:
                self._release(entry)

    def usable_bytes_for(self, path: Path, *, idle_gives_way: bool = True, all_give_way: bool = False) -> int:
        """Bytes that a load of this file could use: what is free, and what idle models would give back.

        all_give_way: what it could use if those in use were done, too.
        """
        with self._news:
            ready = [entry for entry in self._entries.values() if entry.ready and entry.engine and entry.plan]
        return self._room.beside(path.absolute(), ready, idle_gives_way=idle_gives_way, all_give_way=all_give_way)

    def load_time(self, path: Path, weight_bytes: int) -> LoadTime | None:
        """How long a load of this file takes; None where no file was ever loaded."""
        with self._news:
            return self._load_times.of(path.absolute(), weight_bytes)

    def free_memory_for_scoring(self, lease: ModelLease, context: ContextParameters) -> None:
        """Let idle models give way until a loaded model can have a temporary context beside its own.

        Raises DoesNotFit when even then it cannot.
        """
        path = lease.engine.path
        needed = self._room.for_scoring(path, context)
        while needed > self.usable_bytes_for(path, idle_gives_way=False):
            if not self._unload_oldest_idle():
                raise too_little_for_scoring(path, context, needed, self.usable_bytes_for(path))

    def loaded_models(self) -> list[LoadedModel]:
        with self._news:
            return [entry.resident(self._line) for entry in self._entries.values() if entry.is_alive]

    def forget_chat(self, chat: str) -> None:
        """Let every model give up what it keeps of a chat that is over; see messages.Generate for its name."""
        with self._news:
            engines = [entry.engine for entry in self._entries.values() if entry.ready and entry.engine]
        for engine in engines:
            engine.forget_chat(chat)

    def unload_idle_models(self) -> None:
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

    def _wait_for_news(self, entry: QueuedLoad, told: float) -> None:
        with self._news:
            self._news.wait_for(lambda: entry.ready or entry.error or entry.progress > told, _LOOK_SECONDS)

    def _wait_for_any_news(self) -> None:
        with self._news:
            self._news.wait(_LOOK_SECONDS)

    def _join(self, key: ModelKey, allow_unfit: bool) -> QueuedLoad | Waiting:
        """The entry of this model, new or not; or why even a loaded one cannot be had now."""
        with self._news:
            if self._closed:
                raise _shutting_down()
            entry = self._entries.get(key)
            if entry and entry.ready and (first := self._in_whose_way(entry)):
                return Waiting(0, (first.resident(self._line),))
            dead = None
            if entry is None or not entry.is_alive:
                dead, entry = entry, QueuedLoad(key)
                self._entries[key] = entry
                loader = threading.Thread(target=self._load, args=(entry, allow_unfit), daemon=True, name="model load")
                loader.start()
            entry.users += 1
            if entry.idle_timer:
                entry.idle_timer.cancel()
        if dead and not dead.users:  # else the last one who lets go of it ends it
            self._end(dead)
        return entry

    def _release(self, entry: QueuedLoad) -> None:
        with self._news:
            entry.users -= 1
            entry.last_used = next(self._ticks)
            current = self._entries.get(entry.key) is entry
            abandoned = entry.users == 0 and not (entry.ready and current and entry.is_alive)
            if abandoned and current:
                del self._entries[entry.key]
            self._news.notify_all()  # whoever stands in the line may find room now
            if entry.users == 0 and not abandoned:
                entry.idle_timer = threading.Timer(self._idle_seconds, self._unload_if_idle, (entry,))
                entry.idle_timer.daemon = True
                entry.idle_timer.start()
        if abandoned:
            self._end(entry)

    def _load(self, entry: QueuedLoad, allow_unfit: bool) -> None:
        """Runs in a thread of its own, so that whoever waits can give up without taking the load from others."""
        try:
            entry.plan = self._planner.plan(entry.key.path, entry.key.context)
            with self._news:
                self._line.join(entry)
            while not entry.given_up:
                with self._one_load:
                    if entry.given_up:
                        return
                    if self._has_room(entry, entry.plan, allow_unfit):
                        self._leave_line(entry)
                        self._start(entry, entry.plan)
                        return
                with self._news:
                    self._news.wait(_LOOK_AGAIN_SECONDS)
        except Exception as error:  # whatever it was, whoever waits must learn of it
            with self._news:
                entry.error = (
                    error if isinstance(error, PlaygroundError) else PlaygroundError(f"The load failed: {error}.")
                )
                if self._entries.get(entry.key) is entry:
                    del self._entries[entry.key]
                self._news.notify_all()
            if not entry.given_up:
                events.model_not_loaded(entry.key.path.name, type(error).__name__, str(entry.error))
            self._end(entry)
        finally:
            self._leave_line(entry)

    def _start(self, entry: QueuedLoad, plan: MemoryPlan) -> None:
        engine = LocalEngine(entry.key.path, entry.key.context, self._cores)
        with self._news:
            entry.engine = engine
            if entry.given_up:  # while the process was being started
                engine.close()
                return
        for progress in engine.load_model():
            self._tell(entry, progress.fraction)
        events.model_loaded(entry.key.path.name, entry.key.context.context_size, engine.loaded.seconds, plan.total)
        self._on_loaded(entry.key.path)
        with self._news:
            self._load_times.add(entry.key.path, plan.weights, engine.loaded.seconds)
            entry.ready = True
            self._news.notify_all()

    def _tell(self, entry: QueuedLoad, fraction: float) -> None:
        with self._news:
            entry.progress = fraction
            self._news.notify_all()

    # --- room, and the line for it ---

    def _has_room(self, entry: QueuedLoad, plan: MemoryPlan, allow_unfit: bool) -> bool:
        """Refuse before anything is unloaded or allocated; else let idle models give way until the plan fits.

        False where it has to wait for models in use, or for those who have waited for too long.
        """
        path = entry.key.path
        if not allow_unfit:
            alone = judge(plan, self.usable_bytes_for(path, all_give_way=True))
            if alone.kind == "wont_fit":
                raise self._room.too_little(entry, alone, self.usable_bytes_for(path))
            verdict = judge(plan, self.usable_bytes_for(path))
            with self._news:
                entry.must_wait = verdict.kind == "wont_fit"
                if entry.must_wait or self._line.must_let_pass(entry):
                    self._news.notify_all()
                    return False
        while judge(plan, self.usable_bytes_for(path, idle_gives_way=False)).kind == "wont_fit":
            if not self._unload_oldest_idle():
                break
        return True

    def _in_whose_way(self, entry: QueuedLoad) -> QueuedLoad | None:
        """Whose turn it is but who cannot be loaded while this model stays."""
        for other in self._line:
            if other.must_wait and other.plan and self._line.is_its_turn(other):
                usable = self.usable_bytes_for(other.key.path, all_give_way=True) - given_back(entry, other.key.path)
                if judge(other.plan, usable).kind == "wont_fit":
                    return other
        return None

    def _reason_to_wait(self, entry: QueuedLoad) -> Waiting | None:
        with self._news:
            if entry not in self._line:
                return None
            models = [other.resident(self._line) for other in self._entries.values() if other is not entry]
            return Waiting(
                self._line.place(entry),
                tuple(
                    model for model in models if model.state != "waiting" and (model.users or model.state != "ready")
                ),
            )

    def _leave_line(self, entry: QueuedLoad) -> None:
        with self._news:
            self._line.leave(entry)
            self._news.notify_all()

    def _too_much_beside_others(self, entry: QueuedLoad) -> DoesNotFit:
        assert entry.plan
        usable = self.usable_bytes_for(entry.key.path)
        why = "It would fit if the models in use were not there."
        return self._room.too_little(entry, judge(entry.plan, usable), usable, why)

    def _unload_oldest_idle(self) -> bool:
        """False when there is none."""
        with self._news:
            idle = [other for other in self._entries.values() if other.ready and other.users == 0]
        if idle:
            self._unload_if_idle(min(idle, key=lambda other: other.last_used))
        return bool(idle)

    def _unload_if_idle(self, entry: QueuedLoad) -> None:
        with self._news:
            if entry.users > 0 or self._entries.get(entry.key) is not entry:
                return
            del self._entries[entry.key]
        self._end(entry)

    def _end(self, entry: QueuedLoad) -> None:
        with self._news:
            entry.given_up = True
            engine, timer = entry.engine, entry.idle_timer
        if timer:
            timer.cancel()
        if engine:
            engine.close()
        with self._news:
            self._news.notify_all()


def _shutting_down() -> PlaygroundError:
    return PlaygroundError("The playground is shutting down.", "Start it again.")
