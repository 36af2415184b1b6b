"""The events of one request, as the two kinds of engine hand them to the page."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

from playground.engine.protocol import Event, Failed, Finished, ScoringEnded, TokenCount
from playground.errors import PlaygroundError

Mail = Event | PlaygroundError


class ReplyStream:
    """The events of one request, in order; iteration ends after Finished, or a scoring's ScoringEnded.

    `close` cancels, and is safe at any time.

    Raises PlaygroundError when the request fails, ModelStopped when the model's process ends.
    """

    def __init__(self, mailbox: queue.SimpleQueue[Mail], on_close: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._on_close = on_close
        self._open = True
        self._held: Mail | None = None  # trouble that came close behind events, for the next look

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if not self._open:
            raise StopIteration
        return self._opened(self._taken(None))

    def events_within(self, seconds: float) -> list[Event]:
        """All events that come within `seconds`, sooner if the reply ends; for whoever shows many at a time.

        What ends the reply with an error is raised by the next call where events came before it: none is lost.
        """
        until = time.monotonic() + seconds
        events: list[Event] = []
        while self._open:
            try:
                mail = self._taken(max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if events and isinstance(mail, Failed | PlaygroundError):
                self._held = mail
                break
            events.append(self._opened(mail))
        return events

    def _taken(self, timeout_seconds: float | None) -> Mail:
        held, self._held = self._held, None
        return held if held is not None else self._mailbox.get(timeout=timeout_seconds)

    @property
    def is_open(self) -> bool:
        return self._open

    def _opened(self, mail: Mail) -> Event:
        if isinstance(mail, Finished | ScoringEnded | TokenCount):
            self._end()
        if isinstance(mail, Failed):
            self._end()
            raise PlaygroundError(mail.problem, mail.remedy)
        if isinstance(mail, PlaygroundError):
            self._end()
            raise mail
        return mail

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._on_close()

    def close(self) -> None:
        self._end()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
