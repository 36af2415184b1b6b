"""Whether visitors should be sent here, as load balancers and Kubernetes ask: not where no model runs, nor at the end.

What one model file does says nothing about the place, so it is not looked at. To ask costs nothing: the engine is tried
out once at the start, and again only after a model's process has died or while no model can be run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from playground.engine.local.self_test import why_no_model_can_run
from playground.events import Fields
from playground.limits.runs import Runs

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
