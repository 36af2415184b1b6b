"""What a machine may ask of the page: whether it lives, whether it is ready, and figures for Prometheus.

Answers its addresses under the API where the settings say so; everything else goes on. Stands behind the gate, which
asks for the password before any figure is told.
"""

from __future__ import annotations

import json
from typing import Final

from playground import events
from playground.app.services import Services
from playground.errors import PlaygroundError
from playground.web.server.readiness import Readiness
from playground.web.server.request_filter import API, App, Receive, Scope, Send

ALIVE: Final = f"{API}livez"  # Kubernetes' names
READY: Final = (f"{API}readyz", f"{API}healthz")  # the second is the older one
METRICS: Final = f"{API}metrics"


def check_metrics(is_on: bool) -> None:
    """Raises PlaygroundError where figures are wanted and what writes them is not installed."""
    if is_on:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise PlaygroundError(
                "PLAYGROUND_METRICS is on, but prometheus-client is not installed.",
                "Install the extra `metrics`, or turn the setting off.",
            ) from error


class Health:
    """ASGI middleware, only where PLAYGROUND_METRICS is on. Counts from the start of the server to its end."""

    def __init__(self, app: App, services: Services) -> None:
        from playground.web.server.metrics import Metrics

        self._app = app
        self._metrics = Metrics(services)
        self._readiness = Readiness(services.runs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with events.heard_by(self._metrics.hear), events.heard_by(self._readiness.hear):
                await self._app(scope, receive, send)
            return
        path = str(scope["path"]).rstrip("/") if scope["type"] == "http" else ""
        if path == ALIVE:
            await _answer(send, 200, "application/json", b'{"alive": true}')
        elif path in READY:
            reason = self._readiness.reason
            told = {"ready": False, "reason": reason} if reason else {"ready": True}
            await _answer(send, 503 if reason else 200, "application/json", json.dumps(told).encode())
        elif path == METRICS:
            from playground.web.server.metrics import CONTENT_TYPE

            await _answer(send, 200, CONTENT_TYPE, self._metrics.text())
        else:
            await self._app(scope, receive, send)


async def _answer(send: Send, status: int, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
