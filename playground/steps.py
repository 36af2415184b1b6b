"""Work as a generator that yields its steps and returns a result, to be read with a plain `for`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
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
