"""Keeps models loaded and shares them: which may load, which is unloaded for it, and which waits.

A model is loaded only if its plan fits. Idle models count as free memory and are unloaded, the least recently used
first; a model in use is never unloaded. Models load one after the other, so that each is judged by what is really free;
but a load that stands still, as on a disk that does not answer, keeps nobody waiting.

A load that would fit if other models were idle waits in a queue. After `turn_seconds` it comes first: no later load
passes it, and no new lease is given on a model whose memory it needs. So every load gets its turn.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from playground import events
from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import (
    LoadedModel,
    LoadQueue,
    LoadStatus,
    LoadTime,
    LoadTimes,
    ModelKey,
    PooledModel,
    State,
    Waiting,
)
from playground.engine.local.memory_reservation import MemoryReservation, budget_without, too_little_for_scoring
from playground.engine.timings import Timings
from playground.errors import DoesNotFit, PlaygroundError
from playground.fit.budget import USUAL_MARGIN, Budget, GpuMargin
from playground.fit.plan import MemoryPlan
from playground.fit.planner import Planner
from playground.fit.verdict import judge
from playground.llama.devices import DeviceReader, Devices
from playground.llama.params import ContextParameters
from playground.machine.disks import disk_read_speed

NO_FILE: Final = Path()  # shares no memory with a loaded model

_REPORT_SECONDS: Final = 0.2  # how often a caller gets the progress of a load, changed or not
_RETRY_SECONDS: Final = 1.0  # how often a waiting load looks for memory that other programs have freed


class ModelPool:
    """Loads models on demand and shares them. Thread-safe; `close` ends every model.

    usable_bytes: how much memory this computer can give now. devices: its GPUs; None where models run on the CPU alone.
    idle_seconds: after so long without a lease, a model is unloaded.
    turn_seconds: after so long in the queue, a load comes before new leases on the models in its way.
    on_loaded: called with the file of every model that has been loaded. on_load_started: called when a load begins.
    on_reply: as of LocalEngine.
    gpu_margin: what Automatic leaves free of a GPU's memory. still_seconds: without progress for so long, a load stands
    still.
    """

    def __init__(
        self,
        cpu_shares: CpuShares,
        planner: Planner,
        usable_bytes: Callable[[], int],
        idle_seconds: float = 900,
        turn_seconds: float = 60,
        on_loaded: Callable[[Path], None] = lambda path: None,
        on_load_started: Callable[[], None] = lambda: None,
        devices: DeviceReader | None = None,
        on_reply: Callable[[LocalEngine, Timings], None] = lambda engine, timings: None,
        gpu_margin: GpuMargin = USUAL_MARGIN,
        still_seconds: float = 30,
    ) -> None:
        self._cpu_shares = cpu_shares
        self._still_seconds = still_seconds
        self._planner = planner
        self._devices = devices
        read_devices = devices.current if devices else lambda: Devices(())
        self._memory = MemoryReservation(planner, usable_bytes, read_devices, gpu_margin)
        self._idle_seconds = idle_seconds
        self._on_loaded = on_loaded
        self._on_load_started = on_load_started
        self._on_reply = on_reply
        self._models: dict[ModelKey, PooledModel] = {}
        self._changed = threading.Condition()
        self._queue = LoadQueue(turn_seconds)
        self._load_times = LoadTimes()
        self._one_load = threading.Lock()
        self._ticks = itertools.count(1)
        self._closed = False

    # --- leases ---

    def lease_model(
        self, path: Path, context: ContextParameters, *, allow_unfit: bool = False, wait_for_memory: bool = False
    ) -> Generator[LoadStatus, None, ModelLease]:
        """Progress of the load, then a lease as the generator's return value.

        `lease = yield from pool.lease_model(...)`

        The progress comes several times a second, even if it has not changed. So a caller can stop at any time, however
        slow the disk is: closing the generator gives the load up, unless another caller waits for the same model.

        allow_unfit: load it even if it does not fit.
        wait_for_memory: wait until models in use are idle, if that makes it fit. Never while holding another lease: two
        callers could wait for each other for ever.

        Raises DoesNotFit before anything is allocated, BadModelFile, or ModelStopped.
        """
        key = ModelKey(path.absolute(), context)
        asked_at = time.monotonic()
        model = self._join(key, allow_unfit)
        was_loaded = not isinstance(model, Waiting) and model.ready
        while isinstance(model, Waiting):
            if not wait_for_memory:
                raise DoesNotFit(
                    f"{path.name} is about to be unloaded for a model that has waited for its turn.",
                    "Try again in a moment.",
                )
            yield LoadStatus(0.0, model)
            with self._changed:
                self._changed.wait(_REPORT_SECONDS)
            model = self._join(key, allow_unfit)
        is_leased = False
        try:
            while not model.ready:
                if model.error:
                    raise model.error
                if model.must_wait and not wait_for_memory:
                    raise self._does_not_fit_beside_others(model)
                progress = model.progress
                yield LoadStatus(progress, self._reason_to_wait(model))
                self._wait_for_change(model, progress)
            is_leased = True
            assert model.engine and model.plan
            load_seconds = None if was_loaded else time.monotonic() - asked_at
            return ModelLease(model.engine, model.plan, load_seconds, partial(self._release, model))
        finally:
            if not is_leased:
                self._release(model)

    def free_memory_for_scoring(self, lease: ModelLease, context: ContextParameters) -> None:
        """Unload idle models until a leased model can have a temporary context beside its own.

        Raises DoesNotFit if that is not enough.
        """
        path = lease.engine.path
        plan = self._planner.plan(path, context).beside_the_model
        if plan.needed > self.usable_bytes_for(path, idle_gives_way=False) - self._planner.held_bytes():
            self._planner.give_back_memory()
        while (verdict := judge(plan, self.budget_for(path, idle_gives_way=False))).is_refused:
            if not self._unload_oldest_idle():
                raise too_little_for_scoring(path, context, verdict)

    # --- what is loaded ---

    def usable_bytes_for(self, path: Path = NO_FILE, *, idle_gives_way: bool = True) -> int:
        """Bytes of this computer's own memory that a load of this file can use, as `budget_for` counts them."""
        with self._changed:
            holding = [model for model in self._models.values() if model.holds_memory]
        return self._memory.usable_beside(path.absolute(), holding, idle_gives_way=idle_gives_way, all_give_way=False)

    def budget_for(self, path: Path = NO_FILE, *, idle_gives_way: bool = True, all_give_way: bool = False) -> Budget:
        """What a load of this file can use, of this computer's memory and of each GPU's.

        path: NO_FILE for a model that is not on this disk. idle_gives_way: idle models may be unloaded for it.
        all_give_way: models in use, too, once they are idle.
        """
        with self._changed:
            holding = [model for model in self._models.values() if model.holds_memory]
        return self._memory.budget_beside(
            path.absolute(), holding, idle_gives_way=idle_gives_way, all_give_way=all_give_way
        )

    def load_time(self, path: Path, weight_bytes: int) -> LoadTime | None:
        """How long a load of this file takes; None if no file was ever loaded."""
        with self._changed:
            return self._load_times.expected_time(path.absolute(), weight_bytes)

    def loaded_models(self) -> list[LoadedModel]:
        with self._changed:
            return [self._describe(model) for model in self._models.values() if model.is_alive]

    @property
    def cores(self) -> int:
        """What the models that decode share."""
        return self._cpu_shares.cores

    @contextmanager
    def decoding_with(self, threads: int) -> Iterator[None]:
        """Meanwhile, models decode with so many threads in all, whether there are cores for them or not: to measure."""
        with self._cpu_shares.replaced_cores(threads):
            yield

    @property
    def is_decoding(self) -> bool:
        """Whether any model of this pool decodes now."""
        return not self._cpu_shares.is_idle

    def forget_chat(self, chat: str) -> None:
        """Let every model clear what its cache holds of a chat that is over, named as in protocol.ReplyRequest."""
        with self._changed:
            engines = [model.engine for model in self._models.values() if model.ready and model.engine]
        for engine in engines:
            engine.forget_chat(chat)

    def unload_model(self, key: ModelKey) -> bool:
        """Give a model's memory back; False where it is in use, or not in memory."""
        with self._changed:
            model = self._models.get(key)
        if model is None or not model.ready:
            return False
        self._unload_if_idle(model)
        with self._changed:
            return self._models.get(key) is not model

    def unload_idle_models(self) -> None:
        with self._changed:
            idle = [model for model in self._models.values() if model.ready and model.users == 0]
        for model in idle:
            self._unload_if_idle(model)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            models = list(self._models.values())
            self._models.clear()
            for model in models:
                if not model.ready:  # its loader gives up without an error, so its callers get this one
                    model.error = _shutting_down()
            self._changed.notify_all()
        for model in models:
            self._end(model)

    # --- from the first caller to the last lease ---

    def _wait_for_change(self, model: PooledModel, progress: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: model.ready or model.error or model.progress > progress, _REPORT_SECONDS)

    def _join(self, key: ModelKey, allow_unfit: bool) -> PooledModel | Waiting:
        """The model with one more user, its load started if need be; or why a loaded model cannot be leased now."""
        with self._changed:
            if self._closed:
                raise _shutting_down()
            model = self._models.get(key)
            if model and model.ready and (first := self._load_that_needs(model)):
                return Waiting(0, (self._describe(first),))
            dead = None
            if model is None or not model.is_alive:
                dead, model = model, PooledModel(key)
                self._models[key] = model
                loader = threading.Thread(target=self._load, args=(model, allow_unfit), daemon=True, name="model load")
                loader.start()
            model.users += 1
            if model.idle_timer:
                model.idle_timer.cancel()
        if dead and not dead.users:  # otherwise the last release ends it
            self._end(dead)
        return model

    def _release(self, model: PooledModel) -> None:
        with self._changed:
            model.users -= 1
            model.last_used = next(self._ticks)
            is_current = self._models.get(model.key) is model
            is_abandoned = model.users == 0 and not (model.ready and is_current and model.is_alive)
            if is_abandoned and is_current:
                del self._models[model.key]
            self._changed.notify_all()  # a waiting load may fit now
            if model.users == 0 and not is_abandoned:
                model.idle_timer = threading.Timer(self._idle_seconds, self._unload_if_idle, (model,))
                model.idle_timer.daemon = True
                model.idle_timer.start()
        if is_abandoned:
            self._end(model)

    def _unload_oldest_idle(self) -> bool:
        """False if no model is idle."""
        with self._changed:
            idle = [model for model in self._models.values() if model.ready and model.users == 0]
        if idle:
            self._unload_if_idle(min(idle, key=lambda model: model.last_used))
        return bool(idle)

    def _unload_if_idle(self, model: PooledModel) -> None:
        with self._changed:
            if model.users > 0 or self._models.get(model.key) is not model:
                return
            del self._models[model.key]
        self._end(model)

    def _end(self, model: PooledModel) -> None:
        with self._changed:
            model.given_up = True
            engine, timer = model.engine, model.idle_timer
        if timer:
            timer.cancel()
        if engine:
            engine.close()
            self._expire_free_memory()
        with self._changed:
            self._changed.notify_all()

    def _describe(self, model: PooledModel) -> LoadedModel:
        state: State = "ready" if model.ready else "waiting" if model in self._queue else "loading"
        return LoadedModel(model.key, state, model.users, model.plan)

    # --- loading, in a thread of its own: a caller that gives up does not stop the load of other callers ---

    def _load(self, model: PooledModel, allow_unfit: bool) -> None:
        try:
            path, context = model.key.path, model.key.context
            model.plan = self._planner.place(path, context, self.budget_for(path)).plan
            with self._changed:
                self._queue.add_model(model)
            while not model.given_up:
                with ExitStack() as turn:
                    turn.enter_context(self._one_load)
                    if model.given_up:
                        return
                    # Where it runs is decided now: what is free has changed while it waited.
                    plan = model.plan = self._planner.place(path, context, self.budget_for(path)).plan
                    if self._make_room(model, plan, allow_unfit):
                        self._leave_queue(model)
                        self._start_engine(model, plan, turn)
                        return
                with self._changed:
                    self._changed.wait(_RETRY_SECONDS)
        except Exception as error:  # of any kind: callers must not wait for ever
            shown = error if isinstance(error, PlaygroundError) else PlaygroundError(f"The load failed: {error}.")
            with self._changed:
                model.error = shown
                if self._models.get(model.key) is model:
                    del self._models[model.key]
                self._changed.notify_all()
            if not model.given_up:
                events.model_not_loaded(model.key.path.name, type(error).__name__, str(shown))
            self._end(model)
        finally:
            self._leave_queue(model)

    def _start_engine(self, model: PooledModel, plan: MemoryPlan, turn: ExitStack) -> None:
        """turn: is closed early if the load stands still, so that the next one begins."""
        path, context = model.key.path, plan.context
        engine = LocalEngine(path, context, self._cpu_shares, self._on_reply)
        with self._changed:
            model.engine = engine
            if model.given_up:  # while the process was being started
                engine.close()
                return
        self._on_load_started()
        seen = -1.0
        for progress in engine.load_model(self._still_seconds):
            with self._changed:
                if progress.fraction == seen:
                    model.stands_still = True
                    turn.close()
                seen = progress.fraction
                model.progress = progress.fraction
                self._changed.notify_all()
        devices = engine.loaded.memory.devices
        events.model_loaded(
            path.name,
            context.context_size,
            seconds=engine.loaded.seconds,
            plan_bytes=plan.total,
            device=context.placement.name,
            gpu_layers=sum(device.layers for device in devices) or None,
            backend=" + ".join(dict.fromkeys(device.backend for device in devices)) or None,
        )
        self._on_loaded(path)
        self._expire_free_memory()
        with self._changed:
            self._load_times.add_load(path, plan.all_weights, engine.loaded.seconds)
            model.ready, model.stands_still = True, False
            self._changed.notify_all()

    def _make_room(self, model: PooledModel, plan: MemoryPlan, allow_unfit: bool) -> bool:
        """Unload idle models until the plan fits; False if it has to wait for models in use, or for an older load.

        Raises DoesNotFit before anything is unloaded or allocated.
        """
        path = model.key.path
        if not allow_unfit:
            budget = self.budget_for(path, all_give_way=True)
            alone = judge(plan, budget, disk_speed=partial(disk_read_speed, path))
            if alone.is_refused:
                raise self._memory.too_little(path, model.key.context, alone, self.budget_for(path))
            verdict = judge(plan, self.budget_for(path))
            with self._changed:
                model.must_wait = verdict.is_refused
                if model.must_wait or self._queue.must_let_others_pass(model):
                    self._changed.notify_all()
                    return False
        while judge(plan, self.budget_for(path, idle_gives_way=False)).is_refused:
            if not self._unload_oldest_idle():
                break
        if judge(plan, self.usable_bytes_for(path, idle_gives_way=False) - self._planner.held_bytes()).kind != "fits":
            self._planner.give_back_memory()
        return True

    def _expire_free_memory(self) -> None:
        if self._devices:
            self._devices.expire()

    def _leave_queue(self, model: PooledModel) -> None:
        with self._changed:
            self._queue.remove_model(model)
            self._changed.notify_all()

    def _load_that_needs(self, model: PooledModel) -> PooledModel | None:
        """The load whose turn it is and that cannot fit while this model stays."""
        for waiting in self._queue:
            if waiting.must_wait and waiting.plan and self._queue.has_turn(waiting):
                path = waiting.key.path
                everything = self.budget_for(path, all_give_way=True)
                if judge(waiting.plan, budget_without(everything, model, path)).is_refused:
                    return waiting
        return None

    def _reason_to_wait(self, model: PooledModel) -> Waiting | None:
        with self._changed:
            if model not in self._queue:
                return None
            others = [self._describe(other) for other in self._models.values() if other is not model]
            position = self._queue.position_of(model)
        in_the_way = (other for other in others if other.state == "loading" or (other.state == "ready" and other.users))
        return Waiting(position, tuple(in_the_way))

    def _does_not_fit_beside_others(self, model: PooledModel) -> DoesNotFit:
        assert model.plan
        path = model.key.path
        budget = self.budget_for(path)
        why = "It would fit if the models in use were not there."
        return self._memory.too_little(path, model.key.context, judge(model.plan, budget), budget, why)


def _shutting_down() -> PlaygroundError:
    return PlaygroundError("The playground is shutting down.", "Start it again.")
