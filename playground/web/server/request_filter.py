"""The gate in front of the page: what of a request goes on to Gradio, and what the browser may do with the answer.

Gradio answers on many more addresses than this page uses: some read files by path or fetch addresses for whoever asks.
Here only those go through that the page and its programs need. Knows HTTP, no component and no event; what an event's
values mean is its desk's to judge.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gradio.utils import get_upload_folder

from playground import events
from playground.machine.files import DISK_FULL_ERRORS, why_not_writable
from playground.settings import Settings
from playground.web.mcp import with_own_address
from playground.web.server.uploads import UploadCheck

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API: Final = "/gradio_api/"
# What the page, gradio_client and MCP programs call; files, proxies, components' own functions and the like stay shut.
OPEN: Final = frozenset((
    *("queue", "run", "call", "cancel", "reset", "heartbeat", "upload", "upload_progress", "startup-events", "app_id"),
    *("info", "openapi.json", "login_check", "user", "theme.css", "mcp"),
    *("livez", "readyz", "healthz", "metrics"),
))  # fmt: skip
ASKED_HERE: Final = frozenset(("mcp", "metrics"))  # Gradio asks for no password there
SHUT: Final = frozenset(("monitoring", "svelte", "custom_component"))  # beside the API
MOST_BODY_BYTES: Final = 12 << 20  # the longest chat that a browser may have kept, in escapes, and the rest of an event
MOST_UPLOADED_BYTES: Final = 256 << 20  # of all visitors within the time that uploads are kept, where strangers come
UPLOAD_SECONDS: Final = 660.0
MOST_DEPTH: Final = 64  # of lists in lists

_NO_REMOTE_PARTS: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-src 'none'; object-src 'none'; base-uri 'self'; form-action 'self'"
)


class RejectedRequest(Exception):
    """Not let through: an HTTP status and a sentence; `setting` as in RequestRefused."""

    def __init__(self, status: int, words: str, setting: str = "") -> None:
        super().__init__(words)
        self.status, self.words, self.setting = status, words, setting


class RequestFilter:
    """ASGI middleware. settings: whose page it is, and for whom."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._only_loopback = _is_loopback(settings.host) and not settings.on_space and not settings.proxies
        self._headers = [(name.encode(), value.encode()) for name, value in response_headers(settings).items()]
        self._password = settings.password.get_secret_value().encode()
        self._uploads = None if settings.allow_local_files else Uploads(MOST_UPLOADED_BYTES)
        self._most_model_bytes = settings.max_dropped_bytes
        self._is_reached_directly = not settings.proxies and not settings.on_space

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in self._headers}
                kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in own]
                message = {**message, "headers": [*kept, *self._headers]}
            await send(message)

        try:
            self._check_address(scope)
            receive = await self._checked_body(scope, receive)
        except RejectedRequest as refusal:
            if refusal.status != 404:  # a machine that tries addresses is no visitor
                events.refused("", "http", refusal.setting, refusal.words)
            await _answer(send_guarded, refusal)
            return
        if self._uploads is None and _is_upload(scope):
            folder = Path(get_upload_folder())
            arrival = UploadCheck(dict(scope["headers"]), receive, send_guarded, folder, self._most_model_bytes)
            await self._app(scope, arrival.receive, arrival.send)
            return
        if self._is_reached_directly and str(scope["path"]).startswith(f"{API}mcp"):
            scope = with_own_address(scope)
        await self._app(scope, receive, send_guarded)

    def _check_address(self, scope: Scope) -> None:
        if self._only_loopback and not _is_loopback(_host_of(scope)):
            raise RejectedRequest(
                421, "This page is for this computer alone. Behind a proxy, PLAYGROUND_PROXIES has to say so."
            )
        path = str(scope["path"])
        if self._password and path.removeprefix(API).strip("/").partition("/")[0] in ASKED_HERE:
            self._check_password(scope)
        first, _, _ = path.removeprefix(API).strip("/").partition("/")
        is_open = first in OPEN if path.startswith(API) else first not in SHUT
        if not is_open or ".." in path.split("/"):
            raise RejectedRequest(404, "Nothing is served here.")

    def _check_password(self, scope: Scope) -> None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, b"Bearer " + self._password):
            raise RejectedRequest(401, "Send the password of this playground as the bearer token.", "password")

    async def _checked_body(self, scope: Scope, receive: Receive) -> Receive:
        if scope["method"] != "POST":
            return receive
        if _is_upload(scope):
            _check_uploads_can_be_kept()
            return self._uploads.counting(receive) if self._uploads else receive
        body = await _read(receive, MOST_BODY_BYTES)
        if scope["path"].startswith(API):
            _check_values(body)
        return _replayed(body, receive)


