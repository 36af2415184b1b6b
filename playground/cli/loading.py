"""Loads a model for a command, with progress where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from playground.engine.pool import Lease, Opening
from playground.llama.parameters import ContextParameters
from playground.services import Services


@contextmanager
def loaded(services: Services, path: Path, context: ContextParameters) -> Iterator[Lease]:
    """A lease on the model, with progress on a terminal while it loads. Raises DoesNotFit or BadModelFile."""
    with _followed(services.pool.open(path, context)) as lease:
        yield lease


def _followed(loading: Generator[Opening, None, Lease]) -> Lease:
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
