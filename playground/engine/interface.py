"""What a reply needs of a model, wherever it is loaded: the right to use it, its engine, and a stream of events.

local/ has the engines of this computer, zerogpu/ one on a GPU that is lent, and remote/ those of servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from playground.engine.protocol import Event, Loaded, ReplyRequest
from playground.engine.remote.engine import RemoteEngine
from playground.fit.plan import MemoryPlan
from playground.llama.control_tokens import Span


class EventStream(Protocol):
    """The events of one reply; ends after Finished, and `close` cancels it."""

    def __next__(self) -> Event: ...
    def events_within(self, seconds: float) -> list[Event]: ...
    def close(self) -> None: ...
    @property
    def is_open(self) -> bool: ...


class Engine(Protocol):
    """A model loaded on this computer. It takes a prompt, while a RemoteEngine takes messages."""

    @property
    def loaded(self) -> Loaded: ...
    @property
    def name(self) -> str: ...
    def count_tokens(self, text: str, literal: Sequence[Span] = ()) -> int: ...
    def start_reply(self, asked: ReplyRequest) -> EventStream: ...


class Lease(Protocol):
    """The right to use a model of the pool or of a server. plan: None for a server's model.

    load_seconds: how long the load took that this lease waited for; None where the model was there.
    """

    @property
    def engine(self) -> Engine | RemoteEngine: ...
    @property
    def plan(self) -> MemoryPlan | None: ...
    @property
    def load_seconds(self) -> float | None: ...
    def release(self) -> None: ...
    def __enter__(self) -> Lease: ...
    def __exit__(self, *_: object) -> None: ...