def response_headers(settings: Settings) -> dict[str, str]:
    """What every answer tells the browser: parts of the page come from here alone, and nothing is sent elsewhere.

    A Space shows its page inside the Hub's, so there it may be framed.
    """
    framing = "" if settings.on_space else "; frame-ancestors 'self'"
    return {
        "content-security-policy": _NO_REMOTE_PARTS + framing,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
    }


class Uploads:
    """Bytes that were uploaded lately, of everybody: what comes beyond is refused until older ones are removed."""

    def __init__(self, most_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most_bytes, clock
        self._lately: deque[tuple[float, int]] = deque()
        self._sum = 0

    def counting(self, receive: Receive) -> Receive:
        now = self._clock()
        while self._lately and self._lately[0][0] < now - UPLOAD_SECONDS:
            self._sum -= self._lately.popleft()[1]
        if self._sum >= self._most:
            raise RejectedRequest(429, "Too much was uploaded in the last minutes. Try again later.")

        async def counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            self._lately.append((now, size))
            self._sum += size
            return message if self._sum <= self._most else {"type": "http.disconnect"}

        return counted


def _check_uploads_can_be_kept() -> None:
    """Refuses what Gradio would fail to write down; how much room there is, an upload's own size decides."""
    error = why_not_writable(Path(get_upload_folder()))
    if error and error.errno not in DISK_FULL_ERRORS:
        why = error.strerror or error
        raise RejectedRequest(
            507,
            f"The playground's folder for uploads takes no file ({why}). Whoever runs it can name another with "
            "PLAYGROUND_DATA_DIR.",
        )


async def _read(receive: Receive, most: int) -> bytes:
    pieces, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RejectedRequest(400, "The request broke off.")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            raise RejectedRequest(413, f"A request may have {most:,} bytes.")
        if not message.get("more_body"):
            return b"".join(pieces)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever comes after it."""
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return again


def _check_values(body: bytes) -> None:
    """Refuses a file that lies elsewhere: Gradio would fetch it, from any address, before an event is asked."""
    try:
        values = json.loads(body)  # as Gradio's own framework reads it: another parser may read something else
    except RecursionError:
        raise RejectedRequest(400, "Those values are nested too deeply.") from None
    except ValueError:
        return  # Gradio refuses it in its own words
    for one in _dictionaries(values):
        if "meta" in one and "://" in str(one.get("path")):
            raise RejectedRequest(400, "A file has to be uploaded here.")


def _dictionaries(values: Any) -> Iterator[dict[str, Any]]:
    left = [(values, 0)]
    while left:
        one, depth = left.pop()
        if depth > MOST_DEPTH:
            raise RejectedRequest(400, "Those values are nested too deeply.")
        if isinstance(one, dict):
            yield one
            one = list(one.values())
        if isinstance(one, list):
            left.extend((part, depth + 1) for part in one if isinstance(part, dict | list))


async def _answer(send: Send, refusal: RejectedRequest) -> None:
    body = json.dumps({"detail": refusal.words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "POST" and str(scope["path"]).startswith(f"{API}upload")


def _host_of(scope: Scope) -> str:
    """The name by which this server was asked; a web page elsewhere can make its own name mean this computer."""
    told = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    try:
        return urlsplit(f"//{told}").hostname or ""
    except ValueError:
        return "nowhere.invalid"


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
