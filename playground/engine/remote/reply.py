"""A reply that comes from a server, piece by piece, counted and timed as the playground's own replies are.

Knows nothing of connections. What the server says of its own figures goes before what can be measured here; what
neither can tell is None. While a reply is written and the server keeps the count to itself, each piece counts as one
token, which is how such servers send them; the last word, Finished, holds only what is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from playground.engine.protocol import UNKNOWN_ID, Finished, FinishReason, Timings, Token
from playground.engine.remote.protocol import Piece, ServerFigures

REQUEST = 1  # each reply has a stream of its own, so the number says nothing


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
