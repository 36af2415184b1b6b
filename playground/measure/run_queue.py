"""Carries out runs one after the other, in a thread of its own, apart from anybody's page.

A run that is stopped keeps what it has measured, and can be continued. One that was cut off, because the playground
ended or its process died, is continued at the next start: `continue_cut_off_runs`.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from playground.errors import PlaygroundError, RequestRefused
from playground.limits.run import Run
from playground.limits.runs import Runs
from playground.limits.visitor import Visitor
from playground.machine.files import unfinished_file
from playground.measure.plan import MeasurementPlan
from playground.measure.run import RunProgress
from playground.measure.store import MeasurementStore, RunState

_FOREVER: Final = float("inf")
_RESTARTED: Final = Visitor("measurements of before")


class RunWork(Protocol):
    """Carries out a run; measure/run.py is the real one."""

    def work(self, run: int, plan: MeasurementPlan) -> Generator[RunProgress, None, None]: ...


@dataclass
class _Waiting:
    number: int
    plan: MeasurementPlan
    share: Run
    resources: ExitStack = field(default_factory=ExitStack)


class RunQueue:
    """Thread-safe. `close` ends the run that works; it is continued at the next start.

    make_work: a RunWork for one run. limited_in_time: whether a visitor's run ends after the longest time for lab runs.
    locks: a folder; a run is locked there by the process that works on it.
    """

    def __init__(
        self,
        store: MeasurementStore,
        runs: Runs,
        make_work: Callable[[], RunWork],
        locks: Path,
        *,
        limited_in_time: bool = False,
    ) -> None:
        self._store, self._runs, self._make_work, self._locks = store, runs, make_work, locks
        self._limited_in_time = limited_in_time
        self._places = itertools.count(1)  # a session may have several runs
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []  # the first one works
        self._progress: dict[int, RunProgress] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def start_run(self, plan: MeasurementPlan, visitor: Visitor) -> int:
        """Begin a run, or let it wait for its turn; returns its number. Raises RequestRefused for too many."""
        with ExitStack() as resources:
            share = self._take_share(resources, visitor, object())
            number = self._store.add_run(plan.to_json(), visitor.person)
            self._enqueue(_Waiting(number, plan, share, resources.pop_all()))
        return number

    def continue_run(self, number: int, visitor: Visitor) -> None:
        """Go on with a run that ended before its end; items that failed are tried again. Raises RequestRefused."""
        stored = self._store.find_run(number)
        if stored is None or number in self.positions():
            raise RequestRefused("There is no run to continue.", "Start a new one.")
        with ExitStack() as resources:
            share = self._take_share(resources, visitor, number)
            self._store.retry_failed_items(number)
            self._store.set_run_state(number, "queued")
            plan = MeasurementPlan.from_json(stored.plan)
            self._enqueue(_Waiting(number, plan, share, resources.pop_all()))

    def continue_cut_off_runs(self) -> None:
        """Called once when the playground starts. Errors are left to the next call that meets them."""
        try:
            for stored in self._store.runs():
                if stored.state in ("queued", "running") and stored.person:
                    self.continue_run(stored.id, _RESTARTED)
        except PlaygroundError:
            return

    def stop_run(self, number: int) -> None:
        """What is measured is kept. Does nothing for a run that is over."""
        with self._changed:
            for waiting in self._waiting:
                if waiting.number == number:
                    waiting.share.request_stop()
                    if waiting is not self._waiting[0]:
                        self._waiting.remove(waiting)
                        self._end(waiting, "stopped")
                    return

    def positions(self) -> dict[int, int]:
        """The runs that are not over by number: 0 works, the others wait."""
        with self._changed:
            return {waiting.number: place for place, waiting in enumerate(self._waiting)}

    def progress_of(self, number: int) -> RunProgress | None:
        with self._changed:
            return self._progress.get(number)

    def wait_until_idle(self, seconds: float) -> bool:
        """Whether all runs ended within this time; for tests and the end of the program."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            thread = self._thread
        if thread:
            thread.join(timeout=10)

    # --- inside ---

    def _take_share(self, resources: ExitStack, visitor: Visitor, about: object) -> Run:
        place = f"measure {next(self._places)}"
        return resources.enter_context(
            self._runs.start_run(visitor, "measurement", place, about, absence_seconds=_FOREVER)
        )

    def _enqueue(self, waiting: _Waiting) -> None:
        with self._changed:
            self._waiting.append(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._carry_out_all, daemon=True, name="measurements")
                self._thread.start()

    def _carry_out_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._closed:
                    self._thread = None
                    return
                waiting = self._waiting[0]
            state: RunState = "failed"
            problem = ""
            try:
                state, problem = self._carry_out(waiting)
            except PlaygroundError as error:
                problem = str(error)
            except Exception as error:  # a fault of ours: the run says so, and the next one begins
                problem = f"The run failed: {type(error).__name__}: {error}."
            with self._changed:
                self._waiting.remove(waiting)
                self._end(waiting, state, problem)
                self._changed.notify_all()

    def _carry_out(self, waiting: _Waiting) -> tuple[RunState, str]:
        """The state in which it ends, and why."""
        number = waiting.number
        with ExitStack() as lock:
            try:
                lock.enter_context(unfinished_file(self._locks / f"run-{number}"))
            except PlaygroundError:
                return "running", "Another playground with the same data folder works on it."
            self._store.set_run_state(number, "running")
            with closing(self._make_work().work(number, waiting.plan)) as steps:
                for progress in steps:
                    with self._changed:
                        self._progress[number] = progress
                    if self._closed or waiting.share.stopped_by == "shutdown":
                        return "queued", ""
                    if waiting.share.is_stopped() and (self._limited_in_time or waiting.share.stopped_by != "time"):
                        interruption = waiting.share.interruption
                        return "stopped", interruption.problem if interruption else ""
        stored = self._store.find_run(number)
        failed = sum(bool(why) for why in stored.finished.values()) if stored else 0
        return ("failed", f"{failed} of its measurements failed.") if failed else ("done", "")

    def _end(self, waiting: _Waiting, state: RunState, problem: str = "") -> None:
        self._progress.pop(waiting.number, None)
        waiting.resources.close()
        with suppress(PlaygroundError):  # a full disk: its state stays, and the next start continues it
            self._store.set_run_state(waiting.number, state, problem)
