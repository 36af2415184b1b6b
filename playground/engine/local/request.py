"""A request for a reply, from the queue to its last token, and the text of its tokens."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final, Literal, Protocol

from playground.engine.protocol import Generate
from playground.engine.timings import UNDISTURBED_SHARE, Timings
from playground.llama.sampling_extras import ThinkingLimit
from playground.text_format import overlap_at_end

_LEAST_SECONDS: Final = 0.2  # of computing, for a share of the cores: CPU time is counted in ticks of up to 10 ms


class Sampler(Protocol):
    def close(self) -> None: ...


class CoreTime:
    """How much of its cores' time a computation had. threads x seconds is what it could have had at most."""

    def __init__(self) -> None:
        self._seconds = self._possible = self._used = 0.0

    def add(self, seconds: float, threads: int, cpu_seconds: float) -> None:
        self._seconds += seconds
        self._possible += seconds * threads
        self._used += cpu_seconds

    @property
    def share(self) -> float | None:
        """From 0 to 1; None if it did not last long enough to tell."""
        return min(1.0, self._used / self._possible) if self._seconds >= _LEAST_SECONDS else None


class GenerateRequest:
    """One growing list of tokens, the prompt first, of which `evaluated` are in the KV cache.

    asked: what was asked for. The prompt ends with what of the reply is there already.
    max_cells: the most cells of the KV cache that it can ever need.
    position: in the queue, as the last Queued event had it. Times are in seconds.
    """

    def __init__(
        self, command: Generate, prompt: list[int], context_size: int, sampler: Sampler | None, now: float
    ) -> None:
        self.asked = asked = command.asked
        self.number = command.request
        self.tokens = prompt
        self.prompt_size = len(prompt)
        self.question_size = len(prompt) - len(asked.written)  # without what of the reply is there already
        self.thoughts = BoundedThoughts(asked.extras.thinking) if asked.extras.thinking else None
        self.forced: list[int] = []  # tokens that are written next in the model's place
        self.max_cells = min(len(prompt) + (asked.max_tokens or context_size), context_size)
        self.text = TextStream(asked.stop)
        self.sampler = sampler
        self.evaluated = 0
        self.cached = 0
        self.position = 0
        self.submitted_at = now
        self.admitted_at: float | None = None
        self.first_token_at: float | None = None
        self._prefilled = 0
        self._prefill_seconds = 0.0
        self._decoded = 0
        self._decode_seconds = 0.0
        self._prefill_cores = CoreTime()
        self._decode_cores = CoreTime()

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_size

    def next_piece(self, most: int) -> int:
        """How many tokens of the prompt a step of a reproducible request evaluates.

        What was written before is evaluated token by token, so that it leaves what it left when it was written.
        """
        left = self.question_size - self.evaluated
        return min(most, left) if left > 0 else min(most, 1)

    @property
    def left_of_prompt(self) -> int:
        """Tokens of the prompt that are not evaluated yet."""
        return max(0, self.prompt_size - self.evaluated)

    @property
    def is_generating(self) -> bool:
        """Whether only the newest generated token is left to evaluate."""
        return self.generated > 0 and self.evaluated == len(self.tokens) - 1

    @property
    def generation_speed(self) -> float | None:
        """Tokens per second after the first token, whose time belongs to the prompt. An end token counts, too."""
        return self._decoded / self._decode_seconds if self._decode_seconds > 0 else None

    @property
    def is_disturbed(self) -> bool:
        """Whether something else had the cores for a part of the generation so far."""
        share = self._decode_cores.share
        return share is not None and share < UNDISTURBED_SHARE

    def running_seconds(self, now: float) -> float:
        """How long it has had its slot."""
        return 0.0 if self.admitted_at is None else now - self.admitted_at

    def count_evaluated(self, tokens: int, seconds: float) -> None:
        """A step has evaluated so many more tokens."""
        if self.is_generating:
            self._decoded += tokens
            self._decode_seconds += seconds
        else:
            self._prefilled += tokens
            self._prefill_seconds += seconds
        self.evaluated += tokens

    def count_core_time(self, seconds: float, threads: int, cpu_seconds: float) -> None:
        """The decode of a step, before `count_evaluated`."""
        (self._decode_cores if self.is_generating else self._prefill_cores).add(seconds, threads, cpu_seconds)

    def timings(self, now: float, threads: int) -> Timings:
        shares = [part.share for part in (self._prefill_cores, self._decode_cores) if part.share is not None]
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
            core_share=min(shares, default=None),
        )

    def close(self) -> None:
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None


class BoundedThoughts:
    """Follows a reply, and says when its thoughts have reached their limit."""

    def __init__(self, limit: ThinkingLimit) -> None:
        self.limit = limit
        self._tail = ""
        self._tokens = 0
        self._place: Literal["before", "inside", "over"] = "before" if limit.opener else "inside"

    def add_piece(self, text: str) -> bool:
        """Whether the closing mark has to follow this token."""
        if self._place == "over":
            return False
        self._tail += text
        if self._place == "inside":
            self._tokens += 1
        elif (begun := self._tail.lstrip()).startswith(self.limit.opener):
            self._place, self._tail = "inside", begun[len(self.limit.opener) :]
        elif not self.limit.opener.startswith(begun):
            self._place = "over"  # the model answers without thoughts
        if self._place != "inside":
            return False
        is_closed, is_full = self.limit.closer in self._tail, self._tokens >= self.limit.tokens
        self._tail = self._tail[-len(self.limit.closer) :]
        if is_closed or is_full:
            self._place = "over"
        return is_full and not is_closed


class TextStream:
    """Tokens' bytes as text: whole characters only, up to the first stop string, wherever the tokens' borders are."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop_strings = [string for string in stop if string]
        self._held = ""
        self.stopped_by = ""  # the stop string that was reached

    def go_on_after(self, data: bytes) -> None:
        """These bytes were written before: a character may begin in them."""
        self._decoder.decode(data)

    def add_bytes(self, data: bytes) -> str:
        """The text that is certain now; "" while a character or a possible stop string is incomplete."""
        return self._release(self._decoder.decode(data), is_last=False)

    def finish_text(self) -> str:
        """The text that was held back, as no more tokens follow; without the beginning of a character that was cut."""
        return self._release("", is_last=True)

    def _release(self, text: str, *, is_last: bool) -> str:
        if self.stopped_by:
            return ""
        self._held += text
        found = [(start, string) for string in self._stop_strings if (start := self._held.find(string)) >= 0]
        if found:
            start, self.stopped_by = min(found)
            released, self._held = self._held[:start], ""
            return released
        keep = 0 if is_last else max((overlap_at_end(self._held, string) for string in self._stop_strings), default=0)
        split = len(self._held) - keep
        released, self._held = self._held[:split], self._held[split:]
        return released
