"""Decides which requests reach Gradio, and adds headers that tell the browser what an answer may do.

Gradio answers on many more addresses than this page uses; some of them read files by path, or fetch addresses for
anyone who asks. Here only those are open that the page and its programs need. What the values of an event mean is
checked where they are used, in app/.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playground import events
from playground.settings import Settings
from playground.web.mcp import with_own_address
from playground.web.server.calls import pass_on_call
from playground.web.server.openai.errors import PREFIX, ApiError
from playground.web.server.password import is_bearer
from playground.web.server.uploads import UPLOADS, RejectedRequest, Uploads

API: Final = "/gradio_api/"
# What the page, gradio_client and MCP programs call. Files, proxies, components' own functions and the like stay shut.
OPEN: Final = frozenset((
    *("queue", "run", "call", "cancel", "reset", "heartbeat", "upload", "upload_progress", "startup-events", "app_id"),
    *("info", "openapi.json", "login_check", "user", "theme.css", "mcp"),
    *("livez", "readyz", "healthz", "metrics"),
))  # fmt: skip
PASSWORD_CHECKED_HERE: Final = frozenset(("mcp", "metrics"))  # Gradio asks for no password there
SHUT: Final = frozenset(("monitoring", "svelte", "custom_component"))  # outside the API
MAX_BODY_BYTES: Final = 12 << 20  # the longest chat that a browser may have kept, in escapes, and the rest of an event
BODY_SECONDS: Final = 60.0  # in which a body has to arrive: each one that is under way takes memory
MAX_DEPTH: Final = 64  # of lists in lists

_NO_REMOTE_PARTS: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'"
)


def response_headers(settings: Settings) -> dict[str, str]:
    """The headers of every answer: parts of the page come from this server alone, and nothing is sent elsewhere.

    A Space shows its page inside the Hub's, so there it may be framed.
    """
    framing = "" if settings.on_space else "; frame-ancestors 'self'"
    return {
        "content-security-policy": _NO_REMOTE_PARTS + framing,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
    }


def private_paths(settings: Settings) -> list[str]:
    """Folders that Gradio must not serve from: the playground's own, the user's cache, the model folders.

    The uploads in the data folder are left out: Gradio would refuse to read them itself.
    """
    paths = {settings.data_dir / name for name in ("models", "dropped", "headers", "scores")}
    with suppress(OSError):
        paths |= set(settings.data_dir.iterdir())
    paths.discard(settings.data_dir / UPLOADS)
    return [str(path) for path in (*sorted(paths), Path.home() / ".cache", *settings.model_dirs)]


class RequestFilter:
    """ASGI middleware. The settings say for whom the page is."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._is_reached_directly = not settings.proxies and not settings.on_space
        self._only_loopback = self._is_reached_directly and _is_loopback(settings.host)
        self._headers = response_headers(settings)
        self._uploads = Uploads(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        try:
            self._check_host(scope)
            self._check_path(scope)
            await self._pass_on(scope, receive, send_with_headers)
        except RejectedRequest as rejected:
            if rejected.status != 404:  # programs that try addresses are not worth a line in the log
                events.refused("", "http", rejected.setting, str(rejected))
            await _rejection(rejected, str(scope["path"]))(scope, receive, send_with_headers)

    def _check_host(self, scope: Scope) -> None:
        """Another web page can make its own name mean this computer, and call the playground through a browser.

        Starlette's TrustedHostMiddleware knows no address ranges, and gives no reason when it refuses.
        """
        if self._only_loopback and not _is_loopback(_host_of(scope)):
            raise RejectedRequest(
                421, "This page is for this computer alone. Behind a proxy, PLAYGROUND_PROXIES has to say so."
            )

    def _check_path(self, scope: Scope) -> None:
        path = str(scope["path"])
        first, _, _ = path.removeprefix(API).strip("/").partition("/")
        if first in PASSWORD_CHECKED_HERE and not is_bearer(Headers(scope=scope), self._settings.password):
            raise RejectedRequest(401, "Send the password of this playground as the bearer token.", "password")
        is_open = first in OPEN if path.startswith(API) else first not in SHUT
        if not is_open or ".." in path.split("/"):
            raise RejectedRequest(404, "Nothing is served here.")

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if scope["method"] == "POST" and path.startswith(f"{API}upload"):
            await self._uploads.pass_on(self._app, scope, receive, send)
            return
        if scope["method"] == "POST":
            body = await _read_body(Request(scope, receive))
            if path.startswith(API):
                _check_values(body)
            receive = _replay(body, receive)
            if await pass_on_call(self._app, body, scope, receive, send):
                return
        if self._is_reached_directly and path.startswith(f"{API}mcp"):
            scope = with_own_address(scope)
        await self._app(scope, receive, send)


def _rejection(rejected: RejectedRequest, path: str) -> JSONResponse:
    """Programs at /v1 read errors in the form of their interface."""
    if path.startswith(f"{PREFIX}/"):
        return ApiError(rejected.status, str(rejected), rejected.setting or "bad_request").response(path)
    return JSONResponse({"detail": str(rejected)}, rejected.status)


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY_BYTES:
                    raise RejectedRequest(413, f"A request may have {MAX_BODY_BYTES:,} bytes.")
    except ClientDisconnect:
        raise RejectedRequest(400, "The request broke off.") from None
    except TimeoutError:
        raise RejectedRequest(408, f"The request did not arrive within {BODY_SECONDS:g} seconds.") from None
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then what comes after it."""
    left = [body]

    async def replay() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return replay


def _check_values(body: bytes) -> None:
    """Refuses a file with an address: Gradio would fetch it, from anywhere, before the event is asked."""
    try:
        values = json.loads(body)  # as FastAPI reads it: another parser may read something else
    except RecursionError:
        raise RejectedRequest(400, "Those values are nested too deeply.") from None
    except ValueError:
        return  # Gradio refuses it in its own words
    for found in _dictionaries(values):
        if "meta" in found and "://" in str(found.get("path")):
            raise RejectedRequest(400, "A file has to be uploaded here.")


def _dictionaries(values: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary in JSON values, found without recursion. Raises RejectedRequest beyond MAX_DEPTH."""
    left = [(values, 0)]
    while left:
        value, depth = left.pop()
        if depth > MAX_DEPTH:
            raise RejectedRequest(400, "Those values are nested too deeply.")
        if isinstance(value, dict):
            yield value
            value = list(value.values())
        if isinstance(value, list):
            left.extend((part, depth + 1) for part in value if isinstance(part, dict | list))


def _host_of(scope: Scope) -> str:
    """The host name in the request, without its port."""
    try:
        return urlsplit(f"//{Headers(scope=scope).get('host', '')}").hostname or ""
    except ValueError:
        return "nowhere.invalid"


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
