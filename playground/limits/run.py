"""A visitor and what it has under way: until when it may go on, why it ended, and what it holds.

A visitor is one open page (a tab). A run can say what it holds: if it does not end by itself within some seconds of
being stopped (a page that is gone no longer moves its generator on), the ledger gives that back in its place. How many
runs there may be is the ledger's to say.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from playground.errors import RequestRefused
from playground.limits.limits import Limits
from playground.text_format import spelled_duration

Via = Literal["chat", "compare", "fit", "models", "learn", "api", ""]  # the tab, or the API for programs
Work = Literal["reply", "comparison", "load", "making", "control", "scoring", "measurement"]
StoppedBy = Literal["person", "time", "shutdown"]
LAB: Final[tuple[Work, ...]] = ("making", "control", "scoring", "measurement")

GRACE_SECONDS: Final = 5.0  # for a run that was stopped to end by itself


@dataclass(frozen=True)
class Visitor:
    """One open page, and where on it something was asked for.

    `address` is "" where it tells nobody apart: then the page counts as a person of its own.
    """

    tab: str
    address: str = ""
    via: Via = ""

    @property
    def person(self) -> str:
        return self.address or f"tab {self.tab}"

    @property
    def short_id(self) -> str:
        """Tells pages apart in the log; neither a page's name nor its address can be told from it."""
        return hashlib.sha256(self.tab.encode()).hexdigest()[:8]


class Run:
    """Something a visitor has under way. The one who does it asks `is_stopped` several times a second."""

    def __init__(
        self, visitor: Visitor, place: str, work: Work, about: object, limits: Limits, clock: Callable[[], float]
    ) -> None:
        self.visitor, self.place, self.work, self.about = visitor, place, work, about
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._owned: list[Callable[[], object]] = []
        self._stopped_at: float | None = None
        self._ended_by_us: RequestRefused | None = None
        self.is_waiting = work not in LAB
        self._until = clock() + (limits.wait_seconds if self.is_waiting else limits.lab_seconds)

    def stop(self, why: RequestRefused | None = None) -> None:
        """why: what to tell its person, where it was not they who ended it."""
        with self._lock:
            if self._stopped_at is None:
                self._stopped_at, self._ended_by_us = self._clock(), why

    def is_stopped(self) -> bool:
        """Whether it should end now: somebody stopped it, its page is gone, or its time is over."""
        return self._stopped_at is not None or self._clock() >= self._until

    def waits(self) -> None:
        """What it has to wait for begins only now: the time for waiting counts anew."""
        with self._lock:
            if self.is_waiting:
                self._until = self._clock() + self._limits.wait_seconds

    def works(self) -> None:
        """The waiting is over; from the first call on the time for the work itself counts."""
        with self._lock:
            if self.is_waiting:
                self.is_waiting = False
                self._until = self._clock() + self._longest

    @property
    def ended_by(self) -> StoppedBy:
        """Who broke it off, once it is stopped."""
        if self._ended_by_us:
            return "shutdown"
        return "person" if self._stopped_at is not None else "time"

    @property
    def overdue(self) -> RequestRefused | None:
        """What to tell a person whose run was ended by the time alone, or by the end of the playground."""
        if self._ended_by_us:
            return self._ended_by_us
        if self._stopped_at is not None or not self.is_stopped():
            return None
        if self.is_waiting:
            waited = spelled_duration(self._limits.wait_seconds)
            return RequestRefused(
                f"Nothing came free within {waited}, the longest wait here.",
                "Try again later, or use a model that is loaded.",
                setting="max_wait_seconds",
            )
        if self.work in LAB:
            most = spelled_duration(self._limits.lab_seconds)
            return RequestRefused(
                f"This was ended after {most}, the longest one may take here.",
                "Try a smaller one.",
                setting="max_lab_seconds",
            )
        what = "comparison" if self.work == "comparison" else "reply"
        return RequestRefused(
            f"The {what} was ended after {spelled_duration(self._longest)}, the longest it may take here.",
            "What was written is kept; ask the model to go on.",
            setting="max_reply_seconds",
        )

    @property
    def _longest(self) -> float:
        """Seconds for the work itself: a comparison is two replies."""
        return (2 if self.work == "comparison" else 1) * self._limits.reply_seconds

    def owns(self, give_back: Callable[[], object]) -> None:
        """What the run holds: given back in its place, from another thread, if it does not end when it should."""
        with self._lock:
            self._owned.append(give_back)

    def owns_generator(self, generator: Generator[object, Any, object]) -> None:
        """The same for what a generator holds; one that runs at that moment ends by itself."""

        def close() -> None:
            with suppress(ValueError):
                generator.close()

        self.owns(close)

    def is_abandoned(self) -> bool:
        """Whether it was stopped a while ago and still has not ended."""
        ended_at = self._stopped_at if self._stopped_at is not None else self._until
        return self._clock() >= ended_at + GRACE_SECONDS

    def give_back(self) -> None:
        with self._lock:
            owned, self._owned = self._owned, []
        for each in reversed(owned):
            each()
