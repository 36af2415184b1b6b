"""What an event with nothing to tell does to the page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import gradio as gr

from playground.web.updates import never_empty


def test_an_event_that_tells_nothing_changes_nothing() -> None:
    def overtaken(request: gr.Request) -> Iterator[list[str]]:
        yield from ()

    assert list(never_empty(overtaken)(gr.Request())) == [gr.skip()]
    assert inspect.isgeneratorfunction(never_empty(overtaken))


def test_an_event_that_tells_something_tells_just_that_and_ends_with_its_page() -> None:
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
