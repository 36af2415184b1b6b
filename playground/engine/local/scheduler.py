"""Continuous batching: many requests share the steps of one model.

Each step admits the requests for which the cache has cells (kv_cache.py), builds one batch (a token of every request
that generates, then pieces of prompts), decodes it, samples, and emits events. llama.cpp is behind the Decoder, so that
tests can run the scheduler without a model.

A request is one growing list of tokens, and a count of how many of them are in the cache. The next step evaluates the
rest. So if cells are lost, that costs time but never text.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from playground.engine.local.eta import EtaEstimator
from playground.engine.local.kv_cache import CacheMemory, SequenceCache, Slot
from playground.engine.local.prompt_pieces import CPU_PIECES, GPU_PIECES, PromptPieces, next_piece
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
from playground.llama.control_tokens import Span
from playground.llama.model import Aborted, BatchRow, CacheFull
from playground.llama.sampling_extras import Sampling, SamplingExtras


class Decoder(CacheMemory, Protocol):
    """What the scheduler needs of a model; llama/model.py is the real one."""

    batch_size: int
    is_on_cpu: bool

    def tokenize(self, text: str, literal: Sequence[Span] = ()) -> list[int]: ...
    def token_to_piece(self, token: int) -> bytes: ...
    def is_end_token(self, token: int) -> bool: ...
    def decode(self, rows: Sequence[BatchRow]) -> None: ...
    def new_sampler(self, sampling: Sampling, recent: Sequence[int], extras: SamplingExtras) -> Any: ...
    def sample(self, row: int, sampler: Any) -> int: ...
    def log_probabilities(self, row: int) -> npt.NDArray[np.float32]: ...
    def set_threads(self, threads: int) -> None: ...
    def clear_abort(self) -> None: ...


class BatchPart(NamedTuple):
    """What a step evaluates of one request: this many tokens, the last of them in this row of the batch."""

    slot: Slot
    request: GenerateRequest
    tokens: int
    row: int


class Scheduler:
    """Serves requests in the order of their arrival, as many at once as there are slots.

    Call `run_step` while `can_step`.

    clock, cpu_clock: seconds of wall time, and of CPU time of all threads of this process; cpu_clock is None where
    CPU time says nothing, because another device computes. disk_reads: how often this process has waited for the disk.
    """

    def __init__(
        self,
        decoder: Decoder,
        emit: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] | None = None,
        disk_reads: Callable[[], int] = lambda: 0,
    ) -> None:
        self._decoder = decoder
        self._emit = emit
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._disk_reads = disk_reads
        self.threads = 0
        self._has_all_cores = True
        self._cache = SequenceCache(decoder)
        self._queue: deque[GenerateRequest] = deque()
        self._pieces = PromptPieces(decoder.batch_size, CPU_PIECES if decoder.is_on_cpu else GPU_PIECES)
        self._eta = EtaEstimator()

    @property
    def is_busy(self) -> bool:
        return bool(self._queue or self._cache.running_requests)

    def add_request(self, command: Generate) -> None:
        """Queue a request. If its prompt cannot fit into the context, it fails at once."""
        asked = command.asked
        tokens = [*self._decoder.tokenize(asked.prompt, asked.literal), *asked.written]
        size = self._decoder.context_size
        if not tokens or len(tokens) >= size:
            problem = f"The prompt has {len(tokens):,} tokens; this context holds {size:,}, the reply included."
            self._emit(Failed(command.request, problem, "Shorten the text or choose a larger context."))
            return
        try:
            sampler = self._decoder.new_sampler(asked.sampling, tokens, asked.extras)
        except PlaygroundError as error:
            self._emit(Failed(command.request, error.problem, error.remedy))
            return
        request = GenerateRequest(command, tokens, size, sampler, self._clock())
        for token in asked.written:
            piece = self._decoder.token_to_piece(token)
            request.text.go_on_after(piece)
            self._bound_thoughts(request, piece)
        self._queue.append(request)

    def cancel_request(self, number: int) -> None:
        """End a request, queued or running. Its tokens stay in the cache."""
        self._decoder.clear_abort()
        for request in self._queue:
            if request.number == number:
                self._queue.remove(request)
                self._emit_finished(request, "cancelled")
                return
        for slot, request in self._cache.busy_slots:
            if request.number == number:
                self._finish(slot, request, "cancelled")

    def forget_chat(self, chat: str) -> None:
        """Clear what the cache holds of a chat that is over."""
        self._cache.forget_chat(chat)

    def decodes_alone(self, number: int) -> bool:
        """Whether this request is the only one in the step, so that an abort of the step costs no other request."""
        return [request.number for request in self._cache.running_requests] == [number]

    @property
    def can_step(self) -> bool:
        """Whether there is work that may be done with the current threads: a reproducible request needs all cores."""
        if not self.is_busy or self.threads == 0:
            return False
        next_up = self._cache.running_requests or [self._queue[0]]
        return self._has_all_cores or not any(request.asked.reproducible for request in next_up)

    def set_threads(self, threads: int, *, all_cores: bool = True) -> None:
        """all_cores: there are no more cores than this."""
        self.threads, self._has_all_cores = threads, all_cores
        if threads > 0:
            self._decoder.set_threads(threads)

    # --- a step ---

    def run_step(self) -> None:
        """Admit requests, evaluate one batch, sample, emit."""
        started = self._clock()
        self._admit_requests()
        parts, rows = self._build_batch()
        if not rows:
            return
        try:
            self._decode(parts, rows)
        except Aborted:
            self._decoder.clear_abort()
            self._cache.drop_partial_step()
        except CacheFull:
            self._free_cells()
        except PlaygroundError as error:
            self._fail_all(error)
        else:
            self._use_results(parts, started)

    def _decode(self, parts: Sequence[BatchPart], rows: Sequence[BatchRow]) -> None:
        """Evaluate the batch, and count for each request how much of the cores' time it had."""
        if self._cpu_clock is None:
            self._decoder.decode(rows)
            return
        read_before, started, cpu_started = self._disk_reads(), self._clock(), self._cpu_clock()
        self._decoder.decode(rows)
        seconds, cpu_seconds = self._clock() - started, self._cpu_clock() - cpu_started
        if self._disk_reads() > read_before:
            return  # its threads waited for weights from the disk: that says nothing of the processor
        for part in parts:
            part.request.count_core_time(seconds, max(1, self.threads), cpu_seconds)

    def _build_batch(self) -> tuple[list[BatchPart], list[BatchRow]]:
        """The parts of this step, and the rows of its batch."""
        parts: list[BatchPart] = []
        rows: list[BatchRow] = []
        prefilling: list[tuple[Slot, GenerateRequest]] = []
        for slot, request in self._cache.busy_slots:
            if request.is_generating:
                parts.append(_add_part(slot, request, 1, rows))
            else:
                prefilling.append((slot, request))
        left = self._chunk_size(len(rows), [request for _, request in prefilling])
        for index, (slot, request) in enumerate(prefilling):
            share = math.ceil(left / (len(prefilling) - index))
            left_of_it = len(request.tokens) - request.evaluated
            if len(prefilling) == 1 and not request.asked.reproducible:
                count = next_piece(left_of_it, share, self._decoder.batch_size - len(rows), self._pieces.rules)
            else:
                count = min(request.next_piece(share), left_of_it)
            if count:
                parts.append(_add_part(slot, request, count, rows))
                left -= count
        return parts, rows

    def _chunk_size(self, rows: int, prefilling: Sequence[GenerateRequest]) -> int:
        """How many prompt tokens this step may take beside its `rows` of generating requests."""
        most = self._decoder.batch_size - rows
        if any(request.asked.reproducible for request in prefilling):
            return min(self._pieces.rules.fixed, most)
        return min(self._pieces.chunk(is_alone=self._is_alone), most)

    @property
    def _is_alone(self) -> bool:
        """Whether one request has the model, and none waits."""
        return len(self._cache.busy_slots) == 1 and not self._queue

    def _use_results(self, parts: Sequence[BatchPart], started: float) -> None:
        """Sample for every request whose tokens are all evaluated, then count the step and emit."""
        sampled = [self._sample(*part) for part in parts]
        now = self._clock()
        prompt_tokens = sum(part.tokens for part in parts if not part.request.is_generating)
        self._pieces.add_step(prompt_tokens, now - started, is_alone=self._is_alone)
        for (slot, request, count, row), token in zip(parts, sampled, strict=True):
            request.count_evaluated(count, now - started)
            if request.generated == 0 and (token is not None or self._pieces.is_long(request.left_of_prompt)):
                self._emit(Prefilled(request.number, request.evaluated, request.prompt_size, request.cached))
            if isinstance(token, PlaygroundError):
                self._fail(slot, request, token)
            elif token is not None:
                self._add_token(slot, request, token, row, now)

    def _sample(self, slot: Slot, request: GenerateRequest, count: int, row: int) -> int | PlaygroundError | None:
        """The request's next token; None while its prompt is incomplete, the error where its grammar has no way on."""
        if request.evaluated + count < len(request.tokens):
            return None
        if request.forced:
            return request.forced.pop(0)
        try:
            return self._decoder.sample(row, request.sampler)
        except PlaygroundError as error:
            return error

    def _add_token(self, slot: Slot, request: GenerateRequest, token: int, row: int, now: float) -> None:
        """Emit the next token of a request, or end it."""
        if request.first_token_at is None:
            request.first_token_at = now
        logprob, top = self._alternatives(request.asked.alternatives, token, row)
        if self._decoder.is_end_token(token):
            end = None if logprob is None else Alternative(token, self._token_text(token), logprob)
            self._finish(slot, request, "end of text", end, top)
            return
        request.tokens.append(token)
        piece = self._decoder.token_to_piece(token)
        self._bound_thoughts(request, piece)
        self._emit(
            Token(
                request=request.number,
                text=request.text.add_bytes(piece),
                id=token,
                count=request.generated,
                tokens_per_second=request.generation_speed,
                context_used=len(request.tokens),
                logprob=logprob,
                top=top,
                time_to_first_token=request.first_token_at - request.submitted_at,
                disturbed=request.is_disturbed,
                piece=self._token_text(token) if request.asked.alternatives > 0 else "",
            )
        )
        if request.text.stopped_by:
            self._finish(slot, request, "stop string")
        elif request.generated == request.asked.max_tokens:
            self._finish(slot, request, "length limit")
        elif len(request.tokens) >= self._decoder.context_size:
            self._finish(slot, request, "context full")

    def _alternatives(self, count: int, token: int, row: int) -> tuple[float | None, tuple[Alternative, ...]]:
        """The token's log-probability and the most likely tokens, if the request asked for any."""
        if count <= 0:
            return None, ()
        logprobs = self._decoder.log_probabilities(row)
        best = np.argsort(-logprobs, kind="stable")[:count]
        top = tuple(Alternative(int(i), self._token_text(int(i)), float(logprobs[i])) for i in best)
        return float(logprobs[token]), top

    def _bound_thoughts(self, request: GenerateRequest, piece: bytes) -> None:
        """The mark that ends thoughts comes next if they have reached their limit with this piece."""
        if request.thoughts and request.thoughts.add_piece(piece.decode("utf-8", "replace")):
            beginning = len(self._decoder.tokenize(""))
            request.forced = self._decoder.tokenize(request.thoughts.limit.closing)[beginning:]

    def _token_text(self, token: int) -> str:
        return self._decoder.token_to_piece(token).decode("utf-8", "replace")

    # --- the queue ---

    def _admit_requests(self) -> None:
        """Strictly in order: no request overtakes the first one, which waits for its cells."""
        while self._queue:
            request = self._queue[0]
            slot = self._find_slot(request)
            if slot is None:
                break
            self._queue.popleft()
            request.admitted_at = self._clock()
            self._cache.assign_slot(slot, request)
        self._emit_positions()

    def _find_slot(self, request: GenerateRequest) -> Slot | None:
        if not request.asked.reproducible:
            return self._cache.find_slot(request)
        return self._cache.find_exclusive_slot(request) if self._has_all_cores else None

    def _emit_positions(self) -> None:
        if all(request.position == position for position, request in enumerate(self._queue, start=1)):
            return
        now = self._clock()
        running = [request.running_seconds(now) for request in self._cache.running_requests]
        waits = self._eta.estimate_waits(running, [request.asked.reproducible for request in self._queue])
        for position, (request, seconds) in enumerate(zip(self._queue, waits, strict=True), start=1):
            if request.position != position:
                request.position = position
                self._emit(Queued(request.number, position, seconds))

    # --- ends of requests ---

    def _finish(
        self,
        slot: Slot,
        request: GenerateRequest,
        reason: FinishReason,
        end: Alternative | None = None,
        top: tuple[Alternative, ...] = (),
    ) -> None:
        self._cache.release_slot(slot)
        self._eta.add_reply(request.running_seconds(self._clock()))
        self._emit_finished(request, reason, end, top)

    def _emit_finished(
        self,
        request: GenerateRequest,
        reason: FinishReason,
        end: Alternative | None = None,
        top: tuple[Alternative, ...] = (),
    ) -> None:
        text, timings = request.text.finish_text(), request.timings(self._clock(), self.threads)
        self._emit(Finished(request.number, reason, timings, text, end=end, top=top, stop=request.text.stopped_by))
        request.close()

    def _free_cells(self) -> None:
        """The cache had fewer free cells than counted: clear idle slots, or else end the youngest request."""
        cleared = self._cache.clear_idle_slots()
        self._cache.drop_partial_step()
        if not cleared:
            self._finish(*self._cache.busy_slots[-1], "context full")

    def _fail_all(self, error: PlaygroundError) -> None:
        for slot, request in self._cache.busy_slots:
            self._fail(slot, request, error)
        self._cache.clear_all()

    def _fail(self, slot: Slot, request: GenerateRequest, error: PlaygroundError) -> None:
        self._emit(Failed(request.number, error.problem, error.remedy))
        request.close()
        self._cache.release_slot(slot)


def _add_part(slot: Slot, request: GenerateRequest, count: int, rows: list[BatchRow]) -> BatchPart:
    """The next `count` tokens of a request, whose rows are added to the batch."""
    start = request.evaluated
    for position in range(start, start + count):
        is_last = position == len(request.tokens) - 1
        rows.append(BatchRow(request.tokens[position], position, slot.sequence, is_last))
    return BatchPart(slot, request, count, len(rows) - 1)
