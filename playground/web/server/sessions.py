"""Gradio sessions: which pages are open, what is kept of them on the server, and how all of it ends.

A session is one open page, or one call of a program. Left alone, Gradio keeps the state of a closed page for an hour
and its configuration until thousands of others have come. A page that only lost its connection reloads when it is
back, and begins a new session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Final

import gradio as gr
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.limits.runs import Runs
from playground.limits.visitor import Via, Visitor
from playground.machine.malloc import release_free_pages
from playground.web.gradio_private import (
    forget_session,
    has_events_under_way,
    has_message_queue,
    has_unsent_messages,
    known_sessions,
    last_used,
)
from playground.web.server.request_filter import API
from playground.web.streaming import Streaming

FORGET_SECONDS: Final = 10.0  # from the closing of a page; what it still had under way has ended by then
STRAY_SECONDS: Final = 60.0  # without an event, for a session that no page holds open; a page opens its own within few
MAX_SESSIONS: Final = 2000  # beyond that the one that was not used for the longest time loses its state
QUIET_SECONDS: Final = 0.5  # some round trips: a browser that asks for nothing more within them has all it wants
_LOOK_SECONDS: Final = 0.05
_HEARTBEAT: Final = f"{API}heartbeat/"
_MESSAGES: Final = f"{API}queue/data"

_LOG: Final = logging.getLogger(__name__)


def visitor_of(request: gr.Request, runs: Runs, via: Via) -> Visitor:
    """The visitor behind an event: the open page, its network address if that is known, and which tab."""
    client = request.client
    return runs.identify_visitor(
        str(request.session_hash),
        client.host if client else None,
        str(request.headers.get("x-forwarded-for") or ""),
        via,
    )


class Sessions:
    """Watches the sessions of one page, and forgets those that are over.

    A program can make up as many sessions as it likes. One that nobody holds open counts as closed when no event used
    it for `stray_seconds`. A closed session is forgotten `seconds` later, because what it had under way ends only then,
    and until then Gradio would begin to keep things of it again. One thread does this, and ends when nothing is left to
    forget; then free memory goes back to the system.
    """

    def __init__(self, seconds: float = FORGET_SECONDS, stray_seconds: float = STRAY_SECONDS) -> None:
        self._seconds, self._stray_seconds = seconds, stray_seconds
        self._page: gr.Blocks
        self._on_close: Sequence[Callable[[str], None]] = ()
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._due: dict[str, float] = {}  # session -> when to forget it
        self._watcher: threading.Thread | None = None

    def watch_page(self, page: gr.Blocks, on_close: Sequence[Callable[[str], None]] = ()) -> None:
        """Before the page is served. Each of `on_close` is called with a session whose page was closed."""
        self._page, self._on_close = page, on_close

    def is_known(self, session: str) -> bool:
        """Whether Gradio keeps messages for it."""
        return has_message_queue(self._page, session)

    @contextmanager
    def held_open(self, session: str) -> Iterator[None]:
        """For as long as a page, or a program, keeps its heartbeat going."""
        with self._lock:
            self._open[session] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= Counter((session,))
            self.start_watching()

    def close_session(self, session: str) -> None:
        """Its page is closed: call everyone who wants to know, even if one of them raises, and forget it soon."""
        self.forget_soon(session)
        with ExitStack() as stack:
            for on_close in self._on_close:
                stack.callback(on_close, session)

    def forget_soon(self, session: str) -> None:
        """Forget it unless more is asked in it: for a page that was closed, a program that has its answer."""
        with self._lock:
            self._due[session] = time.monotonic() + self._seconds
        self.start_watching()

    def start_watching(self) -> None:
        """Start the thread that forgets, unless it runs or there is nothing to forget."""
        with self._lock:
            if self._watcher is None and (self._due or self._strays()):
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="closed pages")
                self._watcher.start()

    def _watch(self) -> None:
        while True:
            time.sleep(self._seconds / 10)
            self._forget_due_sessions()
            self._close_unused_strays()
            with self._lock:
                if not self._due and not self._strays():
                    self._watcher = None
                    break
        release_free_pages()

    def _forget_due_sessions(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [session for session, moment in self._due.items() if moment <= now]
        for session in due:
            is_unused = self._is_unused(session, self._seconds / 2)
            if is_unused:
                forget_session(self._page, session)
            with self._lock:
                if is_unused:
                    self._due.pop(session, None)
                else:
                    self._due[session] = now + self._seconds / 2

    def _close_unused_strays(self) -> None:
        with self._lock:
            strays = self._strays()
        for session in strays:
            if self._is_unused(session, self._stray_seconds):
                try:
                    self.close_session(session)
                except Exception:  # the others have to be closed all the same
                    _LOG.exception("A session that nobody held open could not be closed.")

    def _strays(self) -> list[str]:
        """Sessions that nobody holds open and that are not due yet; the lock is held."""
        return [one for one in known_sessions(self._page) if not self._open[one] and one not in self._due]

    def _is_unused(self, session: str, seconds: float) -> bool:
        """Whether no event runs in it and none has used it for so long."""
        used = last_used(self._page, session)
        if used and (datetime.now() - used).total_seconds() < seconds:
            return False
        return not has_events_under_way(self._page, session)


class SessionMiddleware:
    """ASGI middleware behind the request filter: which sessions are held open, and which are asked for."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]) if scope["type"] == "http" else ""
        if path.startswith(_HEARTBEAT):
            with self._sessions.held_open(path.removeprefix(_HEARTBEAT)):
                await self._app(scope, receive, send)
        elif path == _MESSAGES:
            await self._send_messages(scope, receive, send)
        else:
            await self._app(scope, receive, send)
            if path.startswith(API) and scope["method"] == "POST":
                self._sessions.start_watching()

    async def _send_messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Messages of a session's events. For a forgotten one Gradio says so, then raises: that is no error here."""
        try:
            await self._app(scope, receive, send)
        except RuntimeError:
            if self._sessions.is_known(Request(scope).query_params.get("session_hash", "")):
                raise
            end: Message = {"type": "http.response.body", "body": b""}
            await send(end)


def end_pending_work(page: gr.Blocks, streaming: Streaming, runs: Runs, seconds: float) -> None:
    """End what is under way, and return when its last messages have reached the browsers, or after so many seconds.

    A browser asks for the last messages itself: a reply comes through several events in a row, and one more keeps the
    chat for a reload. So the server stays until nobody has asked for anything for QUIET_SECONDS. Where nothing is
    under way it returns at once.
    """
    until = time.monotonic() + seconds
    somebody_waits = bool(runs.count_runs())
    runs.close()
    runs.wait_until_idle(seconds)
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < until:
        if streaming.is_between_events or has_unsent_messages(page):
            quiet_since, somebody_waits = now, True
        elif not somebody_waits or now - quiet_since >= QUIET_SECONDS:
            return
        time.sleep(_LOOK_SECONDS)
