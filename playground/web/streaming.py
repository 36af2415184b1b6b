"""Streams a long piece of work to the page through three Gradio events in a row, so that fast updates stay cheap.

At every yield Gradio visits each output of the event, changed or not. A reply changes three of twenty outputs several
times a second, on the cores that the model decodes with. So the work begins in an event that may change everything,
goes on in one whose only outputs are those that grow, and ends in one that may change everything again.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, Literal

import gradio as gr

Updates = dict[Any, Any]  # what an event changes, by component
Values = Mapping[Any, Any]  # the value of each input, by component: what Gradio hands over where inputs are a set

_HIDDEN: Final[dict[str, Any]] = {"show_progress": "hidden", "concurrency_limit": None, "api_visibility": "private"}


class _Work:
    """The updates of one piece of work, with a look at the next one to see to which event it belongs."""

    def __init__(self, updates: Iterator[Updates]) -> None:
        self._updates = updates
        self._next: Updates | None = None
        self.is_over = False

    def take_while(self, belongs: Callable[[Updates], bool]) -> Iterator[Updates]:
        """Updates as long as they belong to this event; the first that does not is kept for the next one."""
        while True:
            update = self._next if self._next is not None else next(self._updates, None)
            self._next = update
            self.is_over = update is None
            if update is None or not belongs(update):
                return
            self._next = None
            yield update

    def close(self) -> None:
        if close := getattr(self._updates, "close", None):
            close()


class Streaming:
    """Hands work from event to event. Work that no event takes up in time is ended, because its page is gone.

    take_up_seconds: how long a browser may need to start the next event.
    """

    def __init__(self, take_up_seconds: float = 15) -> None:
        self._take_up_seconds = take_up_seconds
        self._between: dict[tuple[str, int], tuple[_Work, threading.Timer]] = {}  # by session and wiring
        self._lock = threading.Lock()
        self._wirings = 0

    @property
    def is_between_events(self) -> bool:
        """Whether some page has still to ask for the rest of its work."""
        with self._lock:
            return bool(self._between)

    def wire(
        self,
        triggers: Sequence[Callable[..., Any]],
        work: Callable[..., Iterator[Updates]],
        inputs: Collection[Any],
        outputs: Sequence[Any],
        growing: Sequence[Any],
        js: str | None = None,
        newest_wins: bool = False,
    ) -> Any:
        """Wire `work(request, *inputs)` to the triggers; returns the last event, to continue from with `then`.

        inputs: as Gradio takes them; of a set, `work` gets one dict of the values by component.
        growing: those of the outputs that an update may touch many times a second. js: gives the inputs in the browser.
        newest_wins: a trigger counts while work of an earlier one is under way, and takes its place.
            Else it is ignored.
        """
        self._wirings += 1
        number = self._wirings
        few = frozenset(growing)

        def is_growth(update: Updates) -> bool:
            return update.keys() <= few

        # Gradio passes the request where the signature names it, which has to be before the open end.
        def begin(request: gr.Request, *values: Any) -> Iterator[Updates]:
            begun = _Work(work(request, *values))
            session = _session_of(request)
            if newest_wins and (earlier := self._take_up(session, number)):
                earlier.close()
            yield from self._run_event(session, number, begun, lambda update: not is_growth(update), newest_wins)

        def grow(request: gr.Request) -> Iterator[Updates]:
            yield from self._run_event(_session_of(request), number, None, is_growth)

        def end(request: gr.Request) -> Iterator[Updates]:
            yield from self._run_event(_session_of(request), number, None, lambda update: True)

        taken = inputs if isinstance(inputs, set) else list(inputs)
        mode: Literal["multiple", "once"] = "multiple" if newest_wins else "once"
        begun = gr.on(list(triggers), begin, taken, list(outputs), js=js, trigger_mode=mode, **_HIDDEN)
        return begun.then(grow, None, list(growing), **_HIDDEN).then(end, None, list(outputs), **_HIDDEN)

    def end_session(self, session: str) -> None:
        """A page is closed: end its work that is between two events now, so that it releases its share at once."""
        with self._lock:
            places = [place for place in self._between if place[0] == session]
        for _, number in places:
            if work := self._take_up(session, number):
                work.close()

    def _run_event(
        self,
        session: str,
        number: int,
        work: _Work | None,
        belongs: Callable[[Updates], bool],
        newest_wins: bool = False,
    ) -> Iterator[Updates]:
        """One event's part of the work. If the page goes away in the middle of it, the work ends."""
        work = work or self._take_up(session, number)
        if work is None:
            return
        handed_on = False
        try:
            yield from work.take_while(belongs)
            if not work.is_over:
                if newest_wins and (earlier := self._take_up(session, number)):
                    earlier.close()
                handed_on = self._hand_on(session, number, work)
        finally:
            if not handed_on:
                work.close()

    def _hand_on(self, session: str, number: int, work: _Work) -> bool:
        """Keep the work for the page's next event; False if other work of the same page is kept there already."""
        timer = threading.Timer(self._take_up_seconds, self._end_if_kept, (session, number, work))
        timer.daemon = True
        with self._lock:
            if (session, number) in self._between:
                return False
            self._between[session, number] = (work, timer)
        timer.start()
        return True

    def _take_up(self, session: str, number: int) -> _Work | None:
        with self._lock:
            work, timer = self._between.pop((session, number), (None, None))
        if timer:
            timer.cancel()
        return work

    def _end_if_kept(self, session: str, number: int, work: _Work) -> None:
        with self._lock:
            kept, _ = self._between.get((session, number), (None, None))
            if kept is not work:
                return
            del self._between[session, number]
        work.close()


def _session_of(request: gr.Request) -> str:
    return str(request.session_hash)


def what_is_new(*parts: tuple[Any, Any]) -> Updates:
    """The pairs of a component and its new value, without those whose value is None: they stay as they are."""
    return {component: value for component, value in parts if value is not None}


def never_empty(generator: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """The generator with one update that changes nothing where it would yield none.

    Gradio empties every output of an event that yields nothing, the labels of buttons included.
    """

    @functools.wraps(generator)
    def wrapped(*values: Any) -> Iterator[Any]:
        has_yielded = False
        with closing(generator(*values)) as updates:
            for update in updates:
                has_yielded = True
                yield update
        if not has_yielded:
            yield gr.skip()

    return wrapped
