"""What is remembered of each open page, within a bound, so that a late redraw undoes nothing that came meanwhile."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar

# Who makes the choice that a redraw draws: the visitor, or the page for the visitor, as it opens or later. "settings":
# the visitor, but only how the model runs. "models": nobody, since only the list of models has changed.
Chooser = Literal["visitor", "settings", "page", "opening", "models"]

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
        self._newest: PageValues[tuple[int, Chooser]] = PageValues()
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # from a look at who has chosen until a redraw begins

    def begin_redraw(self, session: str, chooser: Chooser = "visitor") -> Callable[[], bool]:
        """A function that says whether this redraw is still the newest of its page.

        One that opens the page never is, where the visitor has chosen already or the page has for another reason.
        """
        with self._lock:
            if chooser == "opening" and self.is_chosen(session):
                return lambda: False
            number = next(self._numbers)
            self._newest.set_value(session, (number, chooser))
        return lambda: self._newest.value_of(session, (number, chooser))[0] == number

    def is_chosen(self, session: str) -> bool:
        """Whether the visitor has chosen already, or the page has for another reason than that it opens."""
        return self._newest.value_of(session, (0, "models"))[1] in ("visitor", "page")

    def is_filled(self, session: str) -> bool:
        """Whether the newest redraw of the page writes values that the page has chosen.

        Its last message may reach the browser after the visitor has chosen something else.
        """
        return self._newest.value_of(session, (0, "visitor"))[1] in ("page", "opening")
