"""Shares the usable cores among the models that decode at this moment.

llama.cpp's threads spin: more of them than cores make every model crawl (17 tok/s each became 3.3 when two models of
two threads met on two cores). So the threads of all models that decode never exceed the cores; an idle model has none,
and where more models want to decode than there are cores, they take turns.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Final, Literal, Protocol

TURN_SECONDS: Final = 2.0  # how long a model decodes before one that waits gets its turn


class Threaded(Protocol):
    def set_threads(self, threads: int) -> None:
        """Returns once it holds, or at once when the model is gone; 0 pauses."""


class CoreShares:
    """Models `join` when they begin to decode and `leave` when they end; the shares follow.

    Both return at once, from any thread. One thread of its own hands out the cores, so that taking is always confirmed
    before giving.
    """

    def __init__(self, cores: int) -> None:
        self.cores = max(1, cores)
        self._news: queue.SimpleQueue[tuple[Literal["join", "leave", "close"], Threaded | None]] = queue.SimpleQueue()
        self._decoding: deque[Threaded] = deque()  # those whose turn it is come first
        self._given: dict[Threaded, int] = {}
        self._thread = threading.Thread(target=self._hand_out, daemon=True, name="core shares")
        self._thread.start()

    def join(self, model: Threaded) -> None:
        self._news.put(("join", model))

    def leave(self, model: Threaded) -> None:
        self._news.put(("leave", model))

    def close(self) -> None:
        self._news.put(("close", None))
        self._thread.join(timeout=5)

    def _hand_out(self) -> None:
        while True:
            crowded = len(self._decoding) > self.cores
            try:
                what, model = self._news.get(timeout=TURN_SECONDS if crowded else None)
            except queue.Empty:
                self._decoding.rotate(-1)
            else:
                if what == "close":
                    return
                assert model is not None
                if what == "join" and model not in self._decoding:
                    self._decoding.append(model)
                elif what == "leave" and model in self._decoding:
                    self._decoding.remove(model)
            self._share()

    def _share(self) -> None:
        wanted = dict.fromkeys(self._given, 0)
        wanted.update(zip(self._decoding, shares(self.cores, len(self._decoding)), strict=True))
        # First take, then give: at no moment do more threads run than there are cores.
        for model in sorted(wanted, key=lambda model: wanted[model] - self._given.get(model, 0)):
            if self._given.get(model, 0) != wanted[model]:
                model.set_threads(wanted[model])
        self._given = {model: threads for model, threads in wanted.items() if threads}


def shares(cores: int, models: int) -> list[int]:
    """Threads for each of `models`: whole cores, as even as can be, 0 for those beyond the cores."""
    running = min(cores, models)
    even, more = divmod(cores, running) if running else (0, 0)
    return [even + (place < more) for place in range(running)] + [0] * (models - running)
