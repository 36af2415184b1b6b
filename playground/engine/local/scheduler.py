"""Continuous batching: many requests share the steps of one model.

Knows no llama.cpp and no pipes: it drives a Decoder and emits events. Each step admits whom the cache has room for
(sequences.py), builds one batch (a token for every sequence that generates, then pieces of prompts), decodes it,
samples and emits.

A reply is one growing list of tokens, prompt first, and a count of how many of them are in the cache. Whatever is not
there yet is evaluated next; so a lost cache costs time, never text.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from playground.engine.local.kv_cache import CacheMemory, SequenceCache, Slot
from playground.engine.local.request import GenerateRequest
from playground.engine.protocol import (
    Alternative,
    Event,
    Failed,
    Finished,
    FinishReason,
    Generate,
    Prefilled,
    Queued,
    Token,
)
from playground.errors import PlaygroundError
from playground.llama.model import Aborted, BatchRow, CacheFull

STEP_SECONDS: Final = 0.5  # a step should take no longer, so that Stop and other chats never wait long
SMALLEST_CHUNK: Final = 16  # prompt tokens in a step, however slow the model
FIRST_CHUNK: Final = 64  # before any speed is known
FIXED_CHUNK: Final = 128  # of reproducible requests: the same text in the same pieces, always

# llama.cpp's attention on a CPU takes another path from 64 rows on: faster on long prompts, with other last digits.
# Short prompts stay below, so that a short chat says the same alone, among others and in its second turn.
QUIET_ROWS: Final = 60
SHORT_PROMPT: Final = 512

REMEMBERED: Final = 16  # replies; enough for a mean, and few enough to follow a change of what people ask
_LEAST_LEFT: Final = 0.1  # of the usual time: what a reply that is overdue may still take


class Decoder(CacheMemory, Protocol):
    """What the scheduler needs of a model; llama/decoder.py is the real one."""

    batch_size: int

    def tokenize(self, text: str) -> list[int]: ...
    def piece(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def decode(self, rows: Sequence[BatchRow]) -> None: ...
    def new_sampler(
        self,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repeat_penalty: float,
        seed: int,
        recent: Sequence[int],
    ) -> Any: ...
    def sample(self, row: int, sampler: Any) -> int: ...
    def log_probabilities(self, row: int) -> npt.NDArray[np.float32]: ...
    def set_threads(self, threads: int) -> None: ...
    def clear_abort(self) -> None: ...


class BatchPart(NamedTuple):
    """What a step evaluates of one reply: so many tokens, the last of them in this row of the batch."""

    slot: Slot
    reply: GenerateRequest
    tokens: int
    row: int


class Scheduler:
    """Serves requests in the order they come, `slots` at once; call `step` while `can_step`."""

    def __init__(
        self,
        decoder: Decoder,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._decoder = decoder
        self._emit = emit
        self._clock = clock
        self.threads = 0
        self._whole_cores = True
        self._sequences = SequenceCache(decoder)
        self._waiting: deque[GenerateRequest] = deque()
        self._chunk = float(FIRST_CHUNK)
        self._pace = EtaEstimator()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._sequences.replies)

    def submit(self, wanted: Generate) -> None:
        """Queue a request; one whose prompt cannot fit is answered with Failed at once."""
        tokens = self._decoder.tokenize(wanted.prompt)
        size = self._decoder.context_size
        if not tokens or len(tokens) >= size:
            problem = f"The prompt has {len(tokens):,} tokens; this context holds {size:,}, the reply included."
            self._emit(Failed(wanted.request, problem, "Shorten the text or choose a larger context."))
            return
        self._waiting.append(GenerateRequest(wanted, tokens, size, self._clock()))

    def cancel(self, request: int) -> None:
        """End a request wherever it is; its sequence stays as a cache."""
        self._decoder.clear_abort()
        for reply in self._waiting:
            if reply.request == request:
                self._waiting.remove(reply)
                self._tell_end(reply, "cancelled")
                return
        for slot, reply in self._sequences.in_use:
            if reply.request == request:
                self._finish(slot, reply, "cancelled")

    def forget_chat(self, chat: str) -> None:
        """Give up what is kept of a chat that is over."""
        self._sequences.forget_chat(chat)

    def decodes_alone(self, request: int) -> bool:
        """Whether an abort of the running step would cost nobody else anything."""
        return [reply.request for reply in self._sequences.replies] == [request]

    @property
    def can_step(self) -> bool:
        """Whether there is work that may be done with the threads of now: a reproducible request wants all cores."""
        if not self.busy or self.threads == 0:
            return False
        next_up = self._sequences.replies or [self._waiting[0]]
        return self._whole_cores or not any(reply.wanted.reproducible for reply in next_up)

    def set_threads(self, threads: int, *, all_cores: bool = True) -> None:
        """`all_cores`: these are all cores there are."""
        self.threads, self._whole_cores = threads, all_cores
        if threads > 0:
            self._decoder.set_threads(threads)

    # --- a step ---

    def step(self) -> None:
        """Admit, evaluate one batch, sample, emit."""
        started = self._clock()
        self._admit()
        parts, rows = self._build_batch()
        if not rows:
            return
        try:
            self._decoder.decode(rows)
        except Aborted:
            self._decoder.clear_abort()
            self._sequences.recover()
        except CacheFull:
            self._make_room()
        except PlaygroundError as error:
            self._fail_all(error)
        else:
            self._advance(parts, started)

    def _build_batch(self) -> tuple[list[BatchPart], list[BatchRow]]:
        """Who takes part in this step, and the rows."""
        parts: list[BatchPart] = []
        rows: list[BatchRow] = []
        generating = [(slot, reply) for slot, reply in self._sequences.in_use if reply.generating]
        reading = [(slot, reply) for slot, reply in self._sequences.in_use if not reply.generating]
        for slot, reply in generating:
            parts.append(_part(slot, reply, 1, rows))
        room = self._chunk_size(len(rows), [reply for _, reply in reading])
        for place, (slot, reply) in enumerate(reading):
            share = math.ceil(room / (len(reading) - place))
            count = min(share, len(reply.remaining))
            if count:
                parts.append(_part(slot, reply, count, rows))
                room -= count
        return parts, rows

    def _chunk_size(self, rows: int, reading: Sequence[GenerateRequest]) -> int:
        """How many prompt tokens this step may take beside its `rows` of generating sequences."""
        room = self._decoder.batch_size - rows
        if any(reply.wanted.reproducible for reply in reading):
            return min(FIXED_CHUNK, room)
        if all(reply.prompt_size - reply.cached <= SHORT_PROMPT for reply in reading):
            room = min(room, max(QUIET_ROWS - rows, SMALLEST_CHUNK))
        return min(int(self._chunk), room)

    def _advance(self, parts: Sequence[BatchPart], started: float) -> None:
        """Sample for every sequence that has caught up, then account for the step and emit."""
        sampled: list[int | None] = []
        for _, reply, count, row in parts:
            caught_up = reply.evaluated + count == len(reply.tokens)
            sampled.append(self._decoder.sample(row, reply.sampler) if caught_up else None)
        now = self._clock()
        self._learn_chunk(sum(part.tokens for part in parts if not part.reply.generating), now - started)
        for (slot, reply, count, row), token in zip(parts, sampled, strict=True):
            reply.account(count, now - started)
            if reply.generated == 0:
                self._emit(Prefilled(reply.request, reply.evaluated, reply.prompt_size, reply.cached))
            if token is not None:
                self._take(slot, reply, token, row, now)

    def _learn_chunk(self, prompt_tokens: int, seconds: float) -> None:
        """Follow the speed of prompt evaluation; small remainders say little about it and are left out."""
        if prompt_tokens >= self._chunk / 2 and seconds > 0:
            possible = STEP_SECONDS * prompt_tokens / seconds
            smoothed = (self._chunk + possible) / 2
            self._chunk = min(max(smoothed, SMALLEST_CHUNK), self._decoder.batch_size)

    def _take(self, slot: Slot, reply: GenerateRequest, token: int, row: int, now: float) -> None:
        """A reply got its next token: emit it, or end the reply."""
        if reply.first_token_at is None:
            reply.first_token_at = now
        logprob, top = self._alternatives(reply.wanted.alternatives, token, row)
        if self._decoder.ends(token):
            end = None if logprob is None else Alternative(token, self._piece(token), logprob)
            self._finish(slot, reply, "end of text", end, top)
            return
        reply.tokens.append(token)
        text = reply.text.feed(self._decoder.piece(token))
        speed, waited = reply.generation_speed, reply.first_token_at - reply.submitted_at
        self._emit(Token(reply.request, text, token, reply.generated, speed, len(reply.tokens), logprob, top, waited))
        if reply.text.stopped:
            self._finish(slot, reply, "stop string")
        elif reply.generated == reply.wanted.max_tokens:
            self._finish(slot, reply, "length limit")
        elif len(reply.tokens) >= self._decoder.context_size:
            self._finish(slot, reply, "context full")

    def _alternatives(self, count: int, token: int, row: int) -> tuple[float | None, tuple[Alternative, ...]]:
        if count <= 0:
            return None, ()
        logprobs = self._decoder.log_probabilities(row)
        best = np.argsort(-logprobs, kind="stable")[:count]
        top = tuple(Alternative(int(i), self._piece(int(i)), float(logprobs[i])) for i in best)
        return float(logprobs[token]), top

    def _piece(self, token: int) -> str:
        return self._decoder.piece(token).decode("utf-8", "replace")

    # --- admission ---

    def _admit(self) -> None:
        """Strictly in order: whoever is next waits for room, and nobody overtakes."""
        while self._waiting:
            reply = self._waiting[0]
            slot = self._find_place(reply)
            if slot is None:
                break
            self._waiting.popleft()
            reply.admitted(self._clock())
            sampling = reply.wanted.sampling
            reply.sampler = self._decoder.new_sampler(
                sampling.temperature,
                sampling.top_k,
                sampling.top_p,
                sampling.min_p,
                sampling.repeat_penalty,
                random.getrandbits(32) if sampling.seed is None else sampling.seed,
                reply.tokens,
            )
            self._sequences.give(slot, reply)
        self._tell_places()

    def _find_place(self, reply: GenerateRequest) -> Slot | None:
        if not reply.wanted.reproducible:
            return self._sequences.find(reply)
        return self._sequences.find_alone() if self._whole_cores else None

    def _tell_places(self) -> None:
        if all(reply.place == place for place, reply in enumerate(self._waiting, start=1)):
            return
        now = self._clock()
        running = [reply.served_seconds(now) for reply in self._sequences.replies]
        waits = self._pace.waits(running, [reply.wanted.reproducible for reply in self._waiting])
        for place, (reply, seconds) in enumerate(zip(self._waiting, waits, strict=True), start=1):
            if reply.place != place:
                reply.place = place
                self._emit(Queued(reply.request, place, seconds))

    # --- endings ---

    def _finish(
        self,
        slot: Slot,
        reply: GenerateRequest,
        reason: FinishReason,
        end: Alternative | None = None,
        top: tuple[Alternative, ...] = (),
    ) -> None:
        self._sequences.take_back(slot)
        self._pace.ended(reply.served_seconds(self._clock()))
        self._tell_end(reply, reason, end, top)

    def _tell_end(
        self,
        reply: GenerateRequest,
        reason: FinishReason,
        end: Alternative | None = None,
        top: tuple[Alternative, ...] = (),
    ) -> None:
        text, timings = reply.text.finish(), reply.timings(self._clock(), self.threads)
        self._emit(Finished(reply.request, reason, timings, text, end=end, top=top))
        reply.close()

    def _make_room(self) -> None:
        """The accounting promised room that the cache did not have: give up idle sequences, then the youngest reply."""
        made_room = self._sequences.give_up_idle()
        self._sequences.recover()
        if not made_room:
            self._finish(*self._sequences.in_use[-1], "context full")

    def _fail_all(self, error: PlaygroundError) -> None:
        for slot, reply in self._sequences.in_use:
            self._emit(Failed(reply.request, error.problem, error.remedy))
            reply.close()
            self._sequences.take_back(slot)
        self._sequences.forget_all()


def _part(slot: Slot, reply: GenerateRequest, count: int, rows: list[BatchRow]) -> BatchPart:
    """The next `count` tokens of a reply, whose rows are added to the batch."""
    start = reply.evaluated
    for position in range(start, start + count):
        rows.append(BatchRow(reply.tokens[position], position, slot.sequence, position == len(reply.tokens) - 1))
    return BatchPart(slot, reply, count, len(rows) - 1)


class EtaEstimator:
    """Remembers how long the recent replies took, in seconds, from their place in the batch to their end."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def ended(self, seconds: float) -> None:
        self._recent.append(seconds)

    @property
    def usual(self) -> float | None:
        """The mean; None before any reply has ended."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    def waits(self, running: Sequence[float], queue: Sequence[bool]) -> list[float | None]:
        """Estimated seconds until each in the queue begins; None where nothing was measured yet.

        running: for how long each reply has run by now. queue: in order, whether each wants to run alone.
        """
        usual = self.usual
        if usual is None:
            return [None] * len(queue)
        free_at = [max(usual - elapsed, _LEAST_LEFT * usual) for elapsed in running] or [0.0]
        heapq.heapify(free_at)
        waits: list[float | None] = []
        for alone in queue:
            if alone:
                begins = max(free_at)
                free_at = [begins + usual] * len(free_at)
            else:
                begins = heapq.heapreplace(free_at, free_at[0] + usual)
            waits.append(begins)
        return waits
