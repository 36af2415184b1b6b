"""The account of one reply for the log: what came of it, in one line, however it ended.

Hears the reply's events as they pass, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from playground import journal
from playground.engine.messages import Event, Finished, Token
from playground.errors import PlaygroundError


class Account:
    """model: its file's or server's name; visitor: who asked, as the log knows them, "" for none."""

    def __init__(self, model: str, visitor: str, question: str) -> None:
        self._model, self._visitor, self._question = model, visitor, question
        self._tokens = 0
        self._finished: Finished | None = None
        self._failed: Exception | None = None
        self.answer = ""  # so far

    def hear(self, events: Sequence[Event]) -> None:
        self._tokens += sum(isinstance(event, Token) for event in events)
        self._finished = next((event for event in events if isinstance(event, Finished)), self._finished)

    @contextmanager
    def kept(self) -> Generator[None, None, None]:
        """Around the whole reply: its end, also by an error or by being closed, is one line."""
        try:
            yield
        except Exception as error:
            self._failed = error
            raise
        finally:
            self._note()

    def _note(self) -> None:
        timings = self._finished.timings if self._finished else None
        chat = {"question": self._question, "answer": self.answer}
        if self._failed:
            told = self._failed.problem if isinstance(self._failed, PlaygroundError) else str(self._failed)
            chat["problem"] = told
        journal.reply_ended(
            self._model,
            self._visitor,
            "failed" if self._failed else self._finished.reason if self._finished else "stopped",
            (timings.generated_tokens if timings else None) or self._tokens,
            timings.generation_speed if timings else None,
            timings.total_seconds if timings else None,
            error=type(self._failed).__name__ if self._failed else "",
            chat=chat,
        )
