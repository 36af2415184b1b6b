"""One log line for each reply, however it ended.

All figures come from the engine's events; for a reply that was cut short, from those until then. A refused request has
no reply, and so no line here: app/messages.py logs it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from playground.engine.protocol import Event, Finished, Prefilled, Token
from playground.engine.timings import Timings
from playground.errors import PlaygroundError, RequestRefused
from playground.events import ReplyFigures, reply_ended
from playground.limits.visitor import Visitor


class ReplyLog:
    """Collects the events of one reply. model: the name of its file or server; visitor: None on the command line."""

    def __init__(self, model: str, visitor: Visitor | None, question: str) -> None:
        self._model, self._visitor, self._question = model, visitor, question
        self._tokens = 0
        self._latest: Token | None = None
        self._prefilled: Prefilled | None = None
        self._finished: Finished | None = None
        self._failed: Exception | None = None
        self.answer = ""  # so far
        self.tool_calls = self.malformed_calls = 0  # so far; only programs offer functions

    def add_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Token):
                self._tokens, self._latest = self._tokens + 1, event
            elif isinstance(event, Prefilled):
                self._prefilled = event
            elif isinstance(event, Finished):
                self._finished = event

    @contextmanager
    def write_at_end(self) -> Generator[None, None, None]:
        """Around the whole reply: writes the line at its end, also after an error or a close."""
        try:
            yield
        except Exception as error:
            self._failed = error
            raise
        finally:
            if not isinstance(self._failed, RequestRefused):
                self._write()

    def _write(self) -> None:
        chat = {"question": self._question, "answer": self.answer}
        if self._failed:
            chat["problem"] = self._failed.problem if isinstance(self._failed, PlaygroundError) else str(self._failed)
        reply_ended(
            self._model,
            self._visitor.short_id if self._visitor else "",
            self._visitor.via if self._visitor else "",
            "failed" if self._failed else self._finished.reason if self._finished else "stopped",
            self._final_figures(self._finished.timings) if self._finished else self._figures_so_far(),
            error=type(self._failed).__name__ if self._failed else "",
            tool_calls=self.tool_calls,
            malformed_calls=self.malformed_calls,
            chat=chat,
        )

    def _final_figures(self, timings: Timings) -> ReplyFigures:
        prompt = timings.prompt_tokens
        return ReplyFigures(
            timings.generated_tokens or self._tokens,
            None if prompt is None else prompt - (timings.cached_tokens or 0),
            timings.queued_seconds,
            timings.time_to_first_token,
            timings.generation_speed,
            timings.total_seconds,
            timings.disturbed or None,
        )

    def _figures_so_far(self) -> ReplyFigures:
        read, latest = self._prefilled, self._latest
        return ReplyFigures(
            self._tokens,
            read.done - read.cached if read else None,
            time_to_first_token=latest.time_to_first_token if latest else None,
            tokens_per_second=latest.tokens_per_second if latest else None,
            disturbed=(latest.disturbed or None) if latest else None,
        )
