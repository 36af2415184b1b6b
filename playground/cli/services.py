"""What the commands that run a model share: library, planner and pool, opened and closed together."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from playground.engine.cores import CoreShares
from playground.engine.messages import LoadProgress
from playground.engine.pool import ModelPool
from playground.fit.dry_run import Planner
from playground.llama.parameters import ContextParameters
from playground.machine.memory import read_memory
from playground.machine.processors import read_processors
from playground.models.library import Library
from playground.settings import Settings

if TYPE_CHECKING:
    from playground.engine.pool import Lease


class Services:
    """Open in a `with`; the end of it ends every child process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = Library(settings)
        self._resources = ExitStack()
        self.planner = self._resources.enter_context(Planner())
        cores = CoreShares(read_processors().usable)
        self._resources.callback(cores.close)
        self.pool = ModelPool(cores, self.planner, lambda: read_memory().usable, settings.idle_seconds)
        self._resources.callback(self.pool.close)

    def __enter__(self) -> Services:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()


@contextmanager
def loaded(services: Services, path: Path, context: ContextParameters) -> Iterator[Lease]:
    """A lease on the model, with progress on a terminal while it loads. Raises DoesNotFit or BadModelFile."""
    with _followed(services.pool.open(path, context)) as lease:
        yield lease


def _followed(loading: Generator[LoadProgress, None, Lease]) -> Lease:
    shown = sys.stderr.isatty()
    try:
        while True:
            progress = next(loading)
            if shown:
                print(f"\rLoading {progress.fraction:4.0%}", end="", file=sys.stderr, flush=True)
    except StopIteration as end:
        lease: Lease = end.value
        return lease
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
