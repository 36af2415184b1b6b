"""What is remembered of each open page, within a bound, so that a late redraw undoes nothing that came meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

_MOST_PAGES: Final = 10_000

V = TypeVar("V")


class PageValues(Generic[V]):
    """One value for each page, by its session; the pages that were set longest ago are forgotten. Thread-safe."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}  # the page that was set last at the end
        self._lock = threading.Lock()

    def set_value(self, session: str, value: V) -> None:
        with self._lock:
            self._values.pop(session, None)
            self._values[session] = value
            if len(self._values) > _MOST_PAGES:
                del self._values[next(iter(self._values))]

    def value_of(self, session: str, default: V) -> V:
        return self._values.get(session, default)


class Redraws:
    """Which redraw of a page is its newest: an older one that is still under way must not draw over it."""

    def __init__(self) -> None:
        self._newest: PageValues[tuple[int, bool]] = PageValues()
        self._numbers = itertools.count()

    def begin_redraw(self, session: str, *, fills: bool = False) -> Callable[[], bool]:
        """A function that says whether this redraw is still the newest of its page.

        fills: it writes values that the page chooses, as when it opens; its last message may reach the browser after
        the visitor has chosen something else.
        """
        number = next(self._numbers)
        self._newest.set_value(session, (number, fills))
        return lambda: self._newest.value_of(session, (number, fills))[0] == number

    def is_filled(self, session: str) -> bool:
        """Whether the newest redraw of the page wrote values that the page had chosen."""
        return self._newest.value_of(session, (0, False))[1]
