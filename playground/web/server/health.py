"""What a machine may ask of the page: whether it lives, whether it is ready, and figures for Prometheus.

Answers its addresses under the API where the settings say so; everything else goes on. Stands behind the gate, which
asks for the password before any figure is told.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Final

from playground import events
from playground.app.services import Services
from playground.engine.local.self_test import why_no_model_can_run
from playground.errors import PlaygroundError
from playground.events import Fields
from playground.limits.runs import Runs
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


AGAIN_SECONDS: Final = 30.0  # at least, between the beginnings of two trials
_OF_THE_FILE: Final = ("DoesNotFit", "BadModelFile", "ModelNotFound")  # why one model is not loaded, and others may be


class Readiness:
    """Hears the journal's events; `reason` may be asked from any thread, and never waits.

    why: what a trial finds, "" where all is well.
    """

    def __init__(
        self,
        runs: Runs,
        why: Callable[[], str] = why_no_model_can_run,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs, self._why, self._clock = runs, why, clock
        self._lock = threading.Lock()
        self._trouble = "It is being tried out whether models can be run here."
        self._is_in_doubt = True
        self._trial: threading.Thread | None = None
        self._tried_at: float | None = None

    @property
    def reason(self) -> str:
        """Why not, as a sentence; "" where it is ready."""
        if self._runs.is_closed:
            return "The playground is shutting down."
        with self._lock:
            self._try_out_in_time()
            return self._trouble

    def hear(self, event: str, told: Fields) -> None:
        if event == "model died" or (event == "model not loaded" and told["error"] not in _OF_THE_FILE):
            with self._lock:
                self._is_in_doubt = True

    def wait(self) -> None:
        """Until the trial under way has ended, if there is one."""
        if trial := self._trial:
            trial.join()

    def _try_out_in_time(self) -> None:
        """Begins a trial where one is due; what was found before holds until it ends."""
        is_soon = self._tried_at is not None and self._clock() < self._tried_at + AGAIN_SECONDS
        if self._trial is not None or is_soon or not (self._is_in_doubt or self._trouble):
            return
        self._is_in_doubt, self._tried_at = False, self._clock()
        self._trial = threading.Thread(target=self._try_out, daemon=True, name="trial of the engine")
        self._trial.start()

    def _try_out(self) -> None:
        trouble = self._why()
        with self._lock:
            self._trouble, self._trial = trouble, None
