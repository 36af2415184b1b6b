"""What other programs may ask about the server: whether it lives, whether it is ready, and figures for Prometheus.

Ready means that load balancers and Kubernetes may send visitors here: not where no model can run, nor while it shuts
down. What one model file does says nothing about the server, so it does not count. The request filter asks for the
password before the figures.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from playground import events
from playground.app.services import Services
from playground.engine.local.self_test import why_no_model_can_run
from playground.errors import PlaygroundError
from playground.events import Fields
from playground.limits.runs import Runs
from playground.web.server.request_filter import API

TRY_AGAIN_SECONDS: Final = 30.0  # at least, between the beginnings of two self-tests
_FAULTS_OF_ONE_FILE: Final = ("DoesNotFit", "BadModelFile", "ModelNotFound")  # other models can still be loaded


def check_metrics(is_on: bool) -> None:
    """Raises PlaygroundError if figures are wanted and the package that writes them is not installed."""
    if is_on:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise PlaygroundError(
                "PLAYGROUND_METRICS is on, but prometheus-client is not installed.",
                "Install the extra `metrics`, or turn the setting off.",
            ) from error


@contextmanager
def health_routes(services: Services) -> Iterator[list[BaseRoute]]:
    """The routes of the server's health; they count what happens until the end of the `with`."""
    from playground.web.server.metrics import CONTENT_TYPE, Metrics

    metrics, readiness = Metrics(services), Readiness(services.runs)

    async def live(request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def ready(request: Request) -> Response:
        reason = readiness.reason
        return JSONResponse({"ready": False, "reason": reason} if reason else {"ready": True}, 503 if reason else 200)

    def figures(request: Request) -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    with events.subscribed(metrics.count_event), events.subscribed(readiness.note_event):
        yield [
            Route(f"{API}livez", live),  # Kubernetes' names; healthz is the older one
            Route(f"{API}readyz", ready),
            Route(f"{API}healthz", ready),
            Route(f"{API}metrics", figures),
        ]


class Readiness:
    """Whether visitors should be sent here. To ask costs nothing.

    The engine's self-test runs once at the start, in a thread, and again only after a model's process has died or while
    no model can run. `self_test` returns why not, "" if all is well. Safe from any thread.
    """

    def __init__(
        self,
        runs: Runs,
        self_test: Callable[[], str] = why_no_model_can_run,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs, self._self_test, self._clock = runs, self_test, clock
        self._lock = threading.Lock()
        self._problem = "It is being tried out whether models can be run here."
        self._is_in_doubt = True
        self._test: threading.Thread | None = None
        self._tested_at: float | None = None

    @property
    def reason(self) -> str:
        """Why it is not ready, as a sentence; "" if it is. Never waits."""
        if self._runs.is_closed:
            return "The playground is shutting down."
        with self._lock:
            self._test_if_due()
            return self._problem

    def note_event(self, event: str, fields: Fields) -> None:
        """An event of events.py, which may put readiness in doubt."""
        if event == "model died" or (event == "model not loaded" and fields["error"] not in _FAULTS_OF_ONE_FILE):
            with self._lock:
                self._is_in_doubt = True

    def wait_for_test(self) -> None:
        """Until the self-test under way has ended, if there is one."""
        if test := self._test:
            test.join()

    def _test_if_due(self) -> None:
        """Starts a self-test if one is due; the last result holds until it ends. The lock is held."""
        is_too_soon = self._tested_at is not None and self._clock() < self._tested_at + TRY_AGAIN_SECONDS
        if self._test is not None or is_too_soon or not (self._is_in_doubt or self._problem):
            return
        self._is_in_doubt, self._tested_at = False, self._clock()
        self._test = threading.Thread(target=self._run_test, daemon=True, name="self-test of the engine")
        self._test.start()

    def _run_test(self) -> None:
        problem = self._self_test()
        with self._lock:
            self._problem, self._test = problem, None
