"""How often a growing answer is drawn: at each update while it is short, at every second or third when it is long.

Each time the browser draws the whole answer anew, on the cores that the model writes with. Where a long answer grows,
a person rarely reads yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LONG, VERY_LONG = 1_000, 4_000  # characters; about 200 and 800 words
_EARLY: Final = 0.25  # of an interval: so much before its time an update may come


class DrawingPace:
    """Says of each update of an answer whether to draw it. interval_seconds: from one update to the next."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._drawn_at = float("-inf")

    def is_due(self, characters: int) -> bool:
        """Whether to draw the answer now that it is so long; if so, it counts as drawn."""
        now = self._clock()
        intervals = 1 + (characters > LONG) + (characters > VERY_LONG)
        is_due = now - self._drawn_at > (intervals - _EARLY) * self._interval_seconds
        if is_due:
            self._drawn_at = now
        return is_due
