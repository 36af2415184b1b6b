"""What every visitor has under way: fair shares, an end for each run, and nothing left behind when a page is gone.

Knows no page, no model and no work itself: whoever works for a visitor does it inside `with visits.running(...)`
and asks the run (run.py) now and then whether it should end. Several pages at one network address are one person, and
shares are counted by person. What a run holds the ledger gives back in its place where it does not end by itself.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

from playground.errors import RequestRefused
from playground.limits.addresses import address_of
from playground.limits.limits import Limits
from playground.limits.run import GRACE_SECONDS, LAB, Run, Via, Visitor, Work
from playground.settings import Settings
from playground.text_format import counted

__all__ = ["GRACE_SECONDS", "LAB", "Run", "Runs", "Via", "Visitor", "Work"]

_SWEEP_SECONDS: Final = 1.0
_HOUR: Final = 3600.0

_BUSY: Final[dict[str, tuple[str, str]]] = {
    "chat": ("This chat is still busy.", "Wait for the reply, or stop it first."),
    "comparison": ("This comparison is still busy.", "Wait for the answers, or stop it first."),
    "making": ("This page is making a level already.", "Wait until it is done, or stop it first."),
}
_BUSY_ELSE: Final = ("This is still busy.", "Wait until it is done, or stop it first.")


class Runs:
    """The ledger of all runs; thread-safe. `close` stops whatever runs and takes nothing more."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        proxies: int = 0,
        on_space: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self._proxies, self._on_space = proxies, on_space
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Condition(self._lock)
        self._runs: list[Run] = []
        self._numbers = itertools.count(1)
        self._results: dict[str, tuple[float, ...]] = {}
        self._downloads: dict[str, str] = {}  # id -> person
        self._sweeper: threading.Thread | None = None
        self._closed = threading.Event()

    @classmethod
    def of(cls, settings: Settings) -> Runs:
        return cls(Limits.of(settings), proxies=settings.proxies, on_space=settings.on_space)

    def visitor(self, tab: str, peer: str | None = None, forwarded_for: str = "", via: Via = "") -> Visitor:
        """The visitor behind a request: its page, the address it came from, and its X-Forwarded-For header."""
        return Visitor(tab, address_of(peer, forwarded_for, proxies=self._proxies, on_space=self._on_space), via)

    # --- runs ---

    @contextmanager
    def running(self, visitor: Visitor, work: Work, place: str = "chat", about: object = None) -> Iterator[Run]:
        """One thing at a time in each place of a page, and no more than a fair share for each person.

        about: lab runs about the same thing are one run that several wait for. Raises RequestRefused with what to do.
        """
        run = Run(visitor, place, work, about if about is not None else next(self._numbers), self.limits, self._clock)
        with self._lock:
            self._admit(run)
            self._runs.append(run)
            self._keep_sweeping()
        try:
            yield run
        finally:
            self._forget(run)

    def stop(self, visitor: Visitor, place: str, *, if_waiting: bool = False) -> None:
        """End what this page has under way in this place, within one update; or only if it still waits."""
        for run in self._of_tab(visitor.tab):
            if run.place == place and (run.is_waiting or not if_waiting):
                run.stop()

    def leave(self, tab: str) -> None:
        """The page is gone: everything it has under way ends, whether or not anybody is left to end it."""
        for run in self._of_tab(tab):
            run.stop()

    def sweep(self) -> None:
        """Give back what abandoned runs hold."""
        with self._lock:
            abandoned = [run for run in self._runs if run.is_abandoned()]
        for run in abandoned:
            self._forget(run)
            run.give_back()

    def under_way(self) -> Counter[Work]:
        """How many runs there are of each kind."""
        with self._lock:
            return Counter(run.work for run in self._runs)

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            runs, sweeper = list(self._runs), self._sweeper
        for run in runs:
            is_written = run.work in ("reply", "comparison")
            kept = "What was written is kept on this page." if is_written else "Start this again when it runs again."
            run.stop(RequestRefused("The playground is shutting down.", kept))
        if sweeper:
            sweeper.join(timeout=5)

    def wait_until_idle(self, seconds: float) -> None:
        """Return when nothing runs any more, or when the time is over."""
        with self._ended:
            self._ended.wait_for(lambda: not self._runs, seconds)

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is not a run ---

    def check_reply_length(self, tokens: int) -> None:
        """Raises RequestRefused for a reply that may become longer than is allowed here."""
        if tokens > self.limits.reply_tokens:
            raise RequestRefused(
                f"A reply may have up to {self.limits.reply_tokens:,} tokens here; {tokens:,} were asked for.",
                "Choose a shorter one.",
                setting="max_reply_tokens",
            )

    def add_result(self, visitor: Visitor) -> None:
        """One more result to be stored (a vote, a measurement) for this person; raises RequestRefused for too many."""
        now, most = self._clock(), self.limits.results_each_an_hour
        with self._lock:
            self._results = {
                person: recent
                for person, times in self._results.items()
                if (recent := tuple(moment for moment in times if moment > now - _HOUR))
            }
            mine = self._results.get(visitor.person, ())
            if len(mine) >= most:
                raise RequestRefused(
                    f"You have given {counted(most, 'vote or result', 'votes and results')} within an hour, the most "
                    "for one visitor here.",
                    "Go on later.",
                    setting="max_results_per_visitor_an_hour",
                )
            self._results[visitor.person] = (*mine, now)

    def add_download(self, visitor: Visitor, id: str, unfinished: Collection[str]) -> None:
        """One more download for this person, given those that have not ended; raises RequestRefused for too many."""
        with self._lock:
            self._downloads = {known: person for known, person in self._downloads.items() if known in unfinished}
            if id in unfinished:
                return
            if len(unfinished) >= self.limits.downloads:
                raise RequestRefused(
                    f"{counted(len(unfinished), 'download')} are under way or wait, the most at once here.",
                    "Try again when one has ended.",
                    setting="max_downloads",
                )
            mine = sum(person == visitor.person for person in self._downloads.values())
            if mine >= self.limits.downloads_each:
                raise RequestRefused(
                    f"You have {counted(mine, 'download')} under way, the most for one visitor here.",
                    "Wait until one has ended, or cancel it.",
                    setting="max_downloads_per_visitor",
                )
            self._downloads[id] = visitor.person

    def check_download_is_mine(self, visitor: Visitor, id: str) -> None:
        """Raises RequestRefused where another person is known to have begun this download."""
        with self._lock:
            owner = self._downloads.get(id, visitor.person)
        if owner != visitor.person:
            raise RequestRefused("Another visitor began this download.", "It is theirs to end.")

    # --- how it goes ---

    def _admit(self, run: Run) -> None:
        if self._closed.is_set():
            raise RequestRefused("The playground is shutting down.", "Come back when it runs again.")
        if any(other.visitor.tab == run.visitor.tab and other.place == run.place for other in self._runs):
            raise RequestRefused(*_BUSY.get(run.place.split(" ")[0], _BUSY_ELSE))
        is_lab = run.work in LAB
        same = [other for other in self._runs if (other.work in LAB) == is_lab]
        mine = sum(other.visitor.person == run.visitor.person for other in same)
        limits = self.limits
        if is_lab:
            distinct = {other.about for other in same} - {run.about}
            _check(
                mine, limits.lab_runs_each, len(distinct), limits.lab_runs, "lab run", "are under way", "max_lab_runs"
            )
        else:
            _check(
                mine, limits.replies_each, len(same), limits.replies, "reply", "are being written or wait",
                "max_replies",
            )  # fmt: skip

    def _forget(self, run: Run) -> None:
        with self._lock:
            self._runs = [other for other in self._runs if other is not run]
            self._ended.notify_all()

    def _of_tab(self, tab: str) -> list[Run]:
        with self._lock:
            return [run for run in self._runs if run.visitor.tab == tab]

    def _keep_sweeping(self) -> None:
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep, daemon=True, name="visits")
            self._sweeper.start()

    def _sweep(self) -> None:
        while not self._closed.wait(_SWEEP_SECONDS):
            self.sweep()
            with self._lock:
                if not self._runs:
                    self._sweeper = None
                    return


def _check(mine: int, most_each: int, all_of_them: int, most: int, noun: str, are: str, setting: str) -> None:
    if mine >= most_each:
        raise RequestRefused(
            f"You have {counted(mine, noun)} under way, the most for one visitor here; pages at one address count "
            "together.",
            "Wait until one has ended, or stop it.",
            setting=f"{setting}_per_visitor",
        )
    if all_of_them >= most:
        raise RequestRefused(
            f"The playground is full: {counted(all_of_them, noun)} {are}.", "Try again in a minute.", setting=setting
        )
