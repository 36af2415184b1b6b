"""Replies that go on for a while when their page is gone, and that the page finds again when it is back.

A page that reloads, or whose connection breaks, closes the generator from which its reply is read. So a thread moves a
reply on, and readers only look at what is new to them. The page finds its reply by a key that its browser made up: 128
random bits, which nobody else can guess. What came is kept for `KEPT_SECONDS` after the end, within a bound.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Final, Generic, Protocol, TypeVar

from playground.limits.run import Run
from playground.limits.visitor import Visitor

ABSENCE_SECONDS: Final = 20.0  # how long a reply goes on while nobody reads it
KEPT_SECONDS: Final = 300.0  # how long what came is kept after its end
MOST_ENDED: Final = 64  # replies that are kept after their end, of all visitors
MOST_ENDED_EACH: Final = 3  # and of one visitor
MOST_CHARACTERS: Final = 4_000_000  # of all replies that are kept after their end, with their chats

_KEY: Final = re.compile(r"[0-9a-f]{32}")


def read_key(text: str) -> str:
    """The key that a browser sent; "" for any other text."""
    return text if _KEY.fullmatch(text) else ""


class Progress(Protocol):
    """An update of a work: what is new. `after` adds what was new before and still is; `size` is in characters."""

    def after(self: U, earlier: U) -> U: ...
    @property
    def size(self) -> int: ...


U = TypeVar("U", bound=Progress)
ResumableWork = Callable[[Callable[[Run], None] | None], Iterator[U]]


class _Reply(Generic[U]):
    """One reply: its updates so far as one, and for each reader what is new to it. Thread-safe."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.all: U | None = None
        self.ended_at: float | None = None
        self._run: Run | None = None
        self._error: Exception | None = None
        self._news: dict[object, U | None] = {}  # by reader
        self._changed = threading.Condition()

    def set_run(self, run: Run) -> None:
        """The run that the work belongs to, which ends some time after the last reader has left."""
        with self._changed:
            self._run = run
            has_readers = bool(self._news)
        if not has_readers:
            run.leave()

    def move_on(self, updates: Iterator[U], clock: Callable[[], float]) -> None:
        """Read all updates; on a thread of its own."""
        try:
            for update in updates:
                self._add(update)
        except Exception as error:  # a fault of ours: the reader raises it, as if it had read the updates itself
            self._error = error
        finally:
            with self._changed:
                self.ended_at = clock()
                self._changed.notify_all()

    def _add(self, update: U) -> None:
        with self._changed:
            self.all = update if self.all is None else update.after(self.all)
            for reader, news in self._news.items():
                self._news[reader] = update if news is None else update.after(news)
            self._changed.notify_all()

    def add_reader(self, visitor: Visitor) -> object:
        """A reader, for `read`. The run belongs to its page from now on."""
        reader = object()
        with self._changed:
            self._news[reader] = self.all
            self.visitor = visitor
        if self._run:
            self._run.come_back(visitor)
        return reader

    def read(self, reader: object) -> Iterator[U]:
        """All that came until now as one update, then what comes. Who stops reading leaves the reply to itself."""
        try:
            while (update := self._next(reader)) is not None:
                yield update
        finally:
            with self._changed:
                del self._news[reader]
                is_alone = not self._news and self.ended_at is None
            if is_alone and self._run:
                self._run.leave()

    def _next(self, reader: object) -> U | None:
        with self._changed:
            self._changed.wait_for(lambda: self._news[reader] is not None or self.ended_at is not None)
            news, self._news[reader] = self._news[reader], None
            if news is None and self._error is not None:
                raise self._error
            return news


class ResumableReplies(Generic[U]):
    """The replies of all visitors, by key. Thread-safe.

    absence_seconds: how long a reply goes on while nobody reads it. clock: in seconds.
    """

    def __init__(
        self, absence_seconds: float = ABSENCE_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.absence_seconds = absence_seconds
        self._clock = clock
        self._replies: dict[str, _Reply[U]] = {}  # the one that began last at the end
        self._lock = threading.Lock()

    def start(self, key: str, visitor: Visitor, work: ResumableWork[U]) -> Iterator[U]:
        """The updates of a work, which goes on without its reader and can be found by the key.

        work: called with a function that takes its run once it has one; with None if the key cannot be used, and then
        the work ends with its reader.
        """
        if not read_key(key):
            yield from work(None)
            return
        reply = _Reply[U](visitor)
        reader = reply.add_reader(visitor)

        def has_begun(run: Run) -> None:
            reply.set_run(run)
            with self._lock:
                self._forget_old_replies()
                self._replies.pop(key, None)
                self._replies[key] = reply

        # In the context of the page's event, by which ZeroGPU knows the visitor.
        arguments = (reply.move_on, work(has_begun), self._clock)
        threading.Thread(target=copy_context().run, args=arguments, daemon=True, name="reply").start()
        yield from reply.read(reader)

    def find(self, key: str) -> tuple[U | None, bool]:
        """All that came of the reply as one update, None if there is none; and whether it goes on."""
        with self._lock:
            self._forget_old_replies()
            reply = self._replies.get(key)
        return (reply.all, reply.ended_at is None) if reply else (None, False)

    def resume(self, key: str, visitor: Visitor) -> Iterator[U]:
        """The reply of a page that is back in a new session: what came until now, then what comes."""
        with self._lock:
            reply = self._replies.get(key)
        if reply:
            yield from reply.read(reply.add_reader(visitor))

    def forget(self, key: str) -> None:
        """The page needs what came no longer."""
        with self._lock:
            self._replies.pop(key, None)

    def _forget_old_replies(self) -> None:
        """Drop what ended too long ago, and the oldest of what is too much; the lock is held."""
        now = self._clock()
        kept_characters = kept = 0
        kept_each: dict[str, int] = {}
        for key, reply in reversed(list(self._replies.items())):
            if reply.ended_at is None:
                continue
            person = reply.visitor.person
            size = reply.all.size if reply.all else 0
            is_too_much = (
                kept >= MOST_ENDED
                or kept_each.get(person, 0) >= MOST_ENDED_EACH
                or kept_characters + size > MOST_CHARACTERS
            )
            if is_too_much or now - reply.ended_at >= KEPT_SECONDS:
                del self._replies[key]
                continue
            kept, kept_characters = kept + 1, kept_characters + size
            kept_each[person] = kept_each.get(person, 0) + 1
