"""Loads a model for a command, with progress where somebody watches; a server's model is only asked for."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from playground.app.services import Services
from playground.engine.local.pool import LoadStatus, ModelLease
from playground.engine.remote.protocol import RemoteModel
from playground.engine.remote.registry import RemoteLease
from playground.llama.params import ContextParameters
from playground.models.library import ModelFile

Held = TypeVar("Held", ModelLease, RemoteLease)


@contextmanager
def loaded(services: Services, path: Path, context: ContextParameters) -> Iterator[ModelLease]:
    """A lease on the model, with progress on a terminal while it loads. Raises DoesNotFit or BadModelFile."""
    with _followed(services.pool.open(path, context)) as lease:
        yield lease


@contextmanager
def leased(
    services: Services, model: ModelFile | RemoteModel, context: ContextParameters | None
) -> Iterator[ModelLease | RemoteLease]:
    """The same for a model of a server, too, whose context is its own."""
    if isinstance(model, RemoteModel):
        with _followed(services.remotes.open(model)) as remote:
            yield remote
    else:
        assert context is not None
        with loaded(services, model.path, context) as lease:
            yield lease


def _followed(loading: Generator[LoadStatus, None, Held]) -> Held:
    shown = sys.stderr.isatty()
    try:
        while True:
            progress = next(loading)
            if shown:
                print(f"\rLoading {progress.fraction:4.0%}", end="", file=sys.stderr, flush=True)
    except StopIteration as end:
        lease: Held = end.value
        return lease
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
