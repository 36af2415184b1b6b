"""Work as a generator that yields its steps and returns a result, to be read with a plain `for`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class Steps(Generic[S, R]):
    """The steps of a generator, and after the last one its result; the end of the `with` closes it.

    with Steps(pool.lease_model(path, context)) as loading:
        for status in loading:
            print(status.fraction)
        lease = loading.result
    """

    result: R

    def __init__(self, work: Generator[S, None, R]) -> None:
        self._work = work

    def __iter__(self) -> Iterator[S]:
        self.result = yield from self._work

    def finish(self) -> R:
        """The result, after all steps."""
        for _ in self:
            pass
        return self.result

    def __enter__(self) -> Steps[S, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self._work.close()


def newest_within(seconds: float, work: Iterator[S]) -> Iterator[S]:
    """The steps of a work, but where several come within so many seconds, the newest of them alone.

    The work runs on a thread of its own. Where its reader leaves, it ends at its next step.
    """
    came: queue.SimpleQueue[tuple[S] | Exception | None] = queue.SimpleQueue()  # None after the last step
    has_left = threading.Event()

    def run() -> None:
        try:
            for step in work:
                came.put((step,))
                if has_left.is_set():
                    return
            came.put(None)
        except Exception as error:  # the reader raises it, as if it had read the steps itself
            came.put(error)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True, name="steps").start()
    try:
        while True:
            together = [came.get()]
            until = time.monotonic() + seconds
            while isinstance(together[-1], tuple) and (left := until - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    together.append(came.get(timeout=left))
            if steps := [one for one in together if isinstance(one, tuple)]:
                yield steps[-1][0]
            if together[-1] is None:
                return
            if isinstance(together[-1], Exception):
                raise together[-1]
    finally:
        has_left.set()
