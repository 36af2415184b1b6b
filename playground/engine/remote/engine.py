"""A server's model as an engine.

A RemoteEngine takes messages where a LocalEngine takes a prompt, because a server renders its own; from there on both
speak the same events. Each request has a thread that reads; closing a reply cuts its line. Which requests a server
takes is found out by asking: the fullest first, and then less, because each knows other extras and some refuse them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from playground.engine.protocol import UNKNOWN_ID, Event, Finished, FinishReason, Prefilled, Sampling, Timings, Token
from playground.engine.remote.client import AskedTooMuch, Connection, HungUp, ServerClient
from playground.engine.remote.errors import broken_off, cut_short, given_up, odd_answer
from playground.engine.remote.protocol import (
    Piece,
    RemoteModel,
    ServerFigures,
    Turn,
    finish_reason,
    full_body,
    plain_body,
)
from playground.engine.reply_stream import Mail, ReplyStream
from playground.errors import PlaygroundError, RemoteProblem

REQUEST: Final = 1  # each reply has a stream of its own, so the number says nothing
_LONGEST_REPLY: Final = 4_000_000  # characters
_BEYOND_LIMIT: Final = 16  # pieces that a server may send beyond the tokens asked for, before its line is cut


class RemoteEngine:
    """One model of a server. Call `start_reply` from any thread; nothing is loaded here, and its memory is unknown."""

    loaded: Final = None  # a server keeps the facts of a loaded model to itself

    def __init__(self, line: ServerClient, model: RemoteModel) -> None:
        self.model = model
        self._line = line
        self._beyond: frozenset[tuple[bool, bool]] = frozenset()  # kinds of request that were too much for the server
        self._empty_text: int | None = None

    @property
    def name(self) -> str:
        return f"{self.model.id}@{self.model.server}"

    def start_reply(
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


class RemoteReply:
    """Feed it pieces with the second at which each came."""

    def __init__(self, started_at: float) -> None:
        self.figures = ServerFigures()
        self.text = ""
        self.pieces = 0
        self._scored = 0
        self._started_at = started_at
        self._first_at: float | None = None
        self._first_count = 0  # tokens in the first piece, whose time belongs to the prompt
        self._last_at = started_at
        self._thinks = False

    @property
    def told_tokens(self) -> int | None:
        """Tokens written so far, as the server says or as its log-probabilities count them."""
        return self.figures.generated_tokens or self._scored or None

    def take(self, piece: Piece, now: float) -> Iterator[Token]:
        """The tokens of a piece; several where the server says that they are."""
        self.figures = self.figures.updated(piece.figures)
        text = self._marked(piece)
        if not text and not piece.scores:
            return
        self.pieces += 1
        self.text += text
        self._last_at = now
        before = self._scored
        self._scored += len(piece.scores)
        if self._first_at is None:
            self._first_at = now
            self._first_count = self._count
        texts = [score.text for score in piece.scores] or [text]
        if "".join(texts) != text:  # marks of thinking, or characters of several tokens
            texts = [*("" for _ in texts[1:]), text]
        for number, part in enumerate(texts):
            score = piece.scores[number] if piece.scores else None
            count = self._count if score is None else before + number + 1
            yield Token(
                request=REQUEST,
                text=part,
                id=score.id if score else UNKNOWN_ID,
                count=count,
                tokens_per_second=self._speed_so_far,
                context_used=self._context_used,
                logprob=score.logprob if score else None,
                top=score.top if score else (),
                time_to_first_token=self._first_at - self._started_at,
            )

    def finished(self, reason: FinishReason, now: float, count_tokens: Callable[[str], int | None]) -> Finished:
        """The last word. count_tokens: asked only where the server did not say how many there were."""
        generated = self.told_tokens if self.pieces else 0
        if generated is None:
            generated = count_tokens(self.text)
        first = None if self._first_at is None else self._first_at - self._started_at
        told = self.figures
        return Finished(
            REQUEST,
            reason,
            Timings(
                queued_seconds=None,
                prompt_tokens=told.prompt_tokens,
                cached_tokens=told.cached_tokens,
                prompt_speed=told.prompt_speed,
                time_to_first_token=first,
                generated_tokens=generated,
                generation_speed=told.generation_speed or self._speed(generated),
                total_seconds=now - self._started_at,
                threads=None,
            ),
        )

    @property
    def _count(self) -> int:
        return self.told_tokens or self.pieces

    @property
    def _speed_so_far(self) -> float | None:
        return self.figures.generation_speed or self._speed(self._count)

    def _speed(self, tokens: int | None) -> float | None:
        """Tokens after the first piece by the seconds after it."""
        if tokens is None or self._first_at is None or self._last_at <= self._first_at:
            return None
        after = tokens - self._first_count
        return after / (self._last_at - self._first_at) if after > 0 else None

    @property
    def _context_used(self) -> int | None:
        prompt = self.figures.prompt_tokens
        return None if prompt is None else prompt + self._count

    def _marked(self, piece: Piece) -> str:
        """Thoughts that the server sets apart get the marks that models write, so that one reader serves for all."""
        text = ""
        if piece.thinking:
            text += piece.thinking if self._thinks else f"<think>{piece.thinking}"
            self._thinks = True
        if piece.text:
            text += f"</think>{piece.text}" if self._thinks else piece.text
            self._thinks = False
        return text
