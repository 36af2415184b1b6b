"""One run: something that a visitor has under way, with its time limit and what it holds.

The code that does the work asks `is_stopped` several times a second. A run whose page is gone may never be asked again,
because nothing moves its generator on; `Runs` (runs.py) then releases what it holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, Literal

from playground.errors import RequestRefused
from playground.limits.limits import Limits
from playground.limits.visitor import Visitor
from playground.text_format import spelled_duration

Work = Literal["reply", "comparison", "load", "making", "control", "scoring", "measurement"]
StoppedBy = Literal["person", "time", "shutdown", "absence"]
LAB_WORK: Final[tuple[Work, ...]] = ("making", "control", "scoring", "measurement")

GRACE_SECONDS: Final = 5.0  # for a stopped run to end by itself


class Run:
    """Something a visitor has under way: first waiting (for memory, a load, a slot), then working. Thread-safe.

    absence_seconds: how long it goes on while its page is gone; see `leave`.
    """

    def __init__(
        self,
        visitor: Visitor,
        place: str,
        work: Work,
        about: object,
        limits: Limits,
        clock: Callable[[], float],
        absence_seconds: float = 0.0,
    ) -> None:
        self.visitor, self.place, self.work, self.about = visitor, place, work, about
        self._absence_seconds = absence_seconds
        self._absent_until: float | None = None
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._cleanups: list[Callable[[], object]] = []
        self._stopped_at: float | None = None
        self._shutdown: RequestRefused | None = None
        self.is_waiting = work not in LAB_WORK
        self._deadline = clock() + (limits.wait_seconds if self.is_waiting else limits.lab_seconds)

    def request_stop(self, shutdown: RequestRefused | None = None) -> None:
        """Ask the run to end. shutdown: the error for its visitor, where the playground itself ends."""
        with self._lock:
            if self._stopped_at is None:
                self._stopped_at, self._shutdown = self._clock(), shutdown

    def leave(self) -> None:
        """Its page is gone: it ends in `absence_seconds`, unless the page comes back before that."""
        with self._lock:
            if self._absent_until is None:
                self._absent_until = self._clock() + self._absence_seconds

    def come_back(self, visitor: Visitor) -> None:
        """Its page is back, in a new session, which it belongs to from now on."""
        with self._lock:
            self.visitor, self._absent_until = visitor, None

    def is_stopped(self) -> bool:
        """Whether it should end now: it was asked to, its page is gone, or its time is over."""
        return self._stopped_at is not None or self._clock() >= self._end

    @property
    def _end(self) -> float:
        """When it ends at the latest."""
        return self._deadline if self._absent_until is None else min(self._deadline, self._absent_until)

    def restart_wait(self) -> None:
        """Count the waiting time from now on, because something else had to be done first."""
        with self._lock:
            if self.is_waiting:
                self._deadline = self._clock() + self._limits.wait_seconds

    def begin_work(self) -> None:
        """The waiting is over. The first call starts the time limit for the work, later calls do nothing."""
        with self._lock:
            if self.is_waiting:
                self.is_waiting = False
                self._deadline = self._clock() + self._work_seconds

    @property
    def stopped_by(self) -> StoppedBy:
        """What ended the run; only meaningful once it is stopped."""
        if self._shutdown:
            return "shutdown"
        if self._stopped_at is not None:
            return "person"
        return "time" if self._clock() >= self._deadline else "absence"

    @property
    def interruption(self) -> RequestRefused | None:
        """The error for a visitor whose run was ended by its time limit or by the end of the playground."""
        if self._shutdown:
            return self._shutdown
        if self._stopped_at is not None or self._clock() < self._deadline:
            return None
        if self.is_waiting:
            return RequestRefused(
                f"Nothing became free within {spelled_duration(self._limits.wait_seconds)}, the longest wait here.",
                "Try again later, or use a model that is already loaded.",
                setting="max_wait_seconds",
            )
        if self.work in LAB_WORK:
            return RequestRefused(
                f"This was stopped after {spelled_duration(self._limits.lab_seconds)}, the longest it may take here.",
                "Try a smaller model.",
                setting="max_lab_seconds",
            )
        noun = "comparison" if self.work == "comparison" else "reply"
        return RequestRefused(
            f"The {noun} was stopped after {spelled_duration(self._work_seconds)}, the longest it may take here.",
            "The text so far is kept; ask the model to continue.",
            setting="max_reply_seconds",
        )

    @property
    def _work_seconds(self) -> float:
        """The time limit for the work itself; a comparison is two replies."""
        return (2 if self.work == "comparison" else 1) * self._limits.reply_seconds

    def release_if_abandoned(self, release: Callable[[], object]) -> None:
        """Call `release` from another thread if the run is abandoned; the last one given is called first."""
        with self._lock:
            self._cleanups.append(release)

    def close_if_abandoned(self, generator: Generator[object, Any, object]) -> None:
        """The same for a generator. One that is executing at that moment is left to end by itself."""

        def close() -> None:
            with suppress(ValueError):
                generator.close()

        self.release_if_abandoned(close)

    def is_abandoned(self) -> bool:
        """Whether it should have ended GRACE_SECONDS ago."""
        stopped_at = self._stopped_at if self._stopped_at is not None else self._end
        return self._clock() >= stopped_at + GRACE_SECONDS

    def release_resources(self) -> None:
        with self._lock:
            cleanups, self._cleanups = self._cleanups, []
        for release in reversed(cleanups):
            release()
