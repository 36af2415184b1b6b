"""Shares the usable cores among the models that decode at this moment.

llama.cpp's threads spin: more of them than cores make every model crawl (17 tok/s each became 3.3 when two models of
two threads met on two cores). So the threads of all models that decode never exceed the cores; an idle model has none,
and where more models want to decode than there are cores, they take turns.

The number of threads is in the text, too: once 256 cells of the cache are in use, llama.cpp divides a single token's
attention among the threads, and another number of them adds up in another order (logits moved by up to 0.8 between one
thread and two, on the starter). So whoever must always say the same asks for `whole` cores: while it decodes, all who
decode take short turns with all cores. That costs no speed, where a second row beside each token cost a third of it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Final, Literal, Protocol

TURN_SECONDS: Final = 2.0  # how long a model decodes before one that waits gets its turn
WHOLE_TURN_SECONDS: Final = 0.2  # where all take turns: short enough to look like at once, and a step or more for each

News = Literal["join", "join whole", "leave", "close"]


class Threaded(Protocol):
    def set_threads(self, threads: int) -> None:
        """Returns once it holds, or at once when the model is gone; 0 pauses."""


class CpuShares:
    """Models are added when they begin to decode and removed when they end; the shares follow.

    A model may join again, to begin or cease to need whole cores. Both return at once, from any thread. One thread of
    its own hands out the cores, so that taking is always confirmed before giving.
    """

    def __init__(self, cores: int) -> None:
        self.cores = max(1, cores)
        self._news: queue.SimpleQueue[tuple[News, Threaded | None]] = queue.SimpleQueue()
        self._decoding: deque[Threaded] = deque()  # those whose turn it is come first
        self._whole: set[Threaded] = set()
        self._given: dict[Threaded, int] = {}
        self._thread = threading.Thread(target=self._hand_out, daemon=True, name="core shares")
        self._thread.start()

    def add_model(self, model: Threaded, *, all_cores: bool = False) -> None:
        self._news.put(("join whole" if all_cores else "join", model))

    def remove_model(self, model: Threaded) -> None:
        self._news.put(("leave", model))

    def close(self) -> None:
        self._news.put(("close", None))
        self._thread.join(timeout=5)

    def _hand_out(self) -> None:
        while True:
            try:
                what, model = self._news.get(timeout=self._turn_seconds())
            except queue.Empty:
                self._decoding.rotate(-1)
            else:
                if what == "close":
                    return
                assert model is not None
                self._hear(what, model)
            self._share()

    def _turn_seconds(self) -> float | None:
        """None: nobody waits for a turn."""
        if self._whole and len(self._decoding) > 1:
            return WHOLE_TURN_SECONDS
        return TURN_SECONDS if len(self._decoding) > self.cores else None

    def _hear(self, what: News, model: Threaded) -> None:
        self._whole.discard(model)
        if what == "leave":
            if model in self._decoding:
                self._decoding.remove(model)
            return
        if model not in self._decoding:
            self._decoding.append(model)
        if what == "join whole":
            self._whole.add(model)

    def _share(self) -> None:
        wanted = dict.fromkeys(self._given, 0)
        each = shares(self.cores, len(self._decoding))
        if self._whole:
            each = [self.cores, *[0] * (len(self._decoding) - 1)]
        wanted.update(zip(self._decoding, each, strict=True))
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
