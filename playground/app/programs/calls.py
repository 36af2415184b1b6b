"""What programs ask at this moment: one entry for each reply under way, with its speed and a way to stop it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from playground.chat.programs.reply import ReplyPiece
from playground.engine.protocol import Token
from playground.limits.run import Run
from playground.llama.params import DeviceChoice


@dataclass(frozen=True)
class LoadChoice:
    """How a request wants its model loaded; None where any way will do. context_size: in tokens."""

    context_size: int | None = None
    device: DeviceChoice | None = None


AS_LOADED: Final = LoadChoice()
CallState = Literal["loading", "reading", "writing", "embedding"]


@dataclass
class ProgramCall:
    """A request under way. about: the beginning of what was asked. choices: how many replies are written.

    tokens, tokens_per_second: of all choices together; tokens are those written, or read of texts that become vectors.
    """

    number: int
    model: str
    about: str
    run: Run
    choices: int = 1
    started_at: float = field(default_factory=time.monotonic)
    state: CallState = "loading"
    embedded_tokens: int = 0
    latest: dict[int, Token] = field(default_factory=dict)  # by choice
    ended: set[int] = field(default_factory=set)

    def add_piece(self, piece: ReplyPiece) -> None:
        if piece.prefilled and self.state == "loading":
            self.state = "reading"
        if piece.tokens:
            self.state = "writing"
            self.latest = {**self.latest, piece.choice: piece.tokens[-1]}
        if piece.embedded:
            self.state = "embedding"
            self.embedded_tokens += sum(one.tokens for one in piece.embedded)
        if piece.finished:
            self.ended.add(piece.choice)

    @property
    def is_whole(self) -> bool:
        """Whether every reply to it has ended."""
        return len(self.ended) == self.choices

    @property
    def tokens(self) -> int:
        return self.embedded_tokens + sum(token.count for token in self.latest.values())

    @property
    def tokens_per_second(self) -> float | None:
        """None before the second token."""
        under_way = (token for choice, token in self.latest.items() if choice not in self.ended or self.is_whole)
        return sum(token.tokens_per_second or 0.0 for token in under_way) or None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at


class ProgramCalls:
    """All replies under way for programs; thread-safe. served: how many there were since the start."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._calls: dict[int, ProgramCall] = {}
        self.served = 0

    def next_number(self) -> int:
        return next(self._numbers)

    @contextmanager
    def listed(self, call: ProgramCall) -> Iterator[None]:
        """In the list until the end of the `with`."""
        with self._lock:
            self._calls[call.number] = call
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(call.number, None)
                self.served += 1

    def under_way(self) -> list[ProgramCall]:
        """The oldest first."""
        with self._lock:
            return list(self._calls.values())

    def stop(self, number: int) -> None:
        """End a reply; one that has ended already is left alone."""
        with self._lock:
            call = self._calls.get(number)
        if call:
            call.run.request_stop()
