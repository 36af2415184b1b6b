"""A reply of an engine over llama.cpp: how it is asked for, and its events as they are handed out."""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

from playground.engine.protocol import (
    EmbeddingEnded,
    Event,
    Failed,
    Finished,
    Generate,
    ReplyRequest,
    ScoringEnded,
    Token,
    TokenCount,
)
from playground.errors import PlaygroundError

Mail = Event | PlaygroundError


class ReplyStream:
    """The events of one request, in order. The iteration ends after the request's last one, such as Finished.

    Raises PlaygroundError if the request fails, and ModelStopped if the model's process ends. `close` cancels the
    request, and may be called at any time.
    """

    def __init__(self, mailbox: queue.SimpleQueue[Mail], on_close: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._on_close = on_close
        self._open = True
        self._held_error: Mail | None = None  # came right behind other events: for the next call

    @property
    def is_open(self) -> bool:
        return self._open

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if not self._open:
            raise StopIteration
        return self._event_of(self._next_mail(timeout_seconds=None))

    def events_within(self, seconds: float) -> list[Event]:
        """All events that arrive within `seconds`; returns earlier if the request ends.

        The first token of a reply does not wait for others: it is returned as soon as it is there. If an error follows
        some events, these are returned and the next call raises it.
        """
        until = time.monotonic() + seconds
        events: list[Event] = []
        while self._open:
            try:
                mail = self._next_mail(max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if events and isinstance(mail, Failed | PlaygroundError):
                self._held_error = mail
                break
            events.append(self._event_of(mail))
            if isinstance(mail, Token) and mail.count == 1:
                break
        return events

    def _next_mail(self, timeout_seconds: float | None) -> Mail:
        """Raises queue.Empty."""
        held, self._held_error = self._held_error, None
        return held if held is not None else self._mailbox.get(timeout=timeout_seconds)

    def _event_of(self, mail: Mail) -> Event:
        if isinstance(mail, Finished | ScoringEnded | EmbeddingEnded | TokenCount | Failed | PlaygroundError):
            self.close()
        if isinstance(mail, Failed):
            raise PlaygroundError(mail.problem, mail.remedy)
        if isinstance(mail, PlaygroundError):
            raise mail
        return mail

    def close(self) -> None:
        if self._open:
            self._open = False
            self._on_close()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ReplyStarter(ABC):
    """An engine that speaks the commands of protocol.py."""

    def start_reply(self, asked: ReplyRequest) -> ReplyStream:
        """Start a reply, whose events come through the stream."""
        return self._begin_reply(Generate(self._next_request(), asked))

    @abstractmethod
    def _next_request(self) -> int:
        """A number that no other request of this engine has."""

    @abstractmethod
    def _begin_reply(self, command: Generate) -> ReplyStream: ...
