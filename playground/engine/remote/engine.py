"""A server's model as an engine.

A RemoteEngine takes messages where a LocalEngine takes a prompt, because a server renders its own; from there on both
speak the same events. Each request has a thread that reads; closing a reply cuts its line. Which requests a server
takes is found out by asking: the fullest first, and then less, because each knows other extras and some refuse them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from playground.engine.local.client import Mail, ReplyStream
from playground.engine.protocol import Event, Prefilled, Sampling
from playground.engine.remote.client import AskedTooMuch, Connection, HungUp, ServerLine
from playground.engine.remote.errors import broken_off, cut_short, given_up, odd_answer
from playground.engine.remote.protocol import Piece, RemoteModel, Turn, finish_reason, full_body, plain_body
from playground.engine.remote.reply import REQUEST, RemoteReply
from playground.errors import PlaygroundError, RemoteProblem

_LONGEST_REPLY: Final = 4_000_000  # characters
_BEYOND_LIMIT: Final = 16  # pieces that a server may send beyond the tokens asked for, before its line is cut


class RemoteEngine:
    """One model of a server. `submit` from any thread; there is nothing to load, and nothing is known of its memory."""

    loaded: Final = None  # a server keeps the facts of a loaded model to itself

    def __init__(self, line: ServerLine, model: RemoteModel) -> None:
        self.model = model
        self._line = line
        self._beyond: frozenset[tuple[bool, bool]] = frozenset()  # kinds of request that were too much for the server
        self._empty_text: int | None = None

    @property
    def name(self) -> str:
        return f"{self.model.id}@{self.model.server}"

    def submit(
        self, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None = None, alternatives: int = 0
    ) -> ReplyStream:
        """Start a reply to these messages, the system text first; its events come through the stream.

        alternatives: how many top tokens should come with each, where the server gives them.
        """
        mailbox: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        line = Connection()

        def read() -> None:
            try:
                for event in self._events(line, turns, sampling, max_tokens, alternatives):
                    mailbox.put(event)
            except HungUp:
                pass
            except PlaygroundError as error:
                mailbox.put(error)
            except Exception as error:  # whatever it was, whoever waits must learn of it
                mailbox.put(RemoteProblem(f"The reply of {self.model.server} failed: {type(error).__name__}."))

        threading.Thread(target=read, daemon=True, name=f"reply of {self.model.server}").start()
        return ReplyStream(mailbox, line.cut)

    def count_tokens(self, text: str) -> int | None:
        """None where the server cannot tell. What a tokenizer puts before every text is not counted."""
        count = self._line.count_tokens(self.model.id, text)
        if count is None:
            return None
        if self._empty_text is None:
            self._empty_text = self._line.count_tokens(self.model.id, "") or 0
        return count - self._empty_text

    def _events(
        self, line: Connection, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
    ) -> Iterator[Event]:
        alternatives = 0 if self.model.scores_slowly else alternatives
        reply = RemoteReply(time.monotonic())
        finish: str | None = None
        for piece in self._pieces(line, turns, sampling, max_tokens, alternatives):
            line.check()
            if reply.pieces == 0 and (prompt := piece.figures.prompt_tokens):
                yield Prefilled(REQUEST, prompt, prompt, piece.figures.cached_tokens or 0)
            yield from reply.take(piece, time.monotonic())
            finish = piece.finish or finish
            if finish is None and max_tokens is not None and reply.pieces > max_tokens + _BEYOND_LIMIT:
                finish = "length"  # it has lost count, or never looked
                break
            if len(reply.text) > _LONGEST_REPLY:
                raise odd_answer(self._line.server)
        ended_at = time.monotonic()
        if finish is None:
            raise cut_short(self._line.server) if reply.pieces else broken_off(self._line.server)
        reason = finish_reason(finish, reply.told_tokens, max_tokens)
        if reason is None:
            raise given_up(self._line.server, finish)
        yield reply.finished(reason, ended_at, self.count_tokens)

    def _pieces(
        self, line: Connection, turns: Sequence[Turn], sampling: Sampling, max_tokens: int | None, alternatives: int
    ) -> Iterator[Piece]:
        """The stream of the fullest request that this server takes: each knows other extras, and some refuse them."""
        kinds = [
            (extras, scores) for scores in ((True, False) if alternatives else (False,)) for extras in (True, False)
        ]
        left = [kind for kind in kinds if kind not in self._beyond] or kinds[-1:]
        for place, (extras, scores) in enumerate(left):
            body = (full_body if extras else plain_body)(
                self.model.id, turns, sampling, max_tokens, alternatives if scores else 0
            )
            begun = False
            try:
                for piece in self._line.pieces(body, line):
                    begun = True
                    yield piece
                self._beyond |= frozenset(left[:place])
                return
            except AskedTooMuch:
                line.check()
                if begun or place == len(left) - 1:
                    raise
