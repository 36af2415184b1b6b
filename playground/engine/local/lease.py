"""The right to use a loaded model of the pool."""

from __future__ import annotations

import threading
from collections.abc import Callable

from playground.engine.local.client import LocalEngine
from playground.fit.plan import MemoryPlan


class ModelLease:
    """A model stays loaded while there is a lease on it. Release it, or use `with`.

    load_seconds: how long its holder waited for the load, queues included; None if the model was loaded already.
    """

    def __init__(
        self, engine: LocalEngine, plan: MemoryPlan, load_seconds: float | None, release: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.load_seconds = load_seconds
        self._release = release
        self._lock = threading.Lock()
        self._is_held = True

    def release(self) -> None:
        """May be called twice."""
        with self._lock:
            was_held, self._is_held = self._is_held, False
        if was_held:
            self._release()

    def __enter__(self) -> ModelLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
