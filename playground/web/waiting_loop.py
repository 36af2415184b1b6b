"""An endless coroutine that looks for work, without its looking while there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any


class WaitingLoop:
    """Runs an endless coroutine that sleeps and looks, but goes on after a sleep only when there is something to do.

    loop: makes the coroutine. is_idle: whether it would find nothing. `wake` is for the thread of its event loop.
    """

    def __init__(self, loop: Callable[[], Coroutine[Any, Any, None]], is_idle: Callable[[], bool]) -> None:
        self._loop, self._is_idle = loop, is_idle
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        await self

    async def _wait(self) -> None:
        """Until something wakes it; looks once a second all the same, so that nothing can be missed for longer."""
        self._woken.clear()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._woken.wait(), 1)

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._loop()
        try:
            while True:
                yield steps.send(None)  # what the loop waits for, which is mostly its sleep
                while self._is_idle():
                    yield from self._wait().__await__()
        except StopIteration:
            return
        except BaseException as error:  # such as the end of the server
            steps.throw(error)
            raise
