"""What several commands take: kinds of argument, and the model that a command loads.

argparse turns a ValueError of a kind of argument into misuse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from playground.app.services import Services
    from playground.engine.local.pool import LoadStatus, ModelLease
    from playground.engine.remote.protocol import RemoteModel
    from playground.engine.remote.registry import RemoteLease
    from playground.llama.params import ContextParameters
    from playground.models.library import ModelFile

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Held = TypeVar("Held", "ModelLease", "RemoteLease")

LARGEST_CONTEXT: Final = 1 << 24  # tokens; beyond every model, and llama.cpp's own bookkeeping takes 1 GB for it


def tokens(text: str) -> int:
    """A number of tokens, up to the largest context; `32k` and `32K` are 32,768."""
    thousands = text[-1:] in "kK" and len(text) > 1
    return _between(1, int(text[:-1]) * 1024 if thousands else int(text), LARGEST_CONTEXT)


def slots(text: str) -> int:
    """Chats at once, as many as llama.cpp has sequences."""
    return _between(1, int(text), 64)


def repeats(text: str) -> int:
    return _between(1, int(text), 1000)


def port(text: str) -> int:
    return _between(0, int(text), 65535)


def seed(text: str) -> int:
    """What llama.cpp takes: 32 bits, of which the highest number means "draw one"."""
    return _between(0, int(text), (1 << 32) - 2)


def temperature(text: str) -> float:
    """0 for greedy, up to 10."""
    number = float(text)
    if not 0 <= number <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (always the likeliest token) and 10")
    return number


def _between(least: int, number: int, most: int) -> int:
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
    return number


@contextmanager
def loaded(services: Services, path: Path, context: ContextParameters) -> Iterator[ModelLease]:
    """A lease on the model, with progress on a terminal while it loads. Raises DoesNotFit or BadModelFile."""
    with _followed(services.pool.lease_model(path, context)) as lease:
        yield lease


@contextmanager
def leased(
    services: Services, model: ModelFile | RemoteModel, context: ContextParameters | None
) -> Iterator[ModelLease | RemoteLease]:
    """The same for a model of a server, too, whose context is its own."""
    from playground.engine.remote.protocol import RemoteModel

    if isinstance(model, RemoteModel):
        with _followed(services.remotes.lease_model(model)) as remote:
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
