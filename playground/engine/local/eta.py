"""Estimates how long requests will wait for a slot, from how long recent replies took."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final

REMEMBERED: Final = 16  # recent replies for an estimate: enough for a mean, few enough to follow changes
_LEAST_LEFT: Final = 0.1  # of the mean time: what a reply that has run for longer is expected to take still


class EtaEstimator:
    """Estimates how long requests will wait: running replies should take as long as the recent ones took."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def add_reply(self, seconds: float) -> None:
        """seconds: from getting a slot to the end."""
        self._recent.append(seconds)

    @property
    def mean_seconds(self) -> float | None:
        """None before any reply has ended."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def estimate_waits(self, running: Sequence[float], queue: Sequence[bool]) -> list[float | None]:
        """Estimated seconds until each request in the queue begins; None if no reply was measured yet.

        running: for how long each reply has run by now. queue: in order, whether each request decodes alone.
        """
        mean = self.mean_seconds
        if mean is None:
            return [None] * len(queue)
        free_at = [max(mean - elapsed, _LEAST_LEFT * mean) for elapsed in running] or [0.0]
        heapq.heapify(free_at)
        waits: list[float | None] = []
        for alone in queue:
            if alone:
                begins = max(free_at)
                free_at = [begins + mean] * len(free_at)
            else:
                begins = heapq.heapreplace(free_at, free_at[0] + mean)
            waits.append(begins)
        return waits
