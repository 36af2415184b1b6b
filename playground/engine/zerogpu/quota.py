"""What is known of a visitor's time on ZeroGPU: what was used here, and what the platform said when it refused.

The platform counts over all Spaces and says what is left only when it is too little: the package `spaces` 0.51 asks it
for the length of its queue and for a GPU, and for nothing else. Until then there is an upper bound: the day's allowance
less what this Space has seen.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from playground.text_format import about, counted

DAY_SECONDS: Final = 86_400
# Seconds a day by account, of the platform's documentation as of August 2026.
ALLOWANCES: Final = {"without an account": 120, "with a free account": 300, "with PRO": 2400}
LEAST_SECONDS: Final = 15  # less than this loads no model and writes no reply
MOST_SECONDS: Final = 60  # what the platform grants without being asked for more
_MOST_PEOPLE: Final = 10_000
_LOAD_SECONDS: Final = 10  # to start a process with CUDA
_LOAD_BYTES_PER_SECOND: Final = 500_000_000
_TOKENS_PER_SECOND: Final = 20
_LEFT: Final = re.compile(r"vs\.? (\d+)s left|\((\d+)s left")
_AGAIN: Final = re.compile(r"again in (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


def seconds_for(weight_bytes: int, max_tokens: int | None) -> int:
    """How long a reply may take on the GPU with the load before it: a cautious estimate within the usual limits."""
    writing = (max_tokens or 512) / _TOKENS_PER_SECOND
    return round(min(max(_LOAD_SECONDS + weight_bytes / _LOAD_BYTES_PER_SECOND + writing, LEAST_SECONDS), MOST_SECONDS))


@dataclass(frozen=True)
class Outlook:
    """What a visitor can expect of the GPU. Seconds; None where the platform has not said it.

    used: in this Space within a day. left: as the platform said it when it last refused. again: until it may be asked
    again, 0 for now. waiting: how many requests are in its queue.
    """

    used: float = 0.0
    left: int | None = None
    again: float = 0.0
    waiting: int | None = None

    @property
    def refusal(self) -> str:
        """Why the GPU is not even asked for, in a sentence; "" if it is."""
        if self.left is None or self.left >= LEAST_SECONDS or self.again <= 0:
            return ""
        return (
            f"Your time on ZeroGPU is used up: {self.left} s are left, and a reply takes {LEAST_SECONDS} s or more. "
            f"The platform gives more in {about(self.again)}."
        )

    @property
    def sentence(self) -> str:
        """What is left and who waits, for people."""
        return " ".join(filter(None, (self._time_left, self._queue)))

    @property
    def _time_left(self) -> str:
        if self.refusal:
            return self.refusal
        if self.left is not None and self.again > 0:
            return f"When it was last asked, ZeroGPU had {self.left} s left for you today."
        bounds = ", ".join(f"{max(0, round(most - self.used))} s {account}" for account, most in ALLOWANCES.items())
        used = f"You have used {round(self.used)} s here. " if self.used else ""
        left = f"Left of today's time on ZeroGPU, if no other Space used any: {bounds}."
        return f"{used}{left} The platform says exactly what is left only when it refuses."

    @property
    def _queue(self) -> str:
        if self.waiting is None:
            return ""
        return f"{counted(self.waiting, 'request')} in its queue now." if self.waiting else "Nobody waits for it now."


class Quota:
    """What was used and refused, by person. Thread-safe; kept in memory alone. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._used: dict[str, deque[tuple[float, float]]] = {}  # (when, seconds); who used it last at the end
        self._refused: dict[str, tuple[int, float]] = {}  # (seconds left, when there is more)

    def outlook(self, person: str, waiting: int | None = None) -> Outlook:
        with self._lock:
            now = self._clock()
            used = sum(seconds for when, seconds in self._used.get(person, ()) if now - when < DAY_SECONDS)
            left, again_at = self._refused.get(person, (None, now))
            return Outlook(used, left if again_at > now else None, max(0.0, again_at - now), waiting)

    def add_use(self, person: str, seconds: float) -> None:
        with self._lock:
            uses = self._used.pop(person, deque[tuple[float, float]](maxlen=DAY_SECONDS // LEAST_SECONDS))
            uses.append((self._clock(), seconds))
            self._used[person] = uses
            if len(self._used) > _MOST_PEOPLE:
                del self._used[next(iter(self._used))]

    def add_refusal(self, person: str, message: str) -> None:
        """message: the platform's, such as `… (60s requested vs. 12s left). Try again in 3:05:00.`"""
        left, again = _LEFT.search(message), _AGAIN.search(message)
        if not left or not again:
            return
        days, hours, minutes, seconds = (int(part or 0) for part in again.groups())
        wait = days * DAY_SECONDS + hours * 3600 + minutes * 60 + seconds
        with self._lock:
            self._refused.pop(person, None)
            self._refused[person] = (int(left[1] or left[2]), self._clock() + wait)
            if len(self._refused) > _MOST_PEOPLE:
                del self._refused[next(iter(self._refused))]
