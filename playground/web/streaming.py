"""A long piece of work told to the page through three Gradio events in a row, so that what grows has few outputs.

At every yield Gradio visits each output of the event, changed or not, and a reply changes three of twenty several
times a second, on the cores that the model decodes with. So the work begins in an event that may change everything,
goes on in one that only touches what grows, and ends in one that may change everything again. Knows nothing of what is
told.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import gradio as gr

Updates = dict[Any, Any]  # what an event changes, by component
Values = Mapping[Any, Any]  # the value of each input, by component: what Gradio hands over where inputs are a set

_HIDDEN: Final[dict[str, Any]] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}


class _Work:
    """Updates under way, with the one that was looked at and belongs to the next event."""

    def __init__(self, updates: Iterator[Updates]) -> None:
        self._updates = updates
        self._next: Updates | None = None
        self.is_over = False

    def while_it(self, wanted: Callable[[Updates], bool]) -> Iterator[Updates]:
        """Updates as long as they are wanted; the first that is not waits for the next call."""
        while True:
            update = self._next if self._next is not None else next(self._updates, None)
            self._next = update
            self.is_over = update is None
            if update is None or not wanted(update):
                return
            self._next = None
            yield update

    def close(self) -> None:
        if close := getattr(self._updates, "close", None):
            close()


class Streaming:
    """Passes work from event to event. What no event takes up within some seconds is ended: its page is gone."""

    def __init__(self, taken_within_seconds: float = 15) -> None:
        self._taken_within_seconds = taken_within_seconds
        self._between: dict[tuple[str, int], tuple[_Work, threading.Timer]] = {}
        self._lock = threading.Lock()
        self._wired = 0

    @property
    def is_passing(self) -> bool:
        """Whether some work is between two events: its page has still to ask for the rest."""
        with self._lock:
            return bool(self._between)

    def wire(
        self,
        triggers: Sequence[Callable[..., Any]],
        work: Callable[..., Iterator[Updates]],
        inputs: Collection[Any],
        outputs: Sequence[Any],
        growing: Sequence[Any],
    ) -> Any:
        """Wire `work(request, *inputs)` to the triggers; returns the last event, to go on from with `then`.

        inputs: as Gradio takes them; of a set, `work` gets one dict of the values by component.
        growing: those of the outputs that an update may touch many times a second.
        """
        self._wired += 1
        number = self._wired
        few = frozenset(growing)

        def is_growth(update: Updates) -> bool:
            return update.keys() <= few

        # Gradio puts the request where the signature names it: before the open end.
        def begin(request: gr.Request, *values: Any) -> Iterator[Updates]:
            begun = _Work(work(request, *values))
            yield from self._leg(session_of(request), number, begun, lambda update: not is_growth(update))

        def grow(request: gr.Request) -> Iterator[Updates]:
            yield from self._leg(session_of(request), number, None, is_growth)

        def end(request: gr.Request) -> Iterator[Updates]:
            yield from self._leg(session_of(request), number, None, lambda update: True)

        taken = inputs if isinstance(inputs, set) else list(inputs)
        begun = gr.on(list(triggers), begin, taken, list(outputs), **_HIDDEN)
        return begun.then(grow, None, list(growing), **_HIDDEN).then(end, None, list(outputs), **_HIDDEN)

    def leave(self, session: str) -> None:
        """A page is closed: what waits for its next event ends now, so that it does not hold its share until missed."""
        with self._lock:
            places = [place for place in self._between if place[0] == session]
        for _, number in places:
            if work := self._take(session, number):
                work.close()

    def _leg(
        self, session: str, number: int, work: _Work | None, wanted: Callable[[Updates], bool]
    ) -> Iterator[Updates]:
        """One event's part of the work; a page that goes away in the middle of it ends the work."""
        work = work or self._take(session, number)
        if work is None:
            return
        passed_on = False
        try:
            yield from work.while_it(wanted)
            if not work.is_over:
                passed_on = self._put(session, number, work)
        finally:
            if not passed_on:
                work.close()

    def _put(self, session: str, number: int, work: _Work) -> bool:
        """False when the place is held by other work, which has the right of way."""
        timer = threading.Timer(self._taken_within_seconds, self._give_up, (session, number, work))
        timer.daemon = True
        with self._lock:
            if (session, number) in self._between:
                return False
            self._between[session, number] = (work, timer)
        timer.start()
        return True

    def _take(self, session: str, number: int) -> _Work | None:
        with self._lock:
            work, timer = self._between.pop((session, number), (None, None))
        if timer:
            timer.cancel()
        return work

    def _give_up(self, session: str, number: int, work: _Work) -> None:
        with self._lock:
            waiting, _ = self._between.get((session, number), (None, None))
            if waiting is not work:
                return
            del self._between[session, number]
        work.close()


def session_of(request: gr.Request) -> str:
    """One open page, as long as it is open."""
    return str(request.session_hash)


def what_is_new(*parts: tuple[Any, Any]) -> dict[Any, Any]:
    """Of pairs of a component and its value, those that have one; None leaves a component as it is."""
    return {component: value for component, value in parts if value is not None}


def never_empty(generator: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """The event's function with one update that changes nothing where it would yield none.

    Gradio empties every output of a generator that yields nothing, the labels of buttons included.
    """

    @functools.wraps(generator)
    def told(*values: Any) -> Iterator[Any]:
        is_told = False
        with closing(generator(*values)) as updates:
            for update in updates:
                is_told = True
                yield update
        if not is_told:
            yield gr.skip()

    return told
