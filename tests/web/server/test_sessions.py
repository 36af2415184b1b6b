"""What Gradio keeps of a page on the server, and that nothing of it outlives the page."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from gradio.routes import App
from starlette.testclient import TestClient

from playground.web.gradio_private import forget_session
from playground.web.server.request_filter import API
from playground.web.server.sessions import SessionMiddleware, Sessions

WAIT_SECONDS = 10
SOON = 0.05  # seconds
NEVER = 3600.0


@pytest.fixture
def page() -> gr.Blocks:
    page: gr.Blocks
    with gr.Blocks(analytics_enabled=False) as page:
        gr.State("a chat")
    App.create_app(page)
    return page


class Forgotten(OrderedDict[str, object]):
    """The sessions that Gradio keeps; tells when one of them is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.something = threading.Event()

    def pop(self, *which: object) -> object:
        self.something.set()
        return super().pop(*which)  # type: ignore[call-overload]


@pytest.fixture
def forgotten(page: gr.Blocks) -> threading.Event:
    page.state_holder.session_data = kept = Forgotten()  # type: ignore[assignment]
    return kept.something


def test_a_page_that_is_gone_is_forgotten_and_others_are_not(page: gr.Blocks) -> None:
    assert page.state_holder["gone"] and page.state_holder["stays"]
    forget_session(page, "gone")
    assert "gone" not in page.state_holder and "stays" in page.state_holder
    forget_session(page, "never seen")


def test_a_closed_page_that_was_still_in_use_when_its_time_came_is_forgotten_later(
    page: gr.Blocks, forgotten: threading.Event
) -> None:
    assert page.state_holder["closed"]
    page.state_holder.time_last_used["closed"] = datetime.now() + timedelta(seconds=0.2)
    sessions = Sessions(SOON, NEVER)
    sessions.watch_page(page)
    sessions.close_session("closed")
    assert forgotten.wait(WAIT_SECONDS) and "closed" not in page.state_holder


def test_a_closed_page_that_is_still_in_use_is_kept(page: gr.Blocks, forgotten: threading.Event) -> None:
    assert page.state_holder["used"] and page.state_holder["still"]
    page.state_holder.time_last_used["used"] = datetime.now() + timedelta(hours=1)
    sessions = Sessions(SOON, NEVER)
    sessions.watch_page(page)
    sessions.close_session("used")
    sessions.close_session("still")
    assert forgotten.wait(WAIT_SECONDS)
    assert "used" in page.state_holder and "still" not in page.state_holder


def test_a_session_whose_closing_fails_keeps_no_other_from_being_closed(
    page: gr.Blocks, forgotten: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def fails_once(session: str) -> None:
        tried.append(session)
        if len(tried) == 1:
            raise ValueError(session)
        both.set()

    tried: list[str] = []
    both = threading.Event()
    sessions = Sessions(SOON, SOON)
    sessions.watch_page(page, [fails_once])
    assert page.state_holder["one"] and page.state_holder["other"]
    sessions.start_watching()
    assert both.wait(WAIT_SECONDS) and {*tried} == {"one", "other"}
    assert forgotten.wait(WAIT_SECONDS)
    assert "could not be closed" in caplog.text


def test_a_page_that_is_held_open_needs_no_watching(page: gr.Blocks) -> None:
    sessions = Sessions(SOON, SOON)
    sessions.watch_page(page)
    with sessions.held_open("a page"):
        assert page.state_holder["a page"]
        before = {thread.ident for thread in threading.enumerate()}
        sessions.start_watching()
        assert {thread.ident for thread in threading.enumerate()} <= before


def test_a_session_that_no_page_holds_open_is_closed_once_it_is_still(
    page: gr.Blocks, forgotten: threading.Event
) -> None:
    closed: list[str] = []
    sessions = Sessions(SOON, SOON)
    sessions.watch_page(page, [closed.append])
    with sessions.held_open("a page"):
        assert page.state_holder["a page"] and page.state_holder["made up"]
        sessions.start_watching()
        assert forgotten.wait(WAIT_SECONDS)
        assert closed == ["made up"]
        assert "a page" in page.state_holder and "made up" not in page.state_holder


def test_every_callback_runs_for_a_closed_page_even_if_one_raises(page: gr.Blocks) -> None:
    def fails(session: str) -> None:
        raise ValueError(session)

    heard: list[str] = []
    sessions = Sessions(NEVER, NEVER)
    sessions.watch_page(page, [heard.append, fails, heard.append])
    with pytest.raises(ValueError, match="closed"):
        sessions.close_session("closed")
    assert heard == ["closed", "closed"]


def test_the_queue_keeps_nothing_of_a_page_that_is_forgotten(page: gr.Blocks) -> None:
    page._queue.pending_event_ids_session["gone"] = {"an event"}
    page._queue.pending_messages_per_session["gone"] = asyncio.Queue()
    forget_session(page, "gone")
    assert "gone" not in page._queue.pending_event_ids_session
    assert "gone" not in page._queue.pending_messages_per_session


def test_a_heartbeat_holds_its_session_open_until_it_ends(page: gr.Blocks, forgotten: threading.Event) -> None:
    closed: list[str] = []
    sessions = Sessions(SOON, SOON)
    sessions.watch_page(page, [closed.append])
    server = FastAPI()

    @server.get(f"{API}heartbeat/{{session}}")
    def heartbeat(session: str) -> StreamingResponse:
        def beat() -> Iterator[str]:
            assert page.state_holder[session] and page.state_holder["made up"]
            sessions.start_watching()
            yield "ALIVE" if forgotten.wait(WAIT_SECONDS) and closed == ["made up"] else f"closed: {closed}"
            forgotten.clear()

        return StreamingResponse(beat())

    server.add_middleware(SessionMiddleware, sessions=sessions)
    with TestClient(server) as client:
        assert client.get(f"{API}heartbeat/a-page").text == "ALIVE"
    assert forgotten.wait(WAIT_SECONDS) and closed == ["made up", "a-page"]


def test_answers_of_a_forgotten_session_end_without_an_error_of_the_server(page: gr.Blocks) -> None:
    sessions = Sessions(SOON, SOON)
    sessions.watch_page(page)
    server = App.create_app(page)
    server.add_middleware(SessionMiddleware, sessions=sessions)
    with TestClient(server) as client:
        answer = client.get(f"{API}queue/data", params={"session_hash": "made up"})
    assert answer.status_code == 200 and '"session_not_found":true' in answer.text.replace(" ", "")
