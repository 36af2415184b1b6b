"""What a machine may ask of the page: whether it is ready, and figures in the form that Prometheus reads.

Answers two addresses under the API where the settings say so; everything else goes on. Stands behind the gate, which
asks for the password before any figure is told. The figures are those of the moment: nothing is counted up here.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from playground.errors import PlaygroundError
from playground.services import Services
from playground.ui.gate import API, App, Receive, Scope, Send

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

READY: Final = f"{API}healthz"
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
    """ASGI middleware, to be used only where PLAYGROUND_METRICS is on."""

    def __init__(self, app: App, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"]).rstrip("/") if scope["type"] == "http" else ""
        if path == READY:
            await _answer(send, "application/json", json.dumps({"ready": True}).encode())
        elif path == METRICS:
            await _answer(send, "text/plain; version=0.0.4; charset=utf-8", figures(self._services))
        else:
            await self._app(scope, receive, send)


def figures(services: Services) -> bytes:
    """How many runs and models there are now, by kind, and the bytes of memory that can be used."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    _gauge(registry, "playground_runs", "Things under way for visitors.", "work", services.visits.under_way())
    states = Counter(model.state for model in services.pool.resident())
    _gauge(registry, "playground_models", "Models in memory or on their way.", "state", states)
    usable = {"usable": services.memory().usable}
    _gauge(registry, "playground_memory_bytes", "Memory of this computer.", "kind", usable)
    return bytes(generate_latest(registry))


def _gauge(registry: CollectorRegistry, name: str, words: str, label: str, values: object) -> None:
    from prometheus_client import Gauge

    assert isinstance(values, dict)
    gauge = Gauge(name, words, [label], registry=registry)
    for value, count in values.items():
        gauge.labels(value).set(count)


async def _answer(send: Send, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
