"""What Gradio itself keeps of an open page on the server, and its end.

Left alone, Gradio keeps the state of a closed page for an hour and its configuration until thousands of others have
come. A page that only lost its connection reloads when it is back, and then begins a session of its own.
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
from urllib.parse import parse_qs

import gradio as gr

from playground.limits.runs import Runs, Via, Visitor
from playground.machine.malloc import give_back_free_pages
from playground.web.server.request_filter import API, App, Message, Receive, Scope, Send
from playground.web.streaming import Streaming

FORGOTTEN_AFTER_SECONDS: Final = 10.0  # from the closing of a page; what it still had under way has ended by then
STRAY_SECONDS: Final = 60.0  # so long a session that no page holds open may be still; a page opens it within few
MOST_PAGES: Final = 2000  # open at once; beyond that the one that was still for longest loses what it had here

_LOG: Final = logging.getLogger(__name__)


class Sessions:
    """The sessions of one page: who has it open, and what is to be forgotten.

    Whoever calls an event by hand makes up as many sessions as they like. One that no browser and no program holds open
    counts as closed when nothing was asked in it for a time. What is closed is forgotten some seconds later: what it
    had under way may end only then, and until then Gradio begins to keep things of it anew. One thread sees to all, and
    ends when there is nothing left to forget: then the memory that so many visits have left in pieces goes back to the
    system.
    """

    def __init__(self, seconds: float = FORGOTTEN_AFTER_SECONDS, stray_seconds: float = STRAY_SECONDS) -> None:
        self._seconds, self._stray_seconds = seconds, stray_seconds
        self._page: gr.Blocks
        self._on_close: Sequence[Callable[[str], None]] = ()
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self._due: dict[str, float] = {}
        self._watcher: threading.Thread | None = None

    def look_after(self, page: gr.Blocks, on_close: Sequence[Callable[[str], None]] = ()) -> None:
        """Those of this page, before it is served; each of `on_close` is told a session whose page was closed."""
        self._page, self._on_close = page, on_close

    def is_known(self, session: str) -> bool:
        """Whether Gradio keeps answers for it."""
        return session in self._page._queue.pending_messages_per_session

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
            self.watch()

    def close(self, session: str) -> None:
        """Its page is closed: everybody lets go of it, and it is forgotten."""
        self.forget_soon(session)
        with ExitStack() as everybody:
            for tell in self._on_close:
                everybody.callback(tell, session)

    def forget_soon(self, session: str) -> None:
        """Forget it, if nothing more is asked in it: a page that was closed, a program that has its answer."""
        with self._lock:
            self._due[session] = time.monotonic() + self._seconds
        self.watch()

    def watch(self) -> None:
        """Look from now on for what is to be forgotten, until nothing is."""
        with self._lock:
            if self._watcher is None and (self._due or self._strays()):
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="closed pages")
                self._watcher.start()

    def _watch(self) -> None:
        while True:
            time.sleep(self._seconds / 10)
            self._forget_what_is_due()
            self._close_still_strays()
            with self._lock:
                if not self._due and not self._strays():
                    self._watcher = None
                    break
        give_back_free_pages()

    def _forget_what_is_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [session for session, moment in self._due.items() if moment <= now]
        for session in due:
            is_still = self._is_still(session, self._seconds / 2)
            if is_still:
                forget(self._page, session)
            with self._lock:
                if is_still:
                    self._due.pop(session, None)
                else:
                    self._due[session] = now + self._seconds / 2

    def _close_still_strays(self) -> None:
        with self._lock:
            strays = self._strays()
        for session in strays:
            if self._is_still(session, self._stray_seconds):
                try:
                    self.close(session)
                except Exception:  # the others are still to be looked after
                    _LOG.exception("A session that nobody held open could not be closed.")

    def _strays(self) -> list[str]:
        """Those that nobody holds open and that are not due yet; the lock is held."""
        known = tuple(self._page.state_holder.session_data)
        return [session for session in known if not self._open[session] and session not in self._due]

    def _is_still(self, session: str, seconds: float) -> bool:
        last_used = self._page.state_holder.time_last_used.get(session)
        if last_used and (datetime.now() - last_used).total_seconds() < seconds:
            return False
        events = tuple(self._page._queue.event_ids_to_events.values())
        return not any(event.session_hash == session for event in events)


def forget(page: gr.Blocks, session: str) -> None:
    """Drop all that Gradio keeps of a session."""
    sessions, queue = page.state_holder, page._queue
    with sessions.lock:
        sessions.session_data.pop(session, None)
        sessions.time_last_used.pop(session, None)
    queue.pending_event_ids_session.pop(session, None)
    queue.pending_messages_per_session.pop(session, None)


_HEARTBEAT: Final = f"{API}heartbeat/"
_ANSWERS: Final = f"{API}queue/data"


class HeartbeatMiddleware:
    """ASGI middleware, behind the gate."""

    def __init__(self, app: App, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]) if scope["type"] == "http" else ""
        if path.startswith(_HEARTBEAT):
            with self._sessions.held_open(path.removeprefix(_HEARTBEAT)):
                await self._app(scope, receive, send)
        elif path == _ANSWERS:
            await self._answers(scope, receive, send)
        else:
            await self._app(scope, receive, send)
            if path.startswith(API) and scope["method"] == "POST":
                self._sessions.watch()

    async def _answers(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answers of a session's events; of one that is forgotten Gradio says so, and then breaks off."""
        try:
            await self._app(scope, receive, send)
        except RuntimeError:
            asked: dict[str, list[str]] = parse_qs(scope["query_string"].decode("latin-1"))
            if self._sessions.is_known("".join(asked.get("session_hash", ()))):
                raise
            end: Message = {"type": "http.response.body", "body": b""}
            await send(end)


QUIET_SECONDS: Final = 0.5  # after which no browser goes on with what it was told: some round trips
_LOOK_SECONDS: Final = 0.05


def see_off(page: gr.Blocks, streaming: Streaming, runs: Runs, seconds: float) -> None:
    """End what is under way, and return when all of it is told; at once where nothing is, after so long in any case."""
    until = time.monotonic() + seconds
    somebody_waits = bool(runs.under_way())
    runs.close()
    runs.wait_until_idle(seconds)
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < until:
        if streaming.is_passing or _is_telling(page):
            quiet_since, somebody_waits = now, True
        elif not somebody_waits or now - quiet_since >= QUIET_SECONDS:
            return
        time.sleep(_LOOK_SECONDS)


def _is_telling(page: gr.Blocks) -> bool:
    """Whether an event of some page has words that have not reached it yet."""
    return any(list(page._queue.pending_event_ids_session.values()))


def visitor_of(request: gr.Request, runs: Runs, via: Via) -> Visitor:
    """The visitor behind an event: the open page, the address it came from where that can be told, and which tab."""
    client = request.client
    return runs.visitor(
        str(request.session_hash),
        client.host if client else None,
        str(request.headers.get("x-forwarded-for") or ""),
        via,
    )
