"""Shares the usable cores among the models that decode at this moment.

llama.cpp's threads spin: with more of them than cores, every model crawls (two models with two threads each on two
cores: 3.3 tok/s each instead of 17). So all decoding models together never have more threads than there are cores, and
an idle model has none. If more models decode than there are cores, they take turns.

The number of threads also changes the text: from 256 used cells of the cache on, llama.cpp divides a single token's
attention among the threads, and another number of them adds up in another order (on the starter, logits differ by up to
0.8 between one thread and two). So a reproducible request needs all cores. While it decodes, all decoding models take
short turns with all cores. That costs no speed, where a second row beside each token cost a third of it.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, Protocol

TURN_SECONDS: Final = 2.0  # how long a model decodes before the next one has its turn
# If turns have all cores: short enough to look simultaneous, long enough for a step.
ALL_CORES_TURN_SECONDS: Final = 0.2

Change = Literal["add", "add with all cores", "remove", "close"]


class Threaded(Protocol):
    def set_threads(self, threads: int) -> None:
        """Returns when the model decodes with this many threads, at once if it has ended; 0 pauses."""


class CpuShares:
    """Add a model when it begins to decode, remove it when it ends.

    A model may be added again to change whether it needs all cores. Both calls return at once, from any thread. One
    thread here sets the models' threads, so that cores are taken from one model before another one gets them.
    """

    def __init__(self, cores: int) -> None:
        self.cores = max(1, cores)
        self._changes: queue.SimpleQueue[tuple[Change, Threaded | None]] = queue.SimpleQueue()
        self._decoding: deque[Threaded] = deque()  # models whose turn it is come first
        self._need_all_cores: set[Threaded] = set()
        self._threads_of: dict[Threaded, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="core shares")
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether no model decodes or waits for its turn."""
        return self._changes.empty() and not self._decoding

    @contextmanager
    def replaced_cores(self, threads: int) -> Iterator[None]:
        """Meanwhile, as if there were so many cores; holds for what begins to decode from now on."""
        cores, self.cores = self.cores, max(1, threads)
        try:
            yield
        finally:
            self.cores = cores

    def add_model(self, model: Threaded, *, all_cores: bool = False) -> None:
        self._changes.put(("add with all cores" if all_cores else "add", model))

    def remove_model(self, model: Threaded) -> None:
        self._changes.put(("remove", model))

    def close(self) -> None:
        self._changes.put(("close", None))
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while True:
            try:
                change, model = self._changes.get(timeout=self._turn_seconds())
            except queue.Empty:
                self._decoding.rotate(-1)
            else:
                if change == "close":
                    return
                assert model is not None
                self._apply_change(change, model)
            self._set_threads()

    def _turn_seconds(self) -> float | None:
        """None if no model waits for a turn."""
        if self._need_all_cores and len(self._decoding) > 1:
            return ALL_CORES_TURN_SECONDS
        return TURN_SECONDS if len(self._decoding) > self.cores else None

    def _apply_change(self, change: Change, model: Threaded) -> None:
        self._need_all_cores.discard(model)
        if change == "remove":
            if model in self._decoding:
                self._decoding.remove(model)
            return
        if model not in self._decoding:
            self._decoding.append(model)
        if change == "add with all cores":
            self._need_all_cores.add(model)

    def _set_threads(self) -> None:
        threads = dict.fromkeys(self._threads_of, 0)
        shares = share_cores(self.cores, len(self._decoding))
        if self._need_all_cores:
            shares = [self.cores, *[0] * (len(self._decoding) - 1)]
        threads.update(zip(self._decoding, shares, strict=True))
        # First take, then give: at no moment do more threads run than there are cores.
        for model in sorted(threads, key=lambda model: threads[model] - self._threads_of.get(model, 0)):
            if self._threads_of.get(model, 0) != threads[model]:
                model.set_threads(threads[model])
        self._threads_of = {model: count for model, count in threads.items() if count}


def share_cores(cores: int, models: int) -> list[int]:
    """Threads for each of `models`, as even as possible; 0 for the models beyond the cores.

    >>> share_cores(8, 3)
    [3, 3, 2]
    """
    running = min(cores, models)
    even, more = divmod(cores, running) if running else (0, 0)
    return [even + (index < more) for index in range(running)] + [0] * (models - running)
