"""A page for people where a refused or unknown address is answered with JSON.

Programs keep the JSON: only a browser that opens an address asks for a page (`Accept: text/html`).
"""

from __future__ import annotations

import json
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground.web.html.templates import render
from playground.web.server.page_file import TITLE

_NOTHING_THERE: Final = "There is no page at this address."
_UNKNOWN: Final = "This address cannot be opened."


class ErrorPages:
    """ASGI middleware, around the request filter and Gradio."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not _is_from_a_browser(scope):
            await self._app(scope, receive, send)
            return
        held: list[Message] = []  # the start of an answer with an error, then its body

        async def send_as_page(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_error(message):
                held.append(message)
            elif not held:
                await send(message)
            else:
                held.append(message)
                if not message.get("more_body"):
                    await _send_page(held, f"{scope.get('root_path', '')}/", send)

        await self._app(scope, receive, send_as_page)


def _is_from_a_browser(scope: Scope) -> bool:
    return "text/html" in Headers(scope=scope).get("accept", "")


def _is_error(start: Message) -> bool:
    headers = Headers(raw=start.get("headers", []))
    is_json = headers.get("content-type", "").startswith("application/json")
    return start["status"] >= 400 and is_json and "content-encoding" not in headers


async def _send_page(held: list[Message], home: str, send: Send) -> None:
    start, *parts = held
    sentence = _sentence(start["status"], b"".join(part.get("body", b"") for part in parts))
    page = render("error_page.html#page", title=TITLE, sentence=sentence, home=home).encode()
    headers = MutableHeaders(raw=start["headers"])
    headers["content-type"], headers["content-length"] = "text/html; charset=utf-8", str(len(page))
    await send(start)
    await send({"type": "http.response.body", "body": page})


def _sentence(status: int, body: bytes) -> str:
    """The reason that the JSON gives; one of our own for what is not there."""
    if status == 404:
        return _NOTHING_THERE
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, TypeError, KeyError):
        return _UNKNOWN
    return detail if isinstance(detail, str) and detail else _UNKNOWN
