"""Work that is streamed to the page through three events in a row."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from playground.web.streaming import Streaming, never_empty

WAIT_SECONDS = 10


class Wired:
    """The three events of streamed work, on a page with a button, a line that grows and a sum that does not."""

    def __init__(self, work: Callable[[Wired], Iterator[dict[Any, Any]]], streaming: Streaming | None = None) -> None:
        with gr.Blocks() as page:
            button, self.line, self.sum = gr.Button(), gr.HTML(), gr.HTML()
            start = lambda request: work(self)  # noqa: E731
            (streaming or Streaming()).wire([button.click], start, [], [self.line, self.sum], [self.line])
        self._events: list[Any] = [event.fn for event in page.fns.values()]

    def event(self, number: int, session: str = "a") -> Iterator[dict[Any, Any]]:
        updates: Iterator[dict[Any, Any]] = self._events[number](gr.Request(session_hash=session))
        return updates


def reply(page: Wired) -> Iterator[dict[Any, Any]]:
    yield {page.line: "", page.sum: "begins"}
    yield {page.line: "one"}
    yield {page.line: "one two"}
    yield {page.line: "one two", page.sum: "ends"}


def test_what_grows_comes_from_the_event_with_few_outputs() -> None:
    page = Wired(reply)
    begin, grow, end = (list(page.event(number)) for number in range(3))
    assert begin == [{page.line: "", page.sum: "begins"}]
    assert grow == [{page.line: "one"}, {page.line: "one two"}]
    assert end == [{page.line: "one two", page.sum: "ends"}]


def test_two_pages_do_not_take_up_each_others_work() -> None:
    page = Wired(reply)
    list(page.event(0, "a"))
    assert list(page.event(1, "b")) == []
    assert len(list(page.event(1, "a"))) == 2


def test_a_page_that_goes_away_ends_its_work() -> None:
    ended = threading.Event()

    def work(page: Wired) -> Iterator[dict[Any, Any]]:
        try:
            yield from reply(page)
        finally:
            ended.set()

    page = Wired(work)
    list(page.event(0))
    growing = page.event(1)
    next(growing)
    growing.close()  # type: ignore[attr-defined]
    assert ended.is_set()


def test_work_that_no_event_takes_up_is_ended() -> None:
    ended = threading.Event()

    def work(page: Wired) -> Iterator[dict[Any, Any]]:
        try:
            yield from reply(page)
        finally:
            ended.set()

    list(Wired(work, Streaming(take_up_seconds=0)).event(0))
    assert ended.wait(WAIT_SECONDS)


def test_closing_a_page_ends_its_work_between_two_events_and_no_other() -> None:
    ended: list[str] = []
    streaming = Streaming()

    def work(page: Wired) -> Iterator[dict[Any, Any]]:
        try:
            yield from reply(page)
        finally:
            ended.append("work")

    page = Wired(work, streaming)
    list(page.event(0, "closed"))
    list(page.event(0, "open"))
    streaming.end_session("closed")
    assert ended == ["work"]
    assert list(page.event(1, "closed")) == [] and len(list(page.event(1, "open"))) == 2


def test_a_second_start_that_is_refused_leaves_the_first_alone() -> None:
    def refused(page: Wired) -> Iterator[dict[Any, Any]]:
        yield {page.sum: "still busy"}

    starts = iter([reply, refused])
    page = Wired(lambda page: next(starts)(page))
    list(page.event(0))
    assert list(page.event(0)) == [{page.sum: "still busy"}]
    assert len(list(page.event(1))) == 2
    assert len(list(page.event(2))) == 1


def test_an_event_without_updates_changes_nothing() -> None:
    def overtaken(request: gr.Request) -> Iterator[list[str]]:
        yield from ()

    assert list(never_empty(overtaken)(gr.Request())) == [gr.skip()]
    assert inspect.isgeneratorfunction(never_empty(overtaken))


def test_an_event_with_updates_yields_just_these_and_closes_its_work() -> None:
    ended = []

    def redraw() -> Iterator[str]:
        try:
            yield "one"
            yield "two"
        finally:
            ended.append(True)

    assert list(never_empty(redraw)()) == ["one", "two"]
    ended.clear()
    left = never_empty(redraw)()
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert ended == [True]
