"""A request on its way from the queue to its last token: its tokens, its room in the cache, its times."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol

from playground.engine.protocol import Generate, Timings


class Sampler(Protocol):
    def close(self) -> None: ...


class GenerateRequest:
    """One growing list of tokens, prompt first, of which `evaluated` are in the KV cache. Times in seconds."""

    def __init__(self, wanted: Generate, prompt: list[int], context_size: int, now: float) -> None:
        self.wanted = wanted
        self.request = wanted.request
        self.tokens = prompt
        self.prompt_size = len(prompt)
        self.cells = min(len(prompt) + (wanted.max_tokens or context_size), context_size)  # the most it may ever hold
        self.text = TextStream(wanted.stop)
        self.sampler: Sampler | None = None
        self.evaluated = 0
        self.cached = 0
        self.place = 0  # in the queue, as last told
        self.submitted_at = now
        self.admitted_at: float | None = None
        self.first_token_at: float | None = None
        self._prefilled = 0
        self._prefill_seconds = 0.0
        self._decoded = 0
        self._decode_seconds = 0.0

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_size

    @property
    def remaining(self) -> list[int]:
        return self.tokens[self.evaluated :]

    @property
    def generating(self) -> bool:
        """Whether only the newest generated token is left to evaluate."""
        return self.generated > 0 and self.evaluated == len(self.tokens) - 1

    @property
    def generation_speed(self) -> float | None:
        """Tokens per second after the first, whose time belongs to the prompt; an end-of-text token counts as work."""
        return self._decoded / self._decode_seconds if self._decode_seconds > 0 else None

    def admitted(self, now: float) -> None:
        self.admitted_at = now

    def served_seconds(self, now: float) -> float:
        """For how long it has had its place in the batch."""
        return 0.0 if self.admitted_at is None else now - self.admitted_at

    def account(self, count: int, seconds: float) -> None:
        """A step has evaluated `count` more tokens."""
        if self.generating:
            self._decoded += count
            self._decode_seconds += seconds
        else:
            self._prefilled += count
            self._prefill_seconds += seconds
        self.evaluated += count

    def timings(self, now: float, threads: int) -> Timings:
        waited_until = self.admitted_at if self.admitted_at is not None else now
        return Timings(
            queued_seconds=waited_until - self.submitted_at,
            prompt_tokens=self.prompt_size,
            cached_tokens=self.cached,
            prompt_speed=self._prefilled / self._prefill_seconds if self._prefill_seconds > 0 else None,
            time_to_first_token=None if self.first_token_at is None else self.first_token_at - self.submitted_at,
            generated_tokens=self.generated,
            generation_speed=self.generation_speed,
            total_seconds=now - self.submitted_at,
            threads=threads,
        )

    def close(self) -> None:
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None


class TextStream:
    """An incremental UTF-8 decoder that ends at the first stop string, wherever token borders fall."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = [word for word in stop if word]
        self._held = ""
        self.stopped = False

    def feed(self, data: bytes) -> str:
        """The text that is certain now; empty while a character or a possible stop string is incomplete."""
        return self._release(self._decoder.decode(data), final=False)

    def finish(self) -> str:
        """What was held back: the reply is over, so it belongs to the text (a torn character becomes U+FFFD)."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [place for word in self._stop if (place := self._held.find(word)) >= 0]
        if found:
            self.stopped = True
            released, self._held = self._held[: min(found)], ""
            return released
        keep = 0 if final else max((_overlap(self._held, word) for word in self._stop), default=0)
        split = len(self._held) - keep
        released, self._held = self._held[:split], self._held[split:]
        return released


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of `text` could be the beginning of `word`."""
    for length in range(min(len(text), len(word) - 1), 0, -1):
        if text.endswith(word[:length]):
            return length
    return 0
