"""What all visitors have under way: fair shares, a time limit for each run, and nothing left over from closed pages.

Work for a visitor is done inside `with runs.start_run(...) as run`, and asks `run.is_stopped()` now and then. Several
sessions at one network address count as one person, and shares are counted by person.
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
from playground.limits.limits import Limits
from playground.limits.run import LAB_WORK, Run, Work
from playground.limits.visitor import Via, Visitor, address_of
from playground.settings import Settings
from playground.text_format import counted

_LOOK_SECONDS: Final = 1.0  # between two looks for abandoned runs
_HOUR_SECONDS: Final = 3600.0

_BUSY: Final[dict[str, tuple[str, str]]] = {
    "chat": ("This chat is still busy.", "Wait for the reply, or stop it first."),
    "comparison": ("This comparison is still busy.", "Wait for the answers, or stop it first."),
    "making": ("This page is already making a level.", "Wait until it is finished, or stop it first."),
}
_BUSY_ELSEWHERE: Final = ("This is still busy.", "Wait until it is finished, or stop it first.")


class Runs:
    """All runs of all visitors; thread-safe. `close` stops every run and refuses new ones.

    proxies, on_space: how to find a visitor's address, see visitor.py.
    """

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
        self._run_ended = threading.Condition(self._lock)
        self._runs: list[Run] = []
        self._numbers = itertools.count(1)
        self._result_times: dict[str, tuple[float, ...]] = {}  # by person, within the last hour
        self._downloads: dict[str, str] = {}  # id -> person
        self._watcher: threading.Thread | None = None
        self._closed = threading.Event()

    @classmethod
    def from_settings(cls, settings: Settings) -> Runs:
        return cls(Limits.from_settings(settings), proxies=settings.proxies, on_space=settings.on_space)

    def identify_visitor(
        self, session: str, peer: str | None = None, forwarded_for: str = "", via: Via = ""
    ) -> Visitor:
        """The visitor behind a request: its session, the connecting address, and its X-Forwarded-For header."""
        return Visitor(session, address_of(peer, forwarded_for, proxies=self._proxies, on_space=self._on_space), via)

    # --- runs ---

    @contextmanager
    def start_run(
        self,
        visitor: Visitor,
        work: Work,
        place: str = "chat",
        about: object = None,
        *,
        absence_seconds: float = 0.0,
    ) -> Iterator[Run]:
        """A run inside the visitor's share. Raises RequestRefused for too many.

        place: where on the page; each place of a session has one run at a time. about: lab runs about the same thing
        (several visitors who wait for one level to be made) count as one run towards the limit for all.
        absence_seconds: how long the run goes on, and counts, after its page was closed.
        """
        about = about if about is not None else next(self._numbers)
        run = Run(visitor, place, work, about, self.limits, self._clock, absence_seconds)
        with self._lock:
            self._check_shares(run)
            self._runs.append(run)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch_until_idle, daemon=True, name="runs")
                self._watcher.start()
        try:
            yield run
        finally:
            self._remove_run(run)

    def stop_run(self, visitor: Visitor, place: str, *, only_if_waiting: bool = False) -> None:
        """Ask what this session has under way in this place to end."""
        for run in self._runs_of(visitor.session):
            if run.place == place and (run.is_waiting or not only_if_waiting):
                run.request_stop()

    def end_session(self, session: str) -> None:
        """The page is closed: everything it has under way ends, now or when it may not wait for the page any longer."""
        for run in self._runs_of(session):
            run.leave()

    def release_abandoned_runs(self) -> None:
        """Remove runs that were stopped but did not end, and release what they hold."""
        with self._lock:
            abandoned = [run for run in self._runs if run.is_abandoned()]
        for run in abandoned:
            self._remove_run(run)
            run.release_resources()

    def count_runs(self) -> Counter[Work]:
        """How many runs of each kind there are."""
        with self._lock:
            return Counter(run.work for run in self._runs)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            runs, watcher = list(self._runs), self._watcher
        for run in runs:
            is_written = run.work in ("reply", "comparison")
            remedy = "What was written is kept on this page." if is_written else "Start this again when it is back."
            run.request_stop(RequestRefused("The playground is shutting down.", remedy))
        if watcher:
            watcher.join(timeout=5)

    def wait_until_idle(self, seconds: float) -> None:
        """Return when there is no run any more, or after this time."""
        with self._run_ended:
            self._run_ended.wait_for(lambda: not self._runs, seconds)

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_until_free(self, visitor: Visitor, place: str, seconds: float) -> None:
        """Return when this session has nothing under way in this place any more, or after this time."""

        def is_free() -> bool:
            return not any(run.visitor.session == visitor.session and run.place == place for run in self._runs)

        with self._run_ended:
            self._run_ended.wait_for(is_free, seconds)

    # --- limits that are not about runs ---

    def check_reply_length(self, tokens: int) -> None:
        """Raises RequestRefused for a longer reply than is allowed here."""
        if tokens > self.limits.reply_tokens:
            raise RequestRefused(
                f"A reply may have up to {self.limits.reply_tokens:,} tokens here; {tokens:,} were asked for.",
                "Choose a shorter one.",
                setting="max_reply_tokens",
            )

    def add_result(self, visitor: Visitor) -> None:
        """Count one more stored result (a vote, a measurement) of this person. Raises RequestRefused for too many."""
        now, most = self._clock(), self.limits.results_each_an_hour
        with self._lock:
            self._result_times = {
                person: recent
                for person, times in self._result_times.items()
                if (recent := tuple(moment for moment in times if moment > now - _HOUR_SECONDS))
            }
            own = self._result_times.get(visitor.person, ())
            if len(own) >= most:
                raise RequestRefused(
                    f"You have given {counted(most, 'vote or result', 'votes and results')} within an hour, the most "
                    "for one visitor here.",
                    "Continue later.",
                    setting="max_results_per_visitor_an_hour",
                )
            self._result_times[visitor.person] = (*own, now)

    def add_download(self, visitor: Visitor, id: str, unfinished: Collection[str]) -> None:
        """Count one more download of this person. Raises RequestRefused for too many.

        unfinished: the ids of all downloads that are waiting or under way.
        """
        with self._lock:
            self._downloads = {known: person for known, person in self._downloads.items() if known in unfinished}
            if id in unfinished:
                return
            if len(unfinished) >= self.limits.downloads:
                raise RequestRefused(
                    f"{counted(len(unfinished), 'download')} are waiting or under way, the most at once here.",
                    "Try again when one has finished.",
                    setting="max_downloads",
                )
            own = sum(person == visitor.person for person in self._downloads.values())
            if own >= self.limits.downloads_each:
                raise RequestRefused(
                    f"You have {counted(own, 'download')} under way, the most for one visitor here.",
                    "Wait until one has finished, or cancel it.",
                    setting="max_downloads_per_visitor",
                )
            self._downloads[id] = visitor.person

    def check_download_owner(self, visitor: Visitor, id: str) -> None:
        """Raises RequestRefused if another person is known to have started this download."""
        with self._lock:
            owner = self._downloads.get(id, visitor.person)
        if owner != visitor.person:
            raise RequestRefused("Another visitor started this download.", "Only they can change it.")

    # --- inside ---

    def _check_shares(self, run: Run) -> None:
        if self._closed.is_set():
            raise RequestRefused("The playground is shutting down.", "Come back when it runs again.")
        if any(other.visitor.session == run.visitor.session and other.place == run.place for other in self._runs):
            raise RequestRefused(*_BUSY.get(run.place.split(" ")[0], _BUSY_ELSEWHERE))
        limits = self.limits
        if run.work in LAB_WORK:
            others = [other for other in self._runs if other.work in LAB_WORK]
            nouns = ("measurement or quantization", "measurements or quantizations")
            _check_own_share(run, others, limits.lab_runs_each, nouns, "max_lab_runs_per_visitor")
            total = len({other.about for other in others} - {run.about})
            if total >= limits.lab_runs:
                raise _full(f"{counted(total, *nouns)} are under way", "max_lab_runs")
        else:
            others = [other for other in self._runs if other.work not in LAB_WORK]
            _check_own_share(run, others, limits.replies_each, ("reply", "replies"), "max_replies_per_visitor")
            if len(others) >= limits.replies:
                raise _full(f"{counted(len(others), 'reply')} are being written or wait", "max_replies")

    def _remove_run(self, run: Run) -> None:
        with self._lock:
            self._runs = [other for other in self._runs if other is not run]
            self._run_ended.notify_all()

    def _runs_of(self, session: str) -> list[Run]:
        with self._lock:
            return [run for run in self._runs if run.visitor.session == session]

    def _watch_until_idle(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            self.release_abandoned_runs()
            with self._lock:
                if not self._runs:
                    self._watcher = None
                    return


def _check_own_share(run: Run, others: list[Run], most: int, nouns: tuple[str, str], setting: str) -> None:
    own = sum(other.visitor.person == run.visitor.person for other in others)
    if own >= most:
        raise RequestRefused(
            f"You have {counted(own, *nouns)} under way, the most for one visitor here; all pages from one "
            "network address count together.",
            "Wait until one has finished, or stop it.",
            setting=setting,
        )


def _full(reason: str, setting: str) -> RequestRefused:
    return RequestRefused(f"The playground is full: {reason}.", "Try again in a minute.", setting=setting)
