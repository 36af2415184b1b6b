"""How long a request will have to wait, from how long the replies before it took.

Knows neither cache nor batch: a reply is a span of time in one of several places. The one idea: what runs now will take
as long as the recent ones did, and whoever waits takes the place that comes free first.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import Final

REMEMBERED: Final = 16  # replies; enough for a mean, and few enough to follow a change of what people ask
_LEAST_LEFT: Final = 0.1  # of the usual time: what a reply that is overdue may still take


class EtaEstimator:
    """Remembers how long the recent replies took, in seconds, from their place in the batch to their end."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def ended(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def usual(self) -> float | None:
        """The mean; None before any reply has ended."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def waits(self, running: Sequence[float], queue: Sequence[bool]) -> list[float | None]:
        """Estimated seconds until each in the queue begins; None where nothing was measured yet.

        running: for how long each reply has run by now. queue: in order, whether each wants to run alone.
        """
        usual = self.usual
        if usual is None:
            return [None] * len(queue)
        free_at = [max(usual - elapsed, _LEAST_LEFT * usual) for elapsed in running] or [0.0]
        heapq.heapify(free_at)
        waits: list[float | None] = []
        for alone in queue:
            if alone:
                begins = max(free_at)
                free_at = [begins + usual] * len(free_at)
            else:
                begins = heapq.heapreplace(free_at, free_at[0] + usual)
            waits.append(begins)
        return waits
