"""Hears from the requests of pages which sessions they hold open, and when one is asked for that is forgotten.

Knows HTTP and Gradio's addresses; what is kept of a session, and until when, is sessions.py's to say.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from playground.web.server.request_filter import API, App, Message, Receive, Scope, Send
from playground.web.server.sessions import Sessions

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
