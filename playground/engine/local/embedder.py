"""Turns texts into vectors, with a model that is made for it: one text in each step, the requests in turn.

A text is read alone, so that its vector does not depend on what else is asked at the same time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from playground.engine.protocol import Embed, Embedded, EmbeddingEnded, Event, Failed
from playground.errors import PlaygroundError, RequestRefused
from playground.llama.model import Aborted


class EmbeddingModel(Protocol):
    """What embedding needs of a loaded model; llama/model.py is the real one."""

    context_size: int

    @property
    def trained_context(self) -> int: ...
    def tokenize_whole(self, text: str) -> list[int]: ...
    def embed(self, tokens: Sequence[int]) -> Any: ...
    def clear_abort(self) -> None: ...


class _Request:
    """An Embed command, how many of its texts are done, and the seconds that these took."""

    def __init__(self, command: Embed) -> None:
        self.command = command
        self.done = 0
        self.seconds = 0.0


class Embedder:
    """Serves embedding requests. Call `run_step`, which reads one text, while `is_busy`."""

    def __init__(
        self, model: EmbeddingModel, emit: Callable[[Event], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._requests: deque[_Request] = deque()  # the next one first
        self._reading: int | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._requests)

    def is_reading(self, number: int) -> bool:
        """Whether the step under way is of this request, so that it can be aborted; asked from another thread."""
        return self._reading == number

    def add_request(self, command: Embed) -> None:
        self._requests.append(_Request(command))

    def cancel_request(self, number: int) -> None:
        """End a request. An unknown one is ignored."""
        for request in tuple(self._requests):
            if request.command.request == number:
                self._requests.remove(request)
                self._emit(EmbeddingEnded(number, True, request.seconds))

    def run_step(self) -> None:
        """Read the next text and emit its vector. After an abort it is read again, unless it was cancelled."""
        request = self._requests[0]
        number, texts = request.command.request, request.command.texts
        started, self._reading = self._clock(), number
        try:
            vector, tokens = self._embed(texts[request.done])
        except Aborted:
            self._model.clear_abort()
            return
        except PlaygroundError as error:
            self._requests.popleft()
            self._emit(Failed(number, error.problem, error.remedy))
            return
        finally:
            self._reading = None
        request.seconds += self._clock() - started
        request.done += 1
        self._emit(Embedded(number, vector, tokens))
        self._requests.popleft()
        if request.done < len(texts):
            self._requests.append(request)
        else:
            self._emit(EmbeddingEnded(number, False, request.seconds))

    def _embed(self, text: str) -> tuple[tuple[float, ...], int]:
        """No vector of a text that is too long."""
        tokens = self._model.tokenize_whole(text)
        most = min(self._model.context_size, self._model.trained_context)
        if not tokens:
            raise RequestRefused("A text is empty.", "Send a text.")
        if len(tokens) > most:
            return (), len(tokens)
        return tuple(self._model.embed(tokens).tolist()), len(tokens)
